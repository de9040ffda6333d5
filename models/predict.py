"""What a trained run says of videos of your own: ``python -m models.predict VIDEO … --checkpoint RUN``.

A video's clips are made as those of the run's dataset were, by the same code, and go through the same front end: what
is said of a clip is what an evaluation of a dataset with this clip says. In Python: ``from models import load``, and
then ``load(RUN).predict(path)``.

Exit status: 0; 1 where some videos could not be answered, which are named, and the others were; 2 where none could; 75
where a later try may succeed.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro
from rich.console import Console

from loaders.arguments import cli
from loaders.errors import TRY_AGAIN, WRONG_INPUT, InputError, printable, reported
from loaders.progress import progress
from loaders.storage.atomic import write_atomically
from models.answers import Prediction, encode_pairs, predict_match, predict_targets
from models.prediction.making import GazeSource
from models.prediction.predictor import Device, Predictor, load, with_table_beside
from models.prediction.results import VideoPrediction
from models.prediction.shown import video_table, videos_table, windows_tables
from models.prediction.sources import Unanswered, videos_of
from models.prediction.timeline import draw_timeline
from models.prediction.written import as_csv, as_json
from models.training.curves import console
from sharding.engines.stopping import stopped_in_order
from sharding.settings import Crop
from sharding.utterance import Utterance

__all__ = ["Predict", "Prediction", "encode_pairs", "main", "predict_match", "predict_targets"]

_FAULTS = 1
_STANDARD_OUTPUT = Path("-")
_TIMELINE_STEP = 0.5  # seconds, where nobody says how many


@dataclass(frozen=True, slots=True, kw_only=True)
class Predict:
    """What does a trained run say of videos?"""

    videos: Annotated[tuple[Path, ...], tyro.conf.Positional]
    """Files, folders of files, and tables (.csv, .tsv, .parquet, .jsonl, .ndjson) with a column video, and where there
    are such audio, gaze, start and end; here or at URLs."""
    checkpoint: Path
    """The run to ask: one that was fine-tuned."""
    every: float | None = None
    """Answer for windows over time, one every so many seconds, as 0.5; by default for the clips that lie end to end."""
    timeline: Path | None = None
    """Draw frames, sound and answers over time: a new .png; of several videos a folder for one each."""
    json: Path | None = None
    """A new file for all that is said; - prints it instead of tables."""
    csv: Path | None = None
    """A new file with a row a video, and with --every a row a window; - prints it instead of tables."""
    gaze: GazeSource = "auto"
    """For a run that looks at gaze: mediapipe tracks it, as the build does; openface takes OpenFace 2's table beside
    each video, clip.csv of clip.mp4; none leaves it out. auto: mediapipe where the run has learned from it."""
    crop: Crop | None = None
    """What to crop of each picture instead of what the run's clips show: the middle, or the largest face."""
    like: str | None = None
    """A dataset whose clips are made as the run's are: for runs of older versions, which do not say how."""
    device: Device = "auto"
    """Where the network is computed; auto: on a GPU where there is one."""


def main(arguments: Sequence[str] | None = None, prog: str = "python -m models.predict") -> None:
    """The command line; ``arguments``: those of this process by default."""
    with reported(), stopped_in_order("run it again"):
        asked = cli(Predict, args=arguments, prog=prog, description=__doc__)
        status = predict(asked)
    if status:
        raise SystemExit(status)


def predict(asked: Predict) -> int:
    """Answer, and write and print what was asked for; returns the exit status.

    Raises:
        InputError: the run cannot be asked, an option has no effect, or a file cannot be written.
    """
    _check(asked)
    predictor = load(asked.checkpoint, like=asked.like, crop=asked.crop, gaze=asked.gaze, device=asked.device)
    every = asked.every
    if every is not None:
        predictor.frames_of(every)
    elif asked.timeline is not None:
        fps = predictor.making.settings.fps
        every = max(1, round(_TIMELINE_STEP * fps)) / fps
    videos = videos_of(asked.videos)
    several = len(videos.utterances) > 1 or any(path.is_dir() for path in asked.videos)
    pictures = _Pictures(asked.timeline, several=several)
    for note in (*predictor.making.notes, *videos.notes):
        _warn(note)
    found: list[VideoPrediction] = []
    unanswered = list(videos.unanswered)
    told = Console(stderr=True)  # what is printed may be for a program
    with progress("predicting", len(videos.utterances), "videos", console=told, shown=several, transient=True) as bar:
        for utterance in videos.utterances:
            try:
                found.append(_answered(predictor, utterance, asked, every, pictures))
            except InputError as error:
                unanswered.append(Unanswered.of(utterance.video_path, error))
            bar.advance(1)
    _tell(asked, predictor, found, unanswered)
    if not unanswered and not found:
        raise InputError("no video: give files, folders or tables of some")
    if any(one.try_again for one in unanswered):
        return TRY_AGAIN
    return 0 if not unanswered else _FAULTS if found else WRONG_INPUT


