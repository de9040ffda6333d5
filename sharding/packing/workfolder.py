"""What a build may touch in the folder where it makes a dataset: what it has made there itself, and nothing else.

A build works in ``OUTPUT/.build``, which holds a lock, the receipts of its shards, and ``build.json``: that this
program made the folder, and the shards that it has planned. By this content, not by its name, a folder is known to be a
build's. Only what was planned is ever removed, and nothing is reached through a link.
"""

import fcntl
import json
import os
import re
import shutil
import stat
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

import pyarrow as pa

from loaders.dataset.manifest import CATALOG, MANIFEST, REJECTED
from loaders.dataset.tables import read_schema
from loaders.errors import InputError
from loaders.storage.atomic import atomic_write
from sharding.cards.documents import DOCUMENTS, is_ours
from sharding.packing.writer import LENGTHS, WORK_FOLDER

if TYPE_CHECKING:
    from sharding.packing.plan import ShardJob

_MARKER = "build.json"
_LOCK = "lock"
_MADE_BY = "filmstrip: sharding/build.py"
_HALF = re.compile(r"\.(.+)\.\d+\.[0-9a-f]{8}")  # of `atomic_write`, where it was killed
_RECEIPT = re.compile(r"(.+)-(\d{6,})\.parquet")

_Shard = tuple[str, str]  # split and stem


@dataclass(frozen=True, slots=True)
class _Marker:
    """build.json."""

    made_output: bool  #: the build made the folder that it works in
    shards: frozenset[_Shard]  #: that are planned


def is_builds(work: Path) -> bool:
    """Whether a work folder is one of this program's, by what is in it."""
    return _is_folder(work) and (_read_marker(work) is not None or _has_receipts_alone(work))


def may_be_builds(work: Path) -> bool:
    """Whether a work folder is one of this program's, or holds nothing that would tell whose it is."""
    return is_builds(work) or (_is_folder(work) and _is_blank(work))


@contextmanager
def sole_builder(output: Path, leftover: Callable[[], bool] = lambda: False) -> Iterator[None]:
    """Hold a folder for one build alone, from an empty folder or none on, or from where a build was broken off.

    Args:
        output: the folder.
        leftover: whether a folder that has no work folder was left by a build of ours, when it was done; it is emptied.

    Raises:
        InputError: the folder is not a build's, another build is at work there, or it cannot be written.
    """
    work = output / WORK_FOLDER
    made_output = not os.path.lexists(output)
    empty = _require_ours(output, leftover)
    try:
        work.mkdir(parents=True, exist_ok=True)
        lock = _locked(work / _LOCK)
    except OSError as error:
        raise InputError(f"{output}: {error.strerror}: give an --output that can be written") from error
    if lock is None:
        mend = "wait for it, or give another --output"
        raise InputError(output, "another build is at work there", mend, try_again=True)
    with lock:
        if _read_marker(work) is None:
            try:
                _write_marker(work, _Marker(made_output, frozenset(_planned_before(work))))
            except OSError as error:
                raise InputError(f"{output}: {error.strerror}: give an --output that can be written") from error
        if empty:
            _empty(output)
        yield


def _require_ours(output: Path, leftover: Callable[[], bool]) -> bool:
    """Raise InputError where a folder is not a build's; whether it is to be emptied."""
    if output.exists() and not output.is_dir():
        raise InputError(f"{output}: not a folder: give another --output")
    if not output.exists():
        return False
    work = output / WORK_FOLDER
    names = {path.name for path in output.iterdir()}
    if not os.path.lexists(work):
        if names and not leftover():
            raise InputError(f"{output}: holds other files: give an --output that is empty or not there")
        return bool(names)
    # A build may be killed between any two steps: while it began, or when only the folder was still to be removed.
    at_an_end = names == {WORK_FOLDER} or MANIFEST in names
    if not (may_be_builds(work) if at_an_end else is_builds(work)):
        raise InputError(f"{work}: no build of this program made it: give another --output")
    return False


def _empty(output: Path) -> None:
    for path in output.iterdir():
        if path.name != WORK_FOLDER:
            if _is_folder(path):
                shutil.rmtree(path)
            else:
                _remove(path)


