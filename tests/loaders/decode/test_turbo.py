"""Clips through `loaders.decode.turbo`: to the bit what `loaders.decode.pipeline` makes of them."""

import gc
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from loaders.decode.pipeline import DecodePipeline, Encoded, PipelineSettings, to_torch
from loaders.decode.turbo import TurboDecoder, clips_a_task
from loaders.decode.wav import decode_wav_into
from sharding.media.filmstrip import decode_filmstrip, encode_filmstrip
from sharding.media.waveform import encode_waveform
from sharding.settings import BuildSettings
from tests.encoded import encoded_of

CLIP = BuildSettings(size=32).clip
CPU = PipelineSettings(max_batch=6, threads=2, device=torch.device("cpu"))


def encoded(seed: int, clips: int) -> Encoded:
    draw = np.random.default_rng(seed)
    strips, sounds = [], []
    for _ in range(clips):
        shade = np.linspace(0, 255, 32)[:, None] * draw.random(3) + draw.integers(0, 40, (16, 32, 32, 3))
        frames = shade.clip(0, 255).astype(np.uint8)
        strips.append(np.frombuffer(encode_filmstrip(frames, quality=90, subsampling="4:2:0"), np.uint8))
        samples = draw.integers(-32768, 32767, draw.integers(1, 40_000), np.int16, endpoint=True)
        sounds.append(np.frombuffer(encode_waveform(samples, sample_rate=16_000, audio_format="wav"), np.uint8))
    return encoded_of(CLIP, strips, sounds)


def decoded(
    decoder: DecodePipeline | TurboDecoder, settings: PipelineSettings
) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    try:
        while True:
            try:
                outputs = decoder.run()
            except StopIteration:
                return
            yield to_torch(*outputs, CLIP, 16, settings.device, audio=settings.audio)
    finally:
        decoder.close()


@pytest.mark.parametrize("audio", [True, False])
@pytest.mark.parametrize(("threads", "in_flight"), [(1, 1), (2, 4), (5, 2)])
def test_both_decoders_yield_the_same_bytes(threads: int, in_flight: int, audio: bool) -> None:
    batches = [encoded(number, clips) for number, clips in enumerate([6, 1, 3, 6, 2, 5])]
    settings = replace(CPU, threads=threads, in_flight=in_flight, audio=audio)
    here = decoded(TurboDecoder(CLIP, 16, settings, iter(batches).__next__), settings)
    dali = decoded(DecodePipeline(CLIP, 16, settings, iter(batches).__next__), settings)
    for batch, one, other in zip(batches, here, dali, strict=True):
        assert one[0].shape == (len(batch), 16, 32, 32, 3)
        assert one[1].shape == (len(batch), 32_000 if audio else 0)
        assert torch.equal(one[0], other[0])
        assert torch.equal(one[1], other[1])


def test_memory_is_used_again_when_nothing_refers_to_it_and_not_before() -> None:
    batches = [encoded(number, 3) for number in range(12)]
    pictures = [[decode_filmstrip(strip.tobytes(), 16) for strip in batch.filmstrips] for batch in batches]
    decoder = TurboDecoder(CLIP, 16, replace(CPU, in_flight=1), iter(batches).__next__)
    held: dict[int, torch.Tensor] = {}
    places = set()
    for step in range(12):
        video, _ = to_torch(*decoder.run(), CLIP, 16, CPU.device)
        places.add(video.data_ptr())
        if step % 3 == 0:
            held[step] = video[1:, 4:7]  # a part of a batch holds it all
        del video
        gc.collect()
    decoder.close()
    del decoder
    for step, part in held.items():
        assert all(np.array_equal(part[row].numpy(), pictures[step][row + 1][4:7]) for row in range(2))
    assert len(places) < 12


@given(st.lists(st.integers(-32768, 32767), min_size=1, max_size=300), st.integers(1, 300), st.binary(max_size=9))
def test_a_wav_file_becomes_its_samples_whatever_chunks_stand_before_them(
    values: list[int], length: int, note: bytes
) -> None:
    samples = np.array(values, np.int16)
    file = encode_waveform(samples, sample_rate=16_000, audio_format="wav")
    chunk = b"note" + len(note).to_bytes(4, "little") + note + bytes(len(note) % 2)
    out = np.full(length, 7, np.float32)
    decode_wav_into(np.frombuffer(file[:12] + chunk + file[12:], np.uint8), out, 16_000)
    expected = np.zeros(length, np.float32)
    expected[: len(samples)] = samples[:length].astype(np.float32) / 32768
    assert out.tolist() == expected.tolist()


def _damaged(what: str) -> Encoded:
    batch = encoded(0, 2)
    picture: NDArray[np.uint8] = batch.filmstrips[1]
    audio: NDArray[np.uint8] = batch.audio[1]
    if what == "no picture":
        picture = np.zeros(5000, np.uint8)
    elif what == "cut":
        picture = picture[: len(picture) // 2]
    elif what in ("smaller", "larger"):
        size = 16 if what == "smaller" else 48
        frames = np.zeros((16, size, size, 3), np.uint8)
        picture = np.frombuffer(encode_filmstrip(frames, quality=90, subsampling="4:2:0"), np.uint8)
    elif what == "no audio":
        audio = np.zeros(5000, np.uint8)
    elif what == "cut audio":
        audio = audio[:30]
    else:
        samples = np.zeros(32_000, np.int16)
        audio = np.frombuffer(encode_waveform(samples, sample_rate=8_000, audio_format="wav"), np.uint8)
    return replace(batch, filmstrips=[batch.filmstrips[0], picture], audio=[batch.audio[0], audio])


@pytest.mark.parametrize("what", ["no picture", "cut", "smaller", "larger", "no audio", "cut audio", "another rate"])
def test_what_cannot_be_decoded_raises(what: str) -> None:
    with pytest.raises(RuntimeError):
        list(decoded(TurboDecoder(CLIP, 16, CPU, iter([_damaged(what)]).__next__), CPU))


@given(clips=st.integers(1, 300), frames=st.integers(1, 64), threads=st.integers(1, 64))
def test_a_task_is_no_longer_than_four_whole_clips_and_leaves_every_thread_some(
    clips: int, frames: int, threads: int
) -> None:
    at_once = clips_a_task(clips, frames, threads)
    assert at_once >= 4
    if at_once > 4:
        assert at_once * frames <= 64
        assert clips // at_once >= 2 * threads


@pytest.mark.parametrize("clips", [21, 32, 33])
def test_many_short_examples_a_task_come_out_in_their_places(clips: int) -> None:
    assert clips_a_task(clips, 1, 1) > 4
    whole = encoded(7, 4)
    chosen = [[number % 16] for number in range(clips)]
    batch = encoded_of(CLIP, [whole.filmstrips[number % 4] for number in range(clips)], (), chosen)
    settings = replace(CPU, max_batch=clips, threads=1, audio=False)
    decoder = TurboDecoder(CLIP, 1, settings, iter([batch]).__next__)
    try:
        frames, _ = decoder.run()
    finally:
        decoder.close()
    for file, out in zip(batch.filmstrips, frames, strict=True):
        assert np.array_equal(decode_filmstrip(file.tobytes(), 1)[0], out)
