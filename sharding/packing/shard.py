"""One shard, from its utterances to its receipt: the unit of a build's work."""

import hashlib
import io
import math
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import av
import numpy as np

from loaders.dataset.manifest import GAZE_STATISTICS
from loaders.storage.atomic import atomic_write
from sharding.members.declared import members_of, with_moments
from sharding.packing.clips import EncodedClip, EncodedUtterance, RejectedError, encode_utterance
from sharding.packing.plan import ShardJob
from sharding.packing.writer import Moments, ShardWriter, read_receipt, receipt_name, write_receipt
from sharding.sources.copies import files_of, is_open_to_us, local_media
from sharding.sources.fingerprint import fingerprint
from sharding.sources.unchanged import change_of, require_unchanged
from sharding.stages import Stage, Stopwatch
from sharding.utterance import Rejection, Utterance, readable


@dataclass(frozen=True, slots=True, kw_only=True)
class ShardResult:
    """What became of a shard's utterances."""

    split: str
    utterances: int
    clips: int
    bytes: int
    reasons: Mapping[str, int]  #: utterances rejected, by reason
    left_out: Mapping[str, int]  #: clips left out of those that are kept, by reason
    seconds: Mapping[Stage, float]  #: where the time went

    @property
    def rejected(self) -> int:
        """Utterances rejected."""
        return sum(self.reasons.values())


def receipt_path(output: Path, split: str, stem: str) -> Path:
    """Where a shard's receipt lies while the dataset is being built."""
    return output / receipt_name(split, stem)


def is_built(job: ShardJob) -> bool:
    """Whether the shard is in its folder, whole, from the same utterances and settings."""
    names = (f"{job.split}/{job.stem}.{suffix}" for suffix in ("tar", "idx"))
    sizes = {name: (job.output / name).stat().st_size for name in names if (job.output / name).is_file()}
    return is_vouched_for(job, receipt_path(job.output, job.split, job.stem), sizes)


def is_vouched_for(job: ShardJob, receipt: Path, sizes: Mapping[str, int]) -> bool:
    """Whether a receipt is of this very job, and the files that it tells of are there.

    Args:
        job: the shard's.
        receipt: a file, or none where there is no receipt.
        sizes: bytes of the files that are there, by name from the dataset's folder, as "train/000000.tar".
    """
    if not receipt.is_file():
        return False
    facts = read_receipt(receipt)
    shard = f"{job.split}/{job.stem}"
    is_whole = sizes.get(f"{shard}.tar", 0) == facts["bytes"] and (f"{shard}.idx" in sizes) == (facts["bytes"] > 0)
    return bool(facts["digest"] == job.digest and is_whole)


def build_shard(job: ShardJob) -> ShardResult:
    """Write a shard, its index and its receipt, and upload them where the job says so.

    A shard without a clip leaves only a receipt.

    Raises:
        SourceError: a source is not what it was when the shard was planned, or its file system fails.
    """
    if job.upload is None:
        return _write_shard(job)
    with job.upload.workplace(job.split, job.stem) as folder:
        result = _write_shard(replace(job, output=folder))
        seconds = job.upload.send(folder, job.split, job.stem)
    return replace(result, seconds={**result.seconds, "upload": seconds})


