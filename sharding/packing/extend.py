"""More utterances for a finished dataset: its shards stay as they are, the new utterances get new ones.

In a folder, all that is new is made in a folder beside the dataset, ``.<name>.extension``: first the shards, then the
dataset as it will be, with the shards of both (as hard links, nothing is copied) and new catalogs. Then the two
datasets change places in one step. Until then the dataset is what it was, from then on it is the new one, and no reader
ever meets catalogs of the one with a dataset.json of the other. How it is done in a store, `sharding.packing.remote`
says.
"""

import errno
import json
import os
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from loaders.dataset.manifest import CATALOG, MANIFEST, REJECTED, Manifest, read_manifest, require_dataset
from loaders.errors import InputError
from loaders.storage.atomic import sha256_of
from sharding.packing.exchange import ASIDE, exchange, recover
from sharding.packing.finish import Lacks, finish_dataset
from sharding.packing.former import STATED, Former, Names, read_former, same_statement
from sharding.packing.plan import ShardJob, require_distinct
from sharding.packing.tar import index_path
from sharding.packing.workfolder import is_builds, remove_all
from sharding.packing.writer import WORK_FOLDER
from sharding.settings import BuildSettings
from sharding.sources.fingerprint import fingerprint
from sharding.utterance import Corpus, Utterance

_WHOLE = ".dataset"  # in the extension's folder: the dataset as it will be
_AGAIN = "build the dataset again, into another --output"
_NO_LINKS = (errno.EXDEV, errno.EPERM, errno.ENOTSUP, errno.EMLINK)


@dataclass(frozen=True, slots=True, kw_only=True)
class Extension:
    """What a corpus holds that a dataset does not."""

    former: Former
    corpus: Corpus  #: new utterances and new rejections alone

    @property
    def first_numbers(self) -> Mapping[str, int]:
        """Of the new shards, by split."""
        splits = {utterance.split for utterance in self.corpus.utterances}
        return {split: self.former.next_number(split) for split in splits}

    @property
    def is_empty(self) -> bool:
        """The dataset holds it all."""
        return not (self.corpus.utterances or self.corpus.rejected)


def extension_folder(dataset: Path) -> Path:
    """Where the extension of a dataset is made: on its file system, out of its readers' sight.

    Raises:
        InputError: there is no finished dataset.
    """
    folder = put_right(dataset)
    require_dataset(dataset)
    return folder


def put_right(dataset: Path) -> Path:
    """Where the extension of a dataset is made; a dataset that its extension was about to replace is there again."""
    dataset = dataset.resolve()
    folder = dataset.with_name(f".{dataset.name}.extension")
    if is_builds(folder / WORK_FOLDER):
        recover(dataset, folder / _WHOLE)
    return folder


def is_leftover(folder: Path, dataset: Path) -> bool:
    """Whether an extension's folder holds nothing that the dataset does not hold.

    Its clearing up was killed, by a version that removed first what would have told whose it is.
    """
    manifest = read_manifest(dataset)
    digests: dict[str, str | None] = {MANIFEST: None, REJECTED: None}  # a former catalog says less than the present one
    for split, entry in manifest.splits.items():
        digests[f"{split}/{CATALOG}"] = None
        for shard in entry.shards:
            digests[f"{split}/{shard.name}"] = shard.sha256
            digests[index_path(f"{split}/{shard.name}")] = shard.index_sha256
    for path in folder.rglob("*"):
        name = path.relative_to(folder).as_posix().removeprefix(f"{_WHOLE}/")
        if path.is_dir() and not path.is_symlink():
            continue
        if path.is_symlink() or not path.is_file() or name not in digests:
            return False
        digest = digests[name]
        there = (dataset / name).is_file()
        if not there or (digest is not None and not path.samefile(dataset / name) and sha256_of(path) != digest):
            return False
    return True