def _is_blank(work: Path) -> bool:
    """Whether a work folder holds nothing that could be lost."""
    for path in work.iterdir():
        half = _HALF.fullmatch(path.name)
        if not (half is not None and half[1] == _MARKER) and not (path.name == _LOCK and path.lstat().st_size == 0):
            return False
    return True


def _has_receipts_alone(work: Path) -> bool:
    """Whether a folder without a marker holds receipts, as an earlier version's does, and nothing foreign."""
    receipts = 0
    for path in work.iterdir():
        half = _HALF.fullmatch(path.name)
        name = path.name if half is None else half[1]
        if not _is_file(path) or not (name in (_LOCK, _MARKER, LENGTHS) or _RECEIPT.fullmatch(name)):
            return False
        if half is None and _RECEIPT.fullmatch(name):
            try:
                if b"filmstrip" not in (read_schema(path).metadata or {}):
                    return False
            except (OSError, pa.ArrowException):
                return False
            receipts += 1
    return receipts > 0


def _locked(path: Path) -> BinaryIO | None:
    """A lock's file, held until it is closed; None where somebody else holds it.

    Raises:
        OSError: it cannot be made, or is a link.
    """
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o666)
        file = os.fdopen(descriptor, "r+b")
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            # Who held it may have removed it meanwhile, being done: then it locks nothing.
            with suppress(FileNotFoundError):
                if os.path.samestat(os.fstat(descriptor), path.lstat()):
                    return file
        except BlockingIOError:
            file.close()
            return None
        file.close()


def clean_work_folder(output: Path, jobs: Sequence["ShardJob"]) -> None:
    """Remove what killed builds left half-written, and shards of theirs that the plan no longer holds.

    Args:
        output: a folder that is held by `sole_builder`.
        jobs: the plan from now on.

    Raises:
        InputError: a split's folder is a link, or no folder.
    """
    work = output / WORK_FOLDER
    marker = _read_marker(work) or _Marker(made_output=False, shards=frozenset())
    now = {(job.split, job.stem) for job in jobs}
    before = marker.shards | _planned_before(work)
    splits = {split for split, _ in before | now}
    for split in sorted(splits):
        folder = output / split
        if os.path.lexists(folder) and not _is_folder(folder):
            raise InputError(f"{folder}: a link, or no folder: remove it, or give another --output")
    for split in sorted(splits):
        _clean_split(output / split, _stems(before, split), _stems(now, split))
    _remove(*_halves(output, {MANIFEST, REJECTED, *DOCUMENTS}))
    if not (output / MANIFEST).exists():
        _remove(*(output / name for name in DOCUMENTS if is_ours(output / name)))  # of a build killed at its end
    receipts = {f"{split}-{stem}.parquet" for split, stem in before | now}
    _remove(*_halves(work, {*receipts, _MARKER}))
    _remove(*(work / f"{split}-{stem}.parquet" for split, stem in before - now))
    _write_marker(work, _Marker(marker.made_output, frozenset(now)))


def _clean_split(folder: Path, before: set[str], now: set[str]) -> None:
    if not folder.exists():
        return
    files = {f"{stem}.{suffix}" for stem in before | now for suffix in ("tar", "idx")}
    _remove(*_halves(folder, {*files, CATALOG}))
    _remove(*(folder / f"{stem}.{suffix}" for stem in before - now for suffix in ("tar", "idx")))
    if before and not now:
        _remove(folder / CATALOG)
        with suppress(OSError):  # something of somebody else's is in it
            folder.rmdir()


def remove_half_written(jobs: Sequence["ShardJob"]) -> None:
    """Remove what workers that were ended have left half-written; what is whole the next build goes on from."""
    names: dict[Path, set[str]] = {}
    for job in jobs:
        names.setdefault(job.output / job.split, set()).update((f"{job.stem}.tar", f"{job.stem}.idx"))
        names.setdefault(job.output / WORK_FOLDER, set()).add(f"{job.split}-{job.stem}.parquet")
    for folder, files in names.items():
        if _is_folder(folder):
            _remove(*_halves(folder, files))


