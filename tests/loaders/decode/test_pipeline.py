"""What DALI decodes is what Pillow and `wave` decode, whole or in windows, and stays where it is."""

import io
import wave
import weakref
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from loaders.dataset.catalog import Catalog, open_catalog
from loaders.dataset.manifest import ClipFormat
from loaders.dataset.shards import Shards
from loaders.decode.cut import strip_of
from loaders.decode.pipeline import DecodePipeline, Encoded, PipelineSettings, to_torch, window_samples
from sharding.media.filmstrip import encode_filmstrip
from sharding.media.waveform import encode_waveform
from sharding.settings import BuildSettings
from tests.datasets import CONTENTS, make_dataset
from tests.encoded import by_pillow, encoded_of

CPU = PipelineSettings(max_batch=6, threads=2, device=torch.device("cpu"))
Bytes = NDArray[np.uint8]


class Clips:
    """All clips of a split, encoded and as plain decoders see them."""

    def __init__(self, catalog: Catalog) -> None:
        shards = Shards(catalog)
        self.clip = catalog.manifest.clip
        self.filmstrips = [_bytes(shards.read("filmstrip", row)) for row in range(len(catalog))]
        self.audio = [_bytes(shards.read("audio", row)) for row in range(len(catalog))]
        self.frames = [self._frames(data) for data in self.filmstrips]

    def _frames(self, jpeg: Bytes) -> Bytes:
        return by_pillow(jpeg).reshape(self.clip.frames, self.clip.size, self.clip.size, 3)

    def waveform(self, row: int) -> NDArray[np.float32]:
        with wave.open(io.BytesIO(self.audio[row].tobytes())) as file:
            samples = np.frombuffer(file.readframes(file.getnframes()), "<i2")
        return samples.astype(np.float32) / np.float32(32768)

    def encoded(self, rows: list[int], chosen: Sequence[Sequence[int]] | None = None) -> Encoded:
        strips, sounds = [self.filmstrips[row] for row in rows], [self.audio[row] for row in rows]
        return encoded_of(self.clip, strips, sounds, chosen)

    def cut(self, row: int, chosen: Sequence[int]) -> Bytes:
        """Frames as a plain decoder sees them that gets them as a filmstrip."""
        cut = by_pillow(strip_of(self.filmstrips[row], self.clip.frames, self.clip.size, chosen))
        return cut.reshape(len(chosen), self.clip.size, self.clip.size, 3)


def _bytes(data: Bytes | None) -> Bytes:
    assert data is not None
    return data


@pytest.fixture(scope="module")
def clips(dataset: Path) -> Clips:
    return Clips(open_catalog(dataset, "train", ["filmstrip", "audio"]))


def source_of(batches: list[Encoded]) -> Callable[[], Encoded]:
    rest = iter(batches)
    return lambda: next(rest)


def decoded(
    clip: ClipFormat, frames: int, batches: list[Encoded], settings: PipelineSettings = CPU
) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    pipeline = DecodePipeline(clip, frames, settings, source_of(batches))
    try:
        while True:
            try:
                outputs = pipeline.run()
            except StopIteration:
                return
            yield to_torch(*outputs, clip, frames, settings.device, audio=settings.audio)
    finally:
        pipeline.close()


def test_whole_clips_are_to_the_bit_what_other_decoders_make_of_them(clips: Clips) -> None:
    """Both decoders of pictures are libjpeg-turbo here; nvJPEG on a GPU rounds otherwise."""
    rows = list(range(len(clips.frames)))
    batches = [rows[first : first + 6] for first in range(0, len(rows), 6)]
    outputs = list(decoded(clips.clip, 16, [clips.encoded(batch) for batch in batches]))
    assert len(outputs) == len(batches)
    for batch, (video, audio) in zip(batches, outputs, strict=True):
        assert video.shape == (len(batch), 16, 32, 32, 3)
        assert (video.dtype, audio.dtype) == (torch.uint8, torch.float32)
        for index, row in enumerate(batch):
            assert np.array_equal(video[index].numpy(), clips.frames[row])
            assert np.array_equal(audio[index].numpy(), clips.waveform(row))


def windows(frames: int) -> list[range]:
    return [range(first, first + frames) for first in range(16 - frames + 1)]


