"""Files whose clock jumps: pictures go on, sound stays under its pictures, or the file is refused by name."""

import math
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sharding.media.clock import JUMP, LATE, ClockError, JoinedClock
from sharding.media.reader import Media, MediaError, read_frames, read_media
from tests.numbered import SIDE, Moments, delays_of, number_of, write_moments, wrong_frames

SECONDS = 4
FILM = Moments(starts=range(25 * SECONDS), seconds=SECONDS)
FINE = 100  # a clock fine enough to measure by
STARTS = [start * FILM.time_base for start in FILM.starts]
FIRST = replace(FILM, starts=range(50), seconds=2)
SECOND = replace(FILM, first=50)


def joined(path: Path, *parts: Moments, codec: str = "h264") -> Path:
    """A transport stream of such parts, one after the other, as `cat` joins them."""
    data = b""
    for number, part in enumerate(parts):
        data += write_moments(path.with_name(f"part{number}{path.suffix}"), part, codec=codec).read_bytes()
    path.write_bytes(data)
    return path


def assert_whole(path: Path, *, slack: float = 0.1) -> Media:
    """All of the film is there, in order, its sound under it; at a join a picture may stay `slack` seconds longer."""
    media = read_media(path, fps=FINE, size=SIDE)
    assert media.seconds == pytest.approx(SECONDS + slack / 2, abs=slack / 2 + 0.1)
    numbers = [number_of(frame) for frame in media.frames]
    assert numbers == sorted(numbers)
    shown = sorted(set(numbers))
    assert shown[: len(STARTS) - 2] == list(range(len(STARTS) - 2))
    # The sound of each picture, wherever it lies now.
    heard = np.concatenate([media.audio[numbers.index(number) * 16000 // FINE :][:640] for number in shown])
    late = delays_of(heard, 16000)
    assert np.nanmax(np.abs(late)) <= 0.01, late
    assert np.isnan(late).sum() <= 1  # where the parts meet
    frames = read_frames(path, fps=FINE)
    assert [number_of(frame) for frame, _ in zip(frames, numbers, strict=False)] == numbers
    return media


@pytest.mark.parametrize("codec", ["h264", "mpeg2"])
def test_a_clock_that_begins_anew_goes_on(tmp_path: Path, codec: str) -> None:
    media = assert_whole(joined(tmp_path / "film.ts", FIRST, SECOND, codec=codec), slack=0)
    assert media.source_fps == pytest.approx(25, rel=0.01)
    assert media.source_seconds == pytest.approx(SECONDS, abs=0.05)


def test_a_clock_that_begins_anew_again_and_again_goes_on(tmp_path: Path) -> None:
    parts = [replace(FILM, starts=range(at + 25), first=at, seconds=at / 25 + 1) for at in range(0, 100, 25)]
    media = read_media(joined(tmp_path / "film.ts", *parts), fps=25, size=SIDE)
    assert wrong_frames(media.frames, 25, STARTS) == []
    assert len(media.frames) >= 98


@pytest.mark.parametrize("offset", [1.6, 90.0, 7200.0])
def test_time_that_both_streams_leave_out_is_left_out(tmp_path: Path, offset: float) -> None:
    later = replace(SECOND, picture_offset=2 + offset, sound_offset=2 + offset)
    assert_whole(joined(tmp_path / "film.ts", FIRST, later))


@pytest.mark.parametrize("name", ["film.mp4", "film.mkv", "film.flv"])
def test_time_that_is_left_out_in_mid_file_is_left_out(tmp_path: Path, name: str) -> None:
    """In MP4 the picture before is said to stay as long."""
    assert_whole(write_moments(tmp_path / name, replace(FILM, pause=(50, 900.0))))


def test_a_clock_that_begins_far_before_its_start_is_not_taken_for_one_that_wraps(tmp_path: Path) -> None:
    first = replace(FIRST, picture_offset=3600.0, sound_offset=3600.0)
    assert_whole(joined(tmp_path / "film.ts", first, SECOND))


def test_a_clock_that_wraps_goes_on(tmp_path: Path) -> None:
    wraps = 2**33 / 90000 - 2
    assert_whole(write_moments(tmp_path / "film.ts", replace(FILM, picture_offset=wraps, sound_offset=wraps)), slack=0)


def test_a_moment_that_both_streams_leave_out_is_time_that_passed(tmp_path: Path) -> None:
    path = write_moments(tmp_path / "film.mp4", replace(FILM, pause=(50, 0.8)))
    media = read_media(path, fps=25, size=SIDE)
    starts = [start + (Fraction(4, 5) if number >= 50 else 0) for number, start in enumerate(STARTS)]
    assert wrong_frames(media.frames, 25, starts) == []
    assert media.source_seconds == pytest.approx(SECONDS + 0.8, abs=0.05)


def test_a_picture_may_stand_still_while_there_is_sound(tmp_path: Path) -> None:
    starts = [*range(25), *range(75, 100)]
    path = write_moments(tmp_path / "film.mkv", replace(FILM, starts=starts))
    media = read_media(path, fps=25, size=SIDE)
    assert wrong_frames(media.frames, 25, [Fraction(start, 25) for start in starts]) == []
    assert np.abs(delays_of(media.audio, 16000)).max() <= 0.01


@pytest.mark.parametrize(
    ("picture_offset", "sound_offset"), [(2.0, 0.0), (0.0, 2.0), (0.0, 7200.0)], ids=["sound", "pictures", "apart"]
)
def test_a_clock_that_jumps_in_one_stream_alone_is_refused(
    tmp_path: Path, picture_offset: float, sound_offset: float
) -> None:
    alone = replace(SECOND, picture_offset=picture_offset, sound_offset=sound_offset)
    path = joined(tmp_path / "film.ts", FIRST, alone)
    with pytest.raises(MediaError, match="goes back") as caught:
        read_media(path, fps=25, size=SIDE)
    assert caught.value.reason == "clock"


def test_a_clock_that_jumps_is_refused_where_the_sound_lies_apart_or_a_part_is_read(tmp_path: Path) -> None:
    path = joined(tmp_path / "film.ts", FIRST, SECOND)
    apart = write_moments(tmp_path / "apart.mp4", FILM)
    for more in ({"audio_path": apart}, {"start": 1.0, "stop": 3.0}):
        with pytest.raises(MediaError, match="jumps") as caught:
            read_media(path, fps=25, size=SIDE, **more)  # type: ignore[arg-type]
        assert caught.value.reason == "clock"
    with pytest.raises(MediaError, match="lies apart"):
        read_media(apart, fps=25, size=SIDE, audio_path=path)


times = st.lists(st.floats(0.01, 0.9), min_size=1, max_size=20)


@given(times, st.floats(-1e5, 1e5), st.lists(st.floats(-1e5, 1e5), max_size=4))
def test_pictures_follow_on_wherever_their_clock_goes_back_to(
    lasts: list[float], start: float, others: list[float]
) -> None:
    clock = JoinedClock(lambda *_: None)
    expected, newest, eras = start, math.inf, 0
    for begins in [start, *others]:
        if begins > newest - LATE - 0.01:
            continue
        at, eras = begins, eras + 1
        for length in lasts:
            assert at + clock.shift(at, length, length) == pytest.approx(expected, abs=1e-6)
            at, newest, expected = at + length, at, expected + length
    assert [stretch.era for stretch in clock.stretches] == list(range(eras))
    assert clock.stretches[0].shift == clock.late == 0


@given(st.floats(JUMP + 0.1, 1e4), st.floats(-0.5, 0.5), st.floats(-0.5, 0.5))
def test_what_is_left_out_is_what_both_lack(gap: float, sound_before: float, sound_after: float) -> None:
    begin, end = 10 + max(sound_before, 0), 10 + gap - max(sound_after, 0)
    clock = JoinedClock(lambda era, first, last: (begin, end))
    assert clock.shift(9.96, 0.04, 0.04) == 0
    shift = clock.shift(10 + gap, 0.04, 0.04)
    assert shift == pytest.approx(begin - end if end - begin > JUMP else 0)
    assert math.isclose(clock.stretches[-1].shift, shift)


def test_pictures_and_sound_must_jump_as_often_and_in_the_same_places() -> None:
    clock = JoinedClock(lambda *_: None)
    for at in (5.0, 5.5, 1.0, 1.5):
        clock.shift(at, 0.5, 0.04)
    clock.require_match([(5.0, 6.0), (1.0, 2.0)])
    with pytest.raises(ClockError, match="1 times in its pictures, 0 times in its sound"):
        clock.require_match([(5.0, 6.0)])
    with pytest.raises(ClockError, match="no sound is where"):
        clock.require_match([(5.0, 6.0), (3.0, 4.0)])
