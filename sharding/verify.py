"""Is this dataset whole? ``python sharding/verify.py DATASET``.

Everything that dataset.json promises is held against the files: every byte is covered by a SHA-256, the shards' tar
structure, catalogs, indices and checksums must agree, members must decode to what is declared, and the splits must
share nothing that they must not. What other tools have put beside it is noted, and left alone. Exit status 0: whole;
1: a fault was found; 2: wrong usage; 75: try again later, a store fails. DATASET may be a URL: its shards are fetched
one a worker.
"""

import dataclasses
import json
import os
import tarfile
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import combinations
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import tyro
from numpy.typing import NDArray
from rich.cells import cell_len
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from loaders.arguments import cli
from loaders.dataset.catalog import schema
from loaders.dataset.manifest import (
    APART,
    AUDIO,
    CATALOG,
    FILMSTRIP,
    MANIFEST,
    REJECTED,
    Manifest,
    naming_columns,
)
from loaders.dataset.tables import read_metadata, read_schema, read_table
from loaders.errors import InputError, first_line, printable, reported
from loaders.progress import progress
from loaders.sampling import randomness
from loaders.sampling.order import permute
from loaders.storage.atomic import sha256_of
from loaders.storage.urls import url_of
from sharding.checks.examine import DESCRIPTION, ShardCheck, ShardReport, examine, is_plain_file
from sharding.checks.faults import DROP, REMAKE, REWRITE, Fault, FaultList
from sharding.checks.repair import QUARANTINE, repair
from sharding.checks.report import Report, gaze_moments, member_moments
from sharding.checks.shortcut import find_shortcuts, report_shortcuts
from sharding.checks.sidecars import owner_of
from sharding.engines.local import WorkerDiedError, default_workers, run
from sharding.engines.stopping import stopped_in_order
from sharding.packing.description import Description, copied_description, read_description
from sharding.packing.names import distinct
from sharding.packing.tar import index_path
from sharding.packing.workfolder import may_be_builds
from sharding.packing.writer import WORK_FOLDER
from sharding.sources.store import Store

_REBUILD = "build the dataset again"
_BETWEEN = "\0"
_NAMED = 4  # files of another tool's
_FILE = 24  # columns of the file of a fault that are not folded: a shard of a split of an ordinary name
_SAMPLE = 64  # clips
_SMALL = 64e6  # bytes: below, starting processes takes longer than reading


def verify(
    dataset: Path,
    *,
    decode: bool = False,
    sample: int = _SAMPLE,
    workers: int = 1,
    progress: Callable[[ShardReport], None] = lambda report: None,
    begun: Callable[[Manifest], None] = lambda manifest: None,
) -> Report:
    """Check a dataset; nothing is written.

    Args:
        dataset: its folder, or its URL as a path.
        decode: decode every clip.
        sample: otherwise, how many to decode: the same ones for the same number of clips, spread over all shards.
        workers: processes.
        progress: called for each shard that is done.
        begun: called with what dataset.json says, where that can be read, before any shard is.

    Raises:
        InputError: there is no such folder, one of it may not be read, a worker process died, a store fails, or the
            dataset in it was exchanged for another meanwhile.
    """
    check = partial(_verify, decode=decode, sample=sample, workers=workers, progress=progress, begun=begun)
    url = url_of(dataset)
    if url is not None:
        store = Store(url=url)
        with copied_description(store) as copy:
            report = check(copy, store=store)
            if store.get(MANIFEST) != (copy.folder / MANIFEST).read_bytes():
                raise InputError(f"{url}: was changed while it was verified: verify it again", try_again=True)
            faults = tuple(_for_a_store(fault) for fault in report.faults)
            return dataclasses.replace(report, dataset=dataset, faults=faults)
    _require_folder(dataset)
    return check(read_description(dataset))


def _require_folder(dataset: Path) -> None:
    if url_of(dataset) is None and not dataset.is_dir():
        raise InputError(f"{dataset}: no such folder: give the --output of sharding/build.py")


def _for_a_store(fault: Fault) -> Fault:
    """A fault with a mend that can be done to a remote dataset."""
    if "--repair" not in fault.mend:
        return fault
    return dataclasses.replace(fault, mend=f"in a copy of the dataset in a folder: {fault.mend}")