@pytest.mark.parametrize("frames", [1, 5, 8, 15])
def test_a_window_is_what_is_cut_of_the_clip(clips: Clips, frames: int) -> None:
    every = windows(frames)
    rows = [window[0] % 5 for window in every]
    some = [slice(at, at + 6) for at in range(0, len(rows), 6)]
    outputs = list(decoded(clips.clip, frames, [clips.encoded(rows[s], every[s]) for s in some]))
    video, audio = (torch.cat(part) for part in zip(*outputs, strict=True))
    for index, (row, window) in enumerate(zip(rows, every, strict=True)):
        assert np.array_equal(video[index].numpy(), clips.cut(row, window))
        # What differs from whole clips are the window's own edges.
        rows_of = [part.reshape(-1, 32, 3)[1:-1] for part in (video[index].numpy(), clips.frames[row][window])]
        assert np.array_equal(*rows_of)
        start = window[0] * 2000  # samples under a frame: 16,000 a second, 8 frames a second
        assert np.array_equal(audio[index].numpy(), clips.waveform(row)[start : start + frames * 2000])


@pytest.mark.parametrize("audio", [True, False])
def test_of_clips_that_do_not_come_apart_frames_are_taken_when_all_are_decoded(clips: Clips, audio: bool) -> None:
    chosen = [[0, 3, 4, 15], [1, 2, 3, 4], [9, 10, 12, 14]]
    clip = replace(clips.clip, addressable=False)
    strips, sounds = [clips.filmstrips[row] for row in (4, 0, 7)], [clips.audio[row] for row in (4, 0, 7)]
    batch = encoded_of(clip, strips, sounds, chosen)
    assert all(one is other for one, other in zip(batch.filmstrips, strips, strict=True))
    settings = replace(CPU, audio=audio, samples=32_000)
    [(video, sound)] = decoded(clip, 4, [batch], settings)
    for index, row in enumerate([4, 0, 7]):
        assert np.array_equal(video[index].numpy(), clips.frames[row][chosen[index]])
    assert sound.shape == (3, 32_000 if audio else 0)


@pytest.mark.parametrize("settings", [{"subsampling": "4:4:4", "audio_format": "flac"}, {"size": 224, "quality": 60}])
def test_every_format_that_a_build_can_write_is_decoded(settings: dict[str, object], tmp_path: Path) -> None:
    contents = replace(CONTENTS, speakers={"train": 1}, shards={"train": 1}, videos=1)
    build = replace(BuildSettings(size=48, clip_seconds=1.5, fps=10), **settings)  # type: ignore[arg-type]
    make_dataset(tmp_path / "dataset", contents, build)
    catalog = open_catalog(tmp_path / "dataset", "train", ["filmstrip", "audio"])
    clips = Clips(catalog)
    [(video, audio)] = decoded(clips.clip, 15, [clips.encoded([0, 1])])
    [(part, sound)] = decoded(clips.clip, 7, [clips.encoded([0, 1], [range(8, 15), range(3, 10)])])
    for index, first in enumerate([8, 3]):
        assert np.array_equal(video[index].numpy(), clips.frames[index])
        assert np.array_equal(part[index].numpy(), clips.cut(index, range(first, first + 7)))
        assert np.array_equal(sound[index].numpy(), audio[index].numpy()[first * 1600 : (first + 7) * 1600])


def test_tensors_stay_as_they_are_while_more_is_decoded(clips: Clips) -> None:
    rows = [[(4 * step + index) % len(clips.frames) for index in range(4)] for step in range(40)]
    pipeline = DecodePipeline(clips.clip, 16, CPU, source_of([clips.encoded(batch) for batch in rows]))
    held = [to_torch(*pipeline.run(), clips.clip, 16, CPU.device) for _ in rows]
    pipeline.close()
    del pipeline
    for batch, (video, audio) in zip(rows, held, strict=True):
        for index, row in enumerate(batch):
            assert np.array_equal(video[index].numpy(), clips.frames[row])
            assert np.array_equal(audio[index].numpy(), clips.waveform(row))


