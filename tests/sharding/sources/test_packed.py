"""A file in a tar is read as a file that lies by itself is."""

import io
import os
import tarfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loaders.errors import InputError
from sharding.media.reader import MediaError, read_media
from sharding.sources.copies import is_gone, is_open_to_us, read_bytes
from sharding.sources.packed import Packed, Section, opened_file, packed_of
from sharding.sources.regular import NotRegularError, open_regular, require_regular
from sharding.sources.tars import list_tar
from sharding.sources.watched_file import WatchedFile
from tests.films import write_film
from tests.pipes import pipe

NAMES = st.text(st.characters(codec="utf-8", exclude_characters="/\0"), min_size=1, max_size=12)


@given(NAMES.filter(lambda name: name not in (".", "..")), st.integers(0, 1 << 60), st.integers(0, 1 << 60))
def test_a_path_names_a_file_in_a_tar_and_is_read_back(name: str, offset: int, size: int) -> None:
    for archive in (Path("/data/0.tar"), Path("s3://bucket/set/0.tar"), Path("x.tar/@1+2/0.tar")):
        packed = Packed(archive=archive, offset=offset, size=size, name=name)
        assert packed_of(packed.path) == packed
        assert opened_file(packed.path) == archive
    plain = Path("/data/clips/@home/1.mp4")
    assert (packed_of(plain), opened_file(plain)) == (None, plain)


@given(
    st.binary(max_size=60),
    st.binary(max_size=60),
    st.lists(st.tuples(st.integers(-70, 70), st.integers(0, 2), st.integers(0, 70))),
)
def test_a_section_is_a_file(before: bytes, content: bytes, moves: list[tuple[int, int, int]]) -> None:
    packed = Packed(archive=Path("x"), offset=len(before), size=len(content), name="x")
    section, plain = Section(io.BytesIO(before + content + b"after"), packed), io.BytesIO(content)
    for offset, whence, size in moves:
        base = (0, plain.tell(), len(content))[whence]
        if base + offset < 0:
            with pytest.raises(OSError, match="Invalid argument"):
                section.seek(offset, whence)
            continue
        assert section.seek(offset, whence) == plain.seek(base + offset)
        assert (section.read(size), section.tell()) == (plain.read(size), plain.tell())


@pytest.fixture(scope="module")
def film(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A film, and the same in a tar among others."""
    folder = tmp_path_factory.mktemp("packed")
    path = write_film(folder / "film.mkv", 2.0)
    with tarfile.open(folder / "0.tar", "w") as tar:
        tar.add(folder, "folder", recursive=False)
        info = tarfile.TarInfo("a/" + "long" * 60 + ".txt")  # a name that needs a header of its own
        info.size = 700
        tar.addfile(info, io.BytesIO(bytes(700)))
        tar.add(path, "a/film.mkv")
        link = tarfile.TarInfo("a/link.mkv")
        link.type, link.linkname = tarfile.SYMTYPE, "film.mkv"
        tar.addfile(link)
    return path, folder / "0.tar"


def test_a_listing_names_files_by_where_they_are(film: tuple[Path, Path]) -> None:
    path, tar = film
    listing = list_tar(tar, lambda name: name.endswith(".txt"))
    text, packed = listing.files
    assert (text.content, packed.content, packed.name) == (bytes(700), None, "a/film.mkv")
    assert dict(listing.others) == {"links and devices": 1}
    place = packed.packed.path
    assert read_bytes(place) == path.read_bytes()
    with open_regular(place) as file:
        assert file.read() == path.read_bytes()
    with WatchedFile(place) as watched:
        assert watched.seek(-10, os.SEEK_END) == path.stat().st_size - 10
        assert watched.read(100) == path.read_bytes()[-10:]
        assert watched.seek(-1, os.SEEK_SET) == -1
    assert is_open_to_us(place)
    assert not is_gone(place)


def test_media_are_decoded_where_they_lie(film: tuple[Path, Path]) -> None:
    path, tar = film
    place = list_tar(tar).files[1].packed.path
    for options in ({}, {"start": 0.5, "stop": 1.5}):
        one, other = (read_media(each, fps=8, size=32, **options) for each in (path, place))  # type: ignore[arg-type]
        assert one.frames.tobytes() == other.frames.tobytes()
        assert one.audio.tobytes() == other.audio.tobytes()


def test_a_tar_that_went_or_became_something_else_is_told(film: tuple[Path, Path], tmp_path: Path) -> None:
    gone = Packed(archive=tmp_path / "0.tar", offset=512, size=10, name="a.mp4").path
    assert is_gone(gone)
    assert not is_open_to_us(gone)
    with pytest.raises(MediaError, match="missing"):
        read_media(gone, fps=8, size=32)
    with pytest.raises(InputError, match=r"0\.tar: no such tar"):
        list_tar(tmp_path / "0.tar")
    pipe(tmp_path / "0.tar")
    with pytest.raises(NotRegularError):
        require_regular(gone)
    with pytest.raises(NotRegularError):
        open_regular(gone)
    with pytest.raises(InputError, match="a named pipe, not a regular file: make it readable"):
        list_tar(tmp_path / "0.tar")
