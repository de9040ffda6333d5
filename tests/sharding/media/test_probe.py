"""How long a file says that it lasts."""

from pathlib import Path

import av
import pytest

from sharding.media.probe import probe_seconds
from sharding.media.reader import lasting_seconds
from sharding.utterance import BoxesFile, Utterance
from tests.films import write_film
from tests.numbered import Moments, write_moments


def of(path: Path, boxes: Path | None = None) -> float:
    return probe_seconds(
        Utterance(
            corpus="c", split="train", speaker="s", video="v", utterance="u", video_path=path,
            boxes=None if boxes is None else BoxesFile(path=boxes),
        )
    )  # fmt: skip


def test_what_the_container_states(tmp_path: Path) -> None:
    assert of(write_film(tmp_path / "a.mp4", 2.5)) == pytest.approx(2.5, abs=0.1)


@pytest.mark.parametrize("name", ["a.mkv", "a.ts", "a.mp4", "fragments.mp4"])
def test_what_lasts_though_the_clock_starts_late(tmp_path: Path, name: str) -> None:
    options = {"movflags": "frag_keyframe+empty_moov"} if name == "fragments.mp4" else {}
    late = Moments(starts=range(50), seconds=2, picture_offset=3600.0, sound_offset=3600.0, options=options)
    assert of(write_moments(tmp_path / name, late)) == pytest.approx(2, abs=0.1)


def test_what_lasts_though_the_clock_jumps(tmp_path: Path) -> None:
    jumps = Moments(starts=range(100), seconds=4, pause=(50, 7200.0))
    for name in ("a.mkv", "a.mp4"):
        assert of(write_moments(tmp_path / name, jumps)) == pytest.approx(4, abs=1.1)


def test_a_long_file_is_not_read_to_its_end(tmp_path: Path) -> None:
    path = write_film(tmp_path / "long.mkv", 30, fps=5)
    with av.open(str(path)) as container:
        assert lasting_seconds(container, 20.0) == pytest.approx(30, abs=0.5)
        following = next(packet for packet in container.demux(video=0) if packet.dts is not None)
    assert following.time_base is not None
    assert (following.dts or 0) * following.time_base < 2


def test_what_the_boxes_state(tmp_path: Path) -> None:
    (tmp_path / "1.txt").write_text("FRAME X Y W H\n100 1 1 9 9\n149 1 1 9 9\n")
    assert of(tmp_path / "gone.mp4", tmp_path / "1.txt") == pytest.approx(2.0)


def test_what_states_nothing_is_left_to_the_build(tmp_path: Path) -> None:
    (tmp_path / "text.mp4").write_text("no film")
    (tmp_path / "1.txt").write_text("no boxes")
    assert of(tmp_path / "text.mp4") == of(tmp_path / "gone.mp4") == of(tmp_path / "gone.mp4", tmp_path / "1.txt") == 0


def test_titles_in_an_unknown_encoding_do_no_harm(tmp_path: Path) -> None:
    film = write_film(tmp_path / "a.mp4", 2.5)
    assert b"Lavf" in film.read_bytes()
    film.write_bytes(film.read_bytes().replace(b"Lavf", b"\xff\xfe\xfd\xfc"))
    assert of(film) == pytest.approx(2.5, abs=0.1)
