"""A dataset that is built, or extended, in a folder.

A new dataset is made in its place, and counts as one when dataset.json is there. An extension is made in a folder
beside the dataset, ``.<name>.extension``: first the shards, then the dataset as it will be, with the shards of both (as
hard links, nothing is copied) and new catalogs. Then the two datasets change places in one step. Until then the dataset
is what it was, from then on it is the new one, and no reader ever meets catalogs of the one with a dataset.json of the
other. How it is done in a store, `sharding.packing.remote` says.
"""

import errno
import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path

from loaders.dataset.manifest import CATALOG, MANIFEST, REJECTED, Manifest, read_manifest, require_dataset
from loaders.errors import InputError
from loaders.storage.atomic import sha256_of
from sharding.packing.exchange import ASIDE, exchange, recover
from sharding.packing.existing import ExistingDataset, read_existing
from sharding.packing.output import HeldOutput
from sharding.packing.plan import ShardJob
from sharding.packing.shard import is_built
from sharding.packing.tar import index_path
from sharding.packing.workfolder import (
    clean_work_folder,
    is_builds,
    remove_all,
    remove_half_written,
    remove_work_folder,
    sole_builder,
    undo,
)
from sharding.packing.writer import WORK_FOLDER

_WHOLE = ".dataset"  # in the extension's folder: the dataset as it will be
_NO_LINKS = (errno.EXDEV, errno.EPERM, errno.ENOTSUP, errno.EMLINK)


@dataclass(frozen=True, slots=True)
class FolderOutput:
    """A dataset's folder; see `sharding.packing.output.Output`."""

    path: Path

    @property
    def name(self) -> str:
        """The path, as it was given."""
        return str(self.path)

    @contextmanager
    def finished(self) -> Iterator[ExistingDataset | None]:
        """The finished dataset that is there, if any."""
        if not self.path.exists():
            _put_right(self.path)
        yield read_existing(self.path) if (self.path / MANIFEST).exists() else None

    def clear_up(self) -> bool:
        """Remove the work folder of a build that was killed when all but that was done; whether there was one."""
        if not os.path.lexists(self.path / WORK_FOLDER):
            return False
        with sole_builder(self.path):
            remove_work_folder(self.path)
        return True

    @contextmanager
    def held(self, *, extend: bool) -> Iterator[HeldOutput]:
        """Hold the folder, or that of its extension."""
        if not extend:
            with sole_builder(self.path):
                yield _NewDataset(folder=self.path, disk=self.path)
            return
        folder = _put_right(self.path)
        require_dataset(self.path)
        with sole_builder(folder, lambda: _is_leftover(folder, self.path)):
            yield _Extension(folder=folder, disk=self.path)


@dataclass(frozen=True, slots=True, kw_only=True)
class _HeldFolder:
    """What a new dataset and an extension have in common: shards are built where they stay, beside their receipts."""

    folder: Path
    disk: Path  #: the dataset's folder

    def keeping_lengths(self) -> AbstractContextManager[None]:
        """They are kept where they are written."""
        return nullcontext()

    def missing(self, jobs: Sequence[ShardJob], existing: ExistingDataset | None) -> list[ShardJob]:
        """The jobs that are still to be done."""
        clean_work_folder(self.folder, jobs)
        return [job for job in jobs if not is_built(job)]

    def remove_half_written(self, jobs: Sequence[ShardJob]) -> None:
        """Remove what workers have left half-written."""
        remove_half_written(jobs)


