"""A part of a longer video is read as if it were all there is."""

import math
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from sharding.media.reader import MediaError, read_media
from tests.films import tone, write_film
from tests.numbered import Moments, delays_of, number_of, write_moments

FPS = 25.0
SECONDS = 8.0


@pytest.fixture(scope="module", params=["long.mp4", "long.mkv", "long.ts", "long.webm"])
def film(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Eight seconds, with few points to start decoding at, and pictures that refer to later ones."""
    path = tmp_path_factory.mktemp("films") / request.param
    options = {} if path.suffix == ".webm" else {"g": "40", "bf": "3"}
    return write_film(path, SECONDS, options=options)


@pytest.mark.parametrize(("start", "stop"), [(0.0, 1.2), (0.04, 2.04), (3.2, 5.2), (4.0, 4.08), (6.4, 8.0)])
def test_a_part_is_what_the_whole_has_there(film: Path, start: float, stop: float) -> None:
    whole = read_media(film, fps=FPS, size=64)
    part = read_media(film, fps=FPS, size=64, start=start, stop=stop)
    first, count = round(start * FPS), round((stop - start) * FPS)
    assert abs(len(part.frames) - count) <= (stop == SECONDS)
    assert np.array_equal(part.frames, whole.frames[first : first + len(part.frames)])
    assert min(_differs(part.audio, whole.audio, round(start * 16000) + shift) for shift in _ROUNDING) <= 1
    assert part.source_fps == pytest.approx(25, rel=0.1 if stop - start > 0.5 else 1)
    assert part.source_seconds == pytest.approx(stop - start, abs=0.05)


_ROUNDING = range(-16, 17)  # samples in a millisecond: to that, Matroska's timestamps are rounded


def _differs(part: NDArray[np.int16], whole: NDArray[np.int16], at: int) -> int:
    """By how much at most the part differs from the whole there, but for its ends, where a resampler begins anew."""
    there = whole[max(at, 0) :][: len(part)].astype(int)
    return int(np.abs(part[: len(there)] - there)[100:-100].max(initial=0))


def test_a_part_between_two_pictures_begins_with_the_one_on_screen(tmp_path: Path) -> None:
    path = write_film(tmp_path / "slow.mp4", 6, fps=2)
    whole = read_media(path, fps=20, size=64)
    part = read_media(path, fps=20, size=64, start=2.35, stop=4.35)
    assert np.array_equal(part.frames, whole.frames[47:87])


@pytest.mark.parametrize("name", ["film.mkv", "film.mp4", "film.webm"])
def test_the_last_picture_of_a_part_stays_until_the_next_one_appears(tmp_path: Path, name: str) -> None:
    """Matroska says of no picture how long it stays; its rate says a twentieth of a second or less."""
    times = [k / 20 for k in range(40)] + [2.4 + 0.4 * k for k in range(8)]
    path = write_film(tmp_path / name, 5.4, times=times)
    whole = read_media(path, fps=20, size=64)
    for start, stop in ((1.0, 2.3), (2.05, 3.15), (2.85, 3.1), (3.0, 5.0)):
        part = read_media(path, fps=20, size=64, start=start, stop=stop)
        first, count = round(start * 20), round((stop - start) * 20)
        assert np.array_equal(part.frames, whole.frames[first : first + count])
        assert part.source_seconds == pytest.approx(stop - start, abs=0.01)
        shown = [0.0, *(time - start for time in times if start + 0.01 < time < stop - 0.01)]
        assert part.source_starts == pytest.approx(shown, abs=0.01)


@pytest.mark.parametrize(
    ("name", "codec"), [("film.avi", "h264"), ("film.mpg", "mpeg2"), ("film.flv", "h264"), ("film.mov", "hevc")]
)
@pytest.mark.parametrize(("start", "stop"), [(1.0, 3.0), (1.48, 2.6)])
def test_a_part_shows_the_pictures_of_its_time(
    tmp_path: Path, name: str, codec: str, start: float, stop: float
) -> None:
    path = write_moments(tmp_path / name, Moments(starts=range(100), seconds=4), codec=codec)
    part = read_media(path, fps=FPS, size=64, start=start, stop=stop)
    assert [number_of(frame) for frame in part.frames] == list(range(round(start * FPS), round(stop * FPS)))
    whole = np.concatenate([np.zeros(round(start * 16000), np.int16), part.audio])
    delays = delays_of(whole, 16000)[math.ceil(start * 4) :]
    assert np.abs(delays).max() <= 0.01


def test_sound_that_lies_apart_is_that_of_the_part(tmp_path: Path) -> None:
    path = write_film(tmp_path / "long.mp4", 6, sound=None)
    apart = write_film(tmp_path / "part.mp4", 2, sound=tone(2))
    part = read_media(path, fps=FPS, size=64, audio_path=apart, start=3.0, stop=5.0)
    assert len(part.frames) == 50
    assert np.array_equal(part.audio, read_media(apart, fps=FPS, size=64).audio)


def test_the_limit_is_for_the_part(tmp_path: Path) -> None:
    path = write_film(tmp_path / "long.mp4", 6)
    assert len(read_media(path, fps=FPS, size=64, start=1, stop=3, max_seconds=2.5).frames) == 50
    with pytest.raises(MediaError, match="too_long"):
        read_media(path, fps=FPS, size=64, start=1, stop=4, max_seconds=2.5)


def test_a_part_beyond_the_end_is_too_short(tmp_path: Path) -> None:
    path = write_film(tmp_path / "short.mp4", 2)
    with pytest.raises(MediaError) as raised:
        read_media(path, fps=FPS, size=64, start=5, stop=7)
    assert raised.value.reason == "too_short"


def test_a_part_must_end_after_it_starts(tmp_path: Path) -> None:
    path = write_film(tmp_path / "film.mp4", 1)
    with pytest.raises(ValueError, match="part"):
        read_media(path, fps=FPS, size=64, start=2, stop=2)
