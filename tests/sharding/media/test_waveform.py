"""Samples, one file, and the same samples again."""

from typing import get_args

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from sharding.media.waveform import AudioFormat, decode_waveform, encode_waveform

FORMATS = get_args(AudioFormat)


@given(arrays(np.int16, st.integers(1, 9000)), st.sampled_from(FORMATS))
def test_samples_come_back_to_the_bit(
    samples: np.ndarray[tuple[int], np.dtype[np.int16]], audio_format: AudioFormat
) -> None:
    data = encode_waveform(samples, sample_rate=16000, audio_format=audio_format)
    after = decode_waveform(data, samples=len(samples), sample_rate=16000)
    assert np.array_equal(after * 32768, samples)


@pytest.mark.parametrize("audio_format", FORMATS)
def test_the_same_samples_give_the_same_bytes(audio_format: AudioFormat) -> None:
    samples = np.arange(32000, dtype=np.int16)
    once, twice = (encode_waveform(samples.copy(), sample_rate=16000, audio_format=audio_format) for _ in range(2))
    assert once == twice
    assert once[:4] == {"wav": b"RIFF", "flac": b"fLaC"}[audio_format]


@pytest.mark.parametrize("audio_format", FORMATS)
def test_what_is_something_else_is_refused(audio_format: AudioFormat) -> None:
    data = encode_waveform(np.ones(4000, np.int16), sample_rate=8000, audio_format=audio_format)
    for wrong in (b"", b"text", b"\0" * 100):
        with pytest.raises(ValueError, match="neither"):
            decode_waveform(wrong)
    with pytest.raises(ValueError, match="instead of"):
        decode_waveform(data, samples=4001)
    with pytest.raises(ValueError, match="more than"):
        decode_waveform(data, samples=100)
    with pytest.raises(ValueError, match="8000"):
        decode_waveform(data, sample_rate=16000)
