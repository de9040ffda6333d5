"""Files that lie in a tar: named by where their bytes are, and read there, as a file that lies by itself is.

The path of such a file is its tar's, then ``@<offset>+<size>``, then its own name, which keeps its suffix:
``shards/0000.tar/@1536+204800/clip.mp4``, or the same below a URL. So it goes wherever a path goes: into a plan, to
another process, into a message. Whoever lists the tar makes it, see `sharding.sources.tars`.
"""

import errno
import io
import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

_PACKED = re.compile(r"(.+)/@(\d+)\+(\d+)/([^/]+)", re.DOTALL)


@dataclass(frozen=True, slots=True, kw_only=True)
class Packed:
    """A file in a tar."""

    archive: Path  #: the tar: here, or a URL
    offset: int  #: of the file's first byte in the tar
    size: int  #: bytes
    name: str  #: the file's own, without folders

    @property
    def path(self) -> Path:
        """The path that stands for the file."""
        return self.archive / f"@{self.offset}+{self.size}" / self.name


def packed_of(path: Path) -> Packed | None:
    """The file in a tar that a path stands for; None where it is a path like others."""
    match = _PACKED.fullmatch(str(path))
    if match is None:
        return None
    return Packed(archive=Path(match[1]), offset=int(match[2]), size=int(match[3]), name=match[4])


def opened_file(path: Path) -> Path:
    """The file that is opened to read a path's: the tar that it lies in, or itself."""
    packed = packed_of(path)
    return path if packed is None else packed.archive


class Section(io.RawIOBase):
    """A part of an open file, as a file for reading. Closing it closes the whole."""

    def __init__(self, whole: BinaryIO, packed: Packed) -> None:
        self._whole, self._offset, self._size = whole, packed.offset, packed.size
        self._place = 0

    def readable(self) -> bool:
        """It is."""
        return True

    def seekable(self) -> bool:
        """It is."""
        return True

    def readinto(self, buffer: "WriteableBuffer") -> int:
        """Read up to the buffer's size; 0 at the part's end."""
        view = memoryview(buffer).cast("B")
        wanted = min(len(view), max(0, self._size - self._place))
        if not wanted:
            return 0
        self._whole.seek(self._offset + self._place)
        data = self._whole.read(wanted)
        view[: len(data)] = data
        self._place += len(data)
        return len(data)

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """The new place. Raises OSError (EINVAL) where it lies before the part, as a file does."""
        base = {os.SEEK_SET: 0, os.SEEK_CUR: self._place, os.SEEK_END: self._size}.get(whence)
        if base is None or base + offset < 0:
            raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
        self._place = base + offset
        return self._place

    def tell(self) -> int:
        """The place."""
        return self._place

    def close(self) -> None:
        """Close it and the whole."""
        if not self.closed:
            self._whole.close()
        super().close()
