"""Containers, codecs and frame rates against each other: what is stored is what was shown and heard at that time."""

from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from sharding.media.reader import MediaError, read_media
from tests.numbered import PICTURES, SIDE, Moments, delays_of, write_moments, wrong_frames

SECONDS = 3
CONTAINERS = ("mp4", "mov", "mkv", "avi", "ts", "flv", "webm", "mpg")
RATES = {"25": Fraction(25), "29.97": Fraction(30000, 1001), "variable": None}
QUICK = [
    ("avi", "h264", "25"),
    ("avi", "mpeg4", "29.97"),
    ("avi", "h264", "variable"),
    ("avi", "mpeg1", "25"),
    ("mp4", "hevc", "variable"),
    ("mkv", "h264", "29.97"),
    ("flv", "h264", "29.97"),
    ("mpg", "mpeg2", "25"),
]
REFUSED = {
    # What is written is read by no player: no mark in these streams says what they are.
    **{(container, "vp9"): "no_video" for container in ("ts", "mpg")},
    ("ts", "mjpeg"): "no_video",
    ("mpg", "mjpeg"): "undecodable",
    # Pictures share a time, and in between FFmpeg counts them, as if they followed on from each other.
    ("mpg", "mpeg4"): "clock",
    ("mpg", "hevc"): "clock",
    ("mpg", "h264"): "clock",
    ("mpg", "mpeg2"): "clock",
    ("mpg", "mpeg1"): "clock",
}
READ_AT_A_STEADY_RATE = {("mpg", "h264"), ("mpg", "mpeg2")}


def moments(rate: str) -> Moments:
    fps = RATES[rate]
    if fps is not None:
        return Moments(starts=range(round(SECONDS * fps)), time_base=1 / fps, seconds=SECONDS)
    gaps = np.random.default_rng(5).integers(1, 5, 200)
    starts = np.concatenate([[0], np.cumsum(gaps)])
    return Moments(
        starts=[int(start) for start in starts if start < SECONDS * 50], time_base=Fraction(1, 50), seconds=SECONDS
    )


def outcome(path: Path, codec: str, rate: str) -> str:
    """ "right", or why the file was not "written", or the reason for which it was refused; fails where it is wrong."""
    film = moments(rate)
    try:
        write_moments(path, film, codec=codec)
    except (av.FFmpegError, ValueError):
        return "not written"
    try:
        media = read_media(path, fps=25, size=SIDE)
    except MediaError as error:
        return error.reason
    assert wrong_frames(media.frames, media.fps, seconds(film)) == []
    assert len(media.frames) >= 25 * SECONDS - 5
    delays = delays_of(media.audio, media.sample_rate)
    assert len(delays) >= 4 * SECONDS - 1
    assert np.abs(delays).max() <= 0.010, delays
    return "right"


def seconds(film: Moments) -> Sequence[Fraction]:
    return [start * film.time_base for start in film.starts]


@pytest.mark.parametrize(("container", "codec", "rate"), QUICK)
def test_frames_and_sound_are_those_of_their_time(tmp_path: Path, container: str, codec: str, rate: str) -> None:
    assert outcome(tmp_path / f"film.{container}", codec, rate) == "right"


def test_frames_and_sound_are_those_of_their_time_in_whatever_can_be_written(tmp_path: Path, full: bool) -> None:
    if not full:
        pytest.skip("a minute: with --full")
    counts: dict[str, int] = {}
    for container in CONTAINERS:
        for codec in PICTURES:
            for rate in RATES:
                path = tmp_path / f"{codec}-{rate}.{container}"
                found = outcome(path, codec, rate)
                path.unlink(missing_ok=True)
                counts[found] = counts.get(found, 0) + 1
                steady = rate != "variable" and (container, codec) in READ_AT_A_STEADY_RATE
                may_be = (
                    {"right", "not written"} if steady else {"not written", REFUSED.get((container, codec), "right")}
                )
                if (container, codec, rate) == ("mpg", "hevc", "29.97"):
                    may_be = {"right", "clock"}  # by what the encoder makes of it
                assert found in may_be, (container, codec, rate, found)
    assert counts["right"] >= 105, counts