def _verify(
    description: Description,
    *,
    decode: bool,
    sample: int,
    workers: int,
    progress: Callable[[ShardReport], None],
    begun: Callable[[Manifest], None],
    store: Store | None = None,
) -> Report:
    began = time.perf_counter()
    faults = FaultList(limit=1000)
    dataset, manifest = description.folder, _manifest(description, faults)
    shards: list[ShardReport] = []
    catalogs: frozenset[str] = frozenset()
    beside: dict[str, tuple[str, ...]] = {}
    if manifest is not None:
        begun(manifest)
        found = _files(dataset, manifest, faults) if store is None else _objects(store, faults)
        beside = _check_folder(dict(found), manifest, faults)
        _check_rejected(dataset, manifest, faults)
        for name, sha256 in manifest.documents.items():
            _has_digest(dataset, name, sha256, f"--repair moves it to {QUARANTINE}, and writes it again", faults)
        catalogs = frozenset(split for split in manifest.splits if _check_catalog(dataset, manifest, split, faults))
        checks = [
            dataclasses.replace(check, store=store)
            for check in _plan(dataset, manifest, catalogs, None if decode else sample)
        ]
        small = sum(check.shard.bytes for check in checks) < _SMALL
        try:
            for report in run(examine, checks, workers=1 if small else workers):
                shards.append(report)
                progress(report)
        except WorkerDiedError as error:
            raise InputError(f"{dataset}: {error} try again with --workers 1", try_again=True) from error
        shards.sort(key=lambda report: (report.split, report.number))
        for report in shards:
            faults.extend(report.faults)
        _check_moments(manifest, shards, faults)
        _check_apart(dataset, manifest, catalogs, faults)
    return Report(
        dataset=dataset,
        manifest=manifest,
        faults=tuple(faults.faults),
        more=faults.more,
        clips=sum(report.clips for report in shards),
        decoded=sum(report.decoded for report in shards),
        bytes=sum(report.bytes for report in shards),
        seconds=time.perf_counter() - began,
        catalogs=catalogs,
        shards=tuple(shards),
        beside=beside,
    )


def _manifest(description: Description, faults: FaultList) -> Manifest | None:
    path = description.folder / MANIFEST
    try:
        manifest = description.manifest
        if path.is_symlink():
            raise InputError(path, "a link", "put the file itself there")
    except InputError as error:
        faults.add("manifest", MANIFEST, error.problem, error.mend)
        return None
    problems = []
    if manifest.apart not in APART:
        problems.append(f"its splits are apart by {manifest.apart!r}, not by {', '.join(APART)}")
    if manifest.member(DESCRIPTION) is None:
        problems.append(f"the members lack {DESCRIPTION!r}")
    problems += [
        f"{name}/{shard.name} cannot hold {shard.clips} clips in {shard.bytes} bytes"
        for name, split in manifest.splits.items()
        for shard in split.shards
        # A clip takes a header and a block at least: a count beyond that must not be reckoned with.
        if not 0 <= 2 * tarfile.BLOCKSIZE * shard.clips <= shard.bytes
    ]
    for problem in problems:
        faults.add("manifest", MANIFEST, problem, _REBUILD)
    return None if problems else manifest


# -- the folder


def _check_folder(found: Mapping[str, bool], manifest: Manifest, faults: FaultList) -> dict[str, tuple[str, ...]]:
    """What dataset.json names is ``found`` as plain files, and nothing else is but what other tools put there.

    Returns:
        That, by tool.
    """
    expected = {MANIFEST: "", REJECTED: "--repair puts an empty one there"} | dict.fromkeys(manifest.documents, REWRITE)
    for name, split in manifest.splits.items():
        expected[f"{name}/{CATALOG}"] = REMAKE
        for shard in split.shards:
            path = f"{name}/{shard.name}"
            if path in expected:
                faults.add("manifest", MANIFEST, f"lists {path} twice", _REBUILD)
            expected[path] = DROP
            expected[index_path(path)] = REMAKE
    for path, mend in expected.items():
        if path not in found:
            faults.add("missing", path, "is not there", mend)
        elif not found[path]:
            faults.add("missing", path, "is no plain file but a link or a folder", "put the file itself there")
    beside: dict[str, list[str]] = {}
    for path in sorted(set(found) - set(expected)):
        tool = owner_of(path)
        if tool is not None:
            beside.setdefault(tool, []).append(path)
            continue
        faults.add("extra", path, f"is not in {MANIFEST}", f"--repair moves it to {QUARANTINE}")
    return {tool: tuple(paths) for tool, paths in beside.items()}


