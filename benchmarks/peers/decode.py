"""A clip's bytes to tensors with each decoder that the peers' users would take, on one thread: the peers bring theirs.

Frames are (T, H, W, 3) uint8, sound (samples,) float32 in -1 … 1. What is imported is imported by name inside: each
process loads only the decoder that it is measured with.
"""

import io
import json
import wave
from collections.abc import Callable, Mapping
from typing import Any, Literal

import numpy as np
import torch

from benchmarks.peers.served import Form

Decoder = Literal["pyav", "torchcodec"]
Clip = tuple[torch.Tensor, torch.Tensor | None]
_ON_TIME = 0.00105  # seconds by which a picture may be late for a tick, as in `sharding.media.reader`


def decoder_of(form: Form, decoder: Decoder, facts: Mapping[str, Any], audio: bool) -> Callable[[bytes, bytes], Clip]:
    """What turns a sample's two members into a clip. Filmstrips are decoded by simplejpeg (libjpeg-turbo)."""
    frames, seconds = facts["frames"], facts["frames"] / facts["fps"]

    def of_source(picture: bytes, start: bytes) -> Clip:
        begin, times = times_of(start, facts)
        if decoder == "pyav":
            return pyav_at(picture, times), pyav_sound(picture, begin, facts) if audio else None
        return torchcodec_at(picture, times), torchcodec_sound(picture, begin, seconds, facts) if audio else None

    def of_cut(picture: bytes, sound: bytes) -> Clip:
        decoded = pyav_whole(picture) if decoder == "pyav" else torchcodec_whole(picture)
        return decoded, wav(sound) if audio else None

    def of_filmstrip(picture: bytes, sound: bytes) -> Clip:
        return filmstrip(picture, frames), wav(sound) if audio else None

    return {"source": of_source, "filmstrip": of_filmstrip}.get(form, of_cut)


def times_of(start: bytes, facts: Mapping[str, Any]) -> tuple[float, list[float]]:
    """The second at which a clip starts in its video, and when each of its frames is looked at."""
    begin = float(json.loads(start))
    return begin, [begin + tick / facts["fps"] + _ON_TIME for tick in range(facts["frames"])]


def stack(clips: list[Clip]) -> tuple[torch.Tensor, torch.Tensor | None]:
    """Batch of clips."""
    sounds = [sound for _, sound in clips if sound is not None]
    return torch.stack([picture for picture, _ in clips]), torch.stack(sounds) if sounds else None


def filmstrip(data: bytes, frames: int) -> torch.Tensor:
    """Of a JPEG."""
    import simplejpeg

    picture = simplejpeg.decode_jpeg(data, "RGB")
    return torch.from_numpy(picture).view(frames, -1, picture.shape[1], 3)


def wav(data: bytes) -> torch.Tensor:
    """Of a 16-bit mono WAV."""
    with wave.open(io.BytesIO(data)) as file:
        samples = np.frombuffer(file.readframes(file.getnframes()), "<i2")
    return torch.from_numpy(samples.astype(np.float32) / np.float32(32768))


def torchcodec_at(data: bytes, times: list[float]) -> torch.Tensor:
    """The pictures on screen at times from the first picture on."""
    from torchcodec.decoders import VideoDecoder

    decoder = VideoDecoder(data, dimension_order="NHWC", seek_mode="approximate")
    first = decoder.metadata.begin_stream_seconds or 0.0
    pictures: torch.Tensor = decoder.get_frames_played_at([first + time for time in times]).data
    return pictures


def torchcodec_whole(data: bytes) -> torch.Tensor:
    """All pictures."""
    from torchcodec.decoders import VideoDecoder

    decoder = VideoDecoder(data, dimension_order="NHWC", seek_mode="approximate")
    pictures: torch.Tensor = decoder.get_all_frames().data
    return pictures


def torchcodec_sound(data: bytes, start: float, seconds: float, facts: Mapping[str, Any]) -> torch.Tensor:
    """The sound from ``start`` on."""
    from torchcodec.decoders import AudioDecoder

    decoder = AudioDecoder(data, sample_rate=facts["sample_rate"], num_channels=1)
    return _exactly(decoder.get_samples_played_in_range(start, start + seconds).data[0], facts["samples"])


def pyav_at(data: bytes, times: list[float]) -> torch.Tensor:
    """The pictures on screen at times from the first picture on."""
    import av

    chosen: list[Any] = []
    opened: Any = av.open(io.BytesIO(data))
    with opened as container:
        stream = container.streams.video[0]
        first = (stream.start_time or 0) * float(stream.time_base)
        wanted = [first + time for time in times]
        container.seek(int(wanted[0] / stream.time_base), stream=stream)
        held = None
        for frame in container.decode(stream):
            while held is not None and len(chosen) < len(wanted) and frame.time > wanted[len(chosen)]:
                chosen.append(held)
            held = frame
            if len(chosen) == len(wanted):
                break
        chosen += [held] * (len(wanted) - len(chosen))
    # A picture that is shown at several ticks is converted once.
    arrays = {id(frame): frame for frame in chosen}
    converted = {key: torch.from_numpy(frame.to_ndarray(format="rgb24")) for key, frame in arrays.items()}
    return torch.stack([converted[id(frame)] for frame in chosen])


def pyav_whole(data: bytes) -> torch.Tensor:
    """All pictures."""
    import av

    opened: Any = av.open(io.BytesIO(data))
    with opened as container:
        frames = [torch.from_numpy(frame.to_ndarray(format="rgb24")) for frame in container.decode(video=0)]
    return torch.stack(frames)


def pyav_sound(data: bytes, start: float, facts: Mapping[str, Any]) -> torch.Tensor:
    """The sound from ``start`` on, of mono at the wanted rate."""
    import av

    blocks, begins, have = [], None, 0
    opened: Any = av.open(io.BytesIO(data))
    with opened as container:
        stream = container.streams.audio[0]
        # A codec frame earlier: the first one after a seek is not whole.
        container.seek(int(max(0.0, start - 0.2) / stream.time_base), stream=stream)
        for frame in container.decode(stream):
            if frame.time + frame.samples / frame.sample_rate <= start:
                continue
            begins = frame.time if begins is None else begins
            blocks.append(frame.to_ndarray()[0])
            have += frame.samples
            if have >= facts["samples"] + (start - begins) * facts["sample_rate"]:
                break
    skipped = max(0, round((start - (begins or start)) * facts["sample_rate"]))
    return _exactly(torch.from_numpy(np.concatenate(blocks))[skipped:], facts["samples"])


def _exactly(samples: torch.Tensor, count: int) -> torch.Tensor:
    return torch.nn.functional.pad(samples[:count], (0, max(0, count - len(samples))))


def rgb_of_planes(frames: torch.Tensor) -> torch.Tensor:
    """(B, T, 3·H/2, W) of planes → (B, T, H, W, 3) RGB, as FFmpeg makes it of its yuvj420p."""
    from av import VideoFrame

    batch, count, rows, width = frames.shape
    out = torch.empty((batch, count, rows * 2 // 3, width, 3), dtype=torch.uint8)
    for planes, pixels in zip(frames.flatten(0, 1).numpy(), out.flatten(0, 1).numpy(), strict=True):
        pixels[:] = VideoFrame.from_ndarray(planes, format="yuvj420p").to_ndarray(format="rgb24")
    return out
