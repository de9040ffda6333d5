"""The limit on a GPU: nvImageCodec decoding the same filmstrips from memory, and nothing else.

It is the library through which DALI reaches nvJPEG, here alone: streams parsed beforehand, pictures decoded over and
over into the same memory. On a CPU it decodes by libjpeg-turbo, which shows that the program works.
"""

from collections.abc import Iterator

import numpy as np
import torch
from nvidia import nvimgcodec
from torch.utils.dlpack import from_dlpack

from benchmarks.peers.served import Served, Task

_KINDS = nvimgcodec.BackendKind
#: What may decode: all that the card has, its JPEG engines, or its other cores with or without the CPU's help.
BACKENDS = {"all": (), "engines": (_KINDS.HW_GPU_ONLY,), "cuda": (_KINDS.GPU_ONLY, _KINDS.HYBRID_CPU_GPU)}


def batches(task: Task, backends: str = "all") -> Iterator[Served]:
    """The clips, a tensor each; every batch is written over the one before.

    Raises:
        ValueError: a strip cannot be decoded so.
    """
    facts = task.prepared.facts
    on_gpu = task.device == "cuda"
    kinds = BACKENDS[backends] if on_gpu else (_KINDS.CPU_ONLY,)
    decoder = nvimgcodec.Decoder(
        device_id=torch.cuda.current_device() if on_gpu else nvimgcodec.NVIMGCODEC_DEVICE_CPU_ONLY,
        max_num_cpu_threads=task.workers,
        backends=[nvimgcodec.Backend(kind) for kind in kinds] or None,
    )
    parameters = nvimgcodec.DecodeParams(color_spec=nvimgcodec.ColorSpec.SRGB)
    keys, shape = list(facts["originals"]), (facts["frames"], facts["size"], facts["size"], 3)
    strips = {number: task.prepared.reference(number)[0] for number in set(facts["originals"].values())}
    streams = {number: nvimgcodec.CodeStream(strip) for number, strip in strips.items()}
    images = None
    for first in range(0, 1 << 62, task.batch_size):
        chosen = [keys[(first + place) % len(keys)] for place in range(task.batch_size)]
        wanted = [streams[facts["originals"][key]] for key in chosen]
        images = decoder.decode(wanted, images=images, params=parameters)
        if any(image is None for image in images):
            raise ValueError(f"nvImageCodec decoded {sum(image is not None for image in images)} of {len(images)}")
        # Without CUDA's runtime nvImageCodec speaks no DLPack.
        tensors = [from_dlpack(image) if on_gpu else torch.from_numpy(np.asarray(image)) for image in images]
        yield Served([tensor.view(shape) for tensor in tensors], None, chosen, ())