def _files(dataset: Path, manifest: Manifest, faults: FaultList) -> Iterator[tuple[str, bool]]:
    """Path within the dataset of everything there, and whether it is a plain file; splits' folders are looked into."""
    for entry in _listed(dataset):
        if entry.name == WORK_FOLDER and may_be_builds(Path(entry.path)):
            faults.add("extra", entry.name, "a build is at work here or was broken off", "run that build to its end")
        elif entry.name in manifest.splits and entry.is_dir(follow_symlinks=False):
            for file in _listed(Path(entry.path)):
                yield f"{entry.name}/{file.name}", file.is_file(follow_symlinks=False)
        elif entry.name != QUARANTINE:
            yield entry.name, entry.is_file(follow_symlinks=False)


def _objects(store: Store, faults: FaultList) -> Iterator[tuple[str, bool]]:
    """What `_files` tells of a folder, of a store."""
    found = store.sizes()
    if any(name.startswith(f"{WORK_FOLDER}/") for name in found):
        faults.add("extra", WORK_FOLDER, "a build is at work here or was broken off", "run that build to its end")
    yield from ((name, True) for name in found if not name.startswith(f"{WORK_FOLDER}/"))


def _listed(folder: Path) -> list[os.DirEntry[str]]:
    try:
        (folder / "..").stat()  # a folder that can be listed and not entered would look as if its files were gone
        return list(os.scandir(folder))
    except OSError as error:
        raise InputError(f"{folder}: {error.strerror}: give this user the right to read it, then verify") from error


def _has_digest(dataset: Path, path: str, sha256: str, mend: str, faults: FaultList) -> bool:
    """Whether a file is there, itself, with this SHA-256; where it is there without, that is a fault."""
    if not is_plain_file(dataset, path):
        return False
    try:
        if sha256_of(dataset / path) == sha256:
            return True
        faults.add("damaged", path, f"its SHA-256 is not the one in {MANIFEST}", mend)
    except OSError as error:
        faults.add("damaged", path, f"cannot be read ({error.strerror})", mend)
    return False


def _check_rejected(dataset: Path, manifest: Manifest, faults: FaultList) -> None:
    mend = f"--repair moves it to {QUARANTINE} and puts an empty one there"
    if not _has_digest(dataset, REJECTED, manifest.rejected_sha256, mend, faults):
        return
    try:
        reasons = Counter(read_table(dataset / REJECTED, ["reason"])["reason"].cast(pa.string()).to_pylist())
    except (OSError, KeyError, ValueError, pa.ArrowException) as error:
        faults.add("rejected", REJECTED, f"cannot be read ({first_line(error)})", mend)
        return
    if reasons != Counter(manifest.rejected):
        faults.add("rejected", REJECTED, f"counts {dict(reasons)} where {MANIFEST} says {manifest.rejected}", mend)


# -- catalogs


