"""The limit on a GPU: nvImageCodec decoding the same filmstrips from memory, and nothing else.

It is the library through which DALI reaches nvJPEG, here alone: streams parsed beforehand, pictures decoded over and
over into the same memory, and as many batches at a time as our loader has in decoding. Chroma is interpolated, as ours
has it, or repeated. On a CPU it decodes by libjpeg-turbo, which shows that the program works.
"""

from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, overload

import numpy as np
import torch
from nvidia import nvimgcodec
from torch.utils.dlpack import from_dlpack

from benchmarks.peers.served import Served, Task

IN_FLIGHT = 2  # batches
_KINDS = nvimgcodec.BackendKind
#: What may decode: all that the card has, its JPEG engines, or its other cores with or without the CPU's help.
BACKENDS = {"all": (), "engines": (_KINDS.HW_GPU_ONLY,), "cuda": (_KINDS.GPU_ONLY, _KINDS.HYBRID_CPU_GPU)}


class _Slot:
    """A decoder and the memory that it decodes into, one batch at a time."""

    def __init__(self, task: Task, kinds: tuple[Any, ...], options: str) -> None:
        on_gpu = task.device == "cuda"
        self._decoder = nvimgcodec.Decoder(
            device_id=torch.cuda.current_device() if on_gpu else nvimgcodec.NVIMGCODEC_DEVICE_CPU_ONLY,
            max_num_cpu_threads=max(1, task.workers // IN_FLIGHT),
            backends=[nvimgcodec.Backend(kind) for kind in kinds] or None,
            options=options,
        )
        self._parameters = nvimgcodec.DecodeParams(color_spec=nvimgcodec.ColorSpec.SRGB)
        # Of its own: on one stream each batch would wait for the one before.
        self._stream = torch.cuda.Stream().cuda_stream if on_gpu else 0  # type: ignore[no-untyped-call]
        self._images: list[Any] | None = None

    def decode(self, streams: list[Any]) -> list[Any]:
        """Pictures, in the place of those before; waits for the host's part, without the interpreter's lock."""
        self._images = self._decoder.decode(
            streams, images=self._images, params=self._parameters, cuda_stream=self._stream
        )
        if any(image is None for image in self._images):
            decoded = sum(image is not None for image in self._images)
            raise ValueError(f"nvImageCodec decoded {decoded} of {len(self._images)}")
        return self._images


def batches(task: Task, backends: str = "all", fancy_upsampling: bool = True) -> Iterator[Served]:
    """The clips, a tensor each; a batch is valid until the next is asked for.

    Raises:
        ValueError: a strip cannot be decoded so.
    """
    facts = task.prepared.facts
    on_gpu = task.device == "cuda"
    kinds = BACKENDS[backends] if on_gpu else (_KINDS.CPU_ONLY,)
    slots = [_Slot(task, kinds, f":fancy_upsampling={int(fancy_upsampling)}") for _ in range(IN_FLIGHT)]
    keys, shape = list(facts["originals"]), (facts["frames"], facts["size"], facts["size"], 3)
    strips = {number: task.prepared.reference(number)[0] for number in set(facts["originals"].values())}
    streams = {number: nvimgcodec.CodeStream(strip) for number, strip in strips.items()}
    flying: deque[tuple[_Slot, list[str], Future[list[Any]]]] = deque()
    free, first = deque(slots), 0
    with ThreadPoolExecutor(IN_FLIGHT) as pool:
        while True:
            while free:
                slot = free.popleft()
                chosen = [keys[(first + place) % len(keys)] for place in range(task.batch_size)]
                first += task.batch_size
                wanted = [streams[facts["originals"][key]] for key in chosen]
                flying.append((slot, chosen, pool.submit(slot.decode, wanted)))
            slot, chosen, decoding = flying.popleft()
            images = decoding.result()
            yield Served(_Pictures(images, shape, on_gpu), None, chosen, ())
            free.append(slot)


class _Pictures(Sequence[torch.Tensor]):
    """Made into tensors only where somebody looks at them, which is no part of the limit."""

    def __init__(self, images: Sequence[Any], shape: tuple[int, ...], on_gpu: bool) -> None:
        self._images, self._shape, self._on_gpu = images, shape, on_gpu

    def __len__(self) -> int:
        return len(self._images)

    @overload
    def __getitem__(self, index: int) -> torch.Tensor: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[torch.Tensor]: ...
    def __getitem__(self, index: int | slice) -> torch.Tensor | Sequence[torch.Tensor]:
        if isinstance(index, slice):
            return _Pictures(self._images[index], self._shape, self._on_gpu)
        image = self._images[index]
        # Without CUDA's runtime nvImageCodec speaks no DLPack.
        return (from_dlpack(image) if self._on_gpu else torch.from_numpy(np.asarray(image))).view(self._shape)
