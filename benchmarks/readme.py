"""README.md's tables of all systems: what they score, from a record, and what they are made of, counted from the code.

    python benchmarks/thesis_tables.py --demo --systems --output tables --json benchmarks/results/thesis_tables.json
    python benchmarks/readme.py

The tables stand between two marks in README.md; nothing there is typed by hand.
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
from benchmarks.thesis.pages import systems_markdown, systems_of_record
from loaders.errors import InputError, reported
from loaders.storage.atomic import write_atomically
from models import summary
from models.systems.presets import PresetName, preset
from models.systems.registry import system_of, systems

RESULTS = Path("benchmarks/results/thesis_tables.json")
BEGIN, END = "<!-- systems: made by python benchmarks/readme.py -->", "<!-- systems: end -->"
_PLACES = ("video", "audio", "gaze")


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Where from and where to."""

    record: Path = RESULTS
    """Of benchmarks/thesis_tables.py with --systems; where it is not there, only sizes are told."""
    readme: Path = Path("README.md")
    """The page, with the two marks."""
    preset: PresetName = "full"
    """Whose sizes are counted."""


def main() -> None:
    """The command line."""
    settings = tyro.cli(Settings, description=__doc__)
    with reported():
        text = settings.readme.read_text()
        said = [*sizes_table(settings.preset), ""]
        if settings.record.exists():
            said += scores_table(settings.record)
        write_atomically(settings.readme, between_marks(text, said, str(settings.readme)).encode())


def between_marks(text: str, lines: Sequence[str], name: str) -> str:
    """The text with these lines between its marks.

    Raises:
        InputError: it has not each mark once, in this order.
    """
    before, begun, rest = text.partition(f"{BEGIN}\n")
    old, ended, after = rest.partition(END)
    if not begun or not ended or BEGIN in old + after or END in before + after:
        raise InputError(
            f"{name}: put a line {BEGIN}, and after it a line {END}, once each where the tables are to stand"
        )
    return "\n".join([f"{before}{BEGIN}", *lines, f"{END}{after}"])


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
