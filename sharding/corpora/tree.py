"""The files of a corpus' tree: all of them, and nothing from outside it.

Not of the corpus is what systems keep among a user's files: hidden entries, recycle bins, snapshots, thumbnails. Links
are followed where they lead to a file within the tree; those that lead out of it when that is asked for.
"""

import errno
import os
import stat
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from loaders.storage.urls import url_of
from sharding.sources.copies import listed
from sharding.sources.read_errors import SourceError, failures_named, is_of_one_file
from sharding.sources.regular import not_regular
from sharding.utterance import Rejection, readable

SYSTEM_NAMES = frozenset(
    name.casefold()
    for name in (
        *("lost+found", "~snapshot"),  # ext, NetApp; .snapshot, .Trash-1000, .git, .AppleDouble, … are hidden
        *("__MACOSX", "Network Trash Folder", "Temporary Items", "Icon\r"),  # macOS
        *("$RECYCLE.BIN", "System Volume Information", "Thumbs.db", "ehthumbs.db", "desktop.ini"),  # Windows
        *("@eaDir", "@tmp", "@sharebin", "#recycle", "#snapshot"),  # Synology
        *("@Recycle", "@Recently-Snapshot"),  # QNAP
    )
)
"""Folders and files that are a system's own, whatever their case."""

FOLLOW = ": --follow-links follows links that lead out"  #: what to do about "outside_source"

