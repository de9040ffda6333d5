"""SPDL decoding on the GPU: H.264 by NVDEC, filmstrips by nvJPEG, in its pipeline of threads.

Set up as in its documentation ("Hardware-accelerated video decoding"): packets demuxed on the CPU and put in Annex B,
and ``decode_packets_nvdec``; ``decode_image_nvjpeg`` for pictures. NVDEC takes no filters, so it is not offered source
videos, whose frames would have to be chosen on a clock.
"""

from collections.abc import Iterator
from typing import Any

import spdl.io
import torch

from benchmarks.peers.served import Served, Task
from benchmarks.peers.spdl import Sample, piped, sounds_of


def batches(task: Task) -> Iterator[Served]:
    """The clips, frames and sound on the GPU."""
    facts = task.prepared.facts
    frames, size = facts["frames"], facts["size"]
    device = spdl.io.cuda_config(device_index=torch.cuda.current_device())

    def decode(sample: Sample) -> tuple[str, torch.Tensor, Any]:
        key, picture, sound = sample
        audio = spdl.io.load_wav(sound) if task.audio else None
        if task.form == "filmstrip":
            strip = spdl.io.to_torch(spdl.io.decode_image_nvjpeg(picture, device_config=device))
            return key, strip.view(3, frames, size, size).transpose(0, 1), audio
        packets = spdl.io.apply_bsf(spdl.io.demux_video(picture), "h264_mp4toannexb")
        decoded = spdl.io.to_torch(spdl.io.decode_packets_nvdec(packets, device_config=device))
        return key, decoded[:frames], audio  # (T, 3, H, W)

    def convert(clips: list[tuple[str, torch.Tensor, Any]]) -> Served:
        keys = [key for key, _, _ in clips]
        sounds = sounds_of([audio for _, _, audio in clips], facts).to("cuda") if task.audio else None
        return Served(torch.stack([picture for _, picture, _ in clips]), sounds, keys, keys)

    yield from piped(task, decode, convert)
