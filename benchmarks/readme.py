"""The tables of README.md and of pages in docs/: what networks and systems score and how fast it is, from records, and
what networks are made of, counted from the code.

    python benchmarks/thesis_tables.py --demo --output tables --json benchmarks/results/thesis_tables.json
    python benchmarks/thesis_tables.py --demo --systems --output tables --json benchmarks/results/systems.json
    python benchmarks/representation.py tables/l3-pre-trained-0 tables/ave-pre-trained-0 --data tables/omg --fresh \\
        --window 12 --json benchmarks/results/representation.json
    python benchmarks/readme.py

Each table stands between marks, on the page that `PAGES` says; nothing there is typed by hand. Where a record is not
there, its table stays as it is.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

if __name__ == "__main__":  # not benchmarks/: its loaders.py and train.py would hide the packages of these names
    sys.path[0] = str(Path(__file__).resolve().parents[1])

from benchmarks.record import read_record, read_settings
from benchmarks.representation import markdown as representation_markdown
from benchmarks.thesis.pages import (
    brief_markdown,
    emotion_markdown,
    pairs_markdown,
    seeds_markdown,
    systems_markdown,
    systems_of_record,
    tables_of_record,
)
from loaders.errors import InputError, reported
from loaders.storage.atomic import write_atomically
from models import summary
from models.systems.presets import PresetName, preset
from models.systems.registry import system_of, systems

TABLES = Path("benchmarks/results/thesis_tables.json")
SYSTEMS = Path("benchmarks/results/systems.json")
REPRESENTATION = Path("benchmarks/results/representation.json")
LOADERS = Path("benchmarks/results/loaders.json")
LOADERS_GPU = Path("benchmarks/results/loaders_gpu.json")
TRAIN_GPU = Path("benchmarks/results/train_gpu_cpu.json")
#: What is made, by the name in its marks, and the page that it stands on.
PAGES: Mapping[str, Path] = {
    "speed": Path("README.md"),
    "pre-training": Path("README.md"),
    "seeds": Path("docs/start.md"),
    "sizes": Path("docs/train.md"),
    "tables": Path("docs/results.md"),
    "representation": Path("docs/results.md"),
    "systems": Path("docs/results.md"),
}
_PLACES = ("video", "audio", "gaze")


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Where from and where to."""

    tables: Path = TABLES
    """Record of benchmarks/thesis_tables.py."""
    systems: Path = SYSTEMS
    """Record of the same with --systems."""
    representation: Path = REPRESENTATION
    """Record of benchmarks/representation.py --fresh, of its pre-trained runs."""
    loaders: Path = LOADERS
    """Record of benchmarks/loaders.py on a CPU."""
    loaders_gpu: Path = LOADERS_GPU
    """The same on a GPU."""
    train_gpu: Path = TRAIN_GPU
    """Record of benchmarks/train.py on a GPU, decoding on the CPU."""
    pages: Path = Path()
    """The folder of README.md and docs/, whose pages have the marks."""
    preset: PresetName = "full"
    """Whose sizes are counted."""


def main() -> None:
    """The command line."""
    settings = read_settings(Settings, __doc__)
    with reported():
        for what, lines in made(settings).items():
            page = settings.pages / PAGES[what]
            write_atomically(page, between_marks(page.read_text(), what, lines, str(page)).encode())


def made(settings: Settings) -> dict[str, list[str]]:
    """The lines of each table whose records are there, by its name.

    Raises:
        InputError: a record is not of what it should be.
    """
    tables: dict[str, tuple[Callable[..., list[str]], tuple[Path, ...]]] = {
        "speed": (speed_table, (settings.loaders, settings.loaders_gpu, settings.train_gpu)),
        "pre-training": (brief_table, (settings.tables,)),
        "seeds": (seeds_table, (settings.tables,)),
        "tables": (thesis_tables, (settings.tables,)),
        "representation": (representation_table, (settings.representation,)),
        "systems": (scores_table, (settings.systems,)),
    }
    found = {what: make(*records) for what, (make, records) in tables.items() if all(path.exists() for path in records)}
    return found | {"sizes": sizes_table(settings.preset)}


def marks(what: str) -> tuple[str, str]:
    """The lines before and after what is made here."""
    return f"<!-- {what}: made by python benchmarks/readme.py -->", f"<!-- {what}: end -->"


def between_marks(text: str, what: str, lines: Sequence[str], name: str) -> str:
    """The text with these lines between these marks.

    Raises:
        InputError: it has not each mark once, in this order.
    """
    begin, end = marks(what)
    before, begun, rest = text.partition(f"{begin}\n")
    old, ended, after = rest.partition(end)
    if not begun or not ended or begin in old + after or end in before + after:
        raise InputError(
            f"{name}: put a line {begin}, and after it a line {end}, once each where the tables are to stand"
        )
    return "\n".join([f"{before}{begin}", *lines, f"{end}{after}"])


def thesis_tables(path: Path) -> list[str]:
    """Tables 4.1 and 4.2 as the record has them.

    Raises:
        InputError: it is no such record.
    """
    settings, facts = _of_tables(path)
    pairs, emotion = tables_of_record(facts)
    return [
        *emotion_markdown(emotion),
        "",
        f"Micro-F1 in percent, means over {settings['seeds']} seeds, intervals (95 %) over speakers and seeds. "
        "Before that, pairs:",
        "",
        *pairs_markdown(pairs),
        "",
        " ".join(facts["chosen"]),
        "",
    ]