@dataclass(frozen=True, slots=True, kw_only=True)
class _NewDataset(_HeldFolder):
    def existing(self) -> ExistingDataset | None:
        """One that another build has finished since this one looked."""
        return read_existing(self.folder) if (self.folder / MANIFEST).exists() else None

    def untouched_unless_begun(self) -> AbstractContextManager[None]:
        """Nothing is refused before shards are planned."""
        return nullcontext()

    def assemble(self, jobs: Sequence[ShardJob], built: Sequence[ShardJob], existing: ExistingDataset | None) -> Path:
        """The folder itself."""
        _require_visible(built)
        return self.folder

    def publish(self, manifest: Manifest, existing: ExistingDataset | None) -> None:
        """It is visible already, dataset.json having come last."""
        self.clear_up()

    def clear_up(self) -> None:
        """Remove the work folder."""
        remove_work_folder(self.folder)

    def undo(self) -> None:
        """Remove the shards' receipts too, and the folder where the build has made that."""
        undo(self.folder)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Extension(_HeldFolder):
    """The extension's folder beside the dataset's."""

    def existing(self) -> ExistingDataset | None:
        """The dataset that is extended."""
        return read_existing(self.disk.resolve())

    @contextmanager
    def untouched_unless_begun(self) -> Iterator[None]:
        """What is refused leaves no folder behind, unless shards of an extension are in it already."""
        try:
            yield
        except BaseException:
            if not any((self.folder / WORK_FOLDER).glob("*.parquet")):
                self.clear_up()
            raise

    def assemble(self, jobs: Sequence[ShardJob], built: Sequence[ShardJob], existing: ExistingDataset | None) -> Path:
        """The dataset as it will be, with the shards of both."""
        _require_visible(built)
        assert existing is not None, "an extension is of a dataset"
        for split in {*existing.manifest.splits, *(job.split for job in jobs)}:
            if (existing.folder / split).is_symlink():
                problem = "a link, through which the dataset would be written while it is read"
                raise InputError(existing.folder / split, problem, "put the folder itself there")
        whole = self.folder / _WHOLE
        if whole.exists():
            shutil.rmtree(whole)
        try:
            # Everything that lies there, so that nothing that somebody put beside the shards is lost.
            shutil.copytree(
                existing.folder, whole, symlinks=True, copy_function=os.link, ignore=shutil.ignore_patterns(WORK_FOLDER)
            )
            for job in jobs:
                (whole / job.split).mkdir(exist_ok=True)
                for path in (self.folder / job.split).glob(f"{job.stem}.*"):
                    (whole / job.split / path.name).unlink(missing_ok=True)
                    os.link(path, whole / job.split / path.name)
        except (OSError, shutil.Error) as error:
            if not isinstance(error, shutil.Error) and error.errno not in _NO_LINKS:
                raise
            raise InputError(
                f"{existing.folder}: its files cannot be hard-linked into {self.folder}: move the dataset to a file "
                "system that has hard links, below its top folder"
            ) from error
        return whole

    def publish(self, manifest: Manifest, existing: ExistingDataset | None) -> None:
        """Put the extended dataset in the existing one's place."""
        assert existing is not None, "an extension is of a dataset"
        if read_manifest(existing.folder) != existing.manifest:
            raise InputError(
                f"{existing.folder}: was changed while it was extended: run the extension again", try_again=True
            )
        exchange(existing.folder, self.folder / _WHOLE)
        self.clear_up()

    def clear_up(self) -> None:
        """Remove the extension's folder, what tells whose it is last."""
        remove_all(self.folder, (_WHOLE, ASIDE))

    def undo(self) -> None:
        """The dataset is what it was."""
        self.clear_up()


def _put_right(dataset: Path) -> Path:
    """Where the extension of a dataset is made, on its file system and out of its readers' sight; a dataset that its
    extension was about to replace is there again."""
    dataset = dataset.resolve()
    folder = dataset.with_name(f".{dataset.name}.extension")
    if is_builds(folder / WORK_FOLDER):
        recover(dataset, folder / _WHOLE)
    return folder


def _is_leftover(folder: Path, dataset: Path) -> bool:
    """Whether an extension's folder holds nothing that the dataset does not hold.

    Its clearing up was killed, by a version that removed first what would have told whose it is.
    """
    manifest = read_manifest(dataset)
    # An earlier catalog or document says less than this one.
    digests: dict[str, str | None] = dict.fromkeys((MANIFEST, REJECTED, *manifest.documents))
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


def _require_visible(jobs: Sequence[ShardJob]) -> None:
    """Raise InputError where another machine built a shard that this one does not see."""
    unseen = next((job for job in jobs if not is_built(job)), None)
    if unseen is not None:
        raise InputError(
            f"{unseen.output / unseen.split / unseen.stem}.tar: was built and is not here: give an --output on a file "
            "system that all machines of the cluster share"
        )
