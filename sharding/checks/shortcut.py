"""Can a match be guessed without looking or listening?

Pre-training asks a network whether frames and audio belong together. If loudness, brightness, bytes or padding answer
that, the network will learn those instead; so it will where corpora of several sources are pooled, and colour and
bandwidth tell which one picture and sound are of. So a small classifier gets nothing but such cues, of pairs drawn as
training draws them, and ought to be no better than a coin. Nor ought who knows nothing but which video a sound is of.
"""

import io
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageStat
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from loaders.dataset.catalog import Catalog, open_catalog
from loaders.dataset.manifest import AUDIO, FILMSTRIP
from loaders.dataset.shards import CorruptMemberError, Shards
from loaders.errors import InputError
from loaders.intervals import wilson
from loaders.sampling import randomness
from loaders.sampling.examples import Sampler
from loaders.sampling.order import permute
from loaders.sampling.pairs import Clips, Pairs
from sharding.engines.local import run
from sharding.media.waveform import decode_waveform

OTHER_VIDEO = {"other_video": 1.0}
_QUIET = 1e-5  # amplitude, −100 dB: what is below counts as this
_FEWEST_VIDEOS = 4
_SOUNDS_VIDEO = "the sound's video"
_PAIRS = 200_000  # drawn for it, and as many to learn it from
_PENALTY = 10.0  # on the squared weights of standardised features: they are many, and pairs may be few

