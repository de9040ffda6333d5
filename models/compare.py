"""Two runs, or two recipes of several runs each, on the same utterances: ``python -m models.compare RUN RUN``.

Each score of the first minus the second's, with its interval over speakers; with several runs a side (``--against``)
over speakers and seeds, see `models.training.intervals.paired_difference`. What runs answered is read from their
folders, or from files that ``train.py --stage evaluate --predictions FILE`` wrote.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated

import tyro
from rich.table import Table

from loaders.arguments import cli
from loaders.errors import InputError, reported
from models.training.curves import console
from models.training.evaluation import MODALITIES
from models.training.intervals import CONFIDENCE, Difference, paired_difference
from models.training.measures import Measure, of_classes, of_numbers, of_pairs
from models.training.predictions import PAIRS, PREDICTIONS, Answers, aligned, read_pairs, read_predictions
from models.training.scores import plain

_SHARES = {"micro_f1": "micro-F1", "macro_f1": "macro-F1", "uar": "UAR", "accuracy": "accuracy"}
_NUMBERS = {"ccc": "CCC", "pearson": "r", "rmse": "RMSE"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Compare:
    """Compare runs on the same utterances."""

    runs: Annotated[tuple[Path, ...], tyro.conf.Positional]
    """Two runs; or, with --against, the runs of one side: the same recipe with other seeds."""
    against: tuple[Path, ...] = ()
    """The runs of the other side."""
    json: bool = False
    """Print JSON instead of a table."""


@dataclass(frozen=True, slots=True)
class Compared:
    """One score of both sides."""

    target: str  #: or of pairs, the kind of their negatives
    modality: str
    score: str  #: as in results.json
    difference: Difference


def main(prog: str = "python -m models.compare") -> None:
    """The command line, of a program that is called so."""
    with reported():
        asked = cli(Compare, prog=prog, description=__doc__)
        one, other = sides(asked.runs, asked.against)
        compared = list(compare(one, other))
        if asked.json:
            found = [{**asdict(each.difference), **asdict(each)} for each in compared]
            for each in found:
                del each["difference"]
            print(json.dumps({"confidence": CONFIDENCE, "scores": found}, indent=1))
        else:
            console().print(differences_table(compared))


def sides(runs: Sequence[Path], against: Sequence[Path]) -> tuple[tuple[Path, ...], tuple[Path, ...]]:
    """The runs of either side. Raises InputError where they do not make two."""
    if not against and len(runs) != 2:
        raise InputError(f"{len(runs)} runs: give two, or those of the other side with --against")
    one, other = (tuple(runs), tuple(against)) if against else ((runs[0],), (runs[1],))
    for place, run in enumerate((*one, *other)):
        if run in (*one, *other)[:place]:
            raise InputError(f"{run}: is given twice: give each run once")
    return one, other


def compare(one: Sequence[Path], other: Sequence[Path]) -> Iterator[Compared]:
    """Every score that both sides have.

    Args:
        one, other: the runs of either side, or files of answers.

    Raises:
        InputError: a run has no answers, they are not of the same utterances, or there is nothing in common.
    """
    paths = (*one, *other)
    answers = [_answers(path) for path in paths]
    common = [name for name in answers[0] if all(name in found for found in answers)]
    if not common:
        have = "; ".join(f"{path}: {', '.join(found)}" for path, found in zip(paths, answers, strict=True))
        raise InputError(f"they have nothing in common ({have}): give runs that answer the same")
    for name in common:
        found = aligned({str(path): of[name] for path, of in zip(paths, answers, strict=True)})
        for modality in found[0].by:
            said = [of.by[modality] for of in found]
            for score, measure in _measures(found[0]).items():
                difference = paired_difference(
                    measure, said[: len(one)], said[len(one) :], found[0].stated, found[0].units
                )
                yield Compared(name, modality, score, difference)


def differences_table(compared: Sequence[Compared]) -> Table:
    """A row a score. 80 columns hold it."""
    table = Table(caption_justify="left")
    table.add_column("what", overflow="fold")
    for column in ("one", "other", "difference (95 %)"):
        table.add_column(column, no_wrap=True, justify="right")
    for each in compared:
        found, scale = each.difference, 100.0 if each.score in _SHARES else 1.0
        form = ".1f" if each.score in _SHARES else ".3f" if each.score != "rmse" else ".3g"
        says = {**_SHARES, **_NUMBERS}[each.score]
        what = (
            f"{says}, {each.target} from {each.modality}"
            if each.modality in MODALITIES
            else f"{says}, pairs, {each.target}"
        )
        # Of errors that differ little two figures say all.
        signed = f"+{form}" if each.score != "rmse" else "+.2g"
        low, high = (format(scale * end, signed) for end in (found.low, found.high))
        table.add_row(
            plain(what),
            format(scale * found.one, form),
            format(scale * found.other, form),
            f"{format(scale * found.value, signed)} ({low} … {high})",
        )
    if compared:
        found = compared[0].difference
        table.caption = f"{found.seeds[0]} against {found.seeds[1]}, {found.units} speakers\n" + (
            "intervals over speakers and seeds"
            if min(found.seeds) > 1
            else "intervals over speakers; of a side of one run they say nothing about other seeds"
        )
    return table


def _answers(path: Path) -> Mapping[str, Answers]:
    """What a run, or a file, has: by target, or of pairs."""
    if path.is_dir():
        if not (path / PREDICTIONS).is_file() and (path / PAIRS).is_file():
            return read_pairs(path / PAIRS)
        return read_predictions(path / PREDICTIONS)
    try:
        return read_predictions(path)
    except InputError:
        if not path.is_file():
            raise
        return read_pairs(path)


def _measures(answers: Answers) -> Mapping[str, Measure]:
    if answers.classes is not None:
        return of_classes(len(answers.classes))
    return {"accuracy": of_pairs()} if answers.units.ndim == 2 else of_numbers()


if __name__ == "__main__":
    main()
