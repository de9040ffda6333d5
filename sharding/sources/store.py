"""A folder of an object store: objects go up whole and verified, and what fails for a while is tried again.

Any fsspec file system serves. Where a put is atomic, as S3's is, nobody ever sees half an object.
"""

import hashlib
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, TypeVar

from loaders.storage.atomic import atomic_write, sha256_of
from loaders.storage.retry import ATTEMPTS, PAUSE, persist
from loaders.storage.urls import file_system_of

R = TypeVar("R")

_BLOCK = 16 << 20  # bytes asked for at a time
_PIECE = 128 << 10  # bytes, where only a part is looked into
# Object stores have no folders, and asking for one may make a bucket.
_WITHOUT_FOLDERS = frozenset({"s3", "s3a", "gs", "gcs", "abfs", "abfss", "az", "oss", "oci"})


class DamagedUploadError(Exception):
    """What was read back is not what was uploaded."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Store:
    """The objects below a URL, by their names relative to it. It may be sent to other processes and machines."""

    url: str
    attempts: int = ATTEMPTS  #: of every request, see `loaders.storage.retry`
    pause: float = PAUSE  #: seconds after the first failure

    def sizes(self) -> dict[str, int]:
        """Every object's name and size in bytes."""

        def attempt(file_system: Any, root: str) -> dict[str, int]:
            file_system.invalidate_cache()  # others write too
            found = file_system.find(root, detail=True, withdirs=False)
            return {path.removeprefix(root).lstrip("/"): int(info["size"]) for path, info in found.items()}

        return self._persist("", attempt)

    def is_there(self) -> bool:
        """Whether anything lies below the URL."""

        def attempt(file_system: Any, root: str) -> bool:
            file_system.invalidate_cache()
            return bool(file_system.exists(root))

        return self._persist("", attempt)

    def put(self, file: Path, name: str, *, in_place: bool = False) -> None:
        """Upload a file, read it back, and compare size and SHA-256.

        Reading back costs as much again as the upload, and trusts nothing: neither what the store says of itself, nor
        that its checksums are of the bytes, which holds for some of its ways to encrypt and to join parts only.

        Args:
            file: to upload.
            name: of the object.
            in_place: there is such an object, which must not be gone for a moment: where what comes back is wrong, the
                file is uploaded again and nothing is removed.

        Raises:
            InputError: it cannot be done, or what comes back is wrong time and again. No such object is left then,
                unless it is ``in_place``.
        """
        size, sha256 = file.stat().st_size, sha256_of(file)

        def attempt(file_system: Any, root: str) -> None:
            path = f"{root}/{name}"
            self._make_folder(file_system, path)
            file_system.put_file(str(file), path)
            digest, length = hashlib.sha256(), 0
            for block in _blocks(file_system, path):
                digest.update(block)
                length += len(block)
            if (length, digest.hexdigest()) != (size, sha256):
                if not in_place:
                    with suppress(Exception):  # what counts is that the upload failed; it is made again or reported
                        file_system.rm_file(path)
                raise DamagedUploadError(f"read back {length} bytes that are not the {size} uploaded")

        self._persist(name, attempt)

    def put_new(self, data: bytes, name: str) -> bool:
        """Put an object that must not be there yet; whether it was not.

        S3 takes the condition (If-None-Match) together with the put, so that of several writers one wins. On a store
        that ignores it the last writer wins: read it back.
        """

        def attempt(file_system: Any, root: str) -> bool:
            path = f"{root}/{name}"
            self._make_folder(file_system, path)
            try:
                file_system.pipe_file(path, data, mode="create")
            except FileExistsError:
                return False
            except Exception:
                file_system.invalidate_cache()
                if file_system.exists(path):  # not every store says clearly why it refuses
                    return False
                raise
            return True

        return self._persist(name, attempt)

    def get(self, name: str) -> bytes | None:
        """An object's bytes; None where there is none."""

        def attempt(file_system: Any, root: str) -> bytes | None:
            file_system.invalidate_cache()
            try:
                return bytes(file_system.cat_file(f"{root}/{name}"))
            except FileNotFoundError:
                return None

        return self._persist(name, attempt)

    def read(self, name: str, start: int, end: int) -> bytes:
        """The bytes of an object from ``start`` to before ``end``; fewer where it ends before.

        Raises:
            InputError: there is no such object, or the store fails.
        """

        def attempt(file_system: Any, root: str) -> bytes:
            return bytes(file_system.cat_file(f"{root}/{name}", start=start, end=end))

        return self._persist(name, attempt)

    def fetch(self, name: str, file: Path, part: tuple[int, int] | None = None) -> bool:
        """Copy an object to a file that is whole or absent; whether there is such an object.

        Args:
            name: of the object.
            file: to write.
            part: the place of the first byte that is wanted, and how many are; None: all of it.
        """

        def attempt(file_system: Any, root: str) -> bool:
            file_system.invalidate_cache()
            file.parent.mkdir(parents=True, exist_ok=True)
            try:
                with atomic_write(file) as target:
                    for block in _blocks(file_system, f"{root}/{name}", part):
                        target.write(block)
            except FileNotFoundError:
                return False
            return True

        return self._persist(name, attempt)

    def look_into(self, name: str, use: Callable[[BinaryIO], R]) -> R | None:
        """What ``use`` returns of an open object of which only pieces are read; None where there is none."""

        def attempt(file_system: Any, root: str) -> R | None:
            file_system.invalidate_cache()
            try:
                file = file_system.open(f"{root}/{name}", "rb", block_size=_PIECE)
            except FileNotFoundError:
                return None
            with file:
                return use(file)

        return self._persist(name, attempt)

    def remove(self, names: Iterable[str]) -> None:
        """Remove objects; those that are not there are none the less gone."""

        def attempt(file_system: Any, root: str) -> None:
            for name in left[:]:
                with suppress(FileNotFoundError):
                    file_system.rm_file(f"{root}/{name}")
                left.remove(name)

        left = list(names)
        if left:
            self._persist(left[0], attempt)

    def _make_folder(self, file_system: Any, path: str) -> None:
        protocol = file_system.protocol
        if _WITHOUT_FOLDERS.isdisjoint({protocol} if isinstance(protocol, str) else protocol):
            file_system.makedirs(path.rpartition("/")[0], exist_ok=True)

    def _persist(self, name: str, attempt: Callable[[Any, str], R]) -> R:
        """What ``attempt`` returns, tried until it does not fail or it is time to give up."""
        file_system, root = file_system_of(self.url)
        what = f"{self.url}/{name}" if name else self.url
        return persist(
            lambda: attempt(file_system, root), what, attempts=self.attempts, first=self.pause, sleep=time.sleep
        )


def _blocks(file_system: Any, path: str, part: tuple[int, int] | None = None) -> Iterable[bytes]:
    """An object's bytes, or those of a part, a bounded piece at a time."""
    start, size = part or (0, int(file_system.info(path)["size"]))
    stop = start + size
    while start < stop:
        block = bytes(file_system.cat_file(path, start=start, end=min(start + _BLOCK, stop)))
        if not block:
            return
        yield block
        start += len(block)
