"""Readers that know nothing of us read the shards, and make of them what the loader makes."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import webdataset

from loaders import ClipLoader, InputError
from loaders.dataset.catalog import Catalog, open_catalog
from loaders.dataset.manifest import read_manifest
from loaders.dataset.shards import Shards
from loaders.reference import reference_batches
from sharding.settings import BuildSettings
from tests.batches import tensors
from tests.datasets import CONTENTS, make_dataset

dali = pytest.importorskip("nvidia.dali", reason="DALI is not installed: the extra cuda13")
fn, pipeline_def, types = dali.fn, dali.pipeline_def, dali.types

AUDIO_TOLERANCE = 1e-4


def assert_same(dataset: Path, split: str, **settings: Any) -> int:
    """Compare the loader's epoch with the reference's; returns how many batches it had."""
    epoch = settings.pop("epoch", 0)
    rank = {"rank": 0, "world_size": 1, "negatives": {"other_video": 1.0}, "seed": 7}
    settings = {**rank, **settings}
    with ClipLoader(dataset, split, threads=1, **settings) as loader:
        for _ in range(epoch):
            list(loader)
        found = list(loader)
    manifest = read_manifest(dataset)
    frames, chroma = manifest.clip.frames, manifest.settings["subsampling"]
    expected = list(reference_batches(dataset, split, epoch=epoch, **settings))
    for one, other in zip(found, expected, strict=True):
        for (name, ours), (other_name, theirs) in zip(tensors(one), tensors(other), strict=True):
            assert (name, ours.shape, ours.dtype) == (other_name, theirs.shape, theirs.dtype)
            if name == "audio":
                assert torch.allclose(ours, theirs, rtol=0, atol=AUDIO_TOLERANCE)
            elif name == "video" and ours.shape[1] < frames and chroma == "4:2:0":
                # What is decoded beside a frame shows in its first and its last row.
                assert torch.equal(ours[:, :, 1:-1], theirs[:, :, 1:-1])
            else:
                # On a CPU DALI and Pillow both decode with libjpeg-turbo: frames too are alike to the bit.
                assert torch.equal(ours.nan_to_num(9.0), theirs.nan_to_num(9.0)), name
    return len(found)


@pytest.mark.parametrize(
    ("split", "settings", "batches"),
    [
        ("train", {"batch_size": 8}, 7),
        ("train", {"batch_size": 8, "frames": 5, "epoch": 2}, 7),
        ("train", {"batch_size": 5, "frames": 16, "rank": 1, "world_size": 3}, 4),
        ("train", {"batch_size": 8, "frames": 11, "negatives": {"shifted": 1.0, "same_speaker": 2.0}}, 7),
        ("train", {"batch_size": 8, "training": False, "frames": 3}, 8),
        ("test", {"batch_size": 8, "frames": 1}, 5),
        ("train", {"batch_size": 8, "frames": 4, "stride": 5, "epoch": 1}, 7),
        ("train", {"batch_size": 8, "frames": 7, "sample": "random"}, 7),
        ("test", {"batch_size": 8, "frames": 3, "sample": "even"}, 5),
        ("test", {"batch_size": 1, "rank": 4, "world_size": 5, "negatives": None}, 8),
    ],
)
def test_the_loader_makes_the_same_batches_as_webdataset_and_plain_decoders(
    dataset: Path, split: str, settings: Mapping[str, Any], batches: int
) -> None:
    assert assert_same(dataset, split, **settings) == batches


@pytest.mark.parametrize(
    "build",
    [
        BuildSettings(size=48, subsampling="4:4:4", audio_format="flac"),
        BuildSettings(size=224, quality=70, clip_seconds=1.5, fps=10),
    ],
    ids=["flac and full colour", "full size"],
)
def test_so_it_does_in_every_format(tmp_path: Path, build: BuildSettings) -> None:
    contents = replace(CONTENTS, speakers={"train": 1}, shards={"train": 2}, videos=2)
    make_dataset(tmp_path / "dataset", contents, build)
    for frames in (7, None):
        assert assert_same(tmp_path / "dataset", "train", batch_size=2, frames=frames) > 0


def test_the_reference_refuses_what_the_loader_refuses(dataset: Path) -> None:
    with pytest.raises(InputError, match="validation"):
        next(reference_batches(dataset, "validation"))


@pytest.fixture(scope="module")
def catalog(dataset: Path) -> Catalog:
    return open_catalog(dataset, "train", ["filmstrip", "audio", "gaze", "clip"])


def tars_of(catalog: Catalog) -> list[str]:
    return [str(catalog.folder / shard.name) for shard in catalog.manifest.splits["train"].shards]


def test_webdataset_iterates_over_the_shards_as_they_are(catalog: Catalog) -> None:
    samples = list(webdataset.WebDataset(tars_of(catalog), shardshuffle=False).decode())
    assert [sample["__key__"] for sample in samples] == catalog.table(["key"])["key"].to_pylist()
    shards = Shards(catalog)
    for number, sample in enumerate(samples):
        members = {"filmstrip.jpg", "audio.wav", "clip.msg"}
        gaze = shards.read("gaze", number)
        if gaze is not None:
            members.add("gaze.npy")
            assert (sample["gaze.npy"].shape, sample["gaze.npy"].dtype) == ((103,), np.float32)
            assert sample["gaze.npy"].tobytes() == gaze.tobytes()[-412:]
        assert {name for name in sample if not name.startswith("__")} == members


def test_webdataset_decodes_pictures_and_descriptions(catalog: Catalog) -> None:
    reader: Any = webdataset.WebDataset(tars_of(catalog), shardshuffle=False)
    table = catalog.table(["speaker", "video", "utterance", "start", "emotion"]).to_pylist()
    decoded = list(reader.decode("rgb8"))
    for sample, row in zip(decoded, table, strict=True):
        assert sample["filmstrip.jpg"].shape == (16 * 32, 32, 3)
        assert row.items() <= sample["clip.msg"].items()


@pipeline_def(batch_size=8, num_threads=1, device_id=None)  # type: ignore[untyped-decorator]
def dali_reader(tars: list[str]) -> tuple[Any, ...]:
    """What a user of DALI would write who never heard of us."""
    filmstrip, audio, gaze = fn.readers.webdataset(  # type: ignore[misc]
        paths=tars,
        index_paths=[tar.removesuffix(".tar") + ".idx" for tar in tars],
        ext=["filmstrip.jpg", "audio.wav", "gaze.npy"],
        missing_component_behavior="empty",
        name="reader",
    )
    return filmstrip, fn.decoders.image(filmstrip, output_type=types.RGB), audio, gaze


def test_dalis_own_reader_reads_the_shards_by_our_index(catalog: Catalog) -> None:
    pipeline = dali_reader(tars_of(catalog))
    pipeline.build()
    assert pipeline.epoch_size("reader") == len(catalog)
    shards, row = Shards(catalog), 0
    while row < len(catalog):
        outputs = pipeline.run()
        for index in range(min(8, len(catalog) - row)):
            strip, picture, audio, gaze = (np.array(output.at(index)) for output in outputs)
            assert picture.shape == (512, 32, 3)
            for member, data in (("filmstrip", strip), ("audio", audio), ("gaze", gaze)):
                stored = shards.read(member, row)
                assert data.tobytes() == (b"" if stored is None else stored.tobytes())
            row += 1