def test_what_is_fed_may_be_dropped_at_once(clips: Clips) -> None:
    """The caller keeps no encoded bytes alive: the pipeline has to, for as long as DALI reads them."""

    def fragile(data: Bytes) -> Bytes:
        copy = data.copy()
        view = copy[:]
        weakref.finalize(view, copy.fill, 0)
        return view

    def fresh() -> Iterator[Encoded]:
        for row in range(40):
            yield encoded_of(clips.clip, [fragile(clips.filmstrips[row])] * 4, [fragile(clips.audio[row])] * 4)

    batches = fresh()
    pipeline = DecodePipeline(clips.clip, 16, replace(CPU, in_flight=4, threads=1), lambda: next(batches))
    for row in range(40):
        video, audio = to_torch(*pipeline.run(), clips.clip, 16, CPU.device)
        assert all(np.array_equal(video[index].numpy(), clips.frames[row]) for index in range(4))
        assert np.array_equal(audio[3].numpy(), clips.waveform(row))
    pipeline.close()


def test_batches_may_differ_in_size(clips: Clips) -> None:
    sizes = [6, 1, 3, 6, 2]
    outputs = decoded(clips.clip, 16, [clips.encoded(list(range(size))) for size in sizes])
    assert [len(video) for video, _ in outputs] == sizes


@pytest.mark.parametrize(("threads", "in_flight"), [(1, 1), (2, 4), (4, 2)])
def test_what_is_decoded_does_not_depend_on_how(clips: Clips, threads: int, in_flight: int) -> None:
    batches = [clips.encoded([row, row + 1], [range(2, 6), range(3, 7)]) for row in range(10)]
    here = decoded(clips.clip, 4, batches, replace(CPU, threads=threads, in_flight=in_flight))
    for one, other in zip(here, decoded(clips.clip, 4, batches), strict=True):
        assert torch.equal(one[0], other[0])
        assert torch.equal(one[1], other[1])


def test_audio_that_is_short_is_followed_by_silence_and_what_is_long_is_cut(clips: Clips) -> None:
    jpeg = clips.filmstrips[0]
    lengths = [1, 20_000, 32_000, 40_000]
    files = [
        np.frombuffer(encode_waveform(np.full(n, 1000, np.int16), sample_rate=16_000, audio_format="wav"), np.uint8)
        for n in lengths
    ]
    first = np.array([0, 8, 15, 4])
    for frames, starts in ((16, np.zeros(4, np.int64)), (1, first)):
        chosen = [range(start, start + frames) for start in starts.tolist()]
        [(_, audio)] = decoded(clips.clip, frames, [encoded_of(clips.clip, [jpeg] * 4, files, chosen)])
        assert audio.shape == (4, frames * 2000)
        for row, length, start in zip(audio.numpy(), lengths, starts * 2000, strict=True):
            sounding = np.arange(frames * 2000) + start < length
            assert row.tolist() == np.where(sounding, np.float32(1000 / 32768), 0).tolist()


@pytest.mark.parametrize("broken", ["no picture", "cut", "another size", "no audio"])
def test_what_cannot_be_decoded_raises(clips: Clips, broken: str) -> None:
    picture, audio = clips.filmstrips[0], clips.audio[0]
    if broken == "no picture":
        picture = np.zeros(5000, np.uint8)
    elif broken == "cut":
        picture = picture[:200]
    elif broken == "another size":
        other = encode_filmstrip(np.zeros((16, 16, 16, 3), np.uint8), quality=90, subsampling="4:2:0")
        picture = np.frombuffer(other, np.uint8)
    else:
        audio = np.zeros(5000, np.uint8)
    batch = encoded_of(clips.clip, [clips.filmstrips[0], picture], [audio, audio])
    with pytest.raises(RuntimeError):
        list(decoded(clips.clip, 16, [batch]))


def test_an_empty_batch_has_the_shapes_of_a_full_one(clips: Clips) -> None:
    video, audio = to_torch(None, None, clips.clip, 5, torch.device("cpu"))
    assert (video.shape, video.dtype) == ((0, 5, 32, 32, 3), torch.uint8)
    assert (audio.shape, audio.dtype) == ((0, 10_000), torch.float32)


def test_the_sound_under_a_window_is_as_long_as_the_window(clips: Clips) -> None:
    assert window_samples(clips.clip, 16) == 32_000
    assert window_samples(clips.clip, 1) == 2000
    assert window_samples(replace(clips.clip, fps=7.5), 4) == round(4 / 7.5 * 16_000)
