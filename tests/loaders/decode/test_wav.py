"""Sound in rows is what decoders make of its files, whole and in windows, and no other file passes for one."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from loaders.decode.wav import HEADER, WavRows, header, row_bytes, wav_samples, waveforms_into, waveforms_on
from sharding.media.waveform import encode_waveform


def rows_of(samples: NDArray[np.int16], sample_rate: int = 16_000) -> WavRows:
    """As a reader fills them: the files, then whatever was there before."""
    count, length = samples.shape
    rows = WavRows(torch.full((count, row_bytes(length) // 2), 77, dtype=torch.int16), length)
    for row, values in zip(rows.bytes, samples, strict=True):
        file = encode_waveform(values, sample_rate=sample_rate, audio_format="wav")
        row[: len(file)] = np.frombuffer(file, np.uint8)
    return rows


def drawn(seed: int, count: int, length: int) -> NDArray[np.int16]:
    return np.random.default_rng(seed).integers(-32768, 32767, (count, length), np.int16, endpoint=True)


@pytest.mark.parametrize(("samples", "rate"), [(0, 8000), (1, 16_000), (32_000, 16_000), (99_999, 48_000)])
def test_a_builds_files_begin_as_expected(samples: int, rate: int) -> None:
    file = encode_waveform(np.zeros(samples, np.int16), sample_rate=rate, audio_format="wav")
    assert file[:HEADER] == header(samples, rate)
    assert len(file) == HEADER + 2 * samples <= row_bytes(samples)


def test_rows_hold_the_samples_and_odd_ones_are_found() -> None:
    samples = drawn(1, 5, 300)
    rows = rows_of(samples)
    assert np.array_equal(rows.samples, samples)
    assert rows.odd(16_000) == []
    assert rows.odd(8_000) == [0, 1, 2, 3, 4]
    for row in (1, 3):
        rows.bytes[row, 22] = 2  # channels
    assert rows.odd(16_000) == [1, 3]
    with pytest.raises(RuntimeError, match="2 channels"):
        wav_samples(rows.bytes[1], 16_000)


@given(st.integers(1, 40), st.lists(st.integers(0, 45), min_size=1, max_size=6), st.integers(0, 99))
def test_a_window_is_a_slice_and_silence_follows_the_end(length: int, starts: list[int], seed: int) -> None:
    samples = drawn(seed, len(starts), 40)
    start = np.array(starts)
    expected = np.zeros((len(starts), length), np.float32)
    for row, first in enumerate(starts):
        piece = samples[row, first : first + length]
        expected[row, : len(piece)] = piece.astype(np.float32) / np.float32(32768)
    out = np.full_like(expected, 7)
    waveforms_into(samples, start, out)
    assert np.array_equal(out, expected)
    # The arithmetic of a GPU's side, on the CPU.
    assert np.array_equal(waveforms_on(torch.device("cpu"), rows_of(samples), start, length).numpy(), expected)


def test_whole_rows_are_converted_to_the_bit() -> None:
    samples = np.arange(-32768, 32768, dtype=np.int32).astype(np.int16).reshape(4, -1)
    expected = samples.astype(np.float32) / np.float32(32768)
    none, out = np.zeros(4, np.int64), np.empty_like(expected)
    waveforms_into(samples, none, out)
    assert np.array_equal(out, expected)
    assert np.array_equal(waveforms_on(torch.device("cpu"), rows_of(samples), none, 16_384).numpy(), expected)
