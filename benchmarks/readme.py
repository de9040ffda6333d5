"""README.md's tables: what networks and systems score, from records, and what they are made of, counted from the code.

    python benchmarks/thesis_tables.py --demo --output tables --json benchmarks/results/thesis_tables.json
    python benchmarks/thesis_tables.py --demo --systems --output tables --json benchmarks/results/systems.json
    python benchmarks/readme.py

The tables stand between marks in README.md; nothing there is typed by hand. Where a record is not there, its table is
left out.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

if __name__ == "__main__":  # not benchmarks/: its loaders.py and train.py would hide the packages of these names
    sys.path[0] = str(Path(__file__).resolve().parents[1])

import tyro

from benchmarks.record import read_record
from benchmarks.thesis.pages import (
    emotion_markdown,
    pairs_markdown,
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
_PLACES = ("video", "audio", "gaze")


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Where from and where to."""

    tables: Path = TABLES
    """Record of benchmarks/thesis_tables.py."""
    systems: Path = SYSTEMS
    """Record of the same with --systems."""
    readme: Path = Path("README.md")
    """The page, with the marks."""
    preset: PresetName = "full"
    """Whose sizes are counted."""


def main() -> None:
    """The command line."""
    settings = tyro.cli(Settings, description=__doc__)
    with reported():
        text = settings.readme.read_text()
        if settings.tables.exists():
            text = between_marks(text, "tables", thesis_tables(settings.tables), str(settings.readme))
        said = [*sizes_table(settings.preset), ""]
        if settings.systems.exists():
            said += scores_table(settings.systems)
        text = between_marks(text, "systems", said, str(settings.readme))
        write_atomically(settings.readme, text.encode())


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
    record, _, _ = read_record(path)
    if record.benchmark != "thesis_tables":
        raise InputError(f"{path}: no record of the thesis' tables: make one by benchmarks/thesis_tables.py --json")
    pairs, emotion = tables_of_record(record.facts)
    seeds = record.settings["seeds"]
    return [
        *emotion_markdown(emotion),
        "",
        f"Micro-F1 in percent, means over {seeds} seeds, intervals (95 %) over speakers and seeds. Before that, pairs:",
        "",
        *pairs_markdown(pairs),
        "",
        " ".join(record.facts["chosen"]),
        "",
    ]


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