def _check_catalog(dataset: Path, manifest: Manifest, split: str, faults: FaultList) -> bool:
    """Whether a split's catalog is whole and of the right form, so that the shards can be held against its rows."""
    path, entry = f"{split}/{CATALOG}", manifest.splits[split]
    if not _has_digest(dataset, path, entry.catalog_sha256, REMAKE, faults):
        return False
    try:
        metadata = read_metadata(dataset / path)
        if not read_schema(dataset / path).equals(schema(manifest.members, manifest.labels)):
            faults.add("catalog", path, f"its columns are not those of {MANIFEST}'s members and labels", REMAKE)
            return False
        if metadata.num_rows != entry.clips or entry.clips != sum(shard.clips for shard in entry.shards):
            what = f"{metadata.num_rows} rows where {MANIFEST} counts {entry.clips} clips"
            faults.add("catalog", path, f"{what}, {sum(shard.clips for shard in entry.shards)} in its shards", REMAKE)
            return False
        names = read_table(dataset / path, ["speaker", "video"])
        for column, stated in (("speaker", entry.speakers), ("video", entry.videos)):
            count = len(distinct(names, naming_columns(column, manifest.video_names)))
            if count != stated:
                faults.add("catalog", path, f"{count} {column}s where {MANIFEST} counts {stated}", REMAKE)
        values = read_table(dataset / path, ["key", "start", "padded", *(label.name for label in manifest.labels)])
    except (OSError, pa.ArrowException) as error:
        faults.add("catalog", path, f"cannot be read ({first_line(error)})", REMAKE)
        return False
    outside = {
        "a key that is no plain name": pc.invert(pc.match_substring_regex(values["key"], r"^[^./\\]+$")),
        "a start that is no time": pc.invert(
            pc.and_(pc.is_finite(values["start"]), pc.greater_equal(values["start"], 0))
        ),
        "more padding than a clip is long": pc.invert(
            pc.and_(pc.greater_equal(values["padded"], 0), pc.less(values["padded"], manifest.clip.seconds))
        ),
    }
    for label in manifest.labels:
        column = values[label.name]
        if label.classes is None:
            # The catalog's numbers are of single width, and so are the ends that they are held against.
            low, high = (float(np.float32(end)) for end in (label.low, label.high))
            within = pc.and_(pc.greater_equal(column, low), pc.less_equal(column, high))  # of NaN neither
        else:
            within = pc.is_in(column.cast(pa.string()), pa.array(label.classes))
        outside[f"a {label.name} that {MANIFEST} does not declare"] = pc.and_(
            pc.is_valid(column), pc.invert(pc.fill_null(within, False))
        )
    for what, rows in outside.items():
        bad = values["key"].filter(pc.fill_null(rows, True))
        if len(bad):
            faults.add("catalog", path, f"{len(bad)} clips have {what}", _REBUILD, where=str(bad[0]))
    return True


def _plan(dataset: Path, manifest: Manifest, catalogs: frozenset[str], sample: int | None) -> Iterator[ShardCheck]:
    total = sum(shard.clips for split in manifest.splits.values() for shard in split.shards)
    chosen = np.zeros(0, np.int64)
    if sample is not None and total > 0:
        chosen = np.sort(permute(np.arange(min(sample, total)), total, randomness.key("verify")))
    before = 0  # clips in the shards before
    for name, split in manifest.splits.items():
        start = before
        for number, shard in enumerate(split.shards):
            low, high = np.searchsorted(chosen, (before, before + shard.clips))
            yield ShardCheck(
                dataset=dataset,
                corpus=manifest.corpus,
                clip=manifest.clip,
                members=manifest.members,
                labels=manifest.labels,
                moments=tuple(manifest.moments),
                split=name,
                shard=shard,
                number=number,
                first_row=before - start,
                catalog=name in catalogs,
                decode=None if sample is None else frozenset((chosen[low:high] - before).tolist()),
            )
            before += shard.clips


def _check_moments(manifest: Manifest, shards: list[ShardReport], faults: FaultList) -> None:
    """dataset.json's means and deviations are those of the training split's gaze, and of other members."""
    train = [report for report in shards if report.split == "train"]
    if not all(report.whole for report in train):
        return  # the clips that cannot be read may be what makes the difference
    moments = gaze_moments(train)
    none: list[float] = []
    found = (moments.mean.tolist(), moments.deviation().tolist()) if moments.count else (none, none)
    stated = (manifest.gaze_mean or none, manifest.gaze_std or none)
    for name, a, b in zip(("gaze_mean", "gaze_std"), stated, found, strict=True):
        if len(a) != len(b) or not np.allclose(a, b, rtol=1e-6, atol=1e-9):
            what = "is not that of the training split's clips"
            faults.add("manifest", MANIFEST, what, "--repair corrects it", where=name)
    for member, found_of in member_moments(manifest, train).items():
        said, is_so = manifest.moments[member], found_of.stated()
        alike = np.allclose((said.mean, said.std), (is_so.mean, is_so.std), rtol=1e-6, atol=1e-9)
        if said.count != is_so.count or not alike:
            what = "is not that of the training split's clips"
            faults.add("manifest", MANIFEST, what, "--repair corrects it", where=f"moments of {member}")


# -- across splits


