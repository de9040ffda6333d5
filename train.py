"""Train, evaluate, predict: ``accelerate launch --quiet train.py --stage {pretrain,finetune,evaluate,predict} --help``.

Of these, predict is `models.predict`, with its options.
"""

import sys
from collections.abc import Sequence
from typing import Annotated, Literal

import tyro
from accelerate import Accelerator
from accelerate.utils import ProjectConfiguration

from loaders.arguments import require_once
from loaders.errors import InputError, reported
from models.training import options, runs
from models.training.config import (
    EvaluateConfig,
    StageConfig,
    check,
    options_of,
    required_of,
    with_local_paths,
)
from models.training.config_file import with_file
from models.training.execution import set_tf32
from models.training.precision import evaluated_in
from models.training.stages import check_device, evaluate, train
from models.training.tasks.registry import stages
from models.training.trackers import require_trackers

_PREDICT = "predict"  #: a stage that trains nothing; `models.predict` knows videos, and is imported for it alone
_HELP = "--config FILE gives options from a YAML file, or those of another run by its run.json; options beside it win."


def main(prog: str = "train.py") -> None:
    """The command line, of a program that is called so."""
    with reported():
        stage, rest = _stage(sys.argv[1:], prog)
        if stage == _PREDICT:
            from models import predict

            predict.main(rest, prog=f"{prog} --stage {stage}")
            return
        config, given = parse(sys.argv[1:], prog)
        accelerator = accelerator_of(config)
        check_device(config, given, accelerator)
        if accelerator.device.type == "cuda":
            set_tf32(config.precision.tf32)
        try:
            if isinstance(config, EvaluateConfig):
                evaluate(config, accelerator, given)
            else:
                train(config, accelerator, given)
        finally:
            accelerator.end_training()


def parse(arguments: Sequence[str], prog: str = "train.py") -> tuple[StageConfig, frozenset[str]]:
    """The settings of a command line, and which options somebody gave, there or in a file written by hand.

    Args:
        arguments: the command line.
        prog: what the program is called, for its help.

    Raises:
        InputError: what is given does not go together; SystemExit (2), after tyro's own words: it is no option.
    """
    stage, rest = _stage(arguments, prog)
    if stage == _PREDICT:
        raise InputError(
            f"--stage {stage} has settings of its own: where a training's are asked for, use one of "
            f"{', '.join(stages())}"
        )
    known = {name: options_of(config) for name, config in stages().items()}
    every = {option for names in known.values() for option in names}
    options.require_effect(stage, options.given(rest, every), known)
    require_once(stages()[stage], rest)
    arguments, by_hand = with_file(stage, rest)
    given = options.given(by_hand, every)
    if not {"-h", "--help"} & set(arguments):
        _require(stage, arguments)
    config = tyro.cli(
        stages()[stage],
        args=arguments,
        prog=f"{prog} --stage {stage}",
        description=f"{stages()[stage].__doc__}\n\n{_HELP}\n\n{runs.__doc__}",
    )
    config = with_local_paths(config)
    check(config, given)
    return config, given


def accelerator_of(config: StageConfig) -> Accelerator:
    """accelerate's view of this process, with the run's folder for its trackers.

    Raises:
        InputError: what is to be evaluated is no run; a tracker is not there.
    """
    if isinstance(config, EvaluateConfig):
        return Accelerator(mixed_precision=evaluated_in(runs.read_run(config.checkpoint), config.precision))
    require_trackers(config.run.tracker)
    output = str(config.run.output)
    return Accelerator(
        mixed_precision=config.precision.mixed_precision,
        project_config=ProjectConfiguration(project_dir=output, logging_dir=output),
    )


def _stage(arguments: Sequence[str], prog: str) -> tuple[str, list[str]]:
    """The stage, and the arguments without it."""
    rest = list(arguments)
    for place, argument in enumerate(rest):
        name, has_value, value = argument.partition("=")
        if name == "--stage":
            given = rest[place : place + (1 if has_value else 2)]
            stage = value if has_value else "".join(given[1:])
            if stage in (*stages(), _PREDICT):
                return stage, rest[:place] + rest[place + len(given) :]
            raise InputError(f"--stage {stage}: use one of {', '.join((*stages(), _PREDICT))}")
    if {"-h", "--help"} & set(rest):
        _help(prog)
    raise InputError(f"--stage is missing: give one of {', '.join((*stages(), _PREDICT))}; each has its own --help")


def _require(stage: str, arguments: Sequence[str]) -> None:
    """Raise InputError where an option without a default is missing."""
    needed = required_of(stages()[stage])
    missing = [options.spelt(name) for name in needed if name not in options.given(arguments, needed)]
    if missing:
        raise InputError(f"--stage {stage} needs {' and '.join(missing)}: see --help")


def _help(prog: str) -> None:
    """Say what there is where no stage is given, and exit."""
    from models import predict

    known = {**stages(), _PREDICT: predict.Predict}
    says = " ".join(f"{name}: {config.__doc__}" for name, config in known.items())
    choice = Literal[tuple(known)]  # type: ignore[valid-type]

    def of_any(stage: Annotated[choice, tyro.conf.arg(help=says)]) -> None:  # type: ignore[valid-type]
        """A stage has to be given."""

    tyro.cli(of_any, args=["--help"], prog=prog, description=__doc__)


if __name__ == "__main__":
    main()
