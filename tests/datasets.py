"""Small datasets for tests, made by `sharding` itself of pictures, sound and gaze that are drawn instead of decoded."""

import colorsys
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
from numpy.typing import NDArray

from loaders.dataset.labels import Label
from loaders.dataset.manifest import Manifest
from sharding.media.reader import Media
from sharding.packing.clip_gaze import ClipGaze
from sharding.packing.finish import finish_dataset
from sharding.packing.plan import ShardJob
from sharding.packing.shard import build_shard
from sharding.packing.workfolder import remove_work_folder
from sharding.settings import BuildSettings
from sharding.utterance import Utterance


@dataclass(frozen=True, slots=True, kw_only=True)
class Contents:
    """What a dataset is to hold: every speaker has ``videos`` of ``utterances`` of 1 … ``clips`` clips."""

    speakers: Mapping[str, int]  #: by split
    shards: Mapping[str, int]  #: by split
    videos: int = 3
    utterances: int = 2
    clips: int = 3
    without_gaze: float = 0.25  #: share of the utterances
    unlabelled: float = 0.25  #: share of the utterances
    each_speakers_own: bool = False  #: every speaker's videos are called ``v0``, ``v1``, …
    seed: int = 0


EMOTIONS = ("anger", "disgust", "fear", "happy", "neutral", "sad", "surprise")
LABELS = (
    Label(name="emotion", classes=EMOTIONS),
    Label(name="arousal", low=0.0, high=1.0),
    Label(name="valence", low=-1.0, high=1.0),
)
CONTENTS = Contents(speakers={"train": 5, "test": 3}, shards={"train": 4, "test": 2})
SETTINGS = BuildSettings(size=32)


def make_dataset(folder: Path, contents: Contents = CONTENTS, settings: BuildSettings = SETTINGS) -> Manifest:
    """Make a dataset in ``folder``, which must not be there yet; the default one in half a second.

    Speakers are called ``train-s0``, their videos ``train-s0-v0``, utterances ``u0``. Every clip has
    pictures, sound and gaze of its own. The bytes depend on the arguments alone.
    """
    (folder / ".build").mkdir(parents=True)
    jobs = []
    drawn: dict[str, Any] = {"read_media": _draw_media, "UtteranceGaze": _DrawnGaze}
    with mock.patch.multiple("sharding.packing.clips", **drawn):
        for split, speakers in contents.speakers.items():
            utterances = list(_utterances(split, speakers, contents, settings.clip_seconds))
            for number in range(contents.shards[split]):
                chosen = tuple(utterances[number :: contents.shards[split]])
                job = ShardJob(
                    output=folder,
                    split=split,
                    number=number,
                    utterances=chosen,
                    settings=settings,
                    labels=LABELS,
                    digest="drawn",
                )
                build_shard(job)
                jobs.append(job)
    manifest, _ = finish_dataset(folder, "drawn", jobs, settings, labels=LABELS)
    remove_work_folder(folder)
    return manifest


def _utterances(split: str, speakers: int, contents: Contents, clip_seconds: float) -> Iterator[Utterance]:
    for place in np.ndindex(speakers, contents.videos, contents.utterances):
        draw = np.random.default_rng([contents.seed, zlib.crc32(split.encode()), *place])
        name = "-".join(str(part) for part in (split, *place, contents.seed))
        labelled = draw.random() >= contents.unlabelled
        yield Utterance(
            corpus="drawn",
            split=split,
            speaker=f"{split}-s{place[0]}",
            video=f"v{place[1]}" if contents.each_speakers_own else f"{split}-s{place[0]}-v{place[1]}",
            utterance=f"u{place[2]}",
            # The pretended file's name says how long it is, and all else is drawn from its path.
            video_path=Path(name, str(clip_seconds * draw.integers(1, contents.clips, endpoint=True))),
            gaze_path=Path(name) if draw.random() >= contents.without_gaze else None,
            labels=_draw_labels(draw) if labelled else {},
        )


def _draw_labels(draw: np.random.Generator) -> dict[str, str | float]:
    return {
        "emotion": EMOTIONS[draw.integers(len(EMOTIONS))],
        "arousal": round(draw.random(), 3),
        "valence": round(draw.uniform(-1, 1), 3),
    }


def _generator(path: Path) -> np.random.Generator:
    return np.random.default_rng(list(str(path).encode()))


class _DrawnGaze:
    """What `sharding.packing.clip_gaze.UtteranceGaze` would give of the pretended table."""

    def __init__(self, utterance: Utterance, *_: Any) -> None:
        path = utterance.gaze_path
        self._gaze = ClipGaze(problem="gaze_missing")
        if path is not None:
            self._gaze = ClipGaze(statistics=_generator(path).normal(size=103).astype(np.float32))

    def of(self, start: float, end: float) -> ClipGaze:
        return self._gaze


def _draw_media(path: Path, *, fps: float, size: int, sample_rate: int, **_: Any) -> Media:
    """In place of `sharding.media.reader.read_media`: half a second more than whole clips."""
    draw = _generator(path)
    seconds = float(path.name) + 0.5
    return Media(
        frames=_draw_frames(draw, round(seconds * fps), size),
        audio=_draw_samples(draw, round(seconds * sample_rate), sample_rate),
        changes=np.ones(round(seconds * fps), bool),
        fps=fps,
        sample_rate=sample_rate,
        source_fps=25.0,
        source_starts=np.arange(round(25 * seconds)) / 25,
        source_seconds=seconds,
        width=size,
        height=size,
    )


def _draw_frames(draw: np.random.Generator, count: int, size: int) -> NDArray[np.uint8]:
    """(T, H, W, 3): a disc of a strong colour that wanders over a shaded ground."""
    y, x = np.mgrid[:size, :size] / size
    path = 0.5 + np.cumsum(draw.normal(0, 0.08, (count, 2)), axis=0)
    disc = np.hypot(y - path[:, :1, None] % 1, x - path[:, 1:, None] % 1) < 0.25
    colour, ground = colorsys.hsv_to_rgb(draw.random(), 0.9, 0.9), colorsys.hsv_to_rgb(draw.random(), 0.4, 0.6)
    picture = np.where(disc[..., None], colour, np.array(ground) * (0.4 + 0.6 * x[..., None]))
    return (picture * 255).astype(np.uint8)


def _draw_samples(draw: np.random.Generator, count: int, sample_rate: int) -> NDArray[np.int16]:
    """(samples,): a tone in noise, with peaks at both ends of the range."""
    tone = 0.3 * np.sin(2 * np.pi * draw.uniform(100, 400) / sample_rate * np.arange(count))
    noisy = tone + draw.uniform(-0.05, 0.05, count)
    samples: NDArray[np.int16] = (noisy * 32767).astype(np.int16)
    samples[draw.integers(count, size=20)] = -32768
    samples[draw.integers(count, size=20)] = 32767
    return samples
