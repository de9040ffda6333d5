"""The thesis' Tables 4.1 to 4.3, made again: L3 and AVE, pre-trained or from scratch, over several seeds.

    python benchmarks/thesis_tables.py --voxceleb DATASET --omg DATASET --output FOLDER
    python benchmarks/thesis_tables.py --demo --output FOLDER [--systems]

Each run is a run of train.py under FOLDER. The command can be killed and given again: what is finished stays, what was
begun goes on from its last checkpoint. It ends in FOLDER/tables.md (the published figures beside ours, what always
saying the most frequent class scores beside both), FOLDER/tables.png and FOLDER/tables.json. --demo makes its corpora
first, and takes the demo's recipe: see benchmarks/recipes.

With --systems all further systems follow on the same clips, each pre-trained and from scratch, and have a table of
their own on the same page: the thesis' networks with gaze and without, those with a transformer over gaze, VGG-Face or
eGeMAPS in place of a tower, one pre-trained by InfoNCE, and prior systems.
"""

import shlex
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

if __name__ == "__main__":  # not benchmarks/: its loaders.py and train.py would hide the packages of these names
    sys.path[0] = str(Path(__file__).resolve().parents[1])

import pyarrow.parquet as pq

from benchmarks.record import Record, console, machine, read_settings, write_record
from benchmarks.thesis.grid import Grid
from benchmarks.thesis.pages import markdown, picture, systems_terminal, terminal
from benchmarks.thesis.recipes import RECIPES, REPORTED_SEED, ROOT, RecipeName
from benchmarks.thesis.running import SECONDS, cores, do, launcher, seconds_of, start, timed
from benchmarks.thesis.scores import SystemScores, scores_of, system_scores
from benchmarks.thesis.systems import FOLDER, Systems, members_of
from loaders.dataset.dataset import Dataset
from loaders.dataset.manifest import AUDIO, CATALOG, FILMSTRIP, GAZE, MANIFEST
from loaders.errors import InputError, printable, reported
from loaders.storage.atomic import write_atomically
from loaders.storage.urls import url_of


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What is trained on what."""

    output: Path
    """Folder of the runs and the tables; one that is new or empty, or of this command."""
    voxceleb: str | None = None
    """Dataset to pre-train on: a folder, or a URL."""
    omg: str | None = None
    """Dataset to fine-tune on, with emotions."""
    demo: bool = False
    """Make the demo's two datasets under the folder, and take its recipe."""
    demo_seed: int = REPORTED_SEED
    """With --demo: of the generator; what is reported is of the default, settings are tried with another."""
    recipe: RecipeName | None = None
    """Settings of each arm, in benchmarks/recipes; thesis by default, demo with --demo."""
    seeds: int = 3
    """Of every training; fine-tuning of a seed starts from the pre-training of that seed."""
    systems: bool = False
    """Train and score all further systems, too, with the options of every training below. Those whose towers take a
    member that the datasets do not have (--member egemaps, --member gaze_frames) are named and left out; --demo builds
    its datasets once more, with these members."""
    system_seeds: int = 1
    """Of each of these; at most --seeds, with whose runs they are compared."""
    vgg_face: Path | None = None
    """With --systems: file of VGG-Face's published weights, of Torch (.t7) or PyTorch (.pth); without it, and with
    --demo, whose networks are too small for it, they are random."""
    pretrain_options: str = ""
    """More options for every pre-training, as one word: --pretrain-options="--max-steps 100"."""
    finetune_options: str = ""
    """More options for every fine-tuning, of both arms."""
    scratch_options: str = ""
    """More options for training from scratch alone: what --init decides otherwise, such as --preset."""
    launch: str | None = None
    """What starts train.py; by default accelerate launch with one process."""
    json: Path | None = None
    """Where the record is written, too."""
    plot: Path | None = None
    """Where the picture is written, too (PNG)."""


def main() -> None:
    """The command line."""
    settings = read_settings(Settings, __doc__)
    with reported():
        check(settings)
        make(settings)


def check(settings: Settings) -> None:
    """Raise InputError where the settings do not go together."""
    given = [name for name in ("voxceleb", "omg") if getattr(settings, name) is not None]
    if settings.demo and given:
        raise InputError(f"--{given[0]} has no effect with --demo, which makes its own: leave it away")
    if not settings.demo and len(given) < 2:
        raise InputError("give --voxceleb and --omg, or --demo")
    if not settings.demo and settings.demo_seed != REPORTED_SEED:
        raise InputError("--demo-seed has no effect without --demo: leave it away")
    if settings.seeds < 1:
        raise InputError(f"--seeds is {settings.seeds}: use 1 or more")
    if not settings.systems:
        if settings.system_seeds != 1 or settings.vgg_face is not None:
            name = "--vgg-face" if settings.vgg_face is not None else "--system-seeds"
            raise InputError(f"{name} has no effect without --systems: leave it away")
        return
    if not 1 <= settings.system_seeds <= settings.seeds:
        raise InputError(f"--system-seeds is {settings.system_seeds}: use 1 to {settings.seeds}, which is --seeds")
    if settings.vgg_face is not None and (settings.recipe or ("demo" if settings.demo else "thesis")) == "demo":
        raise InputError(
            "--vgg-face is of VGG-16's own size, and the recipe demo's networks are smaller: leave it away"
        )


