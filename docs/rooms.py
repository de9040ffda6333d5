"""The packages' rooms and the arrows between them, from the imports: ``make architecture`` draws docs/rooms.svg.

A room is a package, or some modules that belong together. ``HOUSE`` lists them from the ground up: what stands in a
room imports from its own room and from those before it, nothing else. A test sees to that, and that the picture is of
today.
"""

import ast
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from html import escape
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PICTURE = ROOT / "docs" / "rooms.svg"


@dataclass(frozen=True, slots=True)
class Room:
    """Modules that belong together, by their names or by that of a package around them."""

    name: str
    holds: tuple[str, ...]
    says: str  #: what it is for


@dataclass(frozen=True, slots=True)
class Storey:
    """A top-level package, or a command."""

    name: str
    rooms: tuple[Room, ...]


def package(name: str, says: str) -> Room:
    """A room that is a package."""
    return Room(name, (name,), says)


HOUSE: tuple[Storey, ...] = (
    Storey(
        "loaders",
        (
            Room(
                "ground",
                (
                    *("loaders.errors", "loaders.intervals", "loaders.progress", "loaders.stats", "loaders.exposition"),
                    *("loaders.arguments", "loaders.fitting", "loaders.batch"),
                ),
                "errors, bars, a batch",
            ),
            package("loaders.threads", "queues, turns, buffers"),
            package("loaders.processes", "processes that read"),
            package("loaders.storage", "bytes, here and remote"),
            package("loaders.dataset", "manifest, catalogs"),
            package("loaders.sampling", "order, windows, pairs"),
            package("loaders.decode", "DALI, libjpeg-turbo"),
            Room("loaders", ("loaders",), "ClipLoader"),
        ),
    ),
    Storey(
        "sharding",
        (
            Room("utterance", ("sharding.utterance", "sharding.stages"), "the unit of a corpus"),
            package("sharding.sources", "files read safely"),
            package("sharding.engines", "processes, Ray"),
            package("sharding.corpora", "VoxCeleb, OMG, splits"),
            package("sharding.demo", "the drawn corpus"),
            package("sharding.media", "one clock, two codecs"),
            package("sharding.networks", "others', by SHA-256"),
            package("sharding.gaze", "103 statistics"),
            Room("settings", ("sharding.settings",), "of a build"),
            package("sharding.crops", "faces and boxes"),
            package("sharding.members", "arrays of --member"),
            package("sharding.cards", "README, Croissant"),
            package("sharding.packing", "plan, clips, shards"),
            package("sharding.checks", "faults, repair"),
            package("sharding.viewing", "what a page shows"),
            Room("commands", ("sharding",), "build, verify, info, …"),
        ),
    ),
    Storey(
        "models",
        (
            package("models.towers", "video, audio, gaze"),
            package("models.frontend", "batch to inputs"),
            package("models.systems", "L3, AVE, targets"),
            package("models.objectives", "what is minimised"),
            Room("answers", ("models.answers",), "probabilities"),
            package("models.training", "tasks, loop, runs"),
            Room("compare", ("models.compare",), "runs, paired"),
            Room("looks", ("models.summary", "models.curves"), "sizes, curves"),
            Room("page", ("models.page", "models.run_page"), "a run, to look at"),
            Room("predict", ("models", "models.predict", "models.prediction"), "of any video"),
            Room("export", ("models.export", "models.exporting"), "ONNX, a card"),
        ),
    ),
    Storey(
        "train.py",
        (
            Room("train", ("train",), "parse, call, print"),
            Room("filmstrip", ("filmstrip",), "runs each of the commands"),
        ),
    ),
    Storey("benchmarks", (Room("benchmarks", ("benchmarks",), "speed, measured"),)),
)


def rooms() -> list[Room]:
    """All rooms, from the ground up."""
    return [room for storey in HOUSE for room in storey.rooms]


def modules(root: Path = ROOT) -> dict[str, Path]:
    """The project's modules, by name: those of the packages, train.py and filmstrip.py."""
    found: dict[str, Path] = {}
    for package_name in ("loaders", "sharding", "models", "benchmarks"):
        for path in sorted((root / package_name).rglob("*.py")):
            parts = path.relative_to(root).with_suffix("").parts
            found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    found |= {name: path for name in ("train", "filmstrip") if (path := root / f"{name}.py").exists()}
    return found


def imports(known: Mapping[str, Path]) -> dict[str, set[str]]:
    """Which of the modules each one imports, anywhere in it."""
    found: dict[str, set[str]] = {}
    for name, path in known.items():
        found[name] = set()
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                named = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom) and node.module is not None:
                named = [f"{node.module}.{alias.name}" for alias in node.names]
                named = [full if full in known else node.module for full in named]
            else:
                continue
            found[name] |= {other for other in named if other in known and other != name}
    return found


def room_of(module: str) -> int:
    """The place of a module's room in `rooms`.

    Raises:
        LookupError: it belongs to none, or to two.
    """
    # The longest name decides: a room may hold single modules of a package that is another's.
    held = [
        (len(held), place)
        for place, room in enumerate(rooms())
        for held in room.holds
        if module == held or module.startswith(f"{held}.")
    ]
    if not held:
        raise LookupError(f"{module} stands in no room: add it to docs/rooms.py")
    longest = max(length for length, _ in held)
    places = {place for length, place in held if length == longest}
    if len(places) > 1:
        raise LookupError(f"{module} stands in {len(places)} rooms")
    return places.pop()