def _check_apart(dataset: Path, manifest: Manifest, catalogs: frozenset[str], faults: FaultList) -> None:
    """No key twice in the dataset, and nothing in two splits that the build promised to keep in one."""
    columns = ["key", "speaker", "video"]
    checksums = [f"{name}_xxh3" for name in (FILMSTRIP, AUDIO) if manifest.member(name) is not None]
    try:
        tables = {
            split: read_table(dataset / split / CATALOG, columns + checksums)
            for split in manifest.splits
            if split in catalogs
        }
    except (OSError, pa.ArrowException):
        return  # `_check_catalog` has said so
    keys = {split: table["key"] for split, table in tables.items()}
    _tell(_repeated(keys.values()), keys, "key", faults)
    for kind in APART[manifest.apart]:
        named_by = naming_columns(kind, manifest.video_names)
        names = {split: _joined(table, named_by) for split, table in tables.items()}
        _tell(_repeated([pc.unique(of_split) for of_split in names.values()]), names, kind, faults)
    if APART[manifest.apart]:
        _check_same_bytes(tables, checksums, faults)


def _joined(table: pa.Table, columns: Sequence[str]) -> pa.ChunkedArray:
    """Each row's names in these columns as one text, with a character between them that no file's name holds."""
    return pc.binary_join_element_wise(*(table[column].cast(pa.string()) for column in columns), _BETWEEN)


def _repeated(columns: Iterable[pa.Array | pa.ChunkedArray]) -> list[str | None]:
    """The values that occur twice in all of these."""
    arrays = [chunk for column in columns for chunk in getattr(column, "chunks", [column])]
    counts = pc.value_counts(pa.chunked_array(arrays, pa.string()))
    values: list[str | None] = counts.field("values").filter(pc.greater(counts.field("counts"), 1)).to_pylist()
    return values


def _tell(values: list[str | None], columns: Mapping[str, pa.ChunkedArray], kind: str, faults: FaultList) -> None:
    listed = FaultList(limit=20)
    present = {split: set(column.to_pylist()) for split, column in columns.items()} if values else {}
    for value in values:
        where = [split for split in present if value in present[split]]
        path = f"{where[0]}/{CATALOG}"
        name = "" if value is None else value.replace(_BETWEEN, "/")  # a catalog that lies may hold no name
        if kind == "key":
            listed.add("duplicate", path, f"the key occurs twice, in {' and '.join(where)}", _REBUILD, where=name)
        else:
            what = f"the {kind} is also in {' and '.join(where[1:])}"
            listed.add("leak", path, what, f"{_REBUILD}, split by {kind}", where=name)
    faults.extend(listed)


def _check_same_bytes(tables: Mapping[str, pa.Table], checksums: list[str], faults: FaultList) -> None:
    """No clip lies in two splits under two names: the same frames with the same sound."""
    listed = FaultList(limit=20)
    digests = {split: _digests(table, checksums) for split, table in tables.items()}
    for one, other in combinations(tables, 2):
        _, rows, others = np.intersect1d(digests[one], digests[other], return_indices=True)
        for row, counterpart in zip(rows.tolist(), others.tolist(), strict=True):
            what = f"the same clip, to the byte, as {tables[other]['key'][counterpart]} in {other}"
            mend = f"{_REBUILD}, with one of the two left out"
            listed.add("leak", f"{one}/{CATALOG}", what, mend, where=str(tables[one]["key"][row]))
    faults.extend(listed)


def _digests(table: pa.Table, checksums: list[str]) -> NDArray[np.uint64]:
    digests = np.zeros(len(table), np.uint64)
    for name in checksums:
        values = pc.fill_null(table[name], 0).to_numpy().astype(np.uint64)
        digests = digests * np.uint64(0x9E3779B97F4A7C15) + values
    return digests


# -- the command line


@dataclass(frozen=True, slots=True, kw_only=True)
class Arguments:
    """Is this dataset whole? Every byte is read and checked; exit status 1 where a fault is found."""

    dataset: tyro.conf.Positional[Path]
    """The dataset's folder, or its URL."""
    decode: bool = False
    """Decode every clip, not only a sample."""
    sample: int | None = None
    """Clips to decode otherwise; 64 where nothing is said."""
    workers: int = field(default_factory=default_workers)
    """Processes that read shards."""
    repair: bool = False
    """Make catalogs and indices again from the shards, and take faulty shards out of the dataset: whatever is taken
    out is moved to DATASET/.quarantine and listed."""
    shortcut: bool = False
    """Instead: can a match be guessed from loudness, length, bytes or padding alone?"""
    as_json: Annotated[bool, tyro.conf.arg(name="json")] = False
    """Print the report as JSON."""