# What is measured of a clip, and the guesses that it goes into. Where a clip starts is not among them: it is the same
# on both sides of every match by definition, and no network is shown it.
_VIDEO_CUES = ("luminance", "blue", "red", "filmstrip_bytes", "padding")
_AUDIO_CUES = ("rms", "peak", "bandwidth", "audio_bytes", "silent_end", "padding")
_MEASURED = ("luminance", "blue", "red", "rms", "peak", "bandwidth", "silent_end")  # of the decoded clip
_GUESSES: Mapping[str, tuple[str, ...]] = {
    "loudness and light": ("luminance", "rms", "peak"),
    "bytes": ("filmstrip_bytes", "audio_bytes"),
    "padding": ("padding", "silent_end"),
    "source (colour, bandwidth)": ("blue", "red", "bandwidth"),
    "all of them": (*_VIDEO_CUES, *_AUDIO_CUES),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Guess:
    """How often a classifier that sees only these cues is right, on pairs of videos that it was not trained on."""

    cues: str
    accuracy: float
    low: float  #: 95 % interval
    high: float

    @property
    def beats_chance(self) -> bool:
        """The whole interval lies above a coin's accuracy."""
        return self.low > 0.5


@dataclass(frozen=True, slots=True, kw_only=True)
class Shortcuts:
    """What was tried on a dataset."""

    clips: int
    videos: int
    pairs: int
    guesses: tuple[Guess, ...]


@dataclass(frozen=True, slots=True)
class _Measuring:
    dataset: Path
    split: str
    clips: tuple[int, ...]  #: catalog rows


def find_shortcuts(
    dataset: Path,
    *,
    split: str = "train",
    negatives: Mapping[str, float] = OTHER_VIDEO,
    clips: int = 4000,
    seed: int = 0,
    workers: int = 1,
) -> Shortcuts:
    """Try to guess matches from cues alone.

    Half of the videos train a classifier and the others test it, then the other way round; each half's pairs are drawn
    among its own clips, by the function that training uses. Every clip's frames are tested once.

    Args:
        dataset: its folder.
        split: whose clips.
        negatives: as in training, see `loaders.sampling.pairs`.
        clips: whole videos are taken at random until there are this many.
        seed: of the videos taken, the halves and the pairs.
        workers: processes that measure.

    Raises:
        InputError: no such dataset or split, too few videos, negatives that a half cannot offer, or damaged clips.
    """
    catalog = open_catalog(dataset, split, [FILMSTRIP, AUDIO])
    for name in (FILMSTRIP, AUDIO):
        without = np.count_nonzero(catalog.members[name].size == 0)
        if without:
            raise InputError(
                f"{catalog.folder}: {without} of {len(catalog)} clips have no {name}, and nothing to match: build "
                "without --allow-missing to find out"
            )
    halves = _halves(catalog, clips, seed)
    rows = np.sort(np.concatenate(halves))
    cues = _measure(dataset, catalog, rows, workers)
    pairs = [_pairs(catalog, half, negatives, seed) for half in halves]
    guesses = []
    for name, wanted in _GUESSES.items():
        sides = [_features(cues, wanted, frames, audio) for frames, audio, _ in pairs]
        right, video = [], []
        for train, test in ((0, 1), (1, 0)):
            frames, _, match = pairs[test]
            right.append(_predict(sides[train], pairs[train][2], sides[test]) == match)
            video.append(catalog.video[frames])
        guesses.append(_guess(name, np.concatenate(right), np.concatenate(video)))
    guesses.append(_guess_from_the_sounds_video(catalog, negatives, seed))
    return Shortcuts(
        clips=len(rows),
        videos=len(np.unique(catalog.video[rows])),
        pairs=sum(len(match) for _, _, match in pairs),
        guesses=tuple(guesses),
    )


def _halves(catalog: Catalog, clips: int, seed: int) -> list[NDArray[np.int64]]:
    """Catalog rows of two sets of videos."""
    videos, count = np.unique(catalog.video, return_counts=True)
    order = permute(np.arange(len(videos)), len(videos), randomness.key(seed, "shortcut"))
    taken = int(np.searchsorted(np.cumsum(count[order]), clips)) + 1
    chosen = videos[order[: max(taken, _FEWEST_VIDEOS)]]
    if len(chosen) < _FEWEST_VIDEOS:
        raise InputError(
            f"{catalog.folder}: {len(chosen)} videos are too few to tell: build with {_FEWEST_VIDEOS} or more"
        )
    return [np.flatnonzero(np.isin(catalog.video, chosen[half::2])) for half in (0, 1)]


def _pairs(
    catalog: Catalog, rows: NDArray[np.int64], negatives: Mapping[str, float], seed: int
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.bool_]]:
    """An epoch of training on these clips alone: catalog rows of frames and of audio, and whether they match."""
    part = replace(
        catalog,
        shard=catalog.shard[rows],
        speaker=catalog.speaker[rows],
        video=catalog.video[rows],
        utterance=catalog.utterance[rows],
        start=catalog.start[rows],
        members={},
        targets={},
    )
    frames = catalog.manifest.clip.frames
    sampler = Sampler(part, seed=seed, training=True, frames=frames, negatives=negatives)
    examples = sampler.examples(0, np.arange(len(rows) // 2 * 2))
    return rows[examples.clip], rows[examples.audio_clip], examples.match


def _guess_from_the_sounds_video(catalog: Catalog, negatives: Mapping[str, float], seed: int) -> Guess:
    """Of all clips, as training draws them: whether a video's sounds come more often in matches, learnt from some
    epochs and tested on as many others. Coins are independent from pair to pair, so every pair counts by itself."""
    clips = Clips(catalog.speaker, catalog.video, catalog.utterance, catalog.start, catalog.manifest.clip.seconds)
    pairs, n = Pairs(clips, negatives, seed), len(catalog)
    _, video = np.unique(catalog.video, return_inverse=True)
    positions = np.arange(n // 2 * 2)
    learnt, right = np.zeros(int(video.max()) + 1), []
    epochs = max(1, _PAIRS // n)
    for epoch in range(2 * epochs):
        frames = permute(positions, n, randomness.key(seed, "sound", epoch))
        audio, match = pairs.draw(epoch, positions, frames)
        of = video[audio]
        if epoch < epochs:
            learnt += np.bincount(of, np.where(match, 1.0, -1.0), minlength=len(learnt))
        else:
            right.append((learnt[of] > 0) == match)
    alone = np.concatenate(right)
    return _guess(_SOUNDS_VIDEO, alone, np.arange(len(alone), dtype=np.int32))


# -- cues


def _measure(dataset: Path, catalog: Catalog, rows: NDArray[np.int64], workers: int) -> dict[str, NDArray[np.float64]]:
    """The cues of these clips: one entry a catalog row, 0 for the others."""
    table = catalog.table(["padded"])
    cues = {name: np.zeros(len(catalog)) for name in (*_VIDEO_CUES, *_AUDIO_CUES)}
    cues["padding"][:] = table["padded"].to_numpy()
    cues["filmstrip_bytes"][:] = np.log(np.maximum(catalog.members["filmstrip"].size, 1))
    cues["audio_bytes"][:] = np.log(np.maximum(catalog.members["audio"].size, 1))
    parts = np.array_split(rows, max(len(rows) // 500, 1))
    jobs = [_Measuring(dataset, catalog.split, tuple(part.tolist())) for part in parts]
    for job, measured in run(_decode, jobs, workers=workers if len(jobs) > 1 else 1):
        for name, values in measured.items():
            cues[name][list(job.clips)] = values
    return cues


def _decode(job: _Measuring) -> tuple[_Measuring, dict[str, list[float]]]:
    """What only the decoded clip tells."""
    catalog = open_catalog(job.dataset, job.split, [FILMSTRIP, AUDIO])
    shards = Shards(catalog)
    measured: dict[str, list[float]] = {name: [] for name in _MEASURED}
    try:
        for clip in job.clips:
            strip, sound = shards.read(FILMSTRIP, clip), shards.read(AUDIO, clip)
            if strip is None or sound is None:
                raise ValueError(f"clip {clip} has no frames or no audio")
            for name, value in zip(("luminance", "blue", "red"), _light(strip.tobytes()), strict=True):
                measured[name].append(value)
            waveform = decode_waveform(sound.tobytes(), samples=catalog.manifest.clip.samples)
            rms, peak = float(np.sqrt(np.mean(np.square(waveform)))), float(np.abs(waveform).max())
            measured["rms"].append(20 * math.log10(max(rms, _QUIET)))
            measured["peak"].append(20 * math.log10(max(peak, _QUIET)))
            measured["bandwidth"].append(_bandwidth(waveform))
            heard = np.flatnonzero(waveform)
            silent = len(waveform) - (int(heard[-1]) + 1 if len(heard) else 0)
            measured["silent_end"].append(silent / catalog.manifest.clip.sample_rate)
    except (CorruptMemberError, ValueError, OSError) as error:
        raise InputError(f"{catalog.folder}: {error}: run sharding/verify.py first") from error
    finally:
        shards.close()
    return job, measured


def _light(strip: bytes) -> tuple[float, float, float]:
    """Mean brightness and colour (Y, Cb, Cr) of a filmstrip, 0 … 255, from an eighth of its resolution."""
    with Image.open(io.BytesIO(strip), formats=("JPEG",)) as picture:
        picture.draft("YCbCr", (picture.width // 8, picture.height // 8))
        luminance, blue, red = ImageStat.Stat(picture.convert("YCbCr")).mean
        return float(luminance), float(blue), float(red)


def _bandwidth(waveform: NDArray[np.floating[Any]]) -> float:
    """Share of the spectrum below which 99 % of the power lie, 0 … 1: what a codec has cut off stays cut off."""
    power = np.cumsum(np.square(np.abs(np.fft.rfft(waveform))))
    return float(np.searchsorted(power, 0.99 * power[-1]) / len(power))


# -- the classifier


def _features(
    cues: Mapping[str, NDArray[np.float64]],
    wanted: Sequence[str],
    frames: NDArray[np.int64],
    audio: NDArray[np.int64],
) -> NDArray[np.float64]:
    """(pairs, features): the cues of both sides, their products, and how far apart the sides are."""
    seen = np.stack([cues[name][frames] for name in _VIDEO_CUES if name in wanted], axis=1)
    heard = np.stack([cues[name][audio] for name in _AUDIO_CUES if name in wanted], axis=1)
    everyone = np.concatenate([frames, audio])
    seen, heard = (
        np.stack([_standard(column, cues[name][everyone]) for column, name in zip(side.T, names, strict=True)], axis=1)
        for side, names in (
            (seen, [name for name in _VIDEO_CUES if name in wanted]),
            (heard, [name for name in _AUDIO_CUES if name in wanted]),
        )
    )
    both = np.concatenate([seen, heard], axis=1)
    one, other = np.triu_indices(both.shape[1])
    apart = np.abs(seen[:, :, None] - heard[:, None, :]).reshape(len(both), -1)
    return np.concatenate([both, both[:, one] * both[:, other], apart], axis=1)


def _standard(values: NDArray[np.float64], reference: NDArray[np.float64]) -> NDArray[np.float64]:
    """In units of the reference's deviation from its mean, at most four: an outlier must not decide alone."""
    scaled: NDArray[np.float64] = np.clip((values - reference.mean()) / (reference.std() or 1.0), -4, 4)
    return scaled


def _predict(
    train: NDArray[np.float64], match: NDArray[np.bool_], test: NDArray[np.float64], iterations: int = 25
) -> NDArray[np.bool_]:
    """Logistic regression with a quadratic penalty, by Newton's method (Bishop, "Pattern Recognition", 2006, 4.3.3)."""
    mean, deviation = train.mean(axis=0), train.std(axis=0)
    deviation[deviation == 0] = 1.0
    x, new = (np.c_[np.ones(len(side)), (side - mean) / deviation] for side in (train, test))
    penalty = np.full(x.shape[1], _PENALTY)
    penalty[0] = 1e-9  # the offset is free
    weights = np.zeros(x.shape[1])
    for _ in range(iterations):
        probability = 1 / (1 + np.exp(-np.clip(x @ weights, -30, 30)))
        gradient = x.T @ (probability - match) + penalty * weights
        curvature = (x.T * np.maximum(probability * (1 - probability), 1e-6)) @ x + np.diag(penalty)
        step = np.linalg.solve(curvature, gradient)
        weights -= step
        if np.abs(step).max() < 1e-6:
            break
    guessed: NDArray[np.bool_] = new @ weights > 0
    return guessed


def _guess(cues: str, right: NDArray[np.bool_], video: NDArray[np.int32]) -> Guess:
    """The accuracy, with an interval that knows that pairs of one video stand and fall together.

    Wilson's interval (1927) of as many independent pairs as would scatter like these: their number over Kish's design
    effect ("Survey Sampling", 1965, section 5.4).
    """
    accuracy = float(right.mean())
    _, group = np.unique(video, return_inverse=True)
    excess = np.bincount(group, right - accuracy)
    count = len(excess)
    variance = float(np.square(excess).sum()) / len(right) ** 2 * count / max(count - 1, 1)
    alone = accuracy * (1 - accuracy) / len(right)
    low, high = wilson(accuracy, len(right) / max(variance / alone if alone else 1.0, 1.0))
    return Guess(cues=cues, accuracy=accuracy, low=low, high=high)


# -- for people


def guesses_table(found: Shortcuts, dataset: Path) -> Table:
    """A row a guess. 80 columns hold it."""
    pairs = f"{found.pairs} pairs of {found.clips} clips, {found.videos} videos"
    table = Table(title=f"{escape(str(dataset))}: matches guessed without looking or listening, {pairs}")
    table.add_column("from", overflow="fold")
    for column in ("right", "95 % interval"):
        table.add_column(column, justify="right", no_wrap=True)
    table.add_column("")
    for guess in found.guesses:
        verdict = "[bold red]beats chance[/]" if guess.beats_chance else "[green]no better than a coin[/]"
        table.add_row(guess.cues, f"{guess.accuracy:.1%}", f"{guess.low:.1%} … {guess.high:.1%}", verdict)
    return table


def report_shortcuts(found: Shortcuts, dataset: Path, *, as_json: bool) -> None:
    """Print the guesses, with a warning where one beats chance."""
    if as_json:
        guesses = [{**asdict(guess), "beats_chance": guess.beats_chance} for guess in found.guesses]
        print(json.dumps({"dataset": str(dataset), **asdict(found), "guesses": guesses}, indent=1))
        return
    console = Console()
    console.print(guesses_table(found, dataset))
    for guess in found.guesses:
        if guess.beats_chance:
            console.print(
                f"[bold red]warning[/]: {guess.cues} alone tell matches in {guess.accuracy:.0%} of pairs: a network "
                "may learn that instead of faces and voices",
                soft_wrap=True,
            )
