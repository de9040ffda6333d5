"""The same clips in every form that a side reads, made once.

The clips of a built dataset are repeated under other names until there are enough, each copy with bytes of its own on
the disk. The forms other than the source videos are made of the frames that the filmstrips hold, and so show exactly
these frames:

    dataset/            ours: the dataset's shards, repeated
    tars/<form>/        WebDataset shards
    energon/<form>/     the same shards (linked) with Energon's own index
    litdata/<form>/     LitData's chunks
    mosaic/<form>/      Mosaic Streaming's MDS shards
    reference/          filmstrip and WAV of each original clip: what the batches are compared with
    prepared.json       written last

``python -m benchmarks.peers.prepare --data DATASET --work FOLDER`` makes it without measuring anything.
"""

import io
import json
import os
import shutil
import tarfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from hashlib import sha256
from pathlib import Path
from typing import Any

import av
import msgpack
import numpy as np
from numpy.typing import NDArray
from rich.progress import track

from benchmarks.peers.registry import PEERS
from benchmarks.peers.served import SUFFIXES, Form, Prepared
from benchmarks.record import console
from loaders.arguments import cli
from loaders.dataset.catalog import schema
from loaders.dataset.dataset import Dataset
from loaders.dataset.manifest import Manifest, Shard, write_manifest
from loaders.dataset.shards import Shards
from loaders.errors import InputError, reported
from loaders.storage.atomic import atomic_write
from sharding.media.filmstrip import decode_filmstrip
from sharding.packing.clips import EncodedClip
from sharding.packing.finish import finish_split, write_rejected
from sharding.packing.writer import ShardWriter
from sharding.utterance import Utterance