def make(settings: Settings) -> None:
    """All of it: data, runs, tables."""
    before = machine()
    folder = settings.output.resolve()
    _own(folder)
    if settings.demo:
        voxceleb, omg = make_corpora(folder, settings.demo_seed)
    else:
        voxceleb, omg = (_resolved(data) for data in (settings.voxceleb, settings.omg) if data is not None)
    recipe = RECIPES[settings.recipe or ("demo" if settings.demo else "thesis")]
    grid = Grid(
        folder=folder,
        voxceleb=voxceleb,
        omg=omg,
        recipe=recipe,
        seeds=settings.seeds,
        pretrain_options=tuple(shlex.split(settings.pretrain_options)),
        finetune_options=tuple(shlex.split(settings.finetune_options)),
        scratch_options=tuple(shlex.split(settings.scratch_options)),
    )
    works = list(grid.works())
    systems = _systems(settings, grid, folder) if settings.systems else None
    if systems is not None:
        works += systems.works()
        for row in systems.rows:
            if lacking := systems.lacking(row):
                _say(f"{row.key}: not trained, the datasets have no {', '.join(lacking)}")
    do(works, folder, shlex.split(settings.launch) if settings.launch else launcher(cores()), _say)
    pairs, emotion = scores_of(grid)
    further = system_scores(systems) if systems else ()
    seconds = seconds_of(folder)
    says = [recipe.chosen]
    if systems is not None:
        says.append("Settings of the further systems were not tried against others.")
    if grid.pretrain_options or grid.finetune_options or grid.scratch_options:
        says = ["The recipe was changed by options: how these were chosen is not known here."]
    if settings.demo:
        says.append(
            f"The data is the drawn demo corpus, seed {settings.demo_seed}, made so that the method can work: its "
            "figures compare with each other, and not with those published."
        )
    page = markdown(pairs, emotion, settings.seeds, says, further, settings.system_seeds)
    write_atomically(folder / "tables.md", page.encode())
    record = Record(
        benchmark="thesis_tables",
        settings={**asdict(settings), "output": None, "recipe": recipe.name},
        rounds={},
        ratios={},
        facts={
            "pairs": asdict(pairs),
            "emotion": asdict(emotion),
            "recipe": {arm: recipe.file(arm).read_text() for arm in ("pretrain", "finetune", "scratch")},
            **(_facts_of(systems, further) if systems else {}),
            "chosen": says,
            "seconds": seconds,
            "seconds in all": round(sum(seconds.values()), 1),
        },
    )
    for path in (folder / "tables.json", settings.json):
        if path is not None:
            write_record(path, record, before)
    for path in (folder / "tables.png", settings.plot):
        if path is not None:
            picture(emotion, path)
    console.print(terminal(pairs, emotion))
    if further:
        console.print(systems_terminal(further, emotion.majority))
    _say(f"{folder / 'tables.md'}: {sum(seconds.values()) / 60:.0f} min in all")


def make_corpora_with_members(folder: Path) -> tuple[str, str]:
    """Make what is not there yet of the demo's datasets with the members that further systems take.

    The corpora are the same, and the clips: the datasets without members stay as they are. eGeMAPS need the package
    opensmile; without it they are left out, and a line says so.

    Raises:
        InputError: they have other clips than the datasets without.
    """
    members = ["gaze_frames", "egemaps"]
    if find_spec("opensmile") is None:
        members.remove("egemaps")
        _say("opensmile is not installed (pip install '.[egemaps]'): the datasets have no egemaps")
    made: list[str] = []
    for corpus, (name, (there, arguments)) in zip(
        ("vox", "omg"), list(demo_commands(folder, 0).items())[1:], strict=True
    ):
        output = folder / f"{corpus}-members"
        made.append(str(output))
        if (output / MANIFEST).exists():
            _say(f"{name} with members: is there")
        else:
            _say(f"{name} with members")
            given = [str(output) if argument == str(there.parent) else argument for argument in arguments]
            given += [option for member in members for option in ("--member", member)]
            with timed(folder, f"{name} with members"):
                start([sys.executable, str(ROOT / "sharding" / "build.py"), *given], folder / f"{output.name}.log")
        require_same_clips(there.parent, output)
    return made[0], made[1]