def arrows(imported: Mapping[str, Iterable[str]]) -> dict[tuple[int, int], list[str]]:
    """From room to room: the imports that make each arrow."""
    found: dict[tuple[int, int], list[str]] = {}
    for module, others in imported.items():
        for other in others:
            ends = room_of(module), room_of(other)
            if ends[0] != ends[1]:
                found.setdefault(ends, []).append(f"{module} imports {other}")
    return found


def circles(imported: Mapping[str, Iterable[str]]) -> list[list[str]]:
    """Modules that import each other around a circle (Tarjan's strongly connected components of more than one)."""
    index: dict[str, int] = {}
    lowest: dict[str, int] = {}
    stack: list[str] = []
    found: list[list[str]] = []

    def visit(module: str) -> None:
        index[module] = lowest[module] = len(index)
        stack.append(module)
        for other in imported[module]:
            if other not in index:
                visit(other)
                lowest[module] = min(lowest[module], lowest[other])
            elif other in stack:
                lowest[module] = min(lowest[module], index[other])
        if lowest[module] == index[module]:
            place = stack.index(module)
            if len(stack) - place > 1:
                found.append(sorted(stack[place:]))
            del stack[place:]

    for module in imported:
        if module not in index:
            visit(module)
    return found


def drawn() -> str:
    """The picture, as SVG: a storey a row, its rooms from the lowest at the left; no arrow that others imply."""
    found = set(arrows(imports(modules())))
    shown = _not_implied(found)
    wide, high, gap, left, top, row = 142, 50, 14, 116, 34, 140
    boxes: dict[int, tuple[float, float]] = {}
    parts: list[str] = []
    place = 0
    longest = max(len(storey.rooms) for storey in HOUSE)
    width = left + longest * (wide + gap) + 20
    for number, storey in enumerate(reversed(HOUSE)):
        y = float(top + number * row)
        parts.append(f'<text x="14" y="{y + high / 2 + 5}" class="storey">{escape(storey.name)}</text>')
    for number, storey in enumerate(HOUSE):
        y = float(top + (len(HOUSE) - 1 - number) * row)
        for column, _ in enumerate(storey.rooms):
            boxes[place] = (left + column * (wide + gap), y)
            place += 1
    for start, end in sorted(shown):
        parts.append(_arrow(boxes[start], boxes[end], wide, high))
    for number, room in enumerate(rooms()):
        x, y = boxes[number]
        short = room.name.rpartition(".")[2]
        parts.append(
            f"<g><title>{escape(room.name)}: {escape(room.says)}</title>"
            f'<rect x="{x}" y="{y}" width="{wide}" height="{high}" rx="7"/>'
            f'<text x="{x + wide / 2}" y="{y + 23}" class="room">{escape(short)}</text>'
            f'<text x="{x + wide / 2}" y="{y + 42}" class="says">{escape(room.says)}</text></g>'
        )
    height = top + len(HOUSE) * row - (row - high) + 24
    style = (
        "svg{background:#fff;font-family:sans-serif}rect{fill:#eef3f8;stroke:#4a6785}"
        ".room{font-size:14px;font-weight:600;text-anchor:middle}.says{font-size:11px;text-anchor:middle;fill:#445}"
        ".storey{font-size:15px;font-weight:700}path{fill:none;stroke:#9db2c6;stroke-width:1.3}"
    )
    head = (
        '<defs><marker id="tip" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" markerHeight="7" orient="auto">'
        '<path d="M0 0L8 4L0 8z" style="fill:#7d95ad;stroke:none"/></marker></defs>'
    )
    body = "\n".join(parts)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}">\n'
        f"<style>{style}</style>\n{head}\n{body}\n</svg>\n"
    )


def _not_implied(found: set[tuple[int, int]]) -> set[tuple[int, int]]:
    """The arrows that are not the sum of others: the transitive reduction."""
    below: dict[int, set[int]] = {}
    for start in range(len(rooms())):
        direct = {end for begin, end in found if begin == start}
        below[start] = direct | {far for end in direct for far in below.get(end, set())}
    return {(start, end) for start, end in found if not any(end in below[via] for s, via in found if s == start)}


def _arrow(start: tuple[float, float], end: tuple[float, float], wide: float, high: float) -> str:
    if start[1] == end[1]:  # in one row: from side to side, or over the rooms between
        if start[0] - end[0] < 1.5 * wide:
            return f'<path marker-end="url(#tip)" d="M{start[0]} {start[1] + high / 2}H{end[0] + wide}"/>'
        lift = 14 + (start[0] - end[0]) / 26
        x1, x2, y = start[0] + wide / 3, end[0] + 2 * wide / 3, start[1]
        return f'<path marker-end="url(#tip)" d="M{x1} {y}C{x1} {y - lift} {x2} {y - lift} {x2} {y}"/>'
    x1, y1, x2, y2 = start[0] + wide / 2, start[1] + high, end[0] + wide / 2, end[1]
    middle = (y1 + y2) / 2
    return f'<path marker-end="url(#tip)" d="M{x1} {y1}C{x1} {middle} {x2} {middle} {x2} {y2}"/>'


def main() -> int:
    """Draw the picture; exit status 1 where an arrow runs up."""
    up = [line for (start, end), lines in arrows(imports(modules())).items() if start < end for line in lines]
    for line in up:
        print(f"runs up: {line}", file=sys.stderr)
    PICTURE.write_text(drawn())
    print(f"{PICTURE.relative_to(ROOT)}: {len(rooms())} rooms")
    return 1 if up else 0


if __name__ == "__main__":
    sys.exit(main())
