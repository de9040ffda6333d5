"""A build whose dataset lies in an object store: shards pass through a local folder, one a worker at a time.

    scratch/<lock>/<split>-<stem>/   where one shard is built, on the machine of its worker; gone when it is uploaded
    scratch/<lock>/dataset/          receipts, then catalogs and dataset.json, on the machine of the build

Objects go up in the order in which files are made locally: a shard, its index, its receipt under ``.build/``; catalogs
when every shard has its receipt; dataset.json last. So a build that is killed goes on from the receipts, on any machine
that has the same sources at the same paths.
"""

import re
import shutil
import tempfile
import time
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from loaders.dataset import CATALOG, MANIFEST, REJECTED, Manifest
from loaders.errors import InputError
from sharding.buildlock import LOCK, acquire, release, require_held
from sharding.store import Store
from sharding.writer import WORK_FOLDER, read_receipt

if TYPE_CHECKING:
    from sharding.plan import ShardJob

_RECEIPTS_AT_ONCE = 16
_RECEIPT = re.compile(rf"{re.escape(WORK_FOLDER)}/(.+)-\d{{6,}}\.parquet")
_STEM = re.compile(r"\d{6,}")  # of a shard


@dataclass(frozen=True, slots=True, kw_only=True)
class Upload:
    """Where a shard goes when it is built. It travels with the shard's job."""

    store: Store
    scratch: Path  #: of this build, on whatever machine
    token: str  #: of the lock under which the build is made

    @contextmanager
    def workplace(self, split: str, stem: str) -> Iterator[Path]:
        """An empty folder to build a shard in, gone afterwards.

        Raises:
            InputError: another build has taken over.
        """
        require_held(self.store, self.token)
        folder = self.scratch / f"{split}-{stem}"
        shutil.rmtree(folder, ignore_errors=True)  # of a worker that died
        (folder / WORK_FOLDER).mkdir(parents=True)
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    def send(self, folder: Path, split: str, stem: str) -> float:
        """Upload the files of a shard, its receipt last; seconds that it took."""
        began = time.perf_counter()
        require_held(self.store, self.token)
        for name in (f"{split}/{stem}.tar", f"{split}/{stem}.idx", _receipt(split, stem)):
            if (folder / name).exists():  # of a shard without a clip only the receipt
                self.store.put(folder / name, name)
        return time.perf_counter() - began


@dataclass(frozen=True, slots=True, kw_only=True)
class RemoteOutput:
    """The store of a build that holds its lock, and the local folder that stands in for it."""

    upload: Upload
    folder: Path  #: for receipts, catalogs and dataset.json

    def missing(self, jobs: Sequence["ShardJob"]) -> list["ShardJob"]:
        """The jobs that are still to be done, with where to upload to; receipts of the others are fetched.

        What the plan does not hold (any more) is removed.
        """
        store, found = self.upload.store, self.upload.store.sizes()
        planned = {(job.split, job.stem) for job in jobs}
        # A former plan's splits are known by its receipts; what lies elsewhere is not a build's.
        splits = {split for split, _ in planned} | {name[1] for name in map(_RECEIPT.fullmatch, found) if name}
        store.remove(name for name in found if not _is_planned(name, planned, splits))
        with ThreadPoolExecutor(_RECEIPTS_AT_ONCE) as pool:
            is_built = list(pool.map(lambda job: self._is_built(job, found), jobs))
        return [replace(job, upload=self.upload) for job, built in zip(jobs, is_built, strict=True) if not built]

    def fetch_receipts(self, jobs: Sequence["ShardJob"]) -> None:
        """The receipts of all jobs, as if the shards had been built here."""
        store = self.upload.store

        def fetch(job: "ShardJob") -> None:
            name = _receipt(job.split, job.stem)
            (self.folder / job.split).mkdir(parents=True, exist_ok=True)
            if not (self.folder / name).exists() and not store.fetch(name, self.folder / name):
                raise InputError(f"{store.url}/{name}: is gone: let one build alone work there, and run it again")

        with ThreadPoolExecutor(_RECEIPTS_AT_ONCE) as pool:
            list(pool.map(fetch, jobs))

    def publish(self, manifest: Manifest) -> None:
        """Upload what makes a dataset of the shards, dataset.json last, and remove the receipts.

        Raises:
            InputError: a shard is not there as it was uploaded, or another build has taken over.
        """
        store, found = self.upload.store, self.upload.store.sizes()
        for split, entry in manifest.splits.items():
            for shard in entry.shards:
                name = f"{split}/{shard.name}"
                if found.get(name) != shard.bytes:
                    raise InputError(
                        f"{store.url}/{name}: {found.get(name, 'no')} bytes where {shard.bytes} were uploaded: let one "
                        "build alone work there, and run it again"
                    )
        require_held(store, self.upload.token)
        for name in (*(f"{split}/{CATALOG}" for split in manifest.splits), REJECTED, MANIFEST):
            store.put(self.folder / name, name)
        self.remove_work()

    def remove_work(self) -> None:
        """Remove the receipts; the lock stays until it is let go."""
        self.upload.store.remove(name for name in self.upload.store.sizes() if _is_receipt(name))

    def _is_built(self, job: "ShardJob", found: dict[str, int]) -> bool:
        name = _receipt(job.split, job.stem)
        file = self.folder / name
        if name not in found or not self.upload.store.fetch(name, file):
            return False
        facts = read_receipt(file)
        shard = f"{job.split}/{job.stem}"
        is_whole = found.get(f"{shard}.tar", 0) == facts["bytes"] and (f"{shard}.idx" in found) == (facts["bytes"] > 0)
        if facts["digest"] == job.digest and is_whole:
            return True
        file.unlink()
        return False