_DEEPEST = 4  # followed links to folders within each other: those that lead to each other would otherwise never end
_SHOWN = 8  # suffixes that a note counts one by one


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

    def rejection(self) -> Rejection:
        """What a corpus says of it where it is no single utterance's."""
        return Rejection(
            split="",
            speaker="",
            video="",
            utterance="",
            path=readable(self.entry.path),
            reason=self.reason,
            detail=self.detail,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Tree:
    """What lies below a root, in the order of the names."""

    files: tuple[Entry, ...]
    left_out: tuple[LeftOut, ...]
    hidden: int = 0  #: hidden entries and a system's own, which were not looked into
    first_hidden: Path | None = None
    others: Mapping[str, int] = field(default_factory=dict)  #: files by suffix that are none of those wanted

    def count(self, reason: str) -> int:
        """How many entries were left out for a reason."""
        return sum(out.reason == reason for out in self.left_out)

    def notes(self, where: str, layout: Collection[str]) -> list[str]:
        """What a person should know of the tree, a line each.

        Args:
            where: the option and its folder.
            layout: suffixes of files that belong there, though they are not looked at.
        """
        notes = []
        if self.hidden:
            notes.append(
                f"{where}: {self.hidden} hidden entries and system folders were passed by, the first "
                f"{readable(self.first_hidden or '')}"
            )
        foreign = {suffix: count for suffix, count in self.others.items() if suffix not in layout}
        if foreign:
            notes.append(f"{where}: not looked at: {by_suffix(foreign)}")
        first = {out.reason: out for out in reversed(self.left_out)}
        for reason, count in sorted(Counter(out.reason for out in self.left_out).items()):
            notes.append(
                f"{where}: {count} left out as {reason}, the first {readable(first[reason].entry.path)}: "
                f"{first[reason].detail}{FOLLOW if reason == 'outside_source' else ''}"
            )
        return notes


def by_suffix(counts: Mapping[str, int]) -> str:
    """Files by suffix, most first: ``12 .jpg, 3 .zip``."""
    ordered = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    parts = [f"{count} {suffix or 'without a suffix'}" for suffix, count in ordered[:_SHOWN]]
    more = sum(count for _, count in ordered[_SHOWN:])
    return ", ".join([*parts, f"{more} others"] if more else parts)


def is_hidden(name: str) -> bool:
    """Whether an entry of this name is hidden, or a system's own."""
    return (name.startswith(".") and name not in (".", "..")) or name.casefold() in SYSTEM_NAMES


def read_tree(root: Path, suffixes: Collection[str], *, follow_links: bool = False) -> Tree:
    """Every file below ``root`` whose suffix is one of these (lower case, with the dot).

    Symbolic links that lead to a file within the root are files. Links to folders within it are passed by, for what
    they lead to is found where it lies. Left out are, by reason:

    - "outside_source": links that lead out of the root, or to a folder in it that is hidden;
    - "link_loop": links that lead in a circle;
    - "broken_link": links that lead nowhere and may have been a folder. A file that is such a link is kept, as missing;
    - "not_a_file": named pipes, devices and sockets with such a suffix;
    - "unreadable": what cannot be looked at, folders that cannot be listed, a store's objects whose names are no paths.

    Args:
        root: a folder, or a URL.
        suffixes: of the files that are wanted.
        follow_links: links that lead out of the root are what they lead to, in the link's place and by its name.

    Raises:
        SourceError: a folder goes away while the tree is read, or its file system fails.
        InputError: a store does.
    """
    if url_of(root) is not None:
        return _read_remote_tree(root, suffixes)
    walk = _Walk(root, suffixes, follow_links)
    walk.run()
    return walk.tree()


def refusal(path: Path, root: Path, *, follow_links: bool) -> tuple[str, str] | None:
    """Why a file below ``root`` that is named elsewhere is not to be used: reason and detail as of `read_tree`.

    None: it may be used, or it is not there.
    """
    if url_of(path) is not None:
        return None
    try:
        mode: int | None = path.stat().st_mode
    except OSError as error:
        if error.errno == errno.ELOOP:
            return _in_a_circle()
        mode = None  # whoever opens it tells
    if not follow_links:
        target = os.path.realpath(path)
        if not _is_within(target, os.path.realpath(root)):
            return _leading_out(root, target)
    if mode is not None and not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
        return "not_a_file", not_regular(mode)
    return None


class _Walk:
    """A local tree, while it is read."""

    def __init__(self, root: Path, suffixes: Collection[str], follow_links: bool) -> None:
        self._root, self._suffixes, self._follows = root, frozenset(suffixes), follow_links
        self._files: list[Entry] = []
        self._left_out: list[LeftOut] = []
        self._hidden = 0
        self._first_hidden: Path | None = None
        self._others: Counter[str] = Counter()

    def run(self) -> None:
        # A folder, and the real places that the way there has led into: the root, and where followed links lead.
        folders: list[tuple[Path, tuple[str, ...]]] = [(self._root, (os.path.realpath(self._root),))]
        while folders:
            folder, homes = folders.pop()
            try:
                with failures_named(folder), os.scandir(folder) as listing:
                    found = sorted(listing, key=lambda entry: entry.name)
            except OSError as error:
                if error.errno in (errno.ENOENT, errno.ENOTDIR):  # it was there when the folder above was listed
                    raise SourceError(
                        readable(folder), "went while it was listed", "run the build again", try_again=True
                    ) from error
                self._leave_out(folder, "unreadable", f"a folder that cannot be listed: {error.strerror}", True)
                continue
            folders += reversed([below for item in found for below in self._take(item, homes)])

    def tree(self) -> Tree:
        return Tree(
            files=tuple(self._files),
            left_out=tuple(self._left_out),
            hidden=self._hidden,
            first_hidden=self._first_hidden,
            others=dict(self._others),
        )

    def _take(self, item: "os.DirEntry[str]", homes: tuple[str, ...]) -> Iterator[tuple[Path, tuple[str, ...]]]:
        """Sort an entry of a folder in; yields it where it is a folder to go into."""
        path = Path(item.path)
        if is_hidden(item.name):
            self._hidden += 1
            self._first_hidden = min(self._first_hidden or path, path)
            return
        try:
            if item.is_symlink():
                yield from self._take_link(path, homes)
            elif item.is_dir(follow_symlinks=False):
                yield path, homes
            elif item.is_file(follow_symlinks=False):
                self._take_file(path)
            else:
                self._take_file(path, item.stat(follow_symlinks=False).st_mode)
        except OSError as error:
            with failures_named(path):
                if not is_of_one_file(error):
                    raise
            self._pass_by(path, "unreadable", f"it cannot be looked at: {error.strerror}")

    def _take_link(self, path: Path, homes: tuple[str, ...]) -> Iterator[tuple[Path, tuple[str, ...]]]:
        is_wanted = self._is_wanted(path)
        mode: int | None = None
        try:
            mode = path.stat().st_mode
        except OSError as error:
            if error.errno == errno.ELOOP:
                self._pass_by(path, *_in_a_circle())
                return
            if error.errno not in (errno.ENOENT, errno.ENOTDIR):
                raise
        target = os.path.realpath(path)
        is_folder = mode is not None and stat.S_ISDIR(mode)
        if is_folder and any(_is_found(target, home) for home in homes):
            return
        leads_out = not _is_within(target, homes[0])
        if not self._follows and (is_folder or (is_wanted and leads_out)):
            if leads_out:
                reason, detail = _leading_out(self._root, target)
            else:
                reason, detail = "outside_source", f"a link to a hidden folder, {readable(target)}"
            self._leave_out(path, reason, detail, is_folder)
        elif is_folder and len(homes) > _DEEPEST:
            self._leave_out(path, "link_loop", f"links to folders lead more than {_DEEPEST} deep into each other", True)
        elif is_folder:
            yield path, (*homes, target)
        elif mode is None and not is_wanted:
            self._pass_by(path, "broken_link", f"a link to {readable(target)}, where nothing is")
        else:
            self._take_file(path, mode)

    def _take_file(self, path: Path, mode: int | None = None) -> None:
        """A file; one that is not there any more is for whoever opens it to tell."""
        if not self._is_wanted(path):
            self._others[path.suffix.lower()] += 1
        elif mode is None or stat.S_ISREG(mode):
            self._files.append(_entry(self._root, path, is_folder=False))
        else:
            self._leave_out(path, "not_a_file", not_regular(mode), False)

    def _pass_by(self, path: Path, reason: str, detail: str) -> None:
        """What cannot be told to be a file or a folder: by its suffix."""
        if self._is_wanted(path) or not path.suffix:
            self._leave_out(path, reason, detail, not path.suffix)
        else:
            self._others[path.suffix.lower()] += 1

    def _leave_out(self, path: Path, reason: str, detail: str, is_folder: bool) -> None:
        entry = _entry(self._root, path, is_folder=is_folder)
        self._left_out.append(LeftOut(entry=entry, is_folder=is_folder, reason=reason, detail=detail))

    def _is_wanted(self, path: Path) -> bool:
        return path.suffix.lower() in self._suffixes


def _read_remote_tree(root: Path, suffixes: Collection[str]) -> Tree:
    files: list[Entry] = []
    left_out: list[LeftOut] = []
    hidden: set[Path] = set()
    others: Counter[str] = Counter()
    for path, is_plain in listed(root):
        names = path.relative_to(root).parts
        first = next((place for place, name in enumerate(names) if is_hidden(name)), None)
        if first is not None:
            hidden.add(root.joinpath(*names[: first + 1]))
            continue
        if path.suffix.lower() not in suffixes:
            others[path.suffix.lower()] += 1
            continue
        entry = _entry(root, path, is_folder=False)
        if is_plain:
            files.append(entry)
        else:
            detail = "an object whose name is no path: it has an empty part, . or .."
            left_out.append(LeftOut(entry=entry, is_folder=False, reason="unreadable", detail=detail))
    return Tree(
        files=tuple(files),
        left_out=tuple(left_out),
        hidden=len(hidden),
        first_hidden=min(hidden, default=None),
        others=dict(others),
    )


def _leading_out(root: Path, target: str) -> tuple[str, str]:
    return "outside_source", f"a link that leads out of {readable(root)}, to {readable(target)}"


def _in_a_circle() -> tuple[str, str]:
    return "link_loop", "a link that leads in a circle"


def _is_found(target: str, home: str) -> bool:
    """Whether a folder is come upon by going through another, without links."""
    return _is_within(target, home) and not any(map(is_hidden, Path(os.path.relpath(target, home)).parts))


def _is_within(path: str, root: str) -> bool:
    return os.path.commonpath((path, root)) == root


def _entry(root: Path, path: Path, *, is_folder: bool) -> Entry:
    names: Sequence[str] = path.relative_to(root).parts
    if not is_folder:
        names = (*names[:-1], path.stem)
    return Entry(path=path, names=tuple(readable(name) for name in names))