def _answered(
    predictor: Predictor, utterance: Utterance, asked: Predict, every: float | None, pictures: _Pictures
) -> VideoPrediction:
    if asked.gaze == "openface":
        utterance = with_table_beside(utterance)
    prediction, media = predictor.predict_utterance(utterance, every=every)
    path = pictures.next(utterance.video_path)
    if path is not None:
        draw_timeline(prediction, media, path)
    return prediction


def _tell(
    asked: Predict, predictor: Predictor, found: Sequence[VideoPrediction], unanswered: Sequence[Unanswered]
) -> None:
    if asked.json is not None:
        _write(asked.json, as_json(found, unanswered))
    if asked.csv is not None:
        _write(asked.csv, as_csv(predictor.labels, found, unanswered, windows=asked.every is not None))
    if _STANDARD_OUTPUT not in (asked.json, asked.csv):
        if len(found) == 1:
            print(printable(found[0].path))
            console().print(video_table(found[0]))
        elif found:
            console().print(videos_table(predictor.labels, found))
        for prediction in found if asked.every is not None else ():
            if len(found) > 1:
                print(printable(prediction.path))
            for table in windows_tables(prediction, console()):
                console().print(table)
    for prediction in found:
        for note in prediction.notes:
            _warn(f"{prediction.path}: {note}")
    for one in unanswered:
        print(f"error: {printable(f'{one.path}: {one.problem}: {one.mend}')}", file=sys.stderr)


def _check(asked: Predict) -> None:
    """Raise InputError where something goes with nothing, before a network is loaded."""
    if not asked.videos:
        raise InputError("no video: give files, folders or tables of some")
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise InputError("several processes: each would answer the same, start one")
    for option, path in (("--json", asked.json), ("--csv", asked.csv)):
        if path is not None and path != _STANDARD_OUTPUT:
            if path.exists():
                raise InputError(f"{option} {path}: is there already: give another name, or remove it")
            if not path.parent.is_dir():
                raise InputError(f"{option} {path}: there is no folder {path.parent}: make it first")
    if asked.json == asked.csv == _STANDARD_OUTPUT:
        raise InputError("--json - and --csv -: one of them can be printed: give the other a name")


class _Pictures:
    """Where the timelines go: a file, or of several videos files of a folder, called as the videos are."""

    def __init__(self, path: Path | None, *, several: bool) -> None:
        self._path, self._several = path, several
        self._taken: set[str] = set()
        if path is None:
            return
        if several and path.suffix.lower() == ".png":
            raise InputError(f"--timeline {path}: of several videos, and one picture: give a folder")
        if not several and path.suffix.lower() != ".png":
            raise InputError(f"--timeline {path}: of one video it is a .png: give such a name")
        if path.exists() and not several:
            raise InputError(f"--timeline {path}: is there already: give another name, or remove it")
        if path.exists() and not (path.is_dir() and not any(path.iterdir())):
            raise InputError(f"--timeline {path}: holds something already: give a folder that is empty or not there")
        if several:
            path.mkdir(parents=True, exist_ok=True)
        elif not path.parent.is_dir():
            raise InputError(f"--timeline {path}: there is no folder {path.parent}: make it first")

    def next(self, video: Path) -> Path | None:
        """The picture of a video; None where there are to be none."""
        if self._path is None or not self._several:
            return self._path
        name, number = video.stem, 1
        while name in self._taken:
            number += 1
            name = f"{video.stem}-{number}"
        self._taken.add(name)
        return self._path / f"{name}.png"


def _write(path: Path, text: str) -> None:
    if path == _STANDARD_OUTPUT:
        sys.stdout.write(text)
        return
    try:
        write_atomically(path, text.encode())
    except OSError as error:
        raise InputError(f"{path}: {error.strerror}: give a name in a folder that can be written") from error


def _warn(text: str) -> None:
    print(f"warning: {printable(text)}", file=sys.stderr)


if __name__ == "__main__":
    main()
