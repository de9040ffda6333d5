"""A step's bytes are those of its examples; a bad clip gives way to the same other one in every run."""

import errno
import logging
import os
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
import xxhash
from numpy.typing import NDArray

from loaders import ClipLoader
from loaders.dataset.catalog import open_catalog
from loaders.dataset.manifest import CATALOG
from loaders.dataset.shards import LocalShards, Shards
from loaders.decode.cut import strip_of
from loaders.decode.pipeline import Encoded
from loaders.decode.wav import HEADER, WavRows, alike, row_bytes
from loaders.errors import InputError
from loaders.processes.pool import ReadingProcesses
from loaders.reader import Loaded, Reader, TooManyBadClipsError
from loaders.sampling.examples import Examples, Sampler
from loaders.sampling.order import rank_positions, steps_per_epoch
from sharding.media.waveform import encode_waveform
from tests.damage import copy_of, edit_catalog, flip_byte, shard_of

BATCH = 6
EPOCHS = 4  # until every member of a clip has been wanted: half of the clips come with another's audio
MEMBERS = ["filmstrip", "audio", "gaze"]


def reader_of(dataset: Path, max_bad_fraction: float = 1.0, split: str = "train", **changes: Any) -> Reader:
    catalog = open_catalog(dataset, split, MEMBERS)
    negatives = {"other_video": 1.0}
    sampler = Sampler(catalog, **{"seed": 5, "training": True, "frames": 16, "negatives": negatives, **changes})
    positions: Callable[[int], NDArray[np.int64]] = partial(
        rank_positions, clips=len(catalog), global_batch=BATCH, rank=0, world_size=1
    )
    return Reader([catalog], sampler, positions, max_bad_fraction)


