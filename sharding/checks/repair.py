"""What can be mended of a dataset without its sources.

Catalogs and indices are made again from the shards: a clip's tar entries hold all that they say. README.md and
croissant.json are written again from dataset.json. A shard that is faulty itself is taken out. Nothing is deleted: what
is taken out or replaced is moved to ``DATASET/.quarantine/<number>/``, and what other tools have put there, see
`sharding.checks.sidecars`, stays where it is. dataset.json changes last; a repair that is killed before is finished by
the next one.
"""

import hashlib
import os
import shutil
from dataclasses import replace
from pathlib import Path

import pyarrow as pa

from loaders.dataset.catalog import catalog_rows, schema
from loaders.dataset.manifest import CATALOG, MANIFEST, REJECTED, Manifest, Shard, Split, write_manifest
from loaders.errors import InputError
from loaders.storage.atomic import atomic_write
from sharding.cards.documents import write_documents
from sharding.checks.examine import ShardReport
from sharding.checks.faults import REMAKE
from sharding.checks.report import Report, gaze_moments, member_moments
from sharding.checks.sidecars import FILE_SYSTEM
from sharding.packing.finish import finish_split, write_rejected
from sharding.packing.tar import index_path
from sharding.packing.workfolder import may_be_builds
from sharding.packing.writer import WORK_FOLDER

QUARANTINE = ".quarantine"


def repair(report: Report) -> list[str]:
    """Mend what a verification found; returns what was done, a line each.

    Duplicates and leaks stay: which of the two clips is right, only who builds can say.

    Raises:
        InputError: dataset.json itself is faulty, a build is at work, or no whole shard is left.
    """
    dataset, manifest = report.dataset, report.manifest
    if manifest is None:
        raise InputError(
            f"{dataset / MANIFEST}: cannot be repaired: restore it from a copy, or build the dataset again"
        )
    if may_be_builds(dataset / WORK_FOLDER):
        raise InputError(f"{dataset / WORK_FOLDER}: a build is at work here: run it to its end, then repair")
    if not any(shard.whole and shard.clips for shard in report.shards):
        raise InputError(f"{dataset}: no shard of it is whole: build the dataset again")
    try:
        return _Repair(report, manifest).run()
    except OSError as error:
        raise InputError(f"{error.filename or dataset}: {error.strerror}: mend that and repair again") from error


class _Repair:
    def __init__(self, report: Report, manifest: Manifest) -> None:
        self._report = report
        self._dataset = report.dataset
        self._manifest = manifest
        self._faulty = {fault.path for fault in report.faults}
        self._remake = {fault.path for fault in report.faults if fault.mend == REMAKE}
        self._quarantine = _next_folder(report.dataset / QUARANTINE)
        self._done: list[str] = []

    def run(self) -> list[str]:
        shutil.copyfile(self._dataset / MANIFEST, self._quarantine / MANIFEST)
        for fault in self._report.faults:
            if fault.kind == "extra":
                self._take_out(fault.path, "not the dataset's")
        splits = {name: self._repair_split(name) for name in self._manifest.splits}
        manifest = replace(self._manifest, splits=splits)
        if REJECTED in self._faulty:
            self._take_out(REJECTED, "faulty; an empty one is in its place")
            manifest = replace(manifest, rejected={}, rejected_sha256=write_rejected(self._dataset, []))
        if MANIFEST in self._faulty or splits.get("train") != self._manifest.splits.get("train"):
            train = [shard for shard in self._report.shards if shard.split == "train" and shard.whole]
            gaze = gaze_moments(train)
            manifest = replace(
                manifest,
                gaze_mean=tuple(gaze.mean.tolist()) if gaze.count else None,
                gaze_std=tuple(gaze.deviation().tolist()) if gaze.count else None,
                moments={name: found.stated() for name, found in member_moments(manifest, train).items()},
            )
        changed = manifest != self._manifest
        if faulty := [name for name in self._manifest.documents if changed or name in self._faulty]:
            for name in faulty:
                self._take_out(name, "written again")
            manifest = replace(manifest, documents=write_documents(self._dataset, manifest))
        write_manifest(self._dataset, manifest)
        if splits != self._manifest.splits:
            for tool in set(self._report.beside) - {FILE_SYSTEM}:
                paths = self._report.beside[tool]
                self._done.append(
                    f"{self._dataset / paths[0]}: is {tool}'s, and tells of the dataset as it was: make it again"
                )
        return [*self._done, f"{self._dataset / MANIFEST}: written; the previous one is in {self._quarantine}"]

    def _repair_split(self, name: str) -> Split:
        entry = self._manifest.splits[name]
        folder = self._dataset / name
        if folder.is_symlink() or not folder.is_dir():
            self._take_out(name, "no folder itself")
            folder.mkdir()
        reports = [shard for shard in self._report.shards if shard.split == name]
        # The rows first: the catalog that some of them come from is about to be moved.
        parts = {}
        if len(kept := [report for report in reports if report.whole]) < len(reports) or self._is_stale(name):
            parts = {report.number: self._rows(report) for report in kept}
        shards: list[Shard] = []
        for report in reports:
            path = f"{name}/{entry.shards[report.number].name}"
            if report.whole:
                shards.append(self._keep(entry.shards[report.number], index_path(path), report))
            else:
                self._take_out(path, f"faulty, {entry.shards[report.number].clips} clips fewer")
                self._take_out(index_path(path), "of that shard")
        if not parts and len(kept) == len(reports):
            return replace(entry, shards=tuple(shards))
        self._take_out(f"{name}/{CATALOG}", "made again")
        rows = [parts[report.number] for report in kept]
        columns = schema(self._manifest.members, self._manifest.labels)
        return finish_split(folder, shards, rows, columns, self._manifest.video_names)

    def _is_stale(self, name: str) -> bool:
        return name not in self._report.catalogs or f"{name}/{CATALOG}" in self._remake

    def _rows(self, report: ShardReport) -> pa.Table:
        if report.rows is not None:
            return report.rows
        shards = self._manifest.splits[report.split].shards
        first = sum(shard.clips for shard in shards[: report.number])
        return catalog_rows(self._dataset / report.split, first, shards[report.number].clips)

    def _keep(self, shard: Shard, index: str, report: ShardReport) -> Shard:
        """A whole shard; its index is written again where it is faulty."""
        if report.index is None:
            return shard
        self._take_out(index, "made again")
        data = report.index.encode()
        with atomic_write(self._dataset / index) as file:
            file.write(data)
        return replace(shard, index_sha256=hashlib.sha256(data).hexdigest())

    def _take_out(self, path: str, why: str) -> None:
        source = self._dataset / path
        if not source.exists() and not source.is_symlink():
            self._done.append(f"{source}: was not there: {why}")
            return
        target = self._quarantine / path
        if os.path.lexists(target):  # a rename would put it in the other's place
            raise InputError(f"{target}: is in the way: move it elsewhere, then repair again")
        target.parent.mkdir(parents=True, exist_ok=True)
        source.rename(target)
        self._done.append(f"{source}: moved to {target}: {why}")


def _next_folder(quarantine: Path) -> Path:
    """A new numbered folder."""
    if quarantine.is_symlink():
        raise InputError(f"{quarantine}: a link: remove it, so that nothing is moved out of the dataset")
    numbers = [int(path.name) for path in quarantine.iterdir() if path.name.isdecimal()] if quarantine.exists() else []
    folder = quarantine / str(max(numbers, default=0) + 1)
    folder.mkdir(parents=True)
    return folder