def require_same_clips(one: Path, other: Path) -> None:
    """Raise InputError where two datasets have not the same clips in the same order."""
    datasets = [Dataset.open(folder, splits=None) for folder in (one, other)]
    splits = [sorted(dataset.manifest.splits) for dataset in datasets]
    if splits[0] != splits[1]:
        raise InputError(f"{other}: its splits are not those of {one}: give another --output")
    for split in splits[0]:
        columns = ["key", *(f"{member}_xxh3" for member in (FILMSTRIP, AUDIO, GAZE))]
        tables = [pq.read_table(folder / split / CATALOG, columns=columns) for folder in (one, other)]
        if not tables[0].equals(tables[1]):
            raise InputError(f"{other}: its {split} has other clips than {one}: give another --output")


def demo_commands(folder: Path, seed: int) -> dict[str, tuple[Path, list[str]]]:
    """What makes the demo's corpora: of each stage what is there when it is done, and arguments of sharding/build.py.

    The Makefile's demo target gives those of seed 0, but for fewer test utterances; a test compares them.
    """
    corpus = folder / "corpus"
    tracked = corpus / "openface"
    demo = ["demo", "--output", str(corpus), "--size", "96", *(["--seed", str(seed)] if seed else [])]
    voxceleb = ["voxceleb", "--source", str(corpus / "voxceleb"), "--openface", str(tracked / "voxceleb")]
    omg = ["omg", "--source", str(corpus / "omg/videos"), "--openface", str(tracked / "omg")]
    for split, table in (("train", "Train"), ("validation", "Validation")):
        omg += [f"--{split}-csv", str(corpus / f"omg/omg_{table}Videos.csv")]
    return {
        "demo corpus": (corpus, demo),
        "VoxCeleb part built": (
            folder / "vox" / MANIFEST,
            [*voxceleb, "--output", str(folder / "vox"), "--size", "80"],
        ),
        "OMG part built": (
            folder / "omg" / MANIFEST,
            [*omg, "--crop", "centre", "--output", str(folder / "omg"), "--size", "80"],
        ),
    }


def make_corpora(folder: Path, seed: int) -> tuple[str, str]:
    """Make what is not there yet of the demo's datasets.

    Raises:
        InputError: those that are there are of another seed of the generator.
    """
    noted = folder / "demo_seed"
    if noted.exists() and noted.read_text().strip() != str(seed):
        raise InputError(f"{folder}: its corpora are of --demo-seed {noted.read_text().strip()}: give another --output")
    write_atomically(noted, f"{seed}\n".encode())
    for name, (there, arguments) in demo_commands(folder, seed).items():
        if there.exists():
            _say(f"{name}: is there")
            continue
        _say(name)
        with timed(folder, name):
            start([sys.executable, str(ROOT / "sharding" / "build.py"), *arguments], folder / f"{arguments[0]}.log")
    return str(folder / "vox"), str(folder / "omg")


def _systems(settings: Settings, grid: Grid, folder: Path) -> Systems:
    """The runs of all further systems; of the demo on datasets with the members that some take."""
    data = (grid.voxceleb, grid.omg)
    if settings.demo:
        data = make_corpora_with_members(folder)
    (folder / FOLDER).mkdir(exist_ok=True)
    return Systems(
        grid=grid,
        voxceleb=data[0],
        omg=data[1],
        seeds=settings.system_seeds,
        members=members_of(data),
        vgg_face=None if settings.vgg_face is None else settings.vgg_face.resolve(),
    )


def _facts_of(systems: Systems, rows: Sequence[SystemScores]) -> dict[str, Any]:
    trainings = [work.arguments for work in systems.works() if work.trains]
    files = sorted({Path(arguments[arguments.index("--config") + 1]) for arguments in trainings})
    return {
        "systems": [asdict(row) for row in rows],
        "recipe of systems": {path.stem: path.read_text() for path in files},
    }


def _own(folder: Path) -> None:
    """Take a folder, or find that it is this command's."""
    mark = folder / SECONDS
    if not mark.exists() and folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise InputError(f"{folder}: holds other files: give an --output that is empty or not there")
    folder.mkdir(parents=True, exist_ok=True)
    if not mark.exists():
        write_atomically(mark, b"{}\n")


def _resolved(data: str) -> str:
    return data if url_of(data) is not None else str(Path(data).resolve())


def _say(line: str) -> None:
    console.print(printable(line), soft_wrap=True, markup=False, highlight=False)


if __name__ == "__main__":
    main()