def epochs_of(reader: Reader, epochs: int = 1) -> list[Loaded]:
    return [reader.read(epoch, step) for epoch in range(epochs) for step in range(62 // BATCH)]


@pytest.mark.parametrize("by_processes", [False, True])
def test_sound_is_the_same_in_page_locked_memory(
    dataset: Path, monkeypatch: pytest.MonkeyPatch, by_processes: bool
) -> None:
    """A GPU's way, of which the memory alone needs a GPU: threads read into it, what processes read is copied."""
    made: list[WavRows] = []

    def rows(reader: Reader, count: int) -> WavRows:
        half = row_bytes(reader._clip.samples) // 2
        made.append(WavRows(torch.full((count, half), 7, dtype=torch.int16), reader._clip.samples))
        return made[-1]

    monkeypatch.setattr(Reader, "_page_locked_rows", rows)
    expected = epochs_of(reader_of(dataset))
    reader = reader_of(dataset)
    reader._page_locked = True
    if by_processes:
        reader._processes = ReadingProcesses()
        reader._read_and_check = reader._processes.read
    found = epochs_of(reader)
    for one, other in zip(found, expected, strict=True):
        assert one.encoded.rows is made[len(made) - len(found) + one.step]
        assert list(map(bytes, sounds_of(one.encoded))) == list(map(bytes, sounds_of(other.encoded)))
        assert list(map(bytes, _strips(one.encoded))) == list(map(bytes, _strips(other.encoded)))
    if reader._processes is not None:
        assert reader._processes.in_their_place == 0
    reader.close()


def sounds_of(encoded: Encoded) -> list[NDArray[np.uint8]]:
    """The files of sound, whether they come in rows or one by one."""
    if encoded.rows is None:
        return list(encoded.audio)
    assert not encoded.audio
    return list(encoded.rows.bytes[:, : HEADER + 2 * encoded.rows.count])


def _strips(encoded: Encoded) -> list[NDArray[np.uint8]]:
    return [*encoded.filmstrips]


def columns(steps: list[Loaded]) -> list[list[int]]:
    return [
        [number for step in steps for number in getattr(step.examples, name).tolist()]
        for name in ("clip", "audio_clip", "match", "seed")
    ]


def test_the_bytes_are_those_of_the_clips_that_were_drawn(dataset: Path) -> None:
    catalog = open_catalog(dataset, "train", MEMBERS)
    shards = Shards(catalog)
    for loaded in epochs_of(reader_of(dataset)):
        assert len(loaded.examples) == len(loaded.encoded) == len(sounds_of(loaded.encoded)) == BATCH
        for index in range(BATCH):
            clip, audio_clip = int(loaded.examples.clip[index]), int(loaded.examples.audio_clip[index])
            assert np.array_equal(loaded.encoded.filmstrips[index], _read(shards, "filmstrip", clip))
            assert np.array_equal(sounds_of(loaded.encoded)[index], _read(shards, "audio", audio_clip))
            assert loaded.arrays["gaze"].mask[index] == (catalog.members["gaze"].size[clip] > 0)
        assert np.array_equal(loaded.encoded.frames, loaded.examples.frames)


@pytest.mark.parametrize(("split", "training"), [("train", True), ("test", False)])
def test_drawn_with_those_of_other_steps_a_steps_examples_are_those_of_its_positions(
    dataset: Path, split: str, training: bool
) -> None:
    catalog = open_catalog(dataset, split, MEMBERS)
    alone = Sampler(catalog, seed=5, training=training, frames=16, negatives={"other_video": 1.0})
    reader = reader_of(dataset, split=split, training=training)
    steps = steps_per_epoch(len(catalog), BATCH, drop_remainder=training)
    for epoch, step in [*((0, step) for step in range(steps)), (1, 0), (0, steps - 1), (3, 2), (3, 2), (3, 1)]:
        expected = alone.examples(epoch, rank_positions(step, len(catalog), BATCH, 0, 1))
        found = reader.read(epoch, step).examples
        for name in Examples.__slots__:
            assert np.array_equal(getattr(found, name), getattr(expected, name))


def _read(shards: Shards, member: str, clip: int) -> NDArray[np.uint8]:
    data = shards.read(member, clip)
    assert data is not None
    return data


def test_every_byte_read_is_counted(dataset: Path) -> None:
    reader = reader_of(dataset)
    steps = epochs_of(reader)
    read = [data.size for step in steps for data in (*_strips(step.encoded), *sounds_of(step.encoded))]
    gaze = open_catalog(dataset, "train", ["gaze"]).members["gaze"].size
    assert reader.bytes == sum(read) + sum(int(gaze[step.examples.clip].sum()) for step in steps)
    assert reader.seconds > 0
    assert (reader.bad, reader.substitutions) == ({}, 0)


@pytest.fixture
def damaged(dataset: Path, tmp_path: Path) -> tuple[Path, set[int]]:
    """A copy of which three clips are bad, one in each member, and the rows of those."""
    copy = copy_of(dataset, tmp_path / "copy")
    with_gaze = int(np.flatnonzero(open_catalog(dataset, "train", ["gaze"]).members["gaze"].size)[-1])
    rows = {3: "filmstrip", 20: "audio", with_gaze: "gaze"}
    for row, member in rows.items():
        flip_byte(copy, "train", row, member)
    return copy, set(rows)


def test_bad_clips_give_way_and_are_counted(damaged: tuple[Path, set[int]], dataset: Path) -> None:
    copy, bad = damaged
    reader = reader_of(copy)
    whole, mended = columns(epochs_of(reader_of(dataset), EPOCHS)), columns(epochs_of(reader, EPOCHS))
    keys = open_catalog(dataset, "train", []).table(["key"])["key"].to_pylist()
    assert reader.bad == {row: keys[row] for row in bad}
    changed = [place for place, (one, other) in enumerate(zip(*whole[:2], strict=True)) if bad & {one, other}]
    changed = [place for place in changed if mended[0][place] != whole[0][place]]
    assert 3 <= len(changed) <= reader.substitutions
    for place in range(len(whole[0])):
        assert [column[place] for column in mended[2:]] == [column[place] for column in whole[2:]]
        clip, audio_clip, match = (column[place] for column in mended[:3])
        assert (clip == audio_clip) == match
        assert place in changed or (clip, audio_clip) == (whole[0][place], whole[1][place])
    # A clip whose audio alone is bad still shows its frames beside another's audio, and the other way round.
    assert 3 not in mended[0]
    assert 20 not in mended[1]


def test_of_some_frames_what_is_cut_is_of_the_clips_that_were_drawn_and_bad_ones_give_way(
    damaged: tuple[Path, set[int]],
) -> None:
    """Filmstrips are read to one place, each over the one before: what is cut of them stays."""
    copy, bad = damaged
    catalog = open_catalog(copy, "train", MEMBERS)
    shards, clip = Shards(catalog), catalog.manifest.clip
    reader = reader_of(copy, frames=4)
    steps = epochs_of(reader, EPOCHS)
    assert set(reader.bad) == bad
    for loaded in steps:
        for index, row in enumerate(loaded.examples.clip.tolist()):
            whole = _read(shards, "filmstrip", row)
            expected = strip_of(whole, clip.frames, clip.size, loaded.examples.frames[index])
            assert np.array_equal(loaded.encoded.filmstrips[index], expected)
    sizes = catalog.members["filmstrip"].size
    read = sum(int(sizes[step.examples.clip].sum()) for step in steps)
    assert reader.bytes > read  # of whole filmstrips, and the other members


def test_substitutes_are_the_same_in_every_run_and_wherever_it_begins(damaged: tuple[Path, set[int]]) -> None:
    copy, _ = damaged
    whole = epochs_of(reader_of(copy), 2)
    late = reader_of(copy)
    places = [(1, 9), (0, 2), (1, 4)]
    again = [late.read(*place) for place in places]
    before = [whole[epoch * (62 // BATCH) + step] for epoch, step in places]
    assert columns(again) == columns(before)
    for one, other in zip(again, before, strict=True):
        assert [data.tobytes() for data in _strips(one.encoded)] == [data.tobytes() for data in _strips(other.encoded)]
        assert np.array_equal(np.stack(sounds_of(one.encoded)), np.stack(sounds_of(other.encoded)))
        assert np.array_equal(one.arrays["gaze"].values, other.arrays["gaze"].values)


def test_a_bad_clip_is_named_once_however_often_it_is_drawn(
    damaged: tuple[Path, set[int]], caplog: pytest.LogCaptureFixture
) -> None:
    copy, bad = damaged
    reader = reader_of(copy)
    with caplog.at_level(logging.WARNING, "loaders.reader"):
        epochs_of(reader, EPOCHS)
    assert len(caplog.records) == len(bad)
    for row in bad:
        assert sum(reader.bad[row] in record.message for record in caplog.records) == 1
    assert reader.substitutions > len(bad)


def test_more_bad_clips_than_allowed_stop_the_run_and_it_says_why(damaged: tuple[Path, set[int]]) -> None:
    copy, _ = damaged
    epochs_of(reader_of(copy, max_bad_fraction=3.1 / 62), EPOCHS)
    for allowed in (0, 1, 2):
        with pytest.raises(TooManyBadClipsError, match=f"{allowed + 1} of 62 clips") as stopped:
            epochs_of(reader_of(copy, max_bad_fraction=(allowed + 0.9) / 62), EPOCHS)
        assert "max_bad_fraction" in str(stopped.value)


def test_a_substitute_that_is_bad_gives_way_as_well(dataset: Path, tmp_path: Path) -> None:
    copy = copy_of(dataset, tmp_path / "copy")
    bad = set(range(0, 62, 2))
    for row in bad:
        flip_byte(copy, "train", row)
    clips, audio_clips, matches, *_ = columns(epochs_of(reader_of(copy)))
    assert not bad & set(clips)
    assert [clip == audio for clip, audio in zip(clips, audio_clips, strict=True)] == matches
    assert matches == columns(epochs_of(reader_of(dataset)))[2]


def test_when_every_clip_is_bad_the_run_stops(dataset: Path, tmp_path: Path) -> None:
    copy = copy_of(dataset, tmp_path / "copy")
    for row in range(38):
        flip_byte(copy, "test", row)
    with pytest.raises(TooManyBadClipsError, match="in a row"):
        reader_of(copy, split="test").read(0, 0)


def test_a_missing_shard_is_an_error_of_the_user(dataset: Path, tmp_path: Path) -> None:
    copy = copy_of(dataset, tmp_path / "copy")
    path = shard_of(copy, "train", 0)
    path.unlink()
    with pytest.raises(InputError, match=path.name):
        epochs_of(reader_of(copy))


def test_gaze_is_the_stored_array_or_noughts(dataset: Path) -> None:
    catalog = open_catalog(dataset, "train", MEMBERS)
    shards = Shards(catalog)
    seen = {True: 0, False: 0}
    for loaded in epochs_of(reader_of(dataset)):
        for index, clip in enumerate(loaded.examples.clip.tolist()):
            stored = shards.read("gaze", clip)
            valid = stored is not None
            expected = np.zeros(103) if stored is None else np.frombuffer(stored.tobytes()[128:], "<f4")
            assert loaded.arrays["gaze"].values[index].tolist() == expected.tolist()
            assert loaded.arrays["gaze"].mask[index] == valid
            seen[valid] += 1
    assert min(seen.values()) > 0


# -- shards that change under the reader


def test_of_a_shard_that_is_cut_while_it_is_read_the_clips_are_bad_and_the_process_lives(
    dataset: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    copy = copy_of(dataset, tmp_path / "copy")
    reader = reader_of(copy)
    epochs_of(reader)  # every shard is open
    path = shard_of(copy, "train", 0)
    with path.open("r+b") as file:
        file.truncate(4096)
    with caplog.at_level(logging.WARNING, "loaders.reader"):
        steps = [reader.read(1, step) for step in range(62 // BATCH)]
    catalog = open_catalog(dataset, "train", MEMBERS)
    in_it = set(np.flatnonzero(catalog.shard == catalog.shard[0]).tolist())
    assert reader.bad.keys() <= in_it
    assert len(reader.bad) > 5
    messages = [record.message for record in caplog.records if record.name == "loaders.reader"]
    assert all(path.name in message and "bytes early" in message for message in messages)
    assert not set(reader.bad) & {clip for step in steps for clip in step.examples.clip.tolist()}


def test_what_is_restored_meanwhile_is_read_again_and_no_clip_is_bad(dataset: Path, tmp_path: Path) -> None:
    copy = copy_of(dataset, tmp_path / "copy")
    reader, whole = reader_of(copy), reader_of(dataset)
    path = shard_of(copy, "train", 0)
    data = path.read_bytes()
    for step in range(5):
        drawn = reader.draw(0, step)
        path.write_bytes(bytes(len(data)))  # in place, as cp does
        found = reader.load(drawn)
        assert found.filmstrips is not None
        assert found.bad or found.filmstrips.shard.all()
        path.write_bytes(data)
        loaded, expected = reader.finish(found), whole.read(0, step)
        for one, other in zip(_strips(loaded.encoded), _strips(expected.encoded), strict=True):
            assert np.array_equal(one, other)
        assert loaded.encoded.rows is not None
        assert expected.encoded.rows is not None
        assert np.array_equal(loaded.encoded.rows.samples, expected.encoded.rows.samples)
        assert np.array_equal(loaded.arrays["gaze"].values, expected.arrays["gaze"].values)
    assert (reader.bad, reader.substitutions) == ({}, 0)


def test_a_read_that_the_disk_refuses_makes_a_bad_clip_with_the_reason(
    dataset: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    reader = reader_of(dataset)
    catalog = open_catalog(dataset, "train", MEMBERS)
    broken = int(catalog.members["filmstrip"].offset[7])
    shard = LocalShards(catalog).name(int(catalog.shard[7]))
    preadv = os.preadv

    def refusing(descriptor: int, buffers: list[memoryview], offset: int) -> int:
        if offset == broken and str(Path(f"/proc/self/fd/{descriptor}").readlink()) == shard:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        return preadv(descriptor, buffers, offset)

    monkeypatch.setattr(os, "preadv", refusing)
    with caplog.at_level(logging.WARNING, "loaders.reader"):
        epochs_of(reader, 2)
    assert list(reader.bad) == [7]
    assert "Input/output error" in caplog.text


# -- sound


@pytest.mark.parametrize("what", ["two channels", "no RIFF"])
def test_a_file_of_right_checksum_that_is_no_sound_is_a_bad_clip(dataset: Path, tmp_path: Path, what: str) -> None:
    copy = copy_of(dataset, tmp_path / "copy")
    reader = reader_of(copy)
    catalog = reader._catalogs[0]
    extent = catalog.members["audio"]
    with shard_of(copy, "train", 9).open("r+b") as file:
        file.seek(int(extent.offset[9]) + (22 if what == "two channels" else 0))
        file.write(b"\2")
        file.seek(int(extent.offset[9]))
        extent.xxh3[9] = xxhash.xxh3_64_intdigest(file.read(int(extent.size[9])))
    found = epochs_of(reader, EPOCHS)
    assert list(reader.bad) == [9]
    assert 9 not in columns(found)[1]


def test_another_header_before_the_same_samples_is_as_good(dataset: Path, tmp_path: Path) -> None:
    """A chunk more, and as many samples less: of the right length, but not the usual header."""
    copy = copy_of(dataset, tmp_path / "copy")
    reader = reader_of(copy, training=False, negatives=None)
    extent = reader._catalogs[0].members["audio"]
    samples = np.arange(32_000 - 6, dtype=np.int16)
    plain = encode_waveform(samples, sample_rate=16_000, audio_format="wav")
    other = plain[:12] + b"note\4\0\0\0abcd" + plain[12:]
    with shard_of(copy, "train", 2).open("r+b") as file:
        file.seek(int(extent.offset[2]))
        file.write(other)
    extent.xxh3[2] = xxhash.xxh3_64_intdigest(other)
    rows = reader.read(0, 0).encoded.rows
    assert rows is not None
    assert rows.samples[2].tolist() == [*samples.tolist(), *[0] * 6]
    assert reader.bad == {}


def test_sound_of_uneven_length_comes_as_files(dataset: Path) -> None:
    catalog = open_catalog(dataset, "train", MEMBERS)
    assert alike([catalog], "audio")
    catalog.members["audio"].size[5] -= 2
    assert not alike([catalog], "audio")


@pytest.mark.parametrize("decoder", ["dali", "turbo"])
def test_a_picture_that_claims_another_size_is_a_bad_clip_and_is_not_decoded(
    dataset: Path, tmp_path: Path, decoder: str, caplog: pytest.LogCaptureFixture
) -> None:
    """With its right checksum: 30,000 × 30,000 pixels, of which a decoder would make gigabytes."""
    copy = copy_of(dataset, tmp_path / "copy")
    row = pq.read_table(copy / "train" / CATALOG).to_pylist()[5]
    offset, size = row["filmstrip_offset"], row["filmstrip_size"]
    with shard_of(copy, "train", 5).open("r+b") as file:
        file.seek(offset)
        data = bytearray(file.read(size))
        at = data.index(b"\xff\xc0")
        data[at + 5 : at + 9] = (30_000).to_bytes(2, "big") * 2
        file.seek(offset)
        file.write(data)

    def rehashed(table: pa.Table) -> pa.Table:
        values = table["filmstrip_xxh3"].to_pylist()
        values[5] = xxhash.xxh3_64_intdigest(data)
        column = table.schema.get_field_index("filmstrip_xxh3")
        return table.set_column(column, "filmstrip_xxh3", pa.array(values, pa.uint64()))

    edit_catalog(copy, "train", rehashed)
    with ClipLoader(copy, batch_size=8, threads=1, cpu_decoder=decoder, max_bad_fraction=0.1) as loader:
        for batch in loader:
            assert len(batch.video) == len(batch) == 8
        assert loader.stats().bad_clips == 1
    assert f"bad clip {row['key']}" in caplog.text
    assert "a JPEG of 30000×30000 instead of 32×512" in caplog.text
