"""The simple way to a step's bytes, beside which `benchmarks/reading.py` measures the loader's.

Shards are mapped; every member is found, hashed in its map and copied out of it, one clip after the other, and a WAV
file is converted by itself. The order, the pairs and the clips are the loader's own.
"""

import mmap
from collections.abc import Callable
from pathlib import Path

import numpy as np
import xxhash
from numpy.typing import NDArray

from loaders.dataset.catalog import Catalog
from loaders.decode.wav import wav_samples
from loaders.sampling.examples import Sampler
from loaders.threads.buffers import Buffers


class MappedReader:
    """Reads the steps of one dataset."""

    def __init__(
        self,
        catalog: Catalog,
        sampler: Sampler,
        positions: Callable[[int], NDArray[np.int64]],
        *,
        audio: bool,
        waveforms: bool,
    ) -> None:
        """``waveforms``: sound is converted to float32; otherwise its files are copied."""
        self._catalog, self._sampler, self._positions = catalog, sampler, positions
        self._audio, self._waveforms = audio, waveforms
        self._maps: dict[int, NDArray[np.uint8]] = {}
        self._memory = Buffers((), np.uint8)
        self._waves = Buffers((catalog.manifest.clip.samples,), np.float32)

    def read(self, epoch: int, step: int) -> tuple[list[NDArray[np.uint8]], NDArray[np.float32] | None]:
        """A step's members, and the waveforms if they are made.

        Raises:
            ValueError: a member does not have its checksum.
        """
        examples = self._sampler.examples(epoch, self._positions(step))
        strips, sounds = self._catalog.members["filmstrip"], self._catalog.members.get("audio")
        room = int(strips.size[examples.clip].sum())
        if sounds is not None and self._audio and not self._waveforms:
            room += int(sounds.size[examples.audio_clip].sum())
        memory, at, members = self._memory.lend(room), 0, []
        waves = self._waves.lend(len(examples)) if self._audio and self._waveforms else None
        for index in range(len(examples)):
            wanted = [self._view("filmstrip", int(examples.clip[index]))]
            if self._audio:
                sound = self._view("audio", int(examples.audio_clip[index]))
                if waves is None:
                    wanted.append(sound)
                else:
                    samples = wav_samples(sound, self._catalog.manifest.clip.sample_rate)
                    np.multiply(samples, np.float32(1 / 32768), out=waves[index])
            for view in wanted:
                memory[at : at + view.size] = view
                members.append(memory[at : at + view.size])
                at += view.size
        return members, waves

    def _view(self, member: str, clip: int) -> NDArray[np.uint8]:
        extent, shard = self._catalog.members[member], int(self._catalog.shard[clip])
        if shard not in self._maps:
            self._maps[shard] = _mapped(self._catalog.folder, self._catalog, shard)
        offset = int(extent.offset[clip])
        view = self._maps[shard][offset : offset + int(extent.size[clip])]
        if xxhash.xxh3_64_intdigest(view.data) != int(extent.xxh3[clip]):
            raise ValueError(f"clip {clip}: {member} does not have its checksum")
        return view


def _mapped(folder: Path, catalog: Catalog, shard: int) -> NDArray[np.uint8]:
    with (folder / catalog.manifest.splits[catalog.split].shards[shard].name).open("rb") as file:
        return np.frombuffer(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ), np.uint8)
