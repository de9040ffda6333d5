"""A step's bytes: drawn, read, checked, and replaced where they are bad.

A step goes through three hands. It is drawn and located, as arrays, in order; its bytes are read and checked, which any
thread may do; and it is finished, in order again: only there clips are found bad, replaced and counted, so that nothing
depends on how many threads read.
"""

import logging
import threading
import time
from bisect import bisect_right
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from loaders.dataset.catalog import Catalog
from loaders.dataset.manifest import AUDIO, FILMSTRIP, GAZE, GAZE_STATISTICS
from loaders.dataset.members import Member
from loaders.dataset.npy import parse_alike, parse_npy
from loaders.dataset.shards import CorruptMemberError, Places, Shards, ShardSource, read_members
from loaders.decode.cut import Cutter, clip_of
from loaders.decode.frame_offsets import NOT_SAID, NotAddressableError
from loaders.decode.jpeg_header import SizeCheck
from loaders.decode.pipeline import Encoded, Fault
from loaders.decode.wav import HEADER, WavRows, alike, first_sample, row_bytes, wav_samples
from loaders.errors import InputError
from loaders.processes.pool import ReadingProcesses
from loaders.processes.reading import ReadAndCheck, by_this_thread
from loaders.processes.shared_memory import SharedMemory
from loaders.sampling.examples import Examples, Sampler
from loaders.sampling.mixture import WindowSlice
from loaders.storage.shardfile import ShardFile
from loaders.threads.buffers import Buffers

_log = logging.getLogger(__name__)

_ATTEMPTS = 100
_DRAWN = 2048  # examples at a time: of a few, numpy's calls take the time, not their length
_LINE = 64  # bytes: where a member begins in memory; to places between them the kernel copies a third slower


class TooManyBadClipsError(InputError):
    """More of the split is unreadable than the run was told to bear."""


@dataclass(frozen=True, slots=True)
class Loaded:
    """A rank's share of one step, encoded."""

    epoch: int
    step: int
    examples: Examples
    encoded: Encoded
    arrays: "Mapping[str, Arrays]"  #: gaze, and the members that were asked for
    targets: Mapping[str, NDArray[Any]]  #: see `loaders.batch.Batch`


@dataclass(frozen=True, slots=True)
class Arrays:
    """A member of a step's examples."""

    values: NDArray[Any]  #: (B, *shape), zeros where there is none
    mask: NDArray[np.bool_]  #: whether there is one: (B,), or (B, rows) of rows that vary in number

    def put(self, index: int, array: NDArray[Any] | None) -> None:
        """Fill an example's place with an array of the declared shape, or of fewer rows, or with none."""
        self.values[index], self.mask[index] = 0, False
        if array is None:
            return
        if self.mask.ndim == 1:
            self.values[index], self.mask[index] = array, True
        else:
            self.values[index, : len(array)], self.mask[index, : len(array)] = array, True

    def copy(self) -> "Arrays":
        """The same in memory of its own."""
        return Arrays(self.values.copy(), self.mask.copy())


@dataclass(slots=True)
class Drawn:
    """A step that is drawn and located; `Reader.load` fills in the rest."""

    epoch: int
    step: int
    positions: NDArray[np.int64]
    examples: Examples
    filmstrips: Places | None
    audio: Places | None
    members: dict[str, tuple[NDArray[np.int64], Places]]  #: which examples have the member, and where
    seconds: float  #: spent on it so far
    read_seconds: float = 0.0  #: of these, on reading and checking
    strips: list[NDArray[np.uint8]] = field(default_factory=list)  #: cut, see `loaders.decode.cut`
    sounds: list[NDArray[np.uint8]] = field(default_factory=list)
    rows: WavRows | None = None
    arrays: dict[str, Arrays] = field(default_factory=dict)
    bad: set[int] = field(default_factory=set)  #: examples of which a member is not as it was written
    searched: dict[int, str] = field(default_factory=dict)  #: examples whose frames were searched for, and why


