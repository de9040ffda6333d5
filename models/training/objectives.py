"""``--objective`` and the options of every objective, from the registry: one that is added brings its own.

Of two objectives with a field of one name the field is one option; it has to be the same.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import MISSING, field, fields, make_dataclass
from typing import TYPE_CHECKING, Annotated, Any, Literal, get_type_hints

from tyro.conf import arg

from models.objectives.registry import DEFAULT, ObjectiveConfig, OfPairs, objectives, settings_of
from models.training.options import refuse


def _options() -> type:
    choice = Literal[tuple(objectives())]  # type: ignore[valid-type]
    about = "What is minimised. " + " ".join(f"{name}: {config.__doc__}" for name, config in objectives().items())
    found: dict[str, tuple[Any, str, Any]] = {"objective": (choice, about, DEFAULT)}
    for name, config in objectives().items():
        hints = get_type_hints(config)
        for each in fields(config):
            if each.default is MISSING or "about" not in each.metadata:
                raise ValueError(f"the objective {name}: make its field {each.name} by `setting`")
            option = (hints[each.name], each.metadata["about"], each.default)
            if found.setdefault(each.name, option) != option:
                raise ValueError(f"the objective {name}: another one's option {each.name} is another: give it a name")
    made = [
        (name, Annotated[kind, arg(help=about)], field(default=default))
        for name, (kind, about, default) in found.items()
    ]
    doc = "What is minimised, and how; each objective has its own options."
    return make_dataclass("ObjectiveOptions", made, frozen=True, kw_only=True, namespace={"__doc__": doc})


if TYPE_CHECKING:  # which options there are, no type checker sees

    class ObjectiveOptions:
        """What is minimised, and how."""

        objective: str
else:
    ObjectiveOptions = _options()


def chosen(options: ObjectiveOptions) -> ObjectiveConfig:
    """The settings of the chosen objective.

    Raises:
        InputError: one of them makes no sense.
    """
    config = settings_of(options.objective)
    return config(**{each.name: getattr(options, each.name) for each in fields(config)})


def takes_pairs(options: ObjectiveOptions) -> bool:
    """Whether the chosen objective is told of pairs, of which half match."""
    return isinstance(chosen(options).objective(1.0), OfPairs)


def check_objective(options: ObjectiveOptions, given: Collection[str]) -> None:
    """Raise InputError where an option that was ``given`` is not the chosen objective's, or makes no sense."""
    own = {each.name for each in fields(settings_of(options.objective))}
    others = {each.name for config in objectives().values() for each in fields(config)}
    refuse(given, others - own, f"with --objective {options.objective}")
    chosen(options)
