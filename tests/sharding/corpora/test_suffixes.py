"""Every suffix that is looked at names a format that is read."""

from pathlib import Path

import av
import pytest

from sharding.corpora.suffixes import AUDIO, AUDIO_SUFFIXES, VIDEO, VIDEO_SUFFIXES, is_usual
from sharding.media.reader import read_media
from tests.films import write_film


@pytest.mark.parametrize("suffix", [*VIDEO, *AUDIO])
def test_ffmpeg_has_a_demuxer(suffix: str) -> None:
    assert {**VIDEO, **AUDIO}[suffix] in av.formats_available
    assert suffix == suffix.lower()
    assert suffix.startswith(".")


def test_no_file_is_both_video_and_sound() -> None:
    assert not set(VIDEO_SUFFIXES) & set(AUDIO_SUFFIXES)


def test_what_corpora_are_published_in_goes_first() -> None:
    usual = {suffix for suffix in (*VIDEO_SUFFIXES, *AUDIO_SUFFIXES) if is_usual(Path(f"a{suffix.upper()}"))}
    assert usual == {
        *(".mp4", ".avi", ".mkv", ".mov", ".webm", ".mpg", ".mpeg", ".m4v"),
        *(".wav", ".m4a", ".flac", ".mp3", ".ogg", ".aac"),
    }


@pytest.mark.parametrize("suffix", [".flv", ".ts", ".m2ts", ".mts", ".3gp", ".3g2", ".wmv", ".asf", ".f4v"])
def test_films_of_rarer_suffixes_are_read(tmp_path: Path, suffix: str) -> None:
    film = write_film(tmp_path / f"film{suffix}", 1.0, fps=10)
    assert read_media(film, fps=5, size=16).seconds == pytest.approx(1.0, abs=0.21)