@dataclass(frozen=True, slots=True)
class _Picture:
    """What an example takes of the clip that is seen."""

    filmstrip: NDArray[np.uint8]
    cut: NDArray[np.uint8]  #: what is decoded of it
    arrays: Mapping[str, NDArray[Any]]  #: of the members that it has, those of the clip that is heard beside them


@dataclass(frozen=True, slots=True)
class _Found:
    """Members of clips: one entry each in every array."""

    dataset: NDArray[np.int64]
    shard: NDArray[np.int64]
    offset: NDArray[np.int64]
    size: NDArray[np.int64]
    xxh3: NDArray[np.uint64]


class _BadClipError(Exception):
    """A clip cannot be used."""

    def __init__(self, clip: int, why: str) -> None:
        super().__init__(why)
        self.clip = clip


class Reader:
    """Reads the steps of one rank. What it counts is for `loaders.stats`."""

    def __init__(
        self,
        catalogs: Sequence[Catalog],
        sampler: Sampler,
        positions: Callable[[int], NDArray[np.int64]],
        max_bad_fraction: float,
        sources: Sequence[ShardSource | None] | None = None,
        *,
        video: bool = True,
        audio: bool = True,
        members: Sequence[str] = (),
        of_audio: Sequence[str] = (),
        targets: Sequence[str] = (),
        page_locked: bool = False,
        reading: Callable[[], AbstractContextManager[None]] = nullcontext,
        processes: ReadingProcesses | None = None,
    ) -> None:
        """
        Args:
            catalogs: of the split, one a dataset, opened with the members that they have of filmstrip, audio, gaze and
                those asked for, and with the targets.
            sampler: draws the examples, of clips numbered through the catalogs.
            positions: a step's positions for this rank.
            max_bad_fraction: share of the split's clips that may be bad before the run stops.
            sources: where each catalog's shards are; None: beside it.
            video: whether filmstrips are read.
            audio: whether it is read.
            members: arrays that are read beside gaze; all datasets that have one declare it alike.
            of_audio: those of the members that are of the clip that is heard.
            targets: labels that every dataset has, of classes in one order or of numbers.
            page_locked: whether rows of sound lie in memory from which a GPU copies by itself.
            reading: around the reading of a step's bytes, for what has to keep its shards at hand meanwhile.
            processes: which read, this reader's own; None: the threads that call it do.
        """
        self._processes = processes
        self._read_and_check: ReadAndCheck = by_this_thread if processes is None else processes.read
        self._with_video, self._with_audio = video, audio
        self._targets = tuple(targets)
        self._reading = reading
        self._page_locked = page_locked
        self._catalogs = tuple(catalogs)
        self._sampler = sampler
        self._positions = positions
        self._ends: list[int] = np.cumsum([len(catalog) for catalog in catalogs]).tolist()
        self._max_bad = int(max_bad_fraction * self._ends[-1])
        self._shards = [
            Shards(catalog, source) for catalog, source in zip(catalogs, sources or [None] * len(catalogs), strict=True)
        ]
        # Of some speakers' clips alone a shard may have none: it is not fetched.
        self._in_use = [(catalog.shard_clips > 0).tolist() for catalog in catalogs]
        self.wav_rows = audio and alike(catalogs, AUDIO)  #: whether sound comes as `WavRows`, else as files
        self._clip = clip_of([catalog.manifest for catalog in catalogs])
        self._cutter = Cutter(self._clip, sampler.frames.count)
        self._strips = SizeCheck(self._clip.size, self._clip.size * self._clip.frames)
        self._drawn: dict[tuple[int, int], Examples] = {}
        self._buffers = Buffers((), np.uint8)
        self._shared = Buffers((), np.uint8, memory=SharedMemory)
        self._held: frozenset[tuple[int, ...]] = frozenset()  # the windows that are drawn from now
        self._unmoved: frozenset[tuple[int, int]] = frozenset()  # steps that draw from just these
        self._one_at_a_time = threading.Lock()  # around the sampler and the sources
        self._members = {name: _declared(name, catalogs) for name in (GAZE, *members)}
        self._of_audio = frozenset(of_audio)
        self.bad: dict[int, str] = {}  #: key of every clip found bad, by its number
        self.substitutions = 0  #: examples replaced, a bad clip counting as often as it was drawn
        self.searched = 0  #: filmstrips whose frames were searched for
        self._searched_why: set[str] = set()  # what was said of them
        self.bytes = 0  #: bytes of members read and checked
        self.seconds = 0.0  #: seconds spent drawing, reading and checking, by all threads together
        self.check_seconds = 0.0  #: of these, reading and checking

    def read(self, epoch: int, step: int) -> Loaded:
        """The examples of a step with their bytes; errors as those of `load` and `finish`."""
        return self.finish(self.load(self.draw(epoch, step)))

    def draw(self, epoch: int, step: int, settle: Callable[[], None] = lambda: None) -> Drawn:
        """What a step is of and where that lies. One thread at a time, in the order of the steps.

        Args:
            epoch, step: which.
            settle: called before shards that earlier steps draw from are let go: returns when these are finished.
        """
        positions = self._positions(step)
        moves = (epoch, step) not in self._unmoved
        if moves:
            now, soon = self._sampler.window_slices(epoch, positions)
            moves = bool(now) and _keys(now) != self._held
        if moves:
            settle()
        start = time.perf_counter()
        with self._one_at_a_time:
            if moves:
                self._hold(now, soon)
            examples = self._draw(epoch, step)
            filmstrips = None
            if self._with_video:
                filmstrips = self._places(self._find(FILMSTRIP, examples.clip))
            audio = None
            if self._with_audio:
                row = row_bytes(self._clip.samples) if self.wav_rows else None
                audio = self._places(self._find(AUDIO, examples.audio_clip), row)
            members = {
                name: self._places_of(name, examples.audio_clip if name in self._of_audio else examples.clip)
                for name in self._members
            }
            drawn = Drawn(epoch, step, positions, examples, filmstrips, audio, members, 0.0)
        drawn.seconds = time.perf_counter() - start
        return drawn

    def load(self, drawn: Drawn) -> Drawn:
        """Read a step's bytes and check them. Any thread.

        Raises:
            InputError: a shard is missing or has another length than declared.
        """
        with self._reading():
            return self._load(drawn)

    def _load(self, drawn: Drawn) -> Drawn:
        start = time.perf_counter()
        strips, sound = drawn.filmstrips, drawn.audio
        if sound is not None and self._page_locked and self._processes is None and self.wav_rows:
            drawn.rows = self._page_locked_rows(len(drawn.positions))
            drawn.bad.update(read_members(sound, self._open, drawn.rows.bytes.reshape(-1)))
            sound = None
        parts = [places for places in (strips, sound) if places is not None]
        memories = self._read_together(drawn, parts)
        if strips is not None:
            self._take_strips(drawn, strips, memories[0])
        if sound is not None and self.wav_rows:
            drawn.rows = self._rows_of(memories[-1], len(drawn.positions))
        elif sound is not None:
            drawn.sounds = _cut_up(memories[-1], sound)
        if drawn.rows is not None:
            drawn.bad.update(drawn.rows.odd(self._clip.sample_rate))
        drawn.arrays = {name: self._load_arrays(drawn, name) for name in self._members}
        drawn.read_seconds = time.perf_counter() - start
        drawn.seconds += drawn.read_seconds
        return drawn

    def _take_strips(self, drawn: Drawn, filmstrips: Places, memory: NDArray[np.uint8]) -> None:
        """Filmstrips that were read, and what is wanted cut out of them; what is bad of them is noted with the step."""
        drawn.strips = _cut_up(memory, filmstrips)
        drawn.bad.update(self._strips.faulty(memory, filmstrips.start, filmstrips.size))
        if not self._cutter.cuts:
            return
        cuts = self._cutter.cut_all(memory, filmstrips.start, filmstrips.size, drawn.examples.frames)
        for index, cut in enumerate(cuts):
            if cut is None:
                drawn.bad.add(index)
            elif index not in drawn.bad:
                drawn.strips[index] = cut.file
                if cut.searched:
                    drawn.searched[index] = cut.searched

    def finish(self, drawn: Drawn) -> Loaded:
        """Replace what is bad, and count. One thread at a time, in the order of the steps.

        Raises:
            TooManyBadClipsError: more clips are bad than allowed.
            InputError: a substitute's shard is missing or has another length than declared.
        """
        began = time.perf_counter()
        examples, count = drawn.examples, len(drawn.positions)
        if drawn.searched:
            with self._one_at_a_time:
                for index, why in drawn.searched.items():
                    self._count_searched(int(examples.clip[index]), why)
        sizes = [0] * count if drawn.filmstrips is None else drawn.filmstrips.size.tolist()
        for index in sorted(drawn.bad):
            examples, picture, sound = self._replaced(drawn.epoch, drawn.positions, examples, index)
            if drawn.filmstrips is not None:
                drawn.strips[index], sizes[index] = picture.cut, picture.filmstrip.size
            if drawn.rows is not None and sound is not None:
                drawn.rows.put(index, sound)
            elif sound is not None:
                drawn.sounds[index] = sound
            for name, arrays in drawn.arrays.items():
                arrays.put(index, picture.arrays.get(name))
        self.bytes += sum(sizes) + sum(sound.size for sound in drawn.sounds)
        if drawn.rows is not None:
            self.bytes += count * (HEADER + 2 * drawn.rows.count)
        self.bytes += sum(int(places.size.sum()) for _, places in drawn.members.values())
        self.check_seconds += drawn.read_seconds
        self.seconds += drawn.seconds + time.perf_counter() - began
        start = first_sample(self._sampler.frames.heard_from(examples.frames), self._clip)
        encoded = Encoded(drawn.strips, drawn.sounds, examples.frames, start, drawn.rows)
        targets = self._targets_of(examples.clip)
        return Loaded(drawn.epoch, drawn.step, examples, encoded, drawn.arrays, targets)

    def without_undecodable(self, loaded: Loaded, fault: Fault) -> Loaded | None:
        """A step that could not be decoded, with other examples in place of those that are at fault.

        Their bytes are those that were written: they were written so. From then on they are bad clips like others, and
        what takes their place is what would have if they had been found bad when they were read.

        Args:
            loaded: as `finish` returned it.
            fault: what is wrong with an example, None where it can be decoded.

        Returns:
            The step, or None where no example is at fault.

        Raises:
            TooManyBadClipsError: more clips are bad than allowed.
            InputError: a substitute's shard is missing or has another length than declared.
        """
        examples, rows = loaded.examples, loaded.encoded.rows
        strips, sounds = list(loaded.encoded.filmstrips), list(loaded.encoded.audio)
        # Sound that comes as rows needs no decoder.
        errors = {}
        for index in range(len(examples)):
            strip, sound = strips[index] if strips else None, sounds[index] if sounds else None
            error = self._undecodable(examples, index, strip, sound, fault)
            if error is not None:
                errors[index] = error
        if not errors:
            return None
        members = {name: arrays.copy() for name, arrays in loaded.arrays.items()}
        positions = self._positions(loaded.step)
        for index, error in errors.items():
            with self._one_at_a_time:
                self._report(error)
            examples, picture, sound = self._replaced(loaded.epoch, positions, examples, index, fault)
            if strips:
                strips[index] = picture.cut
            if rows is not None and sound is not None:
                rows.put(index, sound)
            elif sound is not None:
                sounds[index] = sound
            for name, arrays in members.items():
                arrays.put(index, picture.arrays.get(name))
        encoded = replace(loaded.encoded, filmstrips=strips, audio=sounds, frames=examples.frames)
        targets = self._targets_of(examples.clip)
        return Loaded(loaded.epoch, loaded.step, examples, encoded, members, targets)

    def _replaced(
        self,
        epoch: int,
        positions: NDArray[np.int64],
        examples: Examples,
        index: int,
        fault: Fault | None = None,
    ) -> tuple[Examples, _Picture, NDArray[np.uint8] | None]:
        """An example that was found bad: read once more, then replaced until what takes its place is whole.

        With ``fault`` it is not read once more, and substitutes are decoded to see that they can be.
        """
        for attempt in range(0 if fault is None else 1, _ATTEMPTS):
            with self._one_at_a_time:
                if attempt > 0:
                    substitute = self._sampler.examples(epoch, positions[index : index + 1], attempt)
                    examples = examples.replaced(index, substitute)
                    self.substitutions += 1
                try:
                    picture = self._picture(int(examples.clip[index]), examples.frames[index])
                    heard = self._arrays(int(examples.audio_clip[index]), heard=True)
                    picture = replace(picture, arrays={**picture.arrays, **heard})
                    sound = self._sound(int(examples.audio_clip[index])) if self._with_audio else None
                    if fault is not None:
                        file = None if self.wav_rows else sound
                        strip = picture.cut if self._with_video else None
                        problem = self._undecodable(examples, index, strip, file, fault)
                        if problem is not None:
                            raise problem
                except _BadClipError as error:
                    self._report(error)
                    continue
            return examples, picture, sound
        raise TooManyBadClipsError(f"{_ATTEMPTS} draws in a row gave bad clips: run sharding/verify.py")

    def _sound(self, clip: int) -> NDArray[np.uint8]:
        """A clip's file, or where sound comes as rows its samples' bytes."""
        file = self._required(AUDIO, clip)
        if not self.wav_rows:
            return file
        try:
            return wav_samples(file, self._clip.sample_rate).view(np.uint8)
        except RuntimeError as error:
            raise _BadClipError(clip, f"its audio is {error}") from error

    # -- where members lie

    def _find(self, member: str, clips: NDArray[np.int64]) -> _Found:
        """Where a member of clips lies; of size 0 where there is none."""
        if len(self._catalogs) == 1:
            return self._find_in(0, member, clips)
        dataset = np.searchsorted(self._ends, clips, side="right")
        shard, offset, size = (np.zeros(len(clips), np.int64) for _ in range(3))
        found = _Found(dataset, shard, offset, size, np.zeros(len(clips), np.uint64))
        for number, catalog in enumerate(self._catalogs):
            here = np.flatnonzero(dataset == number)
            part = self._find_in(number, member, clips[here] - (self._ends[number] - len(catalog)))
            for name in _Found.__slots__:
                getattr(found, name)[here] = getattr(part, name)
        return found

    def _find_in(self, dataset: int, member: str, rows: NDArray[np.int64]) -> _Found:
        catalog = self._catalogs[dataset]
        extent = catalog.members.get(member)
        number, shard = np.full(len(rows), dataset), catalog.shard[rows].astype(np.int64)
        if extent is None:
            nothing = np.zeros(len(rows), np.int64)
            return _Found(number, shard, nothing, nothing, nothing.view(np.uint64))
        offset, size = extent.offset[rows].astype(np.int64), extent.size[rows].astype(np.int64)
        return _Found(number, shard, offset, size, extent.xxh3[rows])

    def _places(self, found: _Found, stride: int | None = None) -> Places:
        """Members, and where each is to go: ``stride`` bytes apart, or closely one after the other."""
        room = np.full(len(found.size), stride) if stride is not None else -(-found.size // _LINE) * _LINE
        start: NDArray[np.int64] = np.cumsum(room) - room
        return Places(found.dataset, found.shard, found.offset, found.size, found.xxh3, start)

    def _open(self, shard: tuple[int, int]) -> ShardFile:
        with self._one_at_a_time:
            return self._shards[shard[0]].source.open(shard[1])

    # -- into memory

    def _lend(self, length: int) -> NDArray[np.uint8]:
        """Memory to read to, shared where processes read."""
        if self._processes is not None:
            try:
                return self._shared.lend(length)
            except OSError as error:
                self._processes.cannot_share(error)
        return self._buffers.lend(length)

    def _read_together(self, drawn: Drawn, parts: Sequence[Places]) -> list[NDArray[np.uint8]]:
        """Required members of all examples, kind by kind, read by one call; what is bad of them is noted with the step.

        Returns:
            The memory of each part, in which its members lie where it says.
        """
        if not parts:
            return []
        rooms = np.array([-(-_length(places) // _LINE) * _LINE for places in parts])
        begins = np.cumsum(rooms) - rooms
        memory = self._lend(int(rooms.sum()))
        together = Places.joined([places.moved(begin) for places, begin in zip(parts, begins.tolist(), strict=True)])
        bad = read_members(together, self._open, memory, self._read_and_check)
        # A required member that a clip does not have is bad as well. Of each kind there is one an example.
        bad += np.flatnonzero(together.size == 0).tolist()
        drawn.bad.update(index % len(drawn.positions) for index in bad)
        return [memory[begin : begin + room] for begin, room in zip(begins.tolist(), rooms.tolist(), strict=True)]

    def _rows_of(self, memory: NDArray[np.uint8], count: int) -> WavRows:
        """Files of sound that were read to a row each; for a GPU where it copies from by itself."""
        rows = memory.view(np.int16).reshape(count, row_bytes(self._clip.samples) // 2)
        if not self._page_locked:
            return WavRows(torch.from_numpy(rows), self._clip.samples)
        found = self._page_locked_rows(count)
        np.copyto(found.memory.numpy(), rows)  # on one core, torch would take them all
        return found

    def _page_locked_rows(self, count: int) -> WavRows:
        """Rows to fill, of torch's memory: that it keeps until a GPU has copied it."""
        half = row_bytes(self._clip.samples) // 2
        return WavRows(torch.empty((count, half), dtype=torch.int16, pin_memory=True), self._clip.samples)

    def _places_of(self, name: str, clips: NDArray[np.int64]) -> tuple[NDArray[np.int64], Places]:
        """Which of some clips have a member, and where it lies."""
        found = self._find(name, clips)
        rows = np.flatnonzero(found.size)
        return rows, self._places(_Found(*(getattr(found, column)[rows] for column in _Found.__slots__)))

    def _load_arrays(self, drawn: Drawn, name: str) -> Arrays:
        """A member of a step's examples, read; what is bad of it is noted with the step."""
        member, (rows, places) = self._members[name], drawn.members[name]
        count, dtype = len(drawn.positions), np.dtype(member.dtype).newbyteorder("=")
        arrays = Arrays(
            np.zeros((count, *member.shape), np.float32 if name == GAZE else dtype),
            np.zeros((count, *member.shape[:1]) if member.variable else count, np.bool_),
        )
        if not len(rows):
            return arrays
        memory = self._lend(_length(places))
        bad = set(read_members(places, self._open, memory, self._read_and_check))
        one_by_one: Sequence[int] = range(len(rows))
        alike = None if member.variable else parse_alike(member, memory, places.start, places.size)
        if alike is not None:
            arrays.values[rows], arrays.mask[rows] = alike[0], True
            one_by_one = np.flatnonzero(~alike[1]).tolist()
        for index in one_by_one:
            start, size = int(places.start[index]), int(places.size[index])
            try:
                arrays.put(int(rows[index]), parse_npy(member, memory[start : start + size]))
            except ValueError:
                bad.add(index)
        drawn.bad.update(rows[sorted(bad)].tolist())
        return arrays

    def _targets_of(self, clips: NDArray[np.int64]) -> dict[str, NDArray[Any]]:
        """What is stated of clips, as a batch has it."""
        found: dict[str, NDArray[Any]] = {}
        for name in self._targets:
            first = self._catalogs[0].targets[name]
            kind = np.float32 if first.dtype.kind == "f" else np.int64
            if len(self._catalogs) == 1:
                found[name] = first[clips].astype(kind)
                continue
            found[name] = np.empty(len(clips), kind)
            for catalog, end in zip(self._catalogs, self._ends, strict=True):
                here = (end - len(catalog) <= clips) & (clips < end)
                found[name][here] = catalog.targets[name][clips[here] - (end - len(catalog))]
        return found

    def _draw(self, epoch: int, step: int) -> Examples:
        """A step's examples, drawn together with those of the steps after it."""
        if (epoch, step) not in self._drawn:
            share = len(self._positions(step))
            steps = range(step, step + max(1, _DRAWN // share if share else 1))
            positions = [self._positions(later) for later in steps]  # none beyond the epoch's end
            ends = np.cumsum([len(of_step) for of_step in positions])
            together = np.concatenate(positions)
            drawn = self._sampler.examples(epoch, together).split(ends[:-1])
            windows, _ = self._sampler.window_slices(epoch, together)
            each_one = len({(of.dataset, of.node_group) for of in windows}) == len(windows)
            is_unmoved = each_one and _keys(windows) == self._held
            self._unmoved = frozenset((epoch, later) for later in steps) if is_unmoved else frozenset()
            self._drawn = {(epoch, later): run for later, run in zip(steps, drawn, strict=True)}
        return self._drawn.pop((epoch, step))

    def _hold(self, now: Sequence[WindowSlice], soon: Sequence[WindowSlice]) -> None:
        """Tell the sources which shards are drawn from now, and which come next."""
        for dataset, shards in enumerate(self._shards):
            current = {
                n: None
                for window_slice in now
                if window_slice.dataset == dataset
                for n in window_slice.window.shards.tolist()
                if self._in_use[dataset][n]
            }
            later = {
                n: None
                for window_slice in soon
                if window_slice.dataset == dataset
                for n in window_slice.window.shards.tolist()
                if self._in_use[dataset][n]
            }
            shards.source.hold([*current], [n for n in later if n not in current])
        self._held, self._unmoved = _keys(now), frozenset()

    def interrupt(self) -> None:
        """End the processes: a thread that waits for one gets ClosedError, and so does who reads from here on."""
        if self._processes is not None:
            self._processes.close()

    def close(self) -> None:
        """Release the shards and the memory that is read to, and end the processes."""
        self.interrupt()
        for shards in self._shards:
            shards.close()
        self._buffers.let_go()
        self._shared.let_go()  # with the files that it is of

    def locate(self, clip: int) -> tuple[int, int]:
        """The dataset of a clip, and its row in that dataset's catalog."""
        dataset = bisect_right(self._ends, clip)
        return dataset, clip - (self._ends[dataset - 1] if dataset else 0)

    def _arrays(self, clip: int, *, heard: bool) -> dict[str, NDArray[Any]]:
        """Those of the members that a clip has, of the one that is heard or of the one that is seen."""
        arrays: dict[str, NDArray[Any]] = {}
        dataset, _ = self.locate(clip)
        for name, member in self._members.items():
            if (name in self._of_audio) != heard:
                continue
            file = self._read(name, clip) if name in self._catalogs[dataset].members else None
            if file is not None:
                try:
                    arrays[name] = parse_npy(member, file)
                except ValueError as error:
                    raise _BadClipError(clip, f"its {name} is {error}") from error
        return arrays

    def _picture(self, clip: int, frames: NDArray[np.int16]) -> _Picture:
        arrays = self._arrays(clip, heard=False)
        if not self._with_video:
            nothing = np.empty(0, np.uint8)
            return _Picture(nothing, nothing, arrays)
        strip = self._required(FILMSTRIP, clip)
        fault = self._strips.fault(strip)
        if fault is not None:
            raise _BadClipError(clip, f"its filmstrip is {fault}")
        try:
            cut, why = self._cutter.cut(strip, frames)
        except NotAddressableError as error:
            raise _BadClipError(clip, f"its filmstrip is {error}") from error
        if why:
            self._count_searched(clip, why)
        return _Picture(strip, cut, arrays)

    def _count_searched(self, clip: int, why: str) -> None:
        self.searched += 1
        if why in self._searched_why:
            return
        self._searched_why.add(why)
        dataset, row = self.locate(clip)
        catalog = self._catalogs[dataset]
        key = catalog.table(["key"])["key"][row]
        level = logging.INFO if why == NOT_SAID else logging.WARNING
        _log.log(level, "frames are searched for in filmstrips, first in %s of %s: %s", key, catalog.folder, why)

    @property
    def slower(self) -> str:
        """What took longer than it had to; nothing where nothing did."""
        slower = []
        if self.searched:
            slower.append(
                f"frames of {self.searched} filmstrips were searched for, for their headers do not say where they lie: "
                "build the dataset anew"
            )
        if self._processes is not None and self._processes.in_their_place:
            slower.append(f"{self._processes.in_their_place} times threads read in the place of processes")
        return "; ".join(slower)

    def _required(self, member: str, clip: int) -> NDArray[np.uint8]:
        file = self._read(member, clip)
        if file is None:
            raise _BadClipError(clip, f"it has no {member}")
        return file

    def _read(self, member: str, clip: int) -> NDArray[np.uint8] | None:
        dataset, row = self.locate(clip)
        try:
            return self._shards[dataset].read(member, row)
        except CorruptMemberError as error:
            raise _BadClipError(clip, str(error)) from error

    def _undecodable(
        self,
        examples: Examples,
        index: int,
        strip: NDArray[np.uint8] | None,
        audio: NDArray[np.uint8] | None,
        fault: Fault,
    ) -> _BadClipError | None:
        """Which clip of an example is at fault, the one seen or the one heard, and why; None where neither."""
        frames = examples.frames[index : index + 1]
        start = first_sample(self._sampler.frames.heard_from(frames), self._clip)
        silent = Encoded([] if strip is None else [strip], [], frames, start)
        why = fault(silent if audio is None else replace(silent, audio=[audio]))
        if why is None:
            return None
        of_picture = why if audio is None else None if strip is None else fault(silent)
        if of_picture is not None:
            return _BadClipError(int(examples.clip[index]), f"its filmstrip cannot be decoded ({of_picture})")
        return _BadClipError(int(examples.audio_clip[index]), f"its audio cannot be decoded ({why})")

    def _report(self, error: _BadClipError) -> None:
        if error.clip in self.bad:
            return
        dataset, row = self.locate(error.clip)
        catalog = self._catalogs[dataset]
        key = str(catalog.table(["key"])["key"][row])
        self.bad[error.clip] = key
        _log.warning("bad clip %s (row %d of %s): %s; another takes its place", key, row, catalog.folder, error)
        if len(self.bad) > self._max_bad:
            raise TooManyBadClipsError(
                f"{len(self.bad)} of {self._ends[-1]} clips of {catalog.folder} are bad, the last {key}: "
                "run sharding/verify.py --repair, or have ClipLoader bear more of them by max_bad_fraction"
            )


def _length(places: Places) -> int:
    """Of memory for members that lie one after the other; bytes."""
    return int(places.start[-1] + places.size[-1]) if len(places.start) else 0


def _cut_up(memory: NDArray[np.uint8], places: Places) -> list[NDArray[np.uint8]]:
    ends = places.start + places.size
    return [memory[start:end] for start, end in zip(places.start.tolist(), ends.tolist(), strict=True)]


def _keys(window_slices: Sequence[WindowSlice]) -> frozenset[tuple[int, ...]]:
    return frozenset(window_slice.key for window_slice in window_slices)


def _declared(name: str, catalogs: Sequence[Catalog]) -> Member:
    """What datasets declare a member to be; none needs to have gaze."""
    for catalog in catalogs:
        member = catalog.manifest.member(name)
        if member is not None:
            return member
    return Member(name=name, extension="npy", dtype="float32", shape=(GAZE_STATISTICS,), required=False)
