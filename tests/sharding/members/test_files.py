"""Files beside the videos: what --member may say of them, what of them a clip gets, and what is refused."""

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from loaders.errors import InputError
from sharding.gaze.statistics import GazeTable
from sharding.media.reader import SLACK, Media
from sharding.members.declared import files_of_members, members_of
from sharding.members.files import ArrayFile
from sharding.members.registry import NoArrayError, Source, WrongArrayError
from sharding.settings import SAMPLE_RATE, BuildSettings
from sharding.utterance import Utterance


def no_gaze() -> GazeTable:
    raise AssertionError("nobody asked for gaze")


def source(path: Path | None, name: str, seconds: float = 6.0, *, start: float = 0.0, clip: float = 2.0) -> Source:
    """Of an utterance of so many seconds, which begins at a second of its video's file."""
    frames = round(seconds * 8)
    utterance = Utterance(
        corpus="c",
        split="train",
        speaker="s",
        video="v",
        utterance="u",
        video_path=Path("u.mp4"),
        start=start or None,
        end=start + seconds if start else None,
        arrays={} if path is None else {name: path},
    )
    media = Media(
        frames=np.zeros((frames, 16, 16, 3), np.uint8),
        audio=np.zeros(round(seconds * SAMPLE_RATE), np.int16),
        changes=np.ones(frames, bool),
        fps=8.0,
        sample_rate=SAMPLE_RATE,
        source_fps=25.0,
        source_starts=np.arange(round(seconds * 25)) / 25,
        source_seconds=seconds,
        width=16,
        height=16,
    )
    settings = BuildSettings(size=16, clip_seconds=clip)
    return Source(utterance=utterance, media=media, start=start, settings=settings, gaze_table=no_gaze)


def saved(path: Path, array: NDArray[Any]) -> Path:
    np.save(path, array, allow_pickle=False)
    return path


# What may be said ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "shape", "variable", "rate"),
    [
        ("tokens=.tokens.npy:int32[<=64]", (64,), True, None),
        ("vectors=-w2v.npy:float16[<=100, 768]", (100, 768), True, None),
        ("landmarks=.lm.npy:float32[68,2]@25", (50, 68, 2), False, 25.0),
        ("pitch=.f0.npy:float64[]@12.5", (25,), False, 12.5),
        ("egemaps=.egemaps.npy:float32[88]", (88,), False, None),
        ("age=.age.npy:uint8[]", (), False, None),
    ],
)
def test_a_file_is_declared_as_it_is_said(
    text: str, shape: tuple[int, ...], variable: bool, rate: float | None
) -> None:
    settings = BuildSettings(member=(text,))
    settings.check()
    (member,) = (member for member in members_of(settings) if member.name == text.split("=")[0])
    assert (member.shape, member.variable, member.required, member.extension) == (shape, variable, False, "npy")
    (file,) = files_of_members(settings)
    assert file.rate == rate
    assert file.beside("d.e.mp4") == "d.e" + file.suffix
    assert ArrayFile.parse(f"{file.name}={file.suffix}:{file.declared}") == file  # messages say what can be typed


@pytest.mark.parametrize(
    "text",
    [
        *("nothing", "", "=.t.npy:int32[3]", "a b=.t.npy:int32[3]", "é=.t.npy:int32[3]", "t=:int32[3]"),
        *("t=.t.csv:int32[3]", "t=/x.npy:int32[3]", "t=../x.npy:int32[3]", "t=.t.npy:int32", "t=.t.npy:[3]"),
        *("t=.t.npy:object[3]", "t=.t.npy:int[3]", "t=.t.npy:complex64[3]", "t=.t.npy:bool[3]", "t=.t.npy:O[3]"),
        *(
            "t=.t.npy:int32[0]",
            "t=.t.npy:int32[-1]",
            "t=.t.npy:int32[3,<=4]",
            "t=.t.npy:int32[<=]",
            "t=.t.npy:int32[x]",
        ),
        *("t=.t.npy:int32[3]@", "t=.t.npy:int32[3]@0", "t=.t.npy:int32[3]@nan", "t=.t.npy:int32[3]@-1"),
        *(
            "t=.t.npy:int32[<=3]@25",
            "t=.t.npy:int32[3]@0.1",
            "t=.t.npy:float64[100000,1000]",
            f"{'t' * 25}=.t.npy:int8[1]",
        ),
        *("Audio=.t.npy:int32[3]", "CLIP=.t.npy:int32[3]"),
        *("audio=.t.npy:int32[3]", "clip=.t.npy:int32[3]", "gaze=.t.npy:int32[3]", "gaze_frames=.t.npy:int32[3]"),
    ],
)
def test_what_cannot_be_is_refused_in_a_line(text: str) -> None:
    with pytest.raises(InputError, match="--member") as raised:
        members_of(BuildSettings(member=(text,)))
    assert "\n" not in str(raised.value)