def main() -> None:
    """The command line."""
    arguments = cli(Arguments)
    with reported(), stopped_in_order("run it again"):
        if arguments.workers < 1:
            raise InputError(f"--workers is {arguments.workers}: use 1 or more")
        if arguments.sample is not None:
            if arguments.decode or arguments.shortcut:
                option = "--decode" if arguments.decode else "--shortcut"
                raise InputError(f"--sample has no effect with {option}: leave one of them away")
            if arguments.sample < 0:
                raise InputError(f"--sample is {arguments.sample}: use 0 or more")
        url = url_of(arguments.dataset)
        if url is not None and (arguments.shortcut or arguments.repair):
            raise InputError(f"{url}: --shortcut and --repair take a folder: copy the dataset to one")
        if arguments.shortcut:
            if arguments.repair or arguments.decode:
                raise InputError("--shortcut goes without --repair and --decode: verify first")
            found = find_shortcuts(arguments.dataset, workers=arguments.workers)
            report_shortcuts(found, arguments.dataset, as_json=arguments.as_json)
        elif not _verify_and_tell(arguments):
            raise SystemExit(1)


def _verify_and_tell(arguments: Arguments) -> bool:
    """Verify, repair where that is asked for, print; whether nothing was found."""
    _require_folder(arguments.dataset)  # which is told by its one line alone
    screen = Console(stderr=True)
    with progress("verifying", None, "MB", per=1e6, console=screen, shown=not arguments.as_json, transient=True) as bar:
        report = verify(
            arguments.dataset,
            decode=arguments.decode,
            sample=_SAMPLE if arguments.sample is None else arguments.sample,
            workers=arguments.workers,
            progress=lambda shard: bar.advance(shard.bytes),
            begun=lambda manifest: bar.expect(_bytes(manifest)),
        )
    done = repair(report) if arguments.repair and not report.is_whole else []
    if arguments.as_json:
        print(json.dumps(_summary(report, done), indent=1))
    else:
        _print(report, done, Console())
    return report.is_whole


def _bytes(manifest: Manifest) -> int:
    return sum(shard.bytes for split in manifest.splits.values() for shard in split.shards)


def _summary(report: Report, done: list[str]) -> dict[str, Any]:
    return {
        "dataset": url_of(report.dataset) or str(report.dataset),
        "whole": report.is_whole,
        "clips": report.clips,
        "decoded": report.decoded,
        "shards": len(report.shards),
        "bytes": report.bytes,
        "seconds": round(report.seconds, 3),
        "faults": [dataclasses.asdict(fault) for fault in report.faults],
        "more_faults": report.more,
        "beside": report.beside,
        "repaired": done,
    }


def faults_table(report: Report) -> Table:
    """A row a fault. 80 columns hold it, and ordinary files' names in one line each."""
    name = escape(url_of(report.dataset) or str(report.dataset))
    table = Table(title=f"{name}: {len(report.faults) + report.more} faults", title_style="bold red", show_lines=True)
    longest = max((cell_len(fault.path) for fault in report.faults), default=0)
    table.add_column("file", overflow="fold", min_width=min(longest, _FILE))
    for column in ("where", "what is wrong", "mend"):
        table.add_column(column, overflow="fold")
    for fault in report.faults:
        table.add_row(*(escape(text) for text in (fault.path, fault.where, fault.what, fault.mend)))
    return table


def _print(report: Report, done: list[str], console: Console) -> None:
    size = f"{report.bytes / 1e6:.1f} MB at {report.bytes / 1e6 / max(report.seconds, 1e-9):.0f} MB/s"
    what = f"{report.clips} clips in {len(report.shards)} shards, {size}, {report.decoded} clips decoded"
    name = escape(url_of(report.dataset) or str(report.dataset))
    if report.is_whole:
        console.print(f"[green]{name}: whole[/]: {what}", soft_wrap=True)
        _print_beside(report, console)
        return
    console.print(faults_table(report))
    if report.more:
        console.print(f"and {report.more} more of the same files")
    console.print(f"{name}: {what}", soft_wrap=True)
    _print_beside(report, console)
    for line in done:
        console.print(escape(line), soft_wrap=True)


def _print_beside(report: Report, console: Console) -> None:
    for tool, paths in report.beside.items():
        more = f" and {len(paths) - _NAMED} more" if len(paths) > _NAMED else ""
        names = printable(", ".join(paths[:_NAMED]))
        console.print(escape(f"beside it, of {tool}: {names}{more}"), soft_wrap=True)


if __name__ == "__main__":
    main()
