"""The files of a corpus' tree: all of them, and nothing from outside it."""

import errno
import os
from dataclasses import dataclass
from pathlib import Path

from loaders.filesystem import url_of
from sharding.corpora.utterance import readable
from sharding.read_errors import SourceError, failures_named
from sharding.sources import listed


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """A file or folder below the root of a tree."""

    path: Path
    names: tuple[str, ...]  #: from the root down, a file's without its suffix; as text that can be stored


@dataclass(frozen=True, slots=True, kw_only=True)
class LeftOut:
    """An entry that is not used, and why."""

    entry: Entry
    is_folder: bool
    reason: str
    detail: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Tree:
    """What lies below a root, in the order of the names."""

    files: tuple[Entry, ...]
    left_out: tuple[LeftOut, ...]


def read_tree(root: Path, suffixes: tuple[str, ...]) -> Tree:
    """Every file below ``root`` whose suffix is one of these (lower case, with the dot).

    Symbolic links that lead to a file within the root are files. Links that lead out of it are left out, as
    "outside_source"; links to folders within it are passed by, for what they lead to is found where it lies. Folders
    that may not be listed are left out as "unreadable", as are objects of a store whose names are no paths.

    Raises:
        SourceError: a folder goes away while the tree is read, or its file system fails.
        InputError: a store does.
    """
    if url_of(root) is not None:
        return _read_remote_tree(root, suffixes)
    top = os.path.realpath(root)
    files: list[Entry] = []
    left_out: list[LeftOut] = []
    folders = [root]
    while folders:
        folder = folders.pop()
        try:
            with failures_named(folder), os.scandir(folder) as listing:
                found = sorted(listing, key=lambda entry: entry.name)
        except OSError as error:
            if error.errno in (errno.ENOENT, errno.ENOTDIR):  # it was there when the folder above was listed
                raise SourceError(f"{readable(folder)}: is gone since it was listed: run the build again") from error
            detail = f"a folder that cannot be listed: {error.strerror}"
            entry = _entry(root, folder, is_folder=True)
            left_out.append(LeftOut(entry=entry, is_folder=True, reason="unreadable", detail=detail))
            continue
        below = []
        for item in found:
            path = Path(item.path)
            is_wanted = path.suffix.lower() in suffixes
            if item.is_symlink():
                target = os.path.realpath(path)
                if not _is_within(target, top):
                    if is_wanted or item.is_dir():
                        detail = f"a link that leads out of {readable(root)}, to {readable(target)}"
                        entry = _entry(root, path, is_folder=item.is_dir())
                        out = LeftOut(entry=entry, is_folder=item.is_dir(), reason="outside_source", detail=detail)
                        left_out.append(out)
                    continue
            elif item.is_dir(follow_symlinks=False):
                below.append(path)
            if is_wanted and not item.is_dir():
                files.append(_entry(root, path, is_folder=False))
        folders += reversed(below)
    return Tree(files=tuple(files), left_out=tuple(left_out))


def _read_remote_tree(root: Path, suffixes: tuple[str, ...]) -> Tree:
    files: list[Entry] = []
    left_out: list[LeftOut] = []
    for path, is_plain in listed(root):
        if path.suffix.lower() not in suffixes:
            continue
        entry = _entry(root, path, is_folder=False)
        if is_plain:
            files.append(entry)
        else:
            detail = "an object whose name is no path: it has an empty part, . or .."
            left_out.append(LeftOut(entry=entry, is_folder=False, reason="unreadable", detail=detail))
    return Tree(files=tuple(files), left_out=tuple(left_out))


def leads_out(path: Path, root: Path) -> bool:
    """Whether a path below ``root`` is, by a symbolic link, a file outside it."""
    return not _is_within(os.path.realpath(path), os.path.realpath(root))


def _is_within(path: str, root: str) -> bool:
    return os.path.commonpath((path, root)) == root


def _entry(root: Path, path: Path, *, is_folder: bool) -> Entry:
    names = path.relative_to(root).parts
    if not is_folder:
        names = (*names[:-1], path.stem)
    return Entry(path=path, names=tuple(readable(name) for name in names))