def remove_extension(folder: Path) -> None:
    """Remove an extension's folder, what tells whose it is last."""
    remove_all(folder, (_WHOLE, ASIDE))


@contextmanager
def untouched_unless_begun(folder: Path) -> Iterator[None]:
    """What is refused leaves no folder behind, unless shards of an extension are in it already."""
    try:
        yield
    except BaseException:
        if not any((folder / WORK_FOLDER).glob("*.parquet")):
            remove_extension(folder)
        raise


def plan_extension(
    corpus: Corpus,
    dataset: Path | str,
    settings: BuildSettings,
    workers: int,
    former: Former | None = None,
    tell: Callable[[int], None] = lambda _: None,
) -> Extension:
    """Hold a corpus against a dataset that was built from a part of it.

    Args:
        corpus: all of it: what the dataset has, as it was, and what is new. Leaks are settled.
        dataset: its folder, or its URL.
        settings: of the dataset's build.
        workers: sources are looked at by four times as many threads.
        former: the dataset, where it has been read already, as one of a store has.
        tell: is called with a number of utterances when so many have been looked at.

    Raises:
        InputError: settings or corpus are not those of the dataset, an utterance of it is gone or has changed, a file
            system fails, or the dataset is faulty; the message names the first.
    """
    former = former or read_former(Path(dataset).resolve())
    require_same_build(former.manifest, corpus, settings, dataset)
    require_distinct(corpus.utterances)
    clips, refusals = former.utterances(), former.rejected()
    if former.manifest.video_names != corpus.video_names:
        _require_unshared_names(clips, former.manifest, corpus, dataset)
    given = {_names(utterance): utterance for utterance in corpus.utterances}
    out, stated = {_subject(asdict(r)) for r in corpus.rejected}, {_subject(row) for row in refusals}
    now_out = {(r.speaker, r.video, r.utterance): r for r in corpus.rejected}
    for names, row in clips.items():
        if names not in given:
            reason = f"is rejected now ({now_out[names].detail})" if names in now_out else "is not in the sources now"
            raise InputError(f"{dataset}: its utterance {'/'.join(names)} of {row['split']} {reason}: {_AGAIN}")
    rejected: dict[Names, dict[str, Any]] = {}
    for row in refusals:
        names = (row["speaker"], row["video"], row["utterance"])
        if _subject(row) in out:
            continue
        if names not in given or row["source_xxh3"] is None:
            raise InputError(f"{row['path']}: was rejected ({row['reason']}), and is so no longer: {_AGAIN}")
        rejected[names] = row
    known = [utterance for names, utterance in given.items() if names in clips or names in rejected]
    with ThreadPoolExecutor(4 * workers) as pool:
        for utterance in pool.map(_with_fingerprint, known):
            names = _names(utterance)
            _require_unchanged(utterance, clips.get(names) or rejected[names], _AGAIN)
            tell(1)
    fresh = replace(
        corpus,
        utterances=tuple(u for names, u in given.items() if names not in clips and names not in rejected),
        rejected=tuple(r for r in corpus.rejected if _subject(asdict(r)) not in stated),
    )
    return Extension(former=former, corpus=fresh)


def _require_unshared_names(clips: Iterable[Names], manifest: Manifest, corpus: Corpus, dataset: Path | str) -> None:
    """Raise InputError where two speakers of a dataset have videos of one name, which it takes for one video and the
    corpus for two, or the other way round."""
    speakers: dict[str, str] = {}
    for speaker, video, _ in sorted(clips):
        if speakers.setdefault(video, speaker) != speaker:
            raise InputError(
                f"{dataset}: two speakers have a video {video!r}, and it was built with --video-names "
                f"{manifest.video_names}, not {corpus.video_names}: give the same, or {_AGAIN}"
            )


def _names(utterance: Utterance) -> Names:
    return utterance.speaker, utterance.video, utterance.utterance