def remove_work_folder(output: Path) -> None:
    """The receipts are in the catalogs: let them go.

    Raises:
        InputError: something that is not the build's is among them.
    """
    work = output / WORK_FOLDER
    entries = sorted(work.iterdir())
    foreign = [path for path in entries if not _is_file(path) or not _is_of_the_work_folder(path.name)]
    # Last what tells that it is ours, so that whoever is killed in between is known to have been at it.
    _remove(*(path for path in entries if path not in foreign and path.name not in (_LOCK, _MARKER)))
    if foreign:
        raise InputError(f"{foreign[0]}: is not the build's: move it elsewhere, and run the build again")
    _remove(work / _LOCK, work / _MARKER)
    with suppress(OSError):  # somebody else looks into it in this moment, and will find that nothing is left to do
        work.rmdir()


def undo(output: Path) -> None:
    """Remove all that a build has made, of which nothing came, and the folder itself where the build has made that."""
    marker = _read_marker(output / WORK_FOLDER)
    clean_work_folder(output, [])
    remove_work_folder(output)
    if marker is not None and marker.made_output:
        with suppress(OSError):  # something of somebody else's is in it
            output.rmdir()


def remove_all(output: Path, copies: Sequence[str]) -> None:
    """Remove a folder that a build has made to work in, with all that it has made there.

    Args:
        output: the folder, held by `sole_builder`.
        copies: names of folders in it that hold links to what lies elsewhere too, and go whole.

    Raises:
        InputError: something that is not the build's is in it.
    """
    for name in copies:
        if _is_folder(output / name):
            shutil.rmtree(output / name)
    clean_work_folder(output, [])
    if foreign := sorted(path for path in output.iterdir() if path.name != WORK_FOLDER):
        raise InputError(f"{foreign[0]}: is not the build's: move it elsewhere, and run the build again")
    remove_work_folder(output)
    with suppress(OSError):  # somebody else looks into it in this moment, and will find that nothing is left to do
        output.rmdir()


def _is_of_the_work_folder(name: str) -> bool:
    half = _HALF.fullmatch(name)
    name = name if half is None else half[1]
    return name in (_LOCK, _MARKER, LENGTHS) or _RECEIPT.fullmatch(name) is not None


def _planned_before(work: Path) -> set[_Shard]:
    """The shards that have receipts."""
    names = (_RECEIPT.fullmatch(path.name) for path in work.iterdir())
    return {(name[1], name[2]) for name in names if name is not None}


def _stems(shards: Iterable[_Shard], split: str) -> set[str]:
    return {stem for name, stem in shards if name == split}


def _halves(folder: Path, names: set[str]) -> list[Path]:
    """The files in a folder that were to become files of these names."""
    found = ((path, _HALF.fullmatch(path.name)) for path in folder.iterdir())
    return [path for path, half in found if half is not None and half[1] in names and _is_file(path)]


def _remove(*files: Path) -> None:
    """Remove files that are there; a link goes itself, what it points to stays."""
    for path in files:
        path.unlink(missing_ok=True)


def _is_folder(path: Path) -> bool:
    """Itself, and no link to one."""
    with suppress(OSError):
        return stat.S_ISDIR(path.lstat().st_mode)
    return False


def _is_file(path: Path) -> bool:
    """Itself, and no link to one."""
    with suppress(OSError):
        return stat.S_ISREG(path.lstat().st_mode)
    return False


def _read_marker(work: Path) -> _Marker | None:
    path = work / _MARKER
    try:
        if not _is_file(path):
            return None
        stated = json.loads(path.read_text(encoding="utf-8"))
        if stated["made_by"] != _MADE_BY:
            return None
        shards = frozenset((str(split), str(stem)) for split, stems in stated["shards"].items() for stem in stems)
        if any(os.sep in part or part in ("", ".", "..") for shard in shards for part in shard):
            return None
        return _Marker(made_output=stated["made_output"] is True, shards=shards)
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None


def _write_marker(work: Path, marker: _Marker) -> None:
    shards = {split: sorted(_stems(marker.shards, split)) for split in sorted({split for split, _ in marker.shards})}
    stated = {"made_by": _MADE_BY, "made_output": marker.made_output, "shards": shards}
    with atomic_write(work / _MARKER) as file:
        file.write(json.dumps(stated).encode())
