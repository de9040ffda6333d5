"""Which of the files that ``--member`` asks for lie beside a corpus' videos: in their folders, or in their tars."""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from os.path import commonpath
from pathlib import Path, PurePosixPath

from loaders.errors import InputError
from loaders.storage.urls import url_of
from sharding.members.files import ArrayFile
from sharding.sources.copies import existence
from sharding.sources.packed import packed_of
from sharding.sources.tars import list_tar
from sharding.utterance import Corpus, Utterance, readable

_Find = Callable[[Path, ArrayFile], Path | None]  # of a video the file, where there is one


def with_arrays(corpus: Corpus, files: Sequence[ArrayFile], workers: int) -> Corpus:
    """The corpus with the files that lie beside its videos, and a note about how many there are.

    Args:
        corpus: whose. Files that its reader names itself stay.
        files: that are asked for.
        workers: threads that look.

    Raises:
        InputError: no utterance has one of them, a tar cannot be read, or a store fails.
    """
    if not files or not corpus.utterances:
        return corpus
    with ThreadPoolExecutor(workers) as pool:
        find = _finder([utterance.video_path for utterance in corpus.utterances], pool)

        def look(utterance: Utterance) -> Utterance:
            places = {file.name: find(utterance.video_path, file) for file in files}
            found = {name: path for name, path in places.items() if path is not None}
            return replace(utterance, arrays={**found, **utterance.arrays}) if found else utterance

        utterances = tuple(pool.map(look, corpus.utterances))
    notes = []
    for file in files:
        count = sum(file.name in utterance.arrays for utterance in utterances)
        if not count:
            video = utterances[0].video_path
            raise InputError(
                f"--member {file.name}: none of {len(utterances)} utterances has a {file.suffix} beside its video: "
                f"looked for {file.beside(video.name)} beside {readable(video)} and so on: put the files there, or "
                "build without it"
            )
        notes.append(f"{count} of {len(utterances)} utterances have a {file.suffix} beside the video")
    return replace(corpus, utterances=utterances, notes=(*corpus.notes, *notes))


def _finder(videos: Sequence[Path], pool: ThreadPoolExecutor) -> _Find:
    """Finds files beside these videos; a tar, and a store, is listed once."""
    archives: set[Path] = set()
    folders: dict[tuple[str, ...], set[str]] = {}  # by bucket
    for video in videos:
        packed = packed_of(video)
        if packed is not None:
            archives.add(packed.archive)
        elif url_of(video) is not None:
            folders.setdefault(video.parts[:2], set()).add(str(video.parent))
    stores = {bucket: existence(Path(commonpath(inside))) for bucket, inside in folders.items()}
    ordered = sorted(archives)
    tars = dict(zip(ordered, pool.map(_Tar, ordered), strict=True))
    here = existence(Path())

    def find(video: Path, file: ArrayFile) -> Path | None:
        packed = packed_of(video)
        if packed is not None:
            return tars[packed.archive].find(packed.offset, file)
        path = video.with_name(file.beside(video.name))
        return path if stores.get(path.parts[:2], here)(path) else None

    return find


class _Tar:
    """The names of a tar's files, and where they lie."""

    def __init__(self, path: Path) -> None:
        files = list_tar(path).files
        self._names = {file.packed.offset: file.name for file in files}
        self._places = {file.name: file.packed.path for file in files}

    def find(self, offset: int, file: ArrayFile) -> Path | None:
        """The file of the video at this byte: of a sample ``key.mp4``, ``key<suffix>``; of ``key.left.mp4``, that of
        the video's own name before that of the key."""
        video = PurePosixPath(self._names[offset])
        key = video.name.partition(".")[0]
        for name in (file.beside(video.name), key + file.suffix):
            found = self._places.get(str(video.with_name(name)))
            if found is not None:
                return found
        return None