@contextmanager
def remote_output(url: str, scratch: Path, break_lock: str | None = None) -> Iterator[RemoteOutput]:
    """Hold a URL for this build alone.

    Args:
        url: of the dataset's folder.
        scratch: local folder to build shards in; what is put there goes again.
        break_lock: name of a build that holds the URL and is known to be dead.

    Raises:
        InputError: a finished dataset or something else is there, another build is at work, the store cannot be
            reached, or ``scratch`` cannot be written.
    """
    store = Store(url=url)
    _require_free(replace(store, attempts=3).sizes(), url)  # a wrong address should not take a minute to be told
    own, dead = acquire(store, break_lock)
    try:
        if dead is not None:
            shutil.rmtree(scratch / dead.token, ignore_errors=True)
        _require_free(store.sizes(), url)  # the one who had the lock before may have finished
        output = RemoteOutput(
            upload=Upload(store=store, scratch=scratch / own.token, token=own.token),
            folder=scratch / own.token / "dataset",
        )
        try:
            (output.folder / WORK_FOLDER).mkdir(parents=True)
        except OSError as error:
            raise InputError(f"--scratch {scratch}: {error.strerror}: give a folder that can be written") from error
        yield output
    except BaseException:
        with suppress(InputError):  # a store that is gone has been told of already, and by what it failed at
            release(replace(store, attempts=2), own.token)
        raise
    else:
        release(store, own.token)
    finally:
        shutil.rmtree(scratch / own.token, ignore_errors=True)


def clear_up(store: Store, found: Iterable[str], break_lock: str | None = None) -> None:
    """Remove the receipts beside a finished dataset, whose build was killed when all but that was done.

    Raises:
        InputError: another build is at work there.
    """
    if not any(_is_receipt(name) or name == LOCK for name in found):
        return
    own, _ = acquire(store, break_lock)
    try:
        store.remove(name for name in store.sizes() if _is_receipt(name))
    finally:
        release(store, own.token)


def default_scratch() -> Path:
    """Below the system's folder for temporary files (TMPDIR)."""
    return Path(tempfile.gettempdir(), "filmstrip")


def _require_free(found: dict[str, int], url: str) -> None:
    if MANIFEST in found:
        raise InputError(f"{url}: a finished dataset is there: give another --output, or remove it first")
    work = [name for name in found if name.startswith(f"{WORK_FOLDER}/")]
    if found and not work:
        raise InputError(f"{url}: holds other files: give an --output that is empty or not there")
    if foreign := [name for name in work if name != LOCK and not _is_receipt(name)]:
        raise InputError(f"{url}/{foreign[0]}: no build of this program made it: give another --output")


def _receipt(split: str, stem: str) -> str:
    return f"{WORK_FOLDER}/{split}-{stem}.parquet"


def _is_receipt(name: str) -> bool:
    return _RECEIPT.fullmatch(name) is not None


def _is_planned(name: str, planned: set[tuple[str, str]], splits: set[str]) -> bool:
    """Whether an object may stay: false for a shard, index or receipt of a shard that the plan does not hold."""
    folder, _, file = name.rpartition("/")
    stem, _, suffix = file.rpartition(".")
    if folder == WORK_FOLDER and suffix == "parquet":
        split, _, number = stem.rpartition("-")
        return (split, number) in planned
    if suffix in ("tar", "idx") and folder in splits and _STEM.fullmatch(stem):
        return (folder, stem) in planned
    return True