def _subject(row: Mapping[str, Any]) -> tuple[str, ...]:
    """What was rejected and why. An utterance's path does not count, for sources may be moved; a folder has no more."""
    if row["utterance"]:
        return row["split"], row["speaker"], row["video"], row["utterance"], row["reason"]
    return row["path"], row["reason"]


def _with_fingerprint(utterance: Utterance) -> Utterance:
    return replace(utterance, source_xxh3=fingerprint(utterance))


def require_same_build(manifest: Manifest, corpus: Corpus, settings: BuildSettings, dataset: Path | str) -> None:
    """Raise InputError where a dataset is not of this corpus, built with these settings."""
    if manifest.corpus != corpus.name:
        raise InputError(f"{dataset}: was built from {manifest.corpus}, not from {corpus.name}: {_AGAIN}")
    if manifest.apart != corpus.apart:
        raise InputError(f"{dataset}: its splits are apart by {manifest.apart}, not by {corpus.apart}: {_AGAIN}")
    for name, value in json.loads(json.dumps(asdict(settings))).items():
        stated = manifest.settings.get(name)
        if stated != value:
            option = f"--{name.replace('_', '-')}"
            raise InputError(f"{dataset}: was built with {option} {stated}, not {value}: give the same, or {_AGAIN}")


def _require_unchanged(utterance: Utterance, stated: Mapping[str, Any], mend: str) -> None:
    path = utterance.video_path
    if utterance.split != stated["split"]:
        raise InputError(f"{path}: is in {utterance.split} now, and was in {stated['split']}: {mend}")
    if utterance.source_xxh3 != stated["source_xxh3"]:
        raise InputError(f"{path}: it, its sound, gaze or boxes have changed since the dataset was built: {mend}")
    for name in STATED:
        if name in stated and not same_statement(stated, name, getattr(utterance, name)):
            what = f"its {name} is {getattr(utterance, name)} now, and was {stated[name]}"
            raise InputError(f"{path}: {what}: {mend}")


def finish_extension(
    extension: Extension, folder: Path, jobs: Sequence[ShardJob], settings: BuildSettings
) -> tuple[Manifest, Lacks]:
    """Put the extended dataset in the former one's place, and remove the extension's folder.

    Args:
        extension: what was planned.
        folder: of `extension_folder`, where every job has its shard and its receipt.
        jobs: all of them.
        settings: of the build.

    Returns:
        The manifest of the extended dataset, and what the new clips lack.

    Raises:
        InputError: the file system has no hard links, or the dataset became another meanwhile.
    """
    former, corpus = extension.former, extension.corpus
    whole = folder / _WHOLE
    if whole.exists():
        shutil.rmtree(whole)
    try:
        # Everything that lies there, so that nothing that somebody put beside the shards is lost.
        shutil.copytree(
            former.folder, whole, symlinks=True, copy_function=os.link, ignore=shutil.ignore_patterns(WORK_FOLDER)
        )
        for job in jobs:
            (whole / job.split).mkdir(exist_ok=True)
            for path in (folder / job.split).glob(f"{job.stem}.*"):
                (whole / job.split / path.name).unlink(missing_ok=True)
                os.link(path, whole / job.split / path.name)
    except (OSError, shutil.Error) as error:
        if not isinstance(error, shutil.Error) and error.errno not in _NO_LINKS:
            raise
        raise InputError(
            f"{former.folder}: its files cannot be hard-linked into {folder}: move the dataset to a file system that "
            "has hard links, below its top folder"
        ) from error
    manifest, lacks = finish_dataset(
        whole,
        corpus.name,
        jobs,
        settings,
        corpus.rejected,
        apart=corpus.apart,
        video_names=corpus.video_names,
        former=former,
    )
    if read_manifest(former.folder) != former.manifest:
        raise InputError(f"{former.folder}: was changed while it was extended: run the extension again")
    exchange(former.folder, whole)
    remove_extension(folder)
    return manifest, lacks