def _write_shard(job: ShardJob) -> ShardResult:
    folder = job.output / job.split
    folder.mkdir(parents=True, exist_ok=True)
    settings = job.settings
    # Of the shard as it was while its sources were others: should they be so again, it must not vouch for this one.
    receipt_path(job.output, job.split, job.stem).unlink(missing_ok=True)
    began, watch = time.perf_counter(), Stopwatch()
    rejected: list[Rejection] = []
    left_out: Counter[str] = Counter()
    lacking: dict[str, Counter[str]] = {}
    cut_short: list[str] = []
    gaze = Moments(GAZE_STATISTICS)
    measured = {member.name: Moments(math.prod(member.shape)) for member in with_moments(settings)}
    shard = folder / f"{job.stem}.tar"
    with atomic_write(shard) as file:
        writer = ShardWriter(file, members_of(settings), job.labels)
        for planned in job.utterances:
            utterance, encoded = _take(planned, job, watch)
            if isinstance(encoded, Rejection):
                rejected.append(encoded)
                continue
            left_out.update(encoded.left_out)
            if encoded.cut_short is not None:
                cut_short.append(f"{readable(utterance.video_path)}: {encoded.cut_short}")
            for clip in encoded.clips:
                writer.add(utterance, clip)
                for name, reason in _problems(clip).items():
                    lacking.setdefault(name, Counter())[reason] += 1
                if clip.gaze is not None:
                    gaze.add_one(clip.gaze)
                for name in measured.keys() & clip.members.keys():
                    measured[name].add_one(np.load(io.BytesIO(clip.members[name])))
        written = writer.close()
    size = written.bytes
    if len(written.rows) == 0:
        shard.unlink()
        (folder / f"{job.stem}.idx").unlink(missing_ok=True)  # of the shard that it was while its sources were others
        size = 0
    else:
        with atomic_write(folder / f"{job.stem}.idx") as file:
            file.write(written.index.encode())
    facts = {
        "digest": job.digest,
        "clips": len(written.rows),
        "bytes": size,
        "sha256": written.sha256,
        "index_sha256": hashlib.sha256(written.index.encode()).hexdigest(),
        "rejected": [asdict(rejection) for rejection in rejected],
        "left_out": left_out,
        "lacking": lacking,
        "cut_short": {"count": len(cut_short), "first": cut_short[:1]},
        "gaze": gaze.as_data(),
        "moments": {name: moments.as_data() for name, moments in measured.items()},
    }
    write_receipt(receipt_path(job.output, job.split, job.stem), written.rows, facts)
    return ShardResult(
        split=job.split,
        utterances=len(job.utterances),
        clips=len(written.rows),
        bytes=size,
        reasons=Counter(rejection.reason for rejection in rejected),
        left_out=left_out,
        # What is left is writing: the tar, its checksums, waiting for the disk.
        seconds={**watch.seconds, "write": time.perf_counter() - began - sum(watch.seconds.values())},
    )


def _take(planned: Utterance, job: ShardJob, watch: Stopwatch) -> tuple[Utterance, EncodedUtterance | Rejection]:
    """The utterance with its fingerprint, and what becomes of it: the very files that it was planned as."""
    with local_media(planned, watch) as local:
        known = fingerprint(local.utterance)
        if planned.source_xxh3 not in (None, known):
            raise change_of(planned)
        utterance = replace(planned, source_xxh3=known)
        result: EncodedUtterance | Rejection
        try:
            result = encode_utterance(replace(local.utterance, source_xxh3=known), job.settings, watch, job.labels)
        except RejectedError as error:
            result = Rejection.of(utterance, error.reason, local.rewrite_paths(error.detail))
            is_in_doubt = _is_of_reading(error)
        else:
            has_lost_gaze = any(clip.gaze_problem == "gaze_missing" for clip in result.clips)
            has_lost_sound = any(clip.problems.get("audio") == "audio_missing" for clip in result.clips)
            is_in_doubt = (has_lost_gaze and planned.gaze_path is not None) or has_lost_sound
        # What was read in between, or could not be, may have been something else.
        require_unchanged(replace(local.utterance, source_xxh3=known))
        if is_in_doubt and all(is_open_to_us(path) for path in files_of(local.utterance)):
            raise change_of(planned)  # it was away for a moment
    return utterance, result


def _problems(clip: EncodedClip) -> dict[str, str]:
    """Why a clip has not got the members that it has not got, by their names."""
    return {**clip.problems, **({} if clip.gaze_problem is None else {"gaze": clip.gaze_problem})}


def _is_of_reading(error: BaseException | None) -> bool:
    """Whether an utterance is rejected because of a file that is not there or does not open."""
    if isinstance(error, RejectedError) and error.reason in ("missing", "unreadable"):
        return True
    if error is None or isinstance(error, av.FFmpegError):  # FFmpeg's are of what it read
        return False
    return isinstance(error, OSError) or _is_of_reading(error.__cause__)
