"""A build whose dataset lies in an object store: shards pass through a local folder, one a worker at a time.

    scratch/<lock>/<split>-<stem>/   where one shard is built, on the machine of its worker; gone when it is uploaded
    scratch/<lock>/dataset/          receipts, then catalogs and dataset.json, on the machine of the build
    scratch/<lock>/existing/         the description of the dataset that is extended

Objects go up in the order in which files are made locally: a shard, its index, its receipt under ``.build/``; catalogs
when every shard has its receipt; dataset.json last. So a build that is killed goes on from the receipts, on any machine
that has the same sources at the same paths.

An extension puts its shards beside those that are there, under the numbers that follow. The tables would have to change
together with dataset.json, and a store changes one object at a time. So the new tables go up under names made of their
contents (`loaders.dataset.manifest.staged`), where every reader looks for a table that is not the one which
dataset.json declares; then dataset.json is exchanged, in one put, and with it the dataset; then the tables take the
places of the old ones, and the staged ones go. Putting the tables first would be simpler and wrong: one who reads
the dataset between a killed extension's tables and its dataset.json would find no catalog that he may use, however
often he asks. README.md and croissant.json go the way of the tables.

What is guaranteed, where a put is atomic and seen at once, as S3's is:
- Until dataset.json is exchanged, no object of the dataset has changed or gone, whenever the extension is killed.
- Whoever opens the dataset at any moment, also after an extension that was killed, reads tables of one dataset.json;
  one who read it before the exchange and comes for its tables later is sent back to dataset.json, once.
- Who has opened the dataset as it was goes on reading it: its shards are never written again.
- The extension, run again to its end, leaves the objects that one in a folder would leave there as files.
Programs that take a table by its name, without dataset.json, meet the old one for a moment after the exchange.
"""

import json
import re
import shutil
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path

from loaders.dataset.manifest import MANIFEST, Manifest, from_json, read_manifest, staged
from loaders.errors import InputError
from sharding.packing.buildlock import LOCK, acquire, release, require_held
from sharding.packing.description import copied_description, copy_description, named_as
from sharding.packing.existing import ExistingDataset, read_existing
from sharding.packing.plan import ShardJob
from sharding.packing.shard import is_vouched_for
from sharding.packing.upload import Upload
from sharding.packing.writer import LENGTHS, WORK_FOLDER, receipt_name
from sharding.sources.read_errors import SourceError
from sharding.sources.store import Store

_Place = tuple[str, str]  # of a shard: its split, and its file's name less the suffix

_RECEIPTS_AT_ONCE = 16
_CLAIMED = f"{WORK_FOLDER}/extension.json"  # the shards that an extension makes: what else lies there is not ours
_NEXT = f"{WORK_FOLDER}/{MANIFEST}"  # the extended dataset's, for one that was killed while it was exchanged
_RECEIPT = re.compile(rf"{re.escape(WORK_FOLDER)}/(.+)-\d{{6,}}\.parquet")
_STAGED = re.compile(re.escape(staged("SHA256")).replace("SHA256", "[0-9a-f]{64}"))
_STEM = re.compile(r"\d{6,}")  # of a shard


def default_scratch() -> Path:
    """Below the system's folder for temporary files (TMPDIR)."""
    return Path(tempfile.gettempdir(), "filmstrip")


@dataclass(frozen=True, slots=True, kw_only=True)
class RemoteOptions:
    """Where ``--output`` is a URL."""

    scratch: Path = field(default_factory=default_scratch)
    """Local folder that holds a shard a worker until it is uploaded and read back."""
    break_lock: str | None = None
    """Name of a build that holds the URL, as the refusal tells it, and is known to be dead."""


