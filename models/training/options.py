"""Which options of train.py do something, and where: one that has no effect is an error, not a surprise."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence

from loaders.errors import InputError

_TRAINING = ("pretrain", "finetune")
_EVERYWHERE = (*_TRAINING, "evaluate")

#: The stages at which an option has an effect.
STAGES: Mapping[str, tuple[str, ...]] = {
    **dict.fromkeys(("stage", "data", "batch_size", "window", "seed", "mixed_precision", "tf32"), _EVERYWHERE),
    **dict.fromkeys(("evaluation_split", "loader_threads", "placement", "hw_decoder_load", "cpu_decoder"), _EVERYWHERE),
    **dict.fromkeys(("shard_window", "cache", "cache_gb", "pixels", "reading_threads"), _EVERYWHERE),
    "evaluation_rounds": ("pretrain", "evaluate"),
    **dict.fromkeys(("output", "resume", "change", "weights", "lanes"), _TRAINING),
    **dict.fromkeys(("preset", "gaze", "width", "frame_size", "frames", "gaze_dropout"), _TRAINING),
    **dict.fromkeys(("epochs", "max_steps", "learning_rate", "weight_decay", "warmup_steps", "schedule"), _TRAINING),
    **dict.fromkeys(("checkpoint_every", "log_every", "compile"), _TRAINING),
    "model": ("pretrain",),
    **dict.fromkeys(("init", "alpha", "margin", "triplet_reduction"), ("finetune",)),
    "checkpoint": ("evaluate",),
}
#: Of evaluation, what only the scoring of pairs draws from or repeats.
OF_PAIRS = ("evaluation_rounds", "seed")
#: What the run of --init decides.
OF_INIT = ("preset", "width", "frame_size", "frames")


def given(arguments: Sequence[str], names: Collection[str]) -> frozenset[str]:
    """Which of the options stand on a command line, be it with their default's value."""
    found = set()
    for argument in arguments:
        if argument.startswith("--"):
            name = argument[2:].partition("=")[0].replace("-", "_")
            found.add(name if name in names else name.removeprefix("no_"))
    return frozenset(found & set(names))


def require_effect(stage: str, options: Iterable[str]) -> None:
    """Raise InputError where an option that was given does nothing at a stage."""
    for name in sorted(options):
        if stage not in STAGES[name]:
            there = " and ".join(STAGES[name])
            raise InputError(f"{spelt(name)} has no effect at --stage {stage}, only at {there}: leave it away")


def refuse(options: Iterable[str], without: Collection[str], why: str) -> None:
    """Raise InputError where one of the options ``without`` effect was given."""
    for name in sorted(set(options) & set(without)):
        raise InputError(f"{spelt(name)} has no effect {why}: leave it away")


def spelt(name: str) -> str:
    """An option as it stands on the command line."""
    return f"--{name.replace('_', '-')}"
