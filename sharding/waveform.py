"""A clip's audio as one file: 16-bit mono, WAV or FLAC.

WAV costs a seventh more bytes a clip and next to no time to decode; FLAC is for storage that is slow or dear.
"""

import io
import wave
from typing import Literal

import av
import numpy as np
from numpy.typing import NDArray

AudioFormat = Literal["wav", "flac"]


def encode_waveform(samples: NDArray[np.int16], *, sample_rate: int, audio_format: AudioFormat) -> bytes:
    """One file of samples (n,) int16."""
    out = io.BytesIO()
    if audio_format == "wav":
        with wave.open(out, "wb") as file:
            file.setnchannels(1)
            file.setsampwidth(2)
            file.setframerate(sample_rate)
            file.writeframes(samples.astype("<i2").tobytes())
        return out.getvalue()
    with av.open(out, "w", format="flac", options={"fflags": "+bitexact"}) as container:
        stream = container.add_stream("flac", rate=sample_rate)
        stream.layout = "mono"
        frame = av.AudioFrame.from_ndarray(samples[None], format="s16", layout="mono")
        frame.sample_rate = sample_rate
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return out.getvalue()


def decode_waveform(data: bytes) -> NDArray[np.float32]:
    """The samples (n,) in -1 … 1 of a mono file. Raises ValueError where it is none."""
    try:
        with av.open(io.BytesIO(data), "r") as container:
            blocks = [frame.to_ndarray() for frame in container.decode(audio=0)]
    except (av.FFmpegError, IndexError) as error:
        raise ValueError(f"not an audio file: {error}") from error
    if not blocks or blocks[0].dtype != np.int16 or blocks[0].shape[0] != 1:
        raise ValueError("not a mono file of 16-bit samples")
    samples: NDArray[np.float32] = np.concatenate(blocks, axis=1)[0].astype(np.float32) / np.float32(32768)
    return samples