@dataclass(frozen=True, slots=True)
class RemoteOutput:
    """A dataset's URL; see `sharding.packing.output.Output`."""

    url: str
    options: RemoteOptions = field(default_factory=RemoteOptions)

    @property
    def name(self) -> str:
        """The URL."""
        return self.url

    @contextmanager
    def finished(self) -> Iterator[ExistingDataset | None]:
        """The finished dataset that is there, if any; one that an extension is at is for whoever holds the URL."""
        store = replace(Store(url=self.url), attempts=3)  # a wrong address should not take a minute to be told
        found = store.sizes()
        if MANIFEST not in found or _is_being_extended(found):
            yield None
            return
        with copied_description(store) as copy:
            yield read_existing(copy.folder, found, copy.manifest)

    def clear_up(self) -> bool:
        """Remove the receipts beside a finished dataset, whose build was killed when all but that was done."""
        store = replace(Store(url=self.url), attempts=3)
        if not any(_is_work(name) or name == LOCK for name in store.sizes()):
            return False
        own, dead = acquire(store, self.options.break_lock)
        if dead is not None:
            shutil.rmtree(self.options.scratch / dead.token, ignore_errors=True)
        try:
            store.remove(name for name in store.sizes() if _is_work(name))
        finally:
            release(store, own.token)
        return True

    @contextmanager
    def held(self, *, extend: bool) -> Iterator["HeldUrl"]:
        """Hold the URL; what is put into the scratch folder goes again.

        Raises:
            InputError: something else than a dataset is there, another build is at work, the store cannot be reached,
                or the scratch folder cannot be written.
        """
        store, scratch = Store(url=self.url), self.options.scratch
        _require_free(replace(store, attempts=3).sizes(), self.url)
        own, dead = acquire(store, self.options.break_lock)
        try:
            if dead is not None:
                shutil.rmtree(scratch / dead.token, ignore_errors=True)
            _require_free(store.sizes(), self.url)  # the one who had the lock before may have finished
            upload = Upload(store=store, scratch=scratch / own.token, token=own.token)
            held = HeldUrl(upload=upload, folder=scratch / own.token / "dataset", disk=scratch)
            try:
                (held.folder / WORK_FOLDER).mkdir(parents=True)
            except OSError as error:
                raise InputError(f"--scratch {scratch}: {error.strerror}: give a folder that can be written") from error
            yield held
        except BaseException:
            with suppress(InputError):  # a store that is gone has been told of already, and by what it failed at
                release(replace(store, attempts=2), own.token)
            raise
        else:
            release(store, own.token)
        finally:
            shutil.rmtree(scratch / own.token, ignore_errors=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class HeldUrl:
    """The store of a build that holds its lock, and the local folder that stands in for it."""

    upload: Upload
    folder: Path  #: for receipts, catalogs and dataset.json
    disk: Path  #: the scratch folder

    def existing(self) -> ExistingDataset | None:
        """The dataset that is there already, if any; what is left to do of the extension that made it is done.

        Raises:
            InputError: it is not as its dataset.json says.
        """
        store = self.upload.store
        if MANIFEST not in store.sizes() and store.get(_NEXT) is None:
            return None
        folder = self.folder.with_name("existing")
        folder.mkdir(exist_ok=True)
        with named_as(store.url, folder):
            self._restore_manifest(folder)
            description = copy_description(store, folder)
            for name in description.staged:
                require_held(store, self.upload.token)
                store.put(folder / name, name, in_place=True)
            existing = read_existing(folder, store.sizes(), description.manifest)
        for split in existing.manifest.splits:
            (self.folder / split).mkdir(exist_ok=True)
        return existing

    def _restore_manifest(self, folder: Path) -> None:
        """Put dataset.json again where its exchange was broken off in a store that had not kept it whole."""
        store = self.upload.store
        is_there = store.fetch(MANIFEST, folder / MANIFEST)
        try:
            read_manifest(folder)
        except InputError:
            if not store.fetch(_NEXT, folder / MANIFEST):
                raise
            read_manifest(folder)
            require_held(store, self.upload.token)
            store.put(folder / MANIFEST, MANIFEST, in_place=is_there)

    def untouched_unless_begun(self) -> AbstractContextManager[None]:
        """Holding it has left nothing there but the lock."""
        return nullcontext()

    def missing(self, jobs: Sequence[ShardJob], existing: ExistingDataset | None) -> list[ShardJob]:
        """The jobs that are still to be done, with where to upload to; receipts of the others are fetched.

        What the plan does not hold (any more) is removed; of what lies beside the dataset ``existing``, which is
        extended, only what an extension of it has made.

        Raises:
            InputError: something else lies where a new shard would.
        """
        store, found = self.upload.store, self.upload.store.sizes()
        planned = {(job.split, job.stem) for job in jobs}
        ours = None if existing is None else self._claim(planned, found, existing)
        # An earlier plan's splits are known by its receipts; what lies elsewhere is not a build's.
        splits = {split for split, _ in planned} | {name[1] for name in map(_RECEIPT.fullmatch, found) if name}
        store.remove(name for name in found if not _is_planned(name, planned, splits, ours))
        with ThreadPoolExecutor(_RECEIPTS_AT_ONCE) as pool:
            is_built = list(pool.map(lambda job: self._is_built(job, found), jobs))
        return [replace(job, upload=self.upload) for job, built in zip(jobs, is_built, strict=True) if not built]

    def _claim(self, planned: set[_Place], found: Mapping[str, int], existing: ExistingDataset) -> set[_Place]:
        """The shards beside the existing dataset's that are an extension's to write and to remove: known to be so."""
        store = self.upload.store
        before = _read_claim(store.get(_CLAIMED))
        theirs = _places(existing.manifest)
        for name in found:
            place = None if name.startswith(f"{WORK_FOLDER}/") else _place_of(name)
            if place in planned and place not in before:
                raise InputError(
                    f"{store.url}/{name}: is not of the dataset, and lies where a new shard of it would: move it away"
                )
        claimed = (before | planned) - theirs
        if claimed != before:
            (self.folder / _CLAIMED).write_text(json.dumps(sorted(claimed)))
            store.put(self.folder / _CLAIMED, _CLAIMED, in_place=_CLAIMED in found)
        return claimed

    @contextmanager
    def keeping_lengths(self) -> Iterator[None]:
        """Have the lengths of sources here as the store has them, and there as they are in the end.

        What is refused leaves the store as it was; what stops for a while, or for a source, is gone on with.
        """
        name = f"{WORK_FOLDER}/{LENGTHS}"
        self.upload.store.fetch(name, self.folder / name)
        before = self._size(name)
        try:
            yield
        except BaseException as error:
            is_refusal = isinstance(error, InputError) and not (error.try_again or isinstance(error, SourceError))
            if not is_refusal:
                with suppress(InputError):  # what stops the build is told, not that its lengths were lost with it
                    self._keep(name, before)
            raise
        self._keep(name, before)

    def _keep(self, name: str, before: int) -> None:
        if self._size(name) != before:
            self.upload.store.put(self.folder / name, name, in_place=before > 0)

    def _size(self, name: str) -> int:
        file = self.folder / name
        return file.stat().st_size if file.exists() else 0

    def remove_half_written(self, jobs: Sequence[ShardJob]) -> None:
        """Workers build in folders that go whole, see `sharding.packing.upload`."""

    def assemble(self, jobs: Sequence[ShardJob], built: Sequence[ShardJob], existing: ExistingDataset | None) -> Path:
        """The folder, with the receipts of all jobs, as if the shards had been built here."""
        store = self.upload.store

        def fetch(job: ShardJob) -> None:
            name = receipt_name(job.split, job.stem)
            (self.folder / job.split).mkdir(parents=True, exist_ok=True)
            if not (self.folder / name).exists() and not store.fetch(name, self.folder / name):
                raise InputError(f"{store.url}/{name}: is gone: let one build alone work there, and run it again")

        with ThreadPoolExecutor(_RECEIPTS_AT_ONCE) as pool:
            list(pool.map(fetch, jobs))
        return self.folder

    def publish(self, manifest: Manifest, existing: ExistingDataset | None) -> None:
        """Upload what makes a dataset of the shards, dataset.json last, and remove the receipts.

        Args:
            manifest: of the dataset.
            existing: the one that it extends.

        Raises:
            InputError: a shard is not there as it was uploaded, another build has taken over, or the dataset that is
                extended became another meanwhile.
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
        if existing is None:
            for name in (*manifest.beside, MANIFEST):
                store.put(self.folder / name, name)
        else:
            self._exchange(manifest, existing, found)
        self.clear_up()

    def _exchange(self, manifest: Manifest, existing: ExistingDataset, found: Mapping[str, int]) -> None:
        """Put the extended dataset in the existing one's place, as the head of this file tells."""
        store, before = self.upload.store, existing.manifest.beside
        changed = {name: sha256 for name, sha256 in manifest.beside.items() if before.get(name) != sha256}
        for name, sha256 in changed.items():
            store.put(self.folder / name, staged(sha256))
        store.put(self.folder / MANIFEST, _NEXT)
        require_held(store, self.upload.token)
        if store.get(MANIFEST) != (existing.folder / MANIFEST).read_bytes():
            raise InputError(f"{store.url}: was changed while it was extended: run the extension again", try_again=True)
        store.put(self.folder / MANIFEST, MANIFEST, in_place=True)
        for name in changed:
            store.put(self.folder / name, name, in_place=name in found)

    def clear_up(self) -> None:
        """Remove the receipts, and shards of an extension that came to nothing; the lock stays until it is let go."""
        store = self.upload.store
        found = store.sizes()
        store.remove(self._unused(found))
        store.remove(name for name in found if _is_work(name))

    def _unused(self, found: Mapping[str, int]) -> list[str]:
        """The shards that an extension has claimed and that the dataset does not hold."""
        store = self.upload.store
        claimed = _read_claim(store.get(_CLAIMED)) if _CLAIMED in found else set()
        text = store.get(MANIFEST) if claimed else None
        if text is None:
            return []
        held = _places(from_json(text.decode(), f"{store.url}/{MANIFEST}"))
        return [name for name in found if not name.startswith(f"{WORK_FOLDER}/") and _place_of(name) in claimed - held]

    def undo(self) -> None:
        """Where nothing came of it there are but receipts."""
        self.clear_up()

    def _is_built(self, job: ShardJob, found: Mapping[str, int]) -> bool:
        name = receipt_name(job.split, job.stem)
        if name not in found or not self.upload.store.fetch(name, self.folder / name):
            return False
        if is_vouched_for(job, self.folder / name, found):
            return True
        (self.folder / name).unlink()
        return False


def _is_being_extended(found: Iterable[str]) -> bool:
    """Whether an extension has left work beside a dataset: tables in it may be the dataset's, see above."""
    return any(name in (_CLAIMED, _NEXT) or _STAGED.fullmatch(name) for name in found)


def _require_free(found: dict[str, int], url: str) -> None:
    work = [name for name in found if name.startswith(f"{WORK_FOLDER}/")]
    if found and MANIFEST not in found and not work:
        raise InputError(f"{url}: holds other files: give an --output that is empty or not there")
    if foreign := [name for name in work if name != LOCK and not _is_work(name)]:
        raise InputError(f"{url}/{foreign[0]}: no build of this program made it: give another --output")


def _is_receipt(name: str) -> bool:
    return _RECEIPT.fullmatch(name) is not None


def _is_work(name: str) -> bool:
    """Whether an object is one that builds and extensions put into the work folder, beside the lock."""
    single = (_CLAIMED, _NEXT, f"{WORK_FOLDER}/{LENGTHS}")
    return _is_receipt(name) or name in single or _STAGED.fullmatch(name) is not None


def _is_planned(name: str, planned: set[_Place], splits: set[str], ours: set[_Place] | None) -> bool:
    """Whether an object may stay: false for a shard, index or receipt of a shard that the plan does not hold.

    Args:
        name: of the object.
        planned: the shards of the plan.
        splits: where builds have put shards.
        ours: with a dataset that is extended, the shards beside it that may be removed; None: without one.
    """
    place = _place_of(name)
    if place is None or place in planned:
        return True
    if name.startswith(f"{WORK_FOLDER}/"):
        return False
    if ours is None:
        return place[0] not in splits or _STEM.fullmatch(place[1]) is None
    return place not in ours


def _place_of(name: str) -> _Place | None:
    """Of which shard an object is the tar, the index or the receipt; None where it is something else."""
    folder, _, file = name.rpartition("/")
    stem, _, suffix = file.rpartition(".")
    if folder == WORK_FOLDER and suffix == "parquet":
        split, _, number = stem.rpartition("-")
        return split, number
    return (folder, stem) if suffix in ("tar", "idx") and "/" not in folder else None


def _places(manifest: Manifest) -> set[_Place]:
    """Of a dataset's shards."""
    return {
        (split, shard.name.removesuffix(".tar")) for split, entry in manifest.splits.items() for shard in entry.shards
    }


def _read_claim(data: bytes | None) -> set[_Place]:
    """What an earlier extension has claimed; nothing where that is not to be understood."""
    try:
        return {(str(split), str(stem)) for split, stem in json.loads(data or b"[]")}
    except (ValueError, TypeError):
        return set()