def brief_table(path: Path) -> list[str]:
    """Both arms of both networks as the record has them, without the published figures.

    Raises:
        InputError: it is no such record.
    """
    settings, facts = _of_tables(path)
    _, emotion = tables_of_record(facts)
    return [
        *brief_markdown(emotion),
        "",
        f"Micro-F1 in percent on {emotion.utterances:,} utterances of {emotion.speakers} unseen speakers, means over "
        f"{settings['seeds']} seeds; in brackets 95 % intervals over speakers and seeds. Always saying the most "
        f"frequent emotion scores {emotion.majority:.1f}. {' '.join(facts['chosen'])}",
        "",
    ]


def seeds_table(path: Path) -> list[str]:
    """The least and the greatest score over the seeds, of the network that `make demo` trains.

    Raises:
        InputError: it is no such record.
    """
    settings, facts = _of_tables(path)
    _, emotion = tables_of_record(facts)
    return [*seeds_markdown(emotion, "ave"), "", f"Least to greatest of {settings['seeds']} seeds, in percent.", ""]


def _of_tables(path: Path) -> tuple[Mapping[str, Any], Mapping[str, Any]]:
    """Settings and facts of a record of the thesis' tables."""
    record, _, _ = read_record(path)
    if record.benchmark != "thesis_tables":
        raise InputError(f"{path}: no record of the thesis' tables: make one by benchmarks/thesis_tables.py --json")
    return record.settings, record.facts


def speed_table(loaders: Path, loaders_gpu: Path, train_gpu: Path) -> list[str]:
    """Four figures, each with the record that it is from.

    Raises:
        InputError: a record is of something else.
    """
    rows = []
    for path, benchmark, figures in (
        (loaders, "loaders", {"ours / limit": _LIMIT, "ours / best peer @ source": _SOURCE}),
        (loaders_gpu, "loaders_gpu", {"ours / best peer on any form": _ANY}),
        (train_gpu, "train_gpu", {"with the loader / in memory, steps a second": _TRAINING}),
    ):
        record, machine, _ = read_record(path)
        if record.benchmark != benchmark:
            raise InputError(
                f"{path}: no record of {benchmark}: make one by benchmarks/{benchmark.split('_')[0]}.py --json"
            )
        on = machine["gpu"] or machine["processor"]
        for ratio, says in figures.items():
            row = f"| {says} | {record.ratios[ratio]:.3g} | {on}, {machine['cores']} cores | [{path.stem}]({path}) |"
            rows.append(row)
    return ["| clips a second with sound, over | times | on | record |", "|---|---:|---|---|", *rows, ""]


_LIMIT = "libjpeg-turbo alone, which decodes one picture over and over"
_SOURCE = "the fastest of seven other loaders, on the source videos"
_ANY = "DALI's own reader on the same shards, without pairs"
_TRAINING = "full-size training from memory: the same training with the loader"


def representation_table(path: Path) -> list[str]:
    """What towers know before they are fine-tuned, beside fresh ones, as the record has it.

    Raises:
        InputError: it is no such record, or knows nothing of fresh towers.
    """
    record, _, _ = read_record(path)
    if record.benchmark != "representation" or not record.settings["fresh"]:
        raise InputError(f"{path}: no record of benchmarks/representation.py --fresh --json: make one")
    return [*representation_markdown(record), ""]


def scores_table(path: Path) -> list[str]:
    """What all systems score, as the record has it.

    Raises:
        InputError: it is no record of all systems.
    """
    record, _, _ = read_record(path)
    facts = record.facts
    if record.benchmark != "thesis_tables" or "systems" not in facts:
        raise InputError(f"{path}: no record of all systems: make one by benchmarks/thesis_tables.py --systems --json")
    rows = systems_of_record(facts["systems"])
    table = systems_markdown(rows, record.settings["system_seeds"], facts["emotion"]["majority"])
    return [*table, "", " ".join(facts["chosen"]), ""]


def sizes_table(name: str) -> list[str]:
    """Parameters of every system, and operations of a prediction for a clip, tower by tower, by `models.summary`."""
    lines = [f"| system | {' | '.join(_PLACES)} | above the towers | all |", f"|{'---|' * (len(_PLACES) + 3)}"]
    sizes = preset(name)
    inputs = None
    for system in systems():
        of_system, (_, targets) = summary.systems_by_name(sizes, system, 2.0)
        inputs = summary.inputs_of(of_system.front_end, 2.0, targets.members)
        counted = summary.count(targets, inputs)
        parts = {part.name: part for part in counted.parts}
        above = [part for part in counted.parts if part.name not in _PLACES]
        cells = [_cell([parts[place]]) if place in parts else "" for place in _PLACES]
        if system_of(system).fusion == "early":
            cells[_PLACES.index("gaze")] = "in video"
        lines.append(f"| `{system}` | {' | '.join(cells)} | {_cell(above)} | {_cell([counted.total])} |")
    assert inputs is not None
    return [
        *lines,
        "",
        f"Parameters, and operations of a prediction {summary.of_what(inputs, 2.0)}, of the networks that predict "
        f"seven classes with `--preset {name}`; `python -m models.summary --system …` has more.",
    ]


def _cell(parts: Sequence[summary.Part]) -> str:
    parameters, forward = (sum(getattr(part, what) for part in parts) for what in ("parameters", "forward"))
    return f"{summary.readable(parameters).replace(' ', ' ')}, {summary.readable(forward).replace(' ', ' ')}"


if __name__ == "__main__":
    main()
