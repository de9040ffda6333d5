"""torchcodec decoding on the GPU (NVDEC), in a pool of threads of one process.

Set up as in its documentation ("Accelerated video decoding on GPUs with CUDA and NVDEC"): ``VideoDecoder`` on the
device, with its newer ("beta") interface; threads, for a GPU's context does not survive the fork of a DataLoader's
worker. Sound is decoded on the CPU. Shards are read as for SPDL.
"""

from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor

from torchcodec.decoders import VideoDecoder, set_cuda_backend

from benchmarks.peers.decode import Clip, stack, times_of, torchcodec_sound, wav
from benchmarks.peers.served import Served, Task
from benchmarks.peers.spdl import Sample, samples


def batches(task: Task) -> Iterator[Served]:
    """The clips, frames and sound on the GPU."""
    source = samples(task)
    with ThreadPoolExecutor(task.workers) as pool:
        ahead: list[tuple[list[Sample], list[Future[Clip]]]] = []
        while True:
            while len(ahead) < 2:
                taken = [next(source) for _ in range(task.batch_size)]
                ahead.append((taken, [pool.submit(_decoded, task, sample) for sample in taken]))
            taken, futures = ahead.pop(0)
            clips = [future.result() for future in futures]
            keys = [key for key, _, _ in taken]
            frames, sounds = stack(clips)
            yield Served(frames, None if sounds is None else sounds.to("cuda"), keys, keys)


def _decoded(task: Task, sample: Sample) -> Clip:
    _, picture, sound = sample
    facts = task.prepared.facts
    with set_cuda_backend("beta"):
        decoder = VideoDecoder(picture, device="cuda", dimension_order="NHWC", seek_mode="approximate")
    if task.form != "source":
        return decoder.get_all_frames().data, wav(sound) if task.audio else None
    begin, times = times_of(sound, facts)
    first = decoder.metadata.begin_stream_seconds or 0.0
    frames = decoder.get_frames_played_at([first + time for time in times]).data
    seconds = facts["frames"] / facts["fps"]
    return frames, torchcodec_sound(picture, begin, seconds, facts) if task.audio else None