CLIPS_A_SHARD = 250
_H264 = {"crf": "18", "preset": "medium", "x264-params": "log-level=none"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What is prepared, as for `benchmarks/loaders.py`."""

    data: Path
    """A built dataset, with audio as wav."""
    work: Path
    """Where the clips are prepared."""
    split: str = "train"
    """The part of the dataset to take."""
    source: Path | None = None
    """The videos that it was built of."""
    clips: int = 2000
    """Clips at least."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Original:
    """A clip of the given dataset."""

    key: str
    speaker: str
    video: str
    utterance: str
    start: float  #: seconds from the start of the utterance
    members: dict[str, bytes]


@dataclass(frozen=True, slots=True, kw_only=True)
class Copy:
    """One of the clips that are served."""

    key: str
    number: int  #: of the copy
    original: int


def copies_of(originals: int, clips: int) -> list[Copy]:
    """At least ``clips`` copies of so many originals, all of them equally often, originals side by side.

    >>> [copy.key for copy in copies_of(2, 3)]
    ['000000-000000', '000000-000001', '000001-000000', '000001-000001']
    """
    times = -(-clips // originals)
    return [
        Copy(key=f"{number:06d}-{original:06d}", number=number, original=original)
        for number in range(times)
        for original in range(originals)
    ]


def prepare(data: Path, split: str, source: Path | None, clips: int, peers: Sequence[str], work: Path) -> Prepared:
    """Make what is missing of the forms in ``work``.

    Args:
        data: a built dataset.
        split: the part of it to take.
        source: the videos it was built of, ``…/<speaker>/<video>/<utterance>.mp4``; None leaves that form out.
        clips: how many there are to be at least.
        peers: those whose own formats are wanted, of "energon", "litdata", "mosaic".
        work: a folder that is this function's own: made, or made before by the same call.

    Raises:
        InputError: the folder was made of something else, or a video is missing.
    """
    dataset = Dataset.open(data)
    manifest = dataset.manifest
    if manifest.member("audio") is None or manifest.member("audio").extension != "wav":  # type: ignore[union-attr]
        raise InputError(f"{data}: its audio is no wav: build a dataset with --audio-format wav")
    identity: dict[str, object] = {
        "dataset": sha256((data / "dataset.json").read_bytes()).hexdigest()[:16],
        "split": split,
        "source": str(source.resolve()) if source else None,
        "clips": clips,
    }
    prepared = Prepared(work)
    if (work / "prepared.json").is_file():
        if prepared.facts["identity"] != identity:
            raise InputError(f"{work}: prepared of other clips or settings: remove it, or give another --work")
    else:
        if work.exists() and any(work.iterdir()) and not (work / ".preparing").exists():
            raise InputError(f"{work}: not empty, and not a folder of this program: give another --work")
        shutil.rmtree(work, ignore_errors=True)
        work.mkdir(parents=True)
        (work / ".preparing").touch()
        _prepare_forms(dataset, split, source, clips, identity, work)
        prepared = Prepared(work)
    for peer in peers:
        for form in prepared.forms:
            if form in PEERS[peer].forms:
                _peer_form(prepared, peer, form)
    return prepared


def _prepare_forms(
    dataset: Dataset,
    split: str,
    source: Path | None,
    clips: int,
    identity: dict[str, object],
    work: Path,
) -> None:
    manifest = dataset.manifest
    originals = read_originals(dataset, split)
    copies = copies_of(len(originals), clips)
    console.print(f"preparing {len(copies)} clips, copies of {len(originals)}, in {work}")
    (work / "reference").mkdir()
    for number, original in enumerate(originals):
        (work / "reference" / f"{number:06d}.jpg").write_bytes(original.members["filmstrip"])
        (work / "reference" / f"{number:06d}.wav").write_bytes(original.members["audio"])
    repeat_dataset(originals, copies, manifest, work / "dataset")
    sizes: dict[str, float] = {
        "filmstrip": _mean(len(o.members["filmstrip"]) + len(o.members["audio"]) for o in originals)
    }
    encoders: dict[Form, Callable[[Original], dict[str, bytes]]] = {}
    if source is not None:
        encoders["source"] = lambda original: _whole(original, source)
    for form, codec, options in (("h264", "libx264", _H264), ("mjpeg", "mjpeg", {"qmin": "2", "qmax": "2"})):
        encoders[form] = lambda original, codec=codec, options=options: {  # type: ignore[misc, index]
            "mp4": encode_video(_frames(original, manifest), manifest.clip.fps, codec, options),
            "wav": original.members["audio"],
        }
    for form, encode in encoders.items():
        members = [encode(original) for original in track(originals, f"form {form}", console=console)]
        sizes[form] = _mean(sum(map(len, sample.values())) for sample in members)
        _write_tars(members, copies, work / "tars" / form)
    clip = manifest.clip
    facts = {
        "identity": identity,
        "clips": len(copies),
        "frames": clip.frames,
        "size": clip.size,
        "fps": clip.fps,
        "samples": clip.samples,
        "sample_rate": clip.sample_rate,
        "bytes": sizes,
        "originals": {copy.key: copy.original for copy in copies},
    }
    with atomic_write(work / "prepared.json") as file:
        file.write(json.dumps(facts).encode())


def read_originals(dataset: Dataset, split: str) -> list[Original]:
    """The clips of a split with their bytes."""
    catalog = dataset.catalog(split, [member.name for member in dataset.manifest.members])
    shards = Shards(catalog)
    columns = ("key", "speaker", "video", "utterance", "start")
    originals = []
    for row, names in enumerate(catalog.table(columns).to_pylist()):
        found = {name: shards.read(name, row) for name in catalog.members}
        members = {name: array.tobytes() for name, array in found.items() if array is not None}
        originals.append(Original(**names, members=members))
    shards.close()
    return originals


def encode_video(frames: NDArray[np.uint8], fps: float, codec: str, options: dict[str, str]) -> bytes:
    """Frames (T, H, W, 3) uint8 RGB as a video in an mp4, the first of them the only key frame that is asked for."""
    out = io.BytesIO()
    with av.open(out, "w", format="mp4") as container:
        stream: Any = container.add_stream(codec, rate=Fraction(fps).limit_denominator(1000), options=options)
        stream.height, stream.width = frames.shape[1:3]
        stream.pix_fmt = "yuvj420p" if codec == "mjpeg" else "yuv420p"
        stream.codec_context.gop_size = len(frames)
        for picture in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode(None))
    return out.getvalue()


def _frames(original: Original, manifest: Manifest) -> NDArray[np.uint8]:
    return decode_filmstrip(original.members["filmstrip"], manifest.clip.frames)


def _whole(original: Original, source: Path) -> dict[str, bytes]:
    name = Path(original.speaker, original.video, original.utterance).with_suffix(".mp4")
    found = source / name if (source / name).is_file() else next(source.glob(f"**/{name}"), None)
    if found is None:
        raise InputError(f"{source}: {name} is not below it: give --source the videos that --data was built of")
    return {"mp4": found.read_bytes(), "start.json": json.dumps(original.start).encode()}


def _write_tars(members: Sequence[dict[str, bytes]], copies: Sequence[Copy], folder: Path) -> None:
    folder.mkdir(parents=True)
    for number in range(0, len(copies), CLIPS_A_SHARD):
        with tarfile.open(folder / f"{number // CLIPS_A_SHARD:06d}.tar", "w", format=tarfile.GNU_FORMAT) as tar:
            for copy in copies[number : number + CLIPS_A_SHARD]:
                for suffix, data in members[copy.original].items():
                    header = tarfile.TarInfo(f"{copy.key}.{suffix}")
                    header.size = len(data)
                    tar.addfile(header, io.BytesIO(data))


def repeat_dataset(originals: Sequence[Original], copies: Sequence[Copy], manifest: Manifest, output: Path) -> None:
    """A dataset like the given one, of the copies: each of them counts as another speaker's."""
    folder = output / "train"
    folder.mkdir(parents=True)
    shards, parts = [], []
    for number, first in enumerate(range(0, len(copies), CLIPS_A_SHARD)):
        path = folder / f"{number:06d}.tar"
        with atomic_write(path) as file:
            writer = ShardWriter(file, manifest.members, manifest.labels)
            for copy in copies[first : first + CLIPS_A_SHARD]:
                original = originals[copy.original]
                described = msgpack.unpackb(original.members["clip"])
                stated = {label.name: described[label.name] for label in manifest.labels}
                utterance = Utterance(
                    corpus=manifest.corpus,
                    split="train",
                    video_path=Path(),
                    speaker=f"{original.speaker}-{copy.number}",
                    video=f"{original.video}-{copy.number}",
                    utterance=original.utterance,
                    labels={name: value for name, value in stated.items() if value is not None},
                )
                names = {name: getattr(utterance, name) for name in ("speaker", "video", "utterance")}
                described |= names
                writer.add(
                    utterance,
                    EncodedClip(
                        key=copy.key,
                        members={**original.members, "clip": msgpack.packb(described)},
                        start=original.start,
                        padded=0.0,
                        gaze=None,
                        gaze_problem=None,
                    ),
                )
            written = writer.close()
        with atomic_write(path.with_suffix(".idx")) as file:
            file.write(written.index.encode())
        digest = sha256(written.index.encode()).hexdigest()
        shards.append(
            Shard(
                name=path.name,
                clips=len(written.rows),
                bytes=written.bytes,
                sha256=written.sha256,
                index_sha256=digest,
            )
        )
        parts.append(written.rows)
    split = finish_split(folder, shards, parts, schema(manifest.members, manifest.labels), manifest.video_names)
    rejected = write_rejected(output, [])
    write_manifest(output, replace(manifest, splits={"train": split}, rejected={}, rejected_sha256=rejected))


def samples_of(prepared: Prepared, form: Form) -> Iterator[dict[str, object]]:
    """Every clip of a form: ``key``, and its members' bytes: ``picture``, and ``sound`` (or the start)."""
    picture, sound = SUFFIXES[form]
    for path in prepared.tars(form):
        sample: dict[str, object] = {}
        with tarfile.open(path) as tar:
            for entry in tar:
                key, suffix = entry.name.split(".", 1)
                if suffix not in (picture, sound):
                    continue
                data = tar.extractfile(entry).read()  # type: ignore[union-attr]
                sample["picture" if suffix == picture else "sound"] = data
                if len(sample) == 2:
                    yield {"key": key, **sample}
                    sample = {}


def _peer_form(prepared: Prepared, peer: str, form: Form) -> None:
    """A peer's own format; the module of the peer knows how. A half-made one is made again."""
    from importlib import import_module

    folder = prepared.of_peer(peer, form)
    if folder.exists():
        return
    console.print(f"preparing {form} for {peer}")
    temporary = folder.with_name(f".{folder.name}.{os.getpid()}")
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir(parents=True)
    import_module(f"benchmarks.peers.{peer}").write(prepared, form, temporary)
    temporary.rename(folder)


def _mean(values: Iterator[int]) -> float:
    found = list(values)
    return sum(found) / len(found)


if __name__ == "__main__":
    settings = cli(Settings, description=__doc__)
    with reported():
        prepare(settings.data, settings.split, settings.source, settings.clips, [], settings.work)
