"""A page to look at a run: ``python -m models.page RUN [--data DATASET] [-o FOLDER]``, then open FOLDER/index.html.

Settings that differ from their defaults, curves, scores with their intervals, which class was taken for which, what was
waited for, where the run comes from, and what it answered worst and best; with the dataset, these clips play. The page
is static: it needs no server and no network. See `sharding.viewing.page` for its folder.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any

import tyro

from loaders.arguments import cli
from loaders.dataset.catalog import Catalog
from loaders.dataset.dataset import Dataset
from loaders.errors import InputError, reported
from loaders.storage.urls import local_path
from models.run_page.about import about_run
from models.run_page.extremes import Extreme, extremes
from models.training.predictions import PAIRS, PREDICTIONS, read_pairs, read_predictions
from models.training.runs import MODEL
from sharding.engines.stopping import stopped_in_order
from sharding.viewing.clips_shown import MEDIA_NAME, Place, members_shown, store_of, write_clips
from sharding.viewing.opened import opened
from sharding.viewing.page import INDEX, MEDIA, render, whole_folder

MOST = 200  #: worst, and best, answers about one target

_WHAT = "run page"
_TEMPLATE = Path(__file__).with_name("run_page.html")


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """Make a page to look at a run. No server, no network."""

    run: Annotated[Path, tyro.conf.Positional]
    """Folder of a run, finished or not."""
    data: tuple[Path, ...] = ()
    """The datasets that it was scored on, in the order of the training: folders or URLs. The worst and best clips then
    can be played."""
    output: Annotated[Path | None, tyro.conf.arg(aliases=["-o"])] = None
    """Folder to make: not there, empty, or an older page of a run, which is replaced. By default RUN-page, beside the
    run."""
    clips: int = 6
    """How many of the worst answers to show, and of the best, for each target."""


@dataclass(frozen=True, slots=True)
class _Clip:
    """Where a clip stands."""

    dataset: int  #: of those given
    place: Place


def main(prog: str = "python -m models.page") -> None:
    """The command line, of a program that is called so."""
    with reported(), stopped_in_order("run it again"):
        asked = cli(Page, prog=prog, description=__doc__)
        print(write_page(asked))


def write_page(asked: Page) -> Path:
    """Write the page. It appears when it is whole, and then takes an older one's place.

    Returns:
        Its index.html.

    Raises:
        InputError: no run is there, or a file of it is broken; a setting is out of range; the dataset is not the one
            that the run answered about, or is damaged; the output holds something else or cannot be written.
    """
    if not 0 <= asked.clips <= MOST:
        raise InputError(f"--clips is {asked.clips}: use 0 to {MOST}")
    run = local_path(asked.run, "the run")
    output = run.resolve().with_name(f"{run.resolve().name}-page") if asked.output is None else asked.output
    output = local_path(output, "--output")
    about = about_run(run)
    groups, missing = _answers(run, asked.clips)
    with ExitStack() as stack:
        datasets = [stack.enter_context(opened(path)) for path in asked.data]
        found = _found(groups, datasets)
        with whole_folder(output, _WHAT, MEDIA_NAME.fullmatch) as folder:
            clips = _write_media(folder, datasets, list(dict.fromkeys(clip for of in found.values() for clip in of)))
            number = {clip: index for index, clip in enumerate(clips)}
            page = {
                **about,
                "format": asdict(datasets[0].manifest.clip) if datasets else None,
                "labels": [asdict(label) for label in datasets[0].manifest.labels] if datasets else [],
                "clips": list(clips.values()),
                "extremes": [_shown(title, of, found, number) for title, of in groups],
                "missing": missing,
            }
            (folder / INDEX).write_bytes(render(_TEMPLATE, _WHAT, page["name"], page))
    return output / INDEX


def _answers(run: Path, count: int) -> tuple[list[tuple[str, list[Extreme]]], str | None]:
    """The worst and the best answers by what they are of; where there are none, why."""
    groups: list[tuple[str, list[Extreme]]] = []
    for name, read in ((PREDICTIONS, read_predictions), (PAIRS, read_pairs)):
        if (run / name).is_file():
            for target, answers in read(run / name).items():
                worst, best = extremes(target, answers, count)
                groups += [(f"worst: {target}", worst), (f"best: {target}", best)]
    if groups:
        return groups, None
    if not (run / MODEL).is_file():
        return [], "The run is not finished: it has answered nothing yet."
    return [], f"The run keeps no answers: there is neither {PREDICTIONS} nor {PAIRS} in its folder."


def _found(
    groups: Sequence[tuple[str, Sequence[Extreme]]], datasets: Sequence[Dataset]
) -> dict[tuple[tuple[str, Any], ...], list[_Clip]]:
    """Where the clips of the answers stand: of an utterance the first one, of a clip itself; none where it is not
    among the datasets.

    Raises:
        InputError: datasets are given, and none of them has one.
    """
    wanted = [key for _, of in groups for extreme in of for key in extreme.keys]
    known: dict[tuple[tuple[str, Any], ...], list[_Clip]] = {}
    corpora = Counter[str]()
    for number, dataset in enumerate(datasets):
        corpora[dataset.manifest.corpus] += 1
        count = corpora[dataset.manifest.corpus]
        name = dataset.manifest.corpus if count == 1 else f"{dataset.manifest.corpus} {count}"
        of_dataset = [key for key in wanted if key["dataset"] == name]
        for split in dataset.manifest.splits if of_dataset else ():
            if not dataset.manifest.splits[split].clips:
                continue
            columns = ["key", "speaker", "video", "utterance"]
            rows = dataset.catalog(split).table(columns).to_pylist()
            by_clip: dict[Any, int] = {}
            by_utterance: dict[Any, int] = {}
            for row, of in enumerate(rows):
                by_clip[of["key"]] = row
                by_utterance.setdefault((of["speaker"], of["video"], of["utterance"]), row)
            for key in of_dataset:
                if "clip" in key:
                    place = by_clip.get(key["clip"])
                else:
                    utterance = (key["speaker"], key["video"], key["utterance"])
                    place = by_utterance.get(utterance) if key["split"] == split else None
                if place is not None:
                    known.setdefault(tuple(key.items()), [_Clip(number, Place(split, place))])
    if datasets and wanted and not known:
        names = ", ".join(dataset.name for dataset in datasets)
        raise InputError(
            f"--data {names}: has none of the clips that the run answered about: give the one it was scored on"
        )
    return known


def _write_media(folder: Path, datasets: Sequence[Dataset], clips: Sequence[_Clip]) -> dict[_Clip, dict[str, Any]]:
    """What the page says of each clip, whose media are written on the way."""
    if not clips:
        return {}
    (folder / MEDIA).mkdir()
    said: dict[_Clip, dict[str, Any]] = {}
    for number, dataset in enumerate(datasets):
        places = [clip.place for clip in clips if clip.dataset == number]
        catalogs: Mapping[str, Catalog] = {
            split: dataset.catalog(split, members_shown(dataset.manifest)) for split in {p.split for p in places}
        }
        written = write_clips(
            folder, catalogs, places, set(places), store_of(dataset), lambda done, total: None, first=len(said)
        )
        said |= {_Clip(number, place): clip for place, clip in zip(places, written, strict=True)}
    return said


def _shown(
    title: str,
    of: Sequence[Extreme],
    found: Mapping[tuple[tuple[str, Any], ...], Sequence[_Clip]],
    number: Mapping[_Clip, int],
) -> dict[str, Any]:
    rows = []
    for extreme in of:
        clips = [number[clip] for key in extreme.keys for clip in found.get(tuple(key.items()), ())]
        rows.append({**asdict(extreme), "clips": clips if len(clips) == len(extreme.keys) else []})
    return {"title": title, "answers": rows}


if __name__ == "__main__":
    main()
