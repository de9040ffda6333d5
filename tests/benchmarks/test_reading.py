"""The reading benchmark's sides read the same clips; every one of them gets its figures."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from benchmarks.peers.mapped import MappedReader
from benchmarks.reading import FIGURES, KINDS, Settings, Side, measure, plot
from loaders.dataset.catalog import open_catalog
from loaders.decode.wav import waveforms_into
from loaders.errors import InputError
from loaders.reader import Reader, TooManyBadClipsError
from loaders.sampling.examples import Sampler
from tests.damage import copy_of, flip_byte


def settings_of(dataset: Path, **changes: object) -> Settings:
    small = {
        "data": dataset,
        "clips": 70,
        "batch_size": 8,
        "threads": (1, 2),
        "processes": (2,),
        "rounds": 1,
        "seconds": 0.02,
        "held": 2,
    }
    return Settings(**{**small, **changes})  # type: ignore[arg-type]


def test_every_side_is_measured_and_drawn(dataset: Path, tmp_path: Path) -> None:
    record = measure(settings_of(dataset), tmp_path / "copies")
    assert len(record.rounds) == 4 * len(KINDS) + 3
    for rounds in record.rounds.values():
        assert all(round_[figure] > 0 for round_ in rounds for figure in FIGURES)
    assert len(record.ratios) == 2 * 3 * len(KINDS)
    assert record.facts["clips"] >= 70
    plot(record, tmp_path / "plot.png")
    with Image.open(tmp_path / "plot.png") as picture:
        assert min(picture.size) > 200


def test_the_simple_way_reads_what_the_loader_reads(dataset: Path) -> None:
    catalog = open_catalog(dataset, "train", ["filmstrip", "audio"])
    sampler = Sampler(catalog, seed=0, training=True, frames=16, negatives={"other_video": 1.0})

    def positions(step: int) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
        return np.arange(step * 8, step * 8 + 8)

    simple = MappedReader(catalog, sampler, positions, audio=True, waveforms=True)
    bytes_alone = MappedReader(catalog, sampler, positions, audio=True, waveforms=False)
    for step in range(5):
        encoded = Reader([catalog], sampler, positions, 0.0).read(0, step).encoded
        members, waves = simple.read(0, step)
        both, none = bytes_alone.read(0, step)
        assert none is None
        assert encoded.rows is not None
        assert waves is not None
        expected = np.empty_like(waves)
        waveforms_into(encoded.rows.samples, np.zeros(8, np.int64), expected)
        assert np.array_equal(waves, expected)
        for index in range(8):
            assert np.array_equal(members[index], encoded.filmstrips[index])
            assert np.array_equal(both[2 * index], encoded.filmstrips[index])
            assert np.array_equal(both[2 * index + 1][44:].view(np.int16), encoded.rows.samples[index])


def test_a_side_that_fails_says_so(dataset: Path, tmp_path: Path) -> None:
    copy = copy_of(dataset, tmp_path / "copy")
    for row in range(62):
        flip_byte(copy, "train", row)
    catalog = open_catalog(copy, "train", ["filmstrip", "audio"])
    with pytest.raises(TooManyBadClipsError, match="bad"):
        Side(catalog, settings_of(copy), threads=2, audio=True)()


def test_settings_without_sense_are_refused(dataset: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="batch_size"):
        measure(settings_of(dataset, batch_size=500), tmp_path / "one")
    with pytest.raises(InputError, match="threads"):
        measure(settings_of(dataset, threads=(0,)), tmp_path / "two")