def test_no_member_is_asked_for_twice() -> None:
    with pytest.raises(InputError, match="'t' is asked for twice"):
        members_of(BuildSettings(member=("t=.t.npy:int32[3]", "gaze_frames", "t=.u.npy:int32[3]")))
    with pytest.raises(InputError, match="'gaze_frames' is asked for twice"):
        members_of(BuildSettings(member=("gaze_frames", "gaze_frames")))
    with pytest.raises(InputError, match="'T' is asked for twice"):  # plain tools do not tell them apart
        members_of(BuildSettings(member=("t=.t.npy:int32[3]", "T=.u.npy:int32[3]")))


# What a clip gets ----------------------------------------------------------------------------------------------------


@given(
    rate=st.sampled_from([0.5, 1.0, 12.5, 25.0, 29.97, 50.0, 100.0]),
    seconds=st.integers(2, 9),
    begin=st.sampled_from([0.0, 1.0, 2.5, 3.04]),
)
def test_a_clip_gets_the_rows_of_its_own_time(
    tmp_path_factory: pytest.TempPathFactory, rate: float, seconds: int, begin: float
) -> None:
    folder = tmp_path_factory.mktemp("rows")
    count = round((begin + seconds) * rate)
    rows = np.stack([np.arange(count) / rate, np.arange(count)], axis=1).astype(np.float32)  # when each is, and which
    file = ArrayFile.parse(f"t=.t.npy:float32[2]@{rate:g}")
    of_clip = file.of_utterance(source(saved(folder / "u.t.npy", rows), "t", seconds, start=begin))
    for number in range(seconds // 2):
        got = of_clip(2.0 * number, 2.0 * number + 2)
        assert (got.shape, got.dtype) == ((round(2 * rate), 2), np.float32)
        assert abs(got[0, 0] - (begin + 2 * number)) <= 0.5 / rate + 1e-3
        # One after the other; what lacks at the end, a row or SLACK, is like the last one.
        expected = np.minimum(got[0, 1] + np.arange(len(got)), count - 1)
        assert got[:, 1].tolist() == expected.tolist()
        assert got[0, 1] + len(got) - count <= max(1, int(SLACK * rate))


def test_every_clip_gets_the_whole_of_what_has_no_rate(tmp_path: Path) -> None:
    array = np.arange(7 * 3, dtype=np.int64).reshape(7, 3)
    file = ArrayFile.parse("t=.t.npy:int64[<=9,3]")
    for stored in (array, array[:0], array[:9], array.astype(">i8").astype("<i8")):
        of_clip = file.of_utterance(source(saved(tmp_path / "u.t.npy", stored), "t"))
        assert np.array_equal(of_clip(0.0, 2.0), stored)
        assert np.array_equal(of_clip(4.0, 6.0), stored)


def test_under_what_a_short_clip_is_padded_with_the_last_row_is_held(tmp_path: Path) -> None:
    rows = np.arange(20, dtype=np.float32)
    of_clip = ArrayFile.parse("t=.t.npy:float32[]@20").of_utterance(
        source(saved(tmp_path / "u.t.npy", rows), "t", seconds=1.0)
    )
    assert of_clip(0.0, 1.0).tolist() == [*range(20), *[19] * 20]


@pytest.mark.parametrize(("count", "reason"), [(100, "t_wrong_length"), (200, "t_wrong_length"), (0, "t_wrong_length")])
def test_rows_of_another_length_than_the_video_are_not_its_own(tmp_path: Path, count: int, reason: str) -> None:
    """As of one whose rate is not the declared one: rows would lie at other times than they are of."""
    path = saved(tmp_path / "u.t.npy", np.zeros((count, 2), np.float32))
    with pytest.raises(NoArrayError, match=f"{reason}.*6.00 s"):
        ArrayFile.parse("t=.t.npy:float32[2]@25").of_utterance(source(path, "t"))


def test_of_a_part_of_a_video_a_clip_after_the_last_row_has_none(tmp_path: Path) -> None:
    path = saved(tmp_path / "u.t.npy", np.zeros((13 * 25, 2), np.float32))
    of_clip = ArrayFile.parse("t=.t.npy:float32[2]@25").of_utterance(source(path, "t", start=10.0))
    assert of_clip(0.0, 2.0).shape == (50, 2)
    with pytest.raises(NoArrayError, match="t_too_short"):
        of_clip(2.0, 4.0)
    with pytest.raises(NoArrayError, match="t_too_short"):
        of_clip(4.0, 6.0)


def test_a_file_that_there_is_not_is_missing() -> None:
    with pytest.raises(NoArrayError, match="t_missing") as raised:
        ArrayFile.parse("t=.t.npy:int8[3]").of_utterance(source(None, "t"))
    assert "u.t.npy" in raised.value.detail


# What is refused -----------------------------------------------------------------------------------------------------


def npy(array: NDArray[Any], **options: Any) -> bytes:
    out = io.BytesIO()
    np.lib.format.write_array(out, array, **options)
    return out.getvalue()


def header(shape: tuple[int, ...], descr: str = "<f4") -> bytes:
    out = io.BytesIO()
    np.lib.format.write_array_header_1_0(out, {"descr": descr, "fortran_order": False, "shape": shape})
    return out.getvalue()


GOOD = np.arange(12, dtype=np.float32).reshape(6, 2)
WRONG = {
    "another type": npy(GOOD.astype(np.float64)),
    "the other byte order": npy(GOOD.astype(">f4")),
    "objects": npy(np.array([{}] * 12, object).reshape(6, 2), allow_pickle=True),
    "more rows": npy(np.zeros((9, 2), np.float32)),
    "other columns": npy(GOOD.reshape(4, 3)),
    "one axis": npy(GOOD.ravel()),
    "no axis": npy(np.float32(1)),
    "columns first": npy(np.asfortranarray(GOOD)),
    "not finite": npy(np.where(GOOD == 5, np.nan, GOOD)),
    "cut off": npy(GOOD)[:-1],
    "more after it": npy(GOOD) + b"\0",
    "no header": b"\x93NUMPY\x01\x00\xff\xff{",
    "a header that never ends": b"\x93NUMPY\x02\x00\xff\xff\xff\xff{",
    "a program": b"\x93NUMPY\x01\x00\x20\x00{'shape': __import__('os').abort}",
    "text": b"1 2 3\n",
    "nothing": b"",
    "rows without end": header((1 << 60, 2)),
    "a version to come": b"\x93NUMPY\x09\x00" + npy(GOOD)[8:],
}


@pytest.mark.parametrize("name", WRONG)
@pytest.mark.parametrize("declared", ["float32[<=8,2]", "float32[2]@1"])
def test_what_is_not_as_declared_is_told_by_name(tmp_path: Path, name: str, declared: str) -> None:
    path = tmp_path / "u.t.npy"
    path.write_bytes(WRONG[name])
    file = ArrayFile.parse(f"t=.t.npy:{declared}")
    if declared.endswith("@1") and name in ("more rows", "more after it", "rows without end"):
        return  # how many rows there are is not declared there, but by the video
    with pytest.raises(WrongArrayError) as raised:
        file.of_utterance(source(path, "t"))
    assert raised.value.reason == "t_wrong"
    assert str(path) in raised.value.detail
    assert file.declared in raised.value.detail
    assert "\n" not in raised.value.detail


def test_other_versions_of_the_format_will_do(tmp_path: Path) -> None:
    for version in ((1, 0), (2, 0), (3, 0)):
        (tmp_path / "u.t.npy").write_bytes(npy(GOOD, version=version))
        of_clip = ArrayFile.parse("t=.t.npy:float32[6,2]").of_utterance(source(tmp_path / "u.t.npy", "t"))
        assert np.array_equal(of_clip(0.0, 2.0), GOOD)
