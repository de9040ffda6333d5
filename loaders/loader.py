"""ClipLoader: batches of audio-video pairs, in an order that is a function of (seed, epoch, position)."""

import atexit
import hashlib
import inspect
import logging
import operator
import os
import pickle
import threading
import time
import weakref
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from functools import partial
from math import isfinite
from pathlib import Path
from types import TracebackType
from typing import Any, NoReturn, get_args

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import IterableDataset, get_worker_info

from loaders.batch import Batch
from loaders.dataset.catalog import Catalog
from loaders.dataset.dataset import Dataset
from loaders.dataset.labels import Label
from loaders.dataset.manifest import AUDIO, FILMSTRIP, GAZE, Manifest
from loaders.dataset.remote import CACHE
from loaders.decode import dali
from loaders.decode.columns import to_device
from loaders.decode.cut import clip_of
from loaders.decode.decodable import faults
from loaders.decode.pipeline import Decoder, Fault, PipelineSettings, to_torch, window_samples
from loaders.decode.placement import (
    TRIAL_BATCHES,
    Choice,
    Demand,
    Trial,
    as_before,
    check_placement,
    choose,
    on_cpu,
    settled,
    turned,
    without_dali,
)
from loaders.decode.planes import check_pixels
from loaders.decode.turbo import obstacle
from loaders.decode.wav import waveforms_on
from loaders.errors import InputError
from loaders.processes.pool import Readers, ReadingProcesses
from loaders.reader import Drawn, Loaded, Reader
from loaders.sampling.examples import Sampler
from loaders.sampling.frames import frame_choice
from loaders.sampling.mixture import DatasetSize, MixedOrder
from loaders.sampling.negatives import Negatives, as_data, schedule_of
from loaders.sampling.order import rank_positions
from loaders.sampling.pairs import DRAWS
from loaders.sampling.speakers import SpeakerShare
from loaders.sampling.weights import plain
from loaders.stats import LoaderStats
from loaders.storage.cache import PATIENCE, CacheCounts, ShardCache
from loaders.stream import Steps, Stream, StreamCounts
from loaders.threads.handoff import ClosedError

_log = logging.getLogger(__name__)

#: For a GPU, whose engines decode faster than one reads; more get into each other's way.
_READING_FOR_A_GPU: Mapping[str, int] = {"threads": 2, "processes": 3}
_CLOSED_MEANWHILE = "this ClipLoader was closed by another thread while a batch was awaited"
OTHER_VIDEO: Mapping[str, float] = {"other_video": 1.0}
_IN_EVERY_BATCH: Mapping[str, str] = {
    FILMSTRIP: "in every batch, as video",
    AUDIO: "in every batch, as audio",
    GAZE: "in every batch, as gaze and gaze_valid",
}
_WHOLE = "build it again without --allow-missing"
_EPOCHS = 1 << 32  # more than anyone trains
_STEPS = 1 << 62  # more than any epoch has


Place = str | Path | Dataset  #: a dataset's folder, its URL, or the dataset, opened


class NotPicklableError(InputError, pickle.PicklingError):
    """What belongs to this process was to be pickled or copied. Whoever asks whether something can be is told so."""


class ClipLoader(IterableDataset[Batch]):
    """Iterates over a split's audio-video pairs, one epoch a loop.

    ``for batch in loader`` yields what is left of the current epoch; the next loop is the next epoch. In training,
    breaking off and looping again goes on with the next batch; otherwise every loop is a whole epoch, but for one right
    after `load_state_dict`. Closing (``with ClipLoader(...)``, `close`) ends its threads.

    Threads that loop over one epoch together get each batch once, in whatever order they ask.

    It has threads of its own, and is for the process that made it: not for a forked child, nor for the workers of a
    torch DataLoader. Where a DataLoader is asked for, ``DataLoader(loader, batch_size=None)`` is one; docs/trainers.md
    has programs for Lightning, transformers' Trainer, accelerate, plain DDP and torchdata.
    """

    def __init__(
        self,
        dataset: Place | Mapping[Place, float] | Mapping[str, float] | Mapping[Path, float] | Mapping[Dataset, float],
        split: str = "train",
        *,
        batch_size: int = 32,
        frames: int | None = None,
        stride: int = 1,
        sample: str = "window",
        seed: int = 0,
        device: str | torch.device = "cpu",
        placement: str = "auto",
        hw_decoder_load: float = 0.9,
        cpu_decoder: str = "auto",
        pixels: str = "rgb",
        rank: int | None = None,
        world_size: int | None = None,
        training: bool | None = None,
        negatives: Negatives | None = OTHER_VIDEO,
        video: bool = True,
        audio: bool = True,
        members: Sequence[str] = (),
        of_audio: Sequence[str] = (),
        targets: Sequence[str] = (),
        speakers: SpeakerShare | None = None,
        threads: int | None = None,
        reading_threads: int | None = None,
        readers: str = "auto",
        prefetch: int = 2,
        max_bad_fraction: float = 0.01,
        node_groups: int = 1,
        shard_window: int | None = None,
        cache: str | Path = CACHE,
        cache_bytes: int = 64 << 30,
        cache_patience: float = PATIENCE,
        storage_options: Mapping[str, Any] | None = None,
    ) -> None:
        """
        Args:
            dataset: folder of a built dataset, its URL in an object store (s3://, gs://, https://: any of fsspec's), or
                a `Dataset`, which loaders of one process may share; or several of them, each with its weight: how often
                an epoch passes over its clips.
            split: which part of it.
            batch_size: examples a rank and step.
            frames: of an example, at most the clips' own number, which is the default. Of datasets with restart markers
                only these are decoded.
            stride: from one frame to the next, where they are those of a window.
            sample: which frames: "window", consecutive ones or such as are a stride apart, with the audio that sounds
                under them; "random", in training, any, in rising order; "even", spread evenly over the clip. The last
                two come with the audio of the whole clip.
            seed: decides the order, the pairs, the frames and the augmentation's seeds.
            device: where batches lie: cpu, or a GPU such as cuda:0; "cuda" is the process' current one. With several
                ranks give accelerate's device, a GPU of each rank's own.
            placement: where filmstrips are decoded for a GPU: "gpu", "cpu", or "auto": on the CPU while it keeps up,
                and then on the GPU if that is faster; tried when the first batch is asked for, see
                `loaders.decode.placement`. Without DALI (extra cuda13 or cuda12) libjpeg-turbo decodes, torch copies,
                and "gpu" is refused.
            hw_decoder_load: share of the filmstrips that a GPU decodes in its JPEG engines, where it has some.
            cpu_decoder: what decodes batches on a CPU, to the same bytes: "dali", its graph; "turbo", libjpeg-turbo
                without DALI's copy, for clips with WAV, see `loaders.decode.turbo`; "auto", the second where it can.
            pixels: what a batch's frames are: "rgb"; or "yuv420", luma and halved chroma as the JPEGs hold them, which
                take half the memory and less time to decode, see `loaders.decode.planes`. On a CPU.
            rank, world_size: this process among the training's, give both or neither; by default what accelerate or
                torch.distributed says, or RANK and WORLD_SIZE in the environment before these are set up.
            training: shuffled, with random windows, and without the remainder that does not fill a global batch;
                otherwise in catalog order with the middle window, every clip exactly once over all ranks. Default:
                whether the split is "train".
            negatives: what the half of the examples that do not match take their audio from: kinds with their weights,
                see `loaders.sampling.pairs`; or a schedule, such as ``{0: {"other_video": 1}, 4: {"shifted": 1}}``,
                by the epochs from which on they hold. None gives every clip its own audio.
            video: False leaves the frames out: filmstrips are neither read nor decoded, batches hold (B, 0) in their
                place. The sound is still that of the pairs; with targets or members, which are of the clips that are
                not seen, negatives have to be None.
            audio: False leaves the sound out: batches hold (B, 0) in its place. Clips that lack what is asked for are
                refused.
            members: further arrays of the clips, such as ``("gaze_frames",)``, which come as `Batch.members` and
                `Batch.masks`.
            of_audio: those of the members that were made from the sound: in a batch they are of the clip that is heard,
                as the audio is. The others are of the clip that is seen. They are of whole clips: with windows and
                negatives of the kind shifted they are refused.
            targets: labels of the datasets, such as ``("emotion", "arousal")``: what is stated of the clips' utterances
                comes as `Batch.targets`. Several datasets have to give a label the same classes in the same order.
            speakers: one side of the split's speakers, see `loaders.sampling.speakers`: clips and their negatives are
                of these alone. None: all.
            threads: of the CPU decoders; default: the cores this process may use.
            reading_threads: that read and check clips; what is read does not depend on it. Default: 1 for a CPU, which
                decodes more slowly than one thread reads; for a GPU 3 processes, or 2 threads.
            readers: what these are: "threads" of this process; or "processes", one for each of the threads, which then
                sleep meanwhile and leave the interpreter's lock to the others; "auto", processes for a GPU.
            prefetch: batches read ahead of the decoder, batches in decoding, and decoded batches at hand.
            max_bad_fraction: share of the split's clips that may fail their checksum before the run stops.
            node_groups: into which shards and every global batch are dealt out, in training. With as many as nodes, and
                ranks numbered node by node, a shard is only read on one node, see `loaders.sampling.mixture`.
            shard_window: shards of each dataset and node group from which clips and their negatives are drawn at a
                time; None: all, a true shuffle. Of a remote dataset, two windows have to fit in the cache.
            cache: folder on a local disk for the shards of remote datasets; the processes of a machine share it.
            cache_bytes: that these shards may take; the least recently used go first. Loaders and processes that share
                the folder take turns where it is enough for each of them and not for all.
            cache_patience: seconds for which a wait for a remote shard, or for room in the cache, may pass without any
                progress; then it ends with an error that says who is in the way.
            storage_options: of the fsspec file system of datasets that are given by a URL, such as
                ``{"endpoint_url": …}``.

        Raises:
            InputError: no such dataset, split, member or label, a setting out of range, negatives that the split cannot
                offer, DALI is needed and not installed, or a worker of a torch DataLoader, each of which would yield
                every batch.
        """
        self._process = os.getpid()
        _require_own_process(self._process)
        weights = _weights(dataset)
        if not (storage_options is None or isinstance(storage_options, Mapping)):
            raise InputError(f"storage_options is {storage_options!r}: give a mapping, as {{'endpoint_url': …}}")
        if storage_options and all(isinstance(place, Dataset) for place in weights):
            raise InputError("storage_options are of no dataset that is opened already: give them to Dataset.open")
        datasets = [
            place
            if isinstance(place, Dataset)
            else Dataset.open(place, cache=cache, options=storage_options, splits=[split])
            for place in weights
        ]
        manifests = [opened.manifest for opened in datasets]
        _require_alike(datasets)
        members, targets = _names("members", members), _names("targets", targets)
        of_audio = _names("of_audio", of_audio)
        if set(of_audio) - set(members):
            raise InputError(
                f"of_audio names {min(set(of_audio) - set(members))!r}, which is none of the members: add it there"
            )
        for opened in datasets:
            _require_arrays(opened, members)
        _require_members_alike(datasets, (GAZE, *members))
        _require_targets_alike(datasets, targets)
        self._clip = clip_of(manifests)
        if frames is None:
            if sample != "window":
                raise InputError(f"sample is {sample!r}, and frames are all of a clip's: say how many frames")
            frames = self._clip.frames
        self._place_given = rank is not None or world_size is not None
        rank, world_size = _rank_and_world(rank, world_size)
        self._place = rank, world_size
        batch_size, seed = _check("batch_size", batch_size, 1, 65536), _check("seed", seed, 0, (1 << 64) - 1)
        frames = _check("frames", frames, 1, self._clip.frames)
        world_size = _check("world_size", world_size, 1, 1 << 20)
        rank = _check("rank", rank, 0, world_size - 1)
        prefetch = _check("prefetch", prefetch, 1, 64)
        threads = None if threads is None else _check("threads", threads, 1, 1024)
        reading_threads = None if reading_threads is None else _check("reading_threads", reading_threads, 1, 64)
        if readers not in get_args(Readers):
            raise InputError(f"readers is {readers!r}: use threads, processes or auto")
        node_groups = _check("node_groups", node_groups, 1, 1 << 20)
        cache_bytes = _check("cache_bytes", cache_bytes, 1, 1 << 62)
        if not plain(cache_patience) > 0:
            raise InputError(f"cache_patience is {cache_patience!r}: use a number of seconds above 0")
        shard_window = None if shard_window is None else _check("shard_window", shard_window, 1, 1 << 30)
        stride = _check("stride", stride, 1, 1 << 20)
        device = _device(device)
        self._placement = self._wanted = check_placement(placement, device)
        if not video:
            if not audio:
                raise InputError("video and audio are both False: ask for one of them")
            if negatives is not None and (targets or members):
                raise InputError(
                    "video is False, and the sound of negatives is not of the clips whose targets or members are asked "
                    "for: give negatives=None"
                )
            decoding = {"placement": placement, "cpu_decoder": cpu_decoder, "pixels": pixels}
            _require_default(hw_decoder_load=hw_decoder_load, **decoding)
        if not 0 <= plain(hw_decoder_load) <= 1:
            raise InputError(f"hw_decoder_load is {hw_decoder_load!r}: use a share from 0 to 1")
        if not 0 <= plain(max_bad_fraction) <= 1:
            raise InputError(f"max_bad_fraction is {max_bad_fraction!r}: use a share from 0 to 1")
        self._catalogs = tuple(
            opened.catalog(split, [*_members_of(opened.manifest, video, audio), *members], targets)
            for opened in datasets
        )
        if not (speakers is None or isinstance(speakers, SpeakerShare)):
            raise InputError(f"speakers is {speakers!r}: give a loaders.sampling.speakers.SpeakerShare, or None")
        if speakers is not None:
            self._catalogs = tuple(map(speakers.part, self._catalogs))
        for opened, catalog in zip(datasets, self._catalogs, strict=True):
            _require_modalities(opened, catalog, video, audio)
        self._training = split == "train" if training is None else bool(training)
        choice = frame_choice(self._clip.frames, frames, stride, sample, training=self._training)
        self._frames, self._samples = frames, window_samples(self._clip, choice.span)
        self._negatives = None if negatives is None else schedule_of(negatives)
        if of_audio and choice.span < self._clip.frames and "shifted" in _kinds(self._negatives):
            raise InputError(
                f"of_audio names {of_audio[0]!r}, which is of whole clips, and a window has {choice.span} of their "
                f"{self._clip.frames} frames: beyond the window it tells which time of the video is heard, which is "
                "what negatives of the kind shifted ask: leave out the window, shifted, or the member"
            )
        global_batch = batch_size * world_size
        with _named(f"split {split!r} of {', '.join(map(str, weights))}"):
            order = MixedOrder(
                [DatasetSize(c.shard_clips, w) for c, w in zip(self._catalogs, weights.values(), strict=True)],
                seed=seed,
                shuffle=self._training,
                global_batch=global_batch,
                node_groups=node_groups,
                window=shard_window,
            )
        self._steps = order.steps
        self._examples = order.clips
        sampler = Sampler(
            self._catalogs,
            seed=seed,
            training=self._training,
            frames=frames,
            stride=choice.stride,
            sample=choice.sample,
            negatives=negatives,
            order=order,
        )
        positions = partial(
            rank_positions, clips=order.clips, global_batch=global_batch, rank=rank, world_size=world_size
        )
        # One for all: a loader that waits for one cache with another's room in its hands might wait for ever.
        self._cache: ShardCache | None = None
        if any(opened.origin is not None for opened in datasets):
            self._cache = ShardCache(None, Path(cache) / "shards", cache_bytes, patience=cache_patience)
        sources = [
            opened.shards(catalog, self._cache) for opened, catalog in zip(datasets, self._catalogs, strict=True)
        ]
        on_gpu = device.type == "cuda"
        by_processes = readers == "processes" or (readers == "auto" and on_gpu)
        self._reader = Reader(
            self._catalogs,
            sampler,
            positions,
            max_bad_fraction,
            sources,
            video=video,
            audio=audio,
            members=members,
            of_audio=of_audio,
            targets=targets,
            page_locked=on_gpu,
            reading=nullcontext if self._cache is None else self._cache.step,
            processes=ReadingProcesses() if by_processes else None,
        )
        default = _READING_FOR_A_GPU["processes" if by_processes else "threads"] if on_gpu else 1
        self._reading_threads = reading_threads or default
        self._video, self._audio = video, audio
        self._settings = PipelineSettings(
            max_batch=batch_size,
            threads=threads or len(os.sched_getaffinity(0)),
            device=device,
            in_flight=prefetch,
            audio=audio and not self._reader.wav_rows,
            hw_decoder_load=hw_decoder_load,
            video=video,
            samples=self._samples,
        )
        in_the_way = obstacle(manifests, device, audio=audio)
        self._settings = replace(self._settings, pixels=check_pixels(pixels, manifests, cpu_decoder, in_the_way))
        on_a_cpu = on_cpu(cpu_decoder, in_the_way)
        self._choice = on_a_cpu if device.type == "cpu" else settled(self._placement)
        if not video:
            self._choice = Choice("cpu", "filmstrips are left out")
        if self._needs_dali() and not dali.is_installed():
            on_no_gpu = obstacle(manifests, torch.device("cpu"), audio=audio)
            if not video:
                on_no_gpu = on_no_gpu or "the sound's files are not of one length"
            elif device.type == "cpu":
                on_no_gpu = on_no_gpu or f"cpu_decoder is {cpu_decoder!r}"
            self._choice = without_dali(self._placement, on_no_gpu, dali.mend())
        self._slower = ""
        if video and not (choice.is_whole or self._clip.addressable):
            self._slower = (
                f"clips are decoded whole for {frames} of {self._clip.frames} frames, for want of restart markers: "
                "build the dataset anew with --restart-markers"
            )
            _log.info("%s", self._slower)
        self._prefetch = prefetch
        self._fingerprint = _fingerprint(
            manifests,
            split=split,
            weights=[*weights.values()],
            seed=seed,
            frames=frames,
            stride=choice.stride,
            sample=choice.sample,
            training=self._training,
            global_batch=global_batch,
            node_groups=node_groups,
            shard_window=shard_window,
            draws=DRAWS,
            speakers=None if speakers is None else speakers.as_data(),
            negatives=None if self._negatives is None else as_data(self._negatives),
        )
        self._epoch, self._step = 0, 0
        self._resumed = False  # whether a state was loaded, and no loop began after it
        self._loops = 0
        self._stream: Stream | None = None
        self._finalizer: weakref.finalize[..., ClipLoader] | None = None
        self._closed = False
        self._one_at_a_time = threading.Lock()  # around a batch's being taken and counted
        self._counts = StreamCounts()
        self._demand = Demand()
        self._first_batch = 0.0
        self._since: float | None = None  # when the first batch was there
        self._yielded = 0

    # -- iteration

    def __len__(self) -> int:
        """Steps an epoch, the same on every rank."""
        return self._steps

    def __iter__(self) -> Iterator[Batch]:
        """The rest of the current epoch; without training all of it, unless a state was loaded just before.

        Raises:
            TooManyBadClipsError: more clips are bad than ``max_bad_fraction`` allows.
            InputError: a shard is missing or of the wrong length; this is not the process that made the loader, or not
                the rank that it was made for.
            RuntimeError: the loader is closed, or a later loop over an evaluation has begun.
        """
        self._require_own_place()
        self._begin_loop()
        self._resumed = False
        epoch, loop = self._epoch, self._loops
        while True:
            _require_own_process(self._process)
            with self._one_at_a_time:  # of several threads each gets batches of its own
                if self._epoch != epoch:
                    return
                batch = self._next()
                # Counted before it is handed out: a checkpoint taken while the batch is in use goes on after it. And at
                # once, for an interrupt (Ctrl-C) between the two would leave a place that there is not.
                is_last = self._step + 1 >= self._steps
                self._epoch, self._step = (epoch + 1, 0) if is_last else (epoch, self._step + 1)
            ended = self._epoch != epoch
            yield batch
            if not (ended or self._training) and loop != self._loops:
                raise RuntimeError("a later loop over this evaluation has begun: make a ClipLoader for each of the two")

    def start(self) -> None:
        """Begin to read and decode what the next loop yields, while something else is done, such as restoring a model.

        Between two loops, after `load_state_dict` and `set_epoch`. Without it the first batch is begun when it is asked
        for. Where a placement is to be tried, this waits for the trial. What runs already goes on.

        Raises:
            InputError: as of a loop.
            RuntimeError: the loader is closed.
        """
        self._require_own_place()
        if self._stream is None:
            self._begin_loop()
            self._start()

    def _begin_loop(self) -> None:
        if not (self._training or self._resumed) and self._step:
            self._stop()  # what was broken off is not what is asked for now
            self._step = 0
        self._loops += 1

    def _require_own_place(self) -> None:
        """Raise InputError where this is another process, or another rank, than the loader was made for."""
        _require_own_process(self._process)
        group = _process_group()
        if not self._place_given and group is not None and group != self._place:
            rank, world = self._place
            raise InputError(
                f"this ClipLoader was made for rank {rank} of {world}, before the process group that makes it "
                f"{group[0]} of {group[1]}: make it after the group, or give rank and world_size"
            )

    def _start(self) -> Stream:
        """The threads that make the next batches, begun where there are none."""
        if self._closed:
            raise RuntimeError("this ClipLoader is closed")
        if self._stream is None:
            steps = self._placed_read()
            if self._needs_dali():
                dali.load()
                _close_before_dali_ends_at_exit()
            self._stream = Stream(
                steps,
                self._reading_threads,
                (self._epoch, self._step),
                len(self),
                self._clip,
                self._frames,
                self._settings,
                self._prefetch,
                self._counts,
            )
            self._finalizer = weakref.finalize(self, _end, self._stream, self._cache, self._reader, self._process)
            _unclosed.add(self)
            if self._closed:  # by another thread meanwhile, which had nothing to end yet
                self.close()
                raise RuntimeError(_CLOSED_MEANWHILE)
        return self._stream

    def _needs_dali(self) -> bool:
        """Whether DALI decodes, or is to be tried."""
        if not self._video:
            return self._settings.audio
        return self._choice is None or self._choice.decoder != "turbo"

    def _next(self) -> Batch:
        try:
            self._start()
        except ClosedError as error:  # a process that reads what is tried has been ended
            raise RuntimeError(_CLOSED_MEANWHILE) from error
        asked = time.perf_counter()
        try:
            loaded, frames, waveform = self._start().next()  # no name here for an error's traceback to hold
            if (loaded.epoch, loaded.step) != (self._epoch, self._step):
                # An interrupt (Ctrl-C) came when a batch had been taken and not handed out yet: once more from there.
                self._stop()
                loaded, frames, waveform = self._start().next()
        except ClosedError as error:
            raise RuntimeError(_CLOSED_MEANWHILE) from error
        except BaseException:
            # The error's traceback holds this loader, and the stream would hold the error: end it here.
            self._stop()
            raise
        if self._since is None:
            self._since = time.perf_counter()
            self._first_batch = self._since - asked
        batch = _batch(loaded, *self._tensors(loaded, frames, waveform))
        self._yielded += len(batch)
        self._turn_where_late()
        return batch

    def _turn_where_late(self) -> None:
        """Have another decoder take over from the next batch on, where there is one and this one does not keep up."""
        if self._choice is None or self._choice.instead is None:
            return
        share = self._demand.told(time.perf_counter(), self._counts.decoded.get_wait, self._counts.read.get_wait)
        if share is not None:
            self._choice = turned(self._choice, share)
            self._stop()  # the next batch's stream is made for it

    def _placed_read(self) -> Steps:
        """Settle what decodes, where that is open; returns what reads the steps from here on.

        What the trial reads is not read again, so that nothing is counted or logged twice.
        """
        if self._choice is not None:
            self._settings = replace(self._settings, decoder=self._choice.decoder)
            return self._reader
        ahead: dict[tuple[int, int], Loaded] = {}
        place = self._epoch, self._step
        for _ in range(TRIAL_BATCHES):
            ahead[place] = self._reader.read(*place)
            place = (place[0], place[1] + 1) if place[1] + 1 < self._steps else (place[0] + 1, 0)
        try:
            self._choice = self._tried(ahead.values())
        except Exception:  # decoders raise what their libraries do; the CPU's failed, too
            with faults(self._clip, self._frames, replace(self._settings, decoder="cpu")) as fault:
                whole = {step: self._reader.without_undecodable(loaded, fault) for step, loaded in ahead.items()}
            mended = {step: loaded for step, loaded in whole.items() if loaded is not None}
            if not mended:
                raise
            ahead |= mended
            self._choice = self._tried(ahead.values())
        self._settings = replace(self._settings, decoder=self._choice.decoder)
        return _ReadAhead(self._reader, ahead)

    def _tried(self, steps: Iterable[Loaded]) -> Choice:
        """What decodes, by trying it on some steps."""
        batches = [loaded.encoded for loaded in steps if len(loaded.examples)]
        if not batches:
            return Choice("cpu", "no clips fell to this rank to try")
        return choose(self._wanted, Trial(self._clip, self._frames, self._settings, batches))

    def _tensors(self, loaded: Loaded, frames: Any, waveform: Any) -> tuple[torch.Tensor, torch.Tensor]:
        clip, window, device = self._clip, self._frames, self._settings.device
        rows = loaded.encoded.rows
        video, audio = to_torch(
            *(frames, waveform, clip, window, device),
            audio=self._audio,
            pixels=self._settings.pixels,
            samples=self._samples,
        )
        if waveform is None and rows is not None and len(rows):
            audio = waveforms_on(device, rows, loaded.encoded.start, self._samples)
        if not self._video:
            video = torch.empty((len(loaded.examples), 0), dtype=torch.uint8, device=device)
        # Nothing is copied but for a GPU without DALI. It waits for the copy: libjpeg-turbo's memory is used again.
        return video.to(device), audio.to(device)

    # -- state

    @property
    def device(self) -> torch.device:
        """Where batches lie; a GPU has its index."""
        return self._settings.device

    @property
    def batch_size(self) -> int:
        """Examples a rank and step; fewer in the last step of an evaluation."""
        return self._settings.max_batch

    @property
    def examples(self) -> int:
        """Examples an epoch, over all ranks."""
        return self._examples

    @property
    def catalogs(self) -> tuple[Catalog, ...]:
        """The split's clips, a catalog a dataset; a batch's ``clip`` and ``audio_clip`` count through them."""
        return self._catalogs

    @property
    def negatives(self) -> Mapping[int, Mapping[str, float]] | None:
        """The weights of the kinds of negatives by the epoch from which on they hold; None: nothing is paired."""
        return self._negatives

    def locate(self, clip: int) -> tuple[int, int]:
        """The dataset that a batch's ``clip`` or ``audio_clip`` is of, and its row in that one's catalog."""
        return self._reader.locate(clip)

    @property
    def epoch(self) -> int:
        """The epoch of the next batch."""
        return self._epoch

    @property
    def step(self) -> int:
        """The next batch's number within its epoch."""
        return self._step

    def state_dict(self) -> dict[str, Any]:
        """Where the loader stands: the place of the next batch, and a fingerprint of what decides the order.

        Also what decodes: a run that goes on keeps to it where that is left open, and its frames are rounded as before.
        """
        return {
            "epoch": self._epoch,
            "step": self._step,
            "fingerprint": dict(self._fingerprint),
            "decoder": self._choice.decoder if self._choice is not None and self._video else None,
        }

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Go on from a saved state.

        Raises:
            InputError: it is of another dataset or of other settings, the message says what differs; or no state.
        """
        epoch, step, saved = _parse_state(state_dict)
        if saved.get("draws", 1) != DRAWS:
            raise InputError(
                f"the checkpoint was saved by a version that draws pairs in another way ({saved.get('draws', 1)}, here "
                f"{DRAWS}): resume with that version, or start anew from its weights"
            )
        differing = [name for name, value in self._fingerprint.items() if saved.get(name) != value]
        if differing:
            what = ", ".join(f"{name} was {saved.get(name)!r} and is {self._fingerprint[name]!r}" for name in differing)
            raise InputError(
                f"the checkpoint's loader differs: {what}: resume with the settings it was saved with, or load no "
                f"state and begin an epoch of this order with set_epoch({epoch + (step > 0)})"
            )
        _require_below("step", step, len(self))  # of another batch size it may be beyond, which has been said now
        self._stop()
        self._epoch, self._step = epoch, step
        self._resumed = True
        is_open = self._video and self._placement == "auto" and self._settings.device.type == "cuda"
        if is_open and self._needs_dali():  # without it there is no choice
            self._wanted, self._choice = as_before(state_dict.get("decoder"))

    def set_epoch(self, epoch: int) -> None:
        """Which epoch the next loop is over, as a DistributedSampler is told it.

        Loops count epochs by themselves: this is for code that says so all the same, and for going on with other
        settings, such as other weights of several datasets, after a whole epoch. The epoch that the loader is in
        stays where it is; any other begins with its first batch, and a loop that is under way ends.

        Raises:
            InputError: no epoch; or another than the state's that was loaded just before, whose place would be lost.
        """
        epoch = _check("epoch", epoch, 0, _EPOCHS - 1)
        if epoch == self._epoch:
            return
        if self._resumed:
            raise InputError(
                f"set_epoch({epoch}) would leave the state that was loaded, of epoch {self._epoch}, step {self._step}: "
                f"count epochs from loader.epoch on; where accelerate has prepared a DataLoader, say it set_epoch"
                f"({self._epoch}) first"
            )
        self._stop()
        self._epoch, self._step = epoch, 0

    def __reduce_ex__(self, protocol: object) -> NoReturn:
        raise NotPicklableError(
            "a ClipLoader has threads and open files of this process, and is neither pickled nor copied: make one with "
            "the same arguments where it is needed, and give it this one's state_dict(); num_workers=0 for a DataLoader"
        )

    # -- life cycle

    def close(self) -> None:
        """End the threads and let the files go. Batches that were yielded stay valid."""
        self._closed = True
        if os.getpid() != self._process:
            return  # a forked child has neither the threads nor a say in the cache, and would wait for both
        self._reader.interrupt()
        self._stop()
        if self._cache is not None:
            self._cache.close()
        self._reader.close()

    def __enter__(self) -> "ClipLoader":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def _stop(self) -> None:
        if self._stream is not None:
            if self._finalizer is not None:  # an interrupt (Ctrl-C) may have come before there was one
                self._finalizer.detach()
            if self._cache is not None:
                self._cache.cancel()  # a shard may be long in coming
            self._stream.stop()
            if self._cache is not None:
                self._cache.go_on()
            self._stream = None

    def stats(self) -> LoaderStats:
        """What the loader did so far, and who waited for whom."""
        counts, reader = self._counts, self._reader
        cached = CacheCounts() if self._cache is None else self._cache.counts
        reasons = [] if self._choice is None else [self._choice.reason, self._slower, reader.slower]
        return LoaderStats(
            clips=self._yielded,
            first_batch=self._first_batch,
            seconds=0.0 if self._since is None else time.perf_counter() - self._since,
            data_wait=max(0.0, counts.decoded.get_wait - self._first_batch),
            decoded_depth=counts.decoded.depth,
            read_depth=counts.read.depth,
            read_seconds=reader.seconds,
            check_seconds=reader.check_seconds,
            read_blocked=counts.read.put_wait,
            decode_seconds=counts.decode_seconds,
            decode_blocked=counts.decoded.put_wait,
            bytes=reader.bytes,
            cache_hits=cached.hits,
            fetched_shards=cached.fetched,
            fetched_bytes=cached.fetched_bytes,
            fetch_retries=cached.retries,
            fetch_wait=cached.wait,
            damaged_shards=cached.damaged,
            bad_clips=len(reader.bad),
            substitutions=reader.substitutions,
            searched=reader.searched,
            decoder="" if self._choice is None else self._choice.decoder,
            decoder_reason="" if self._choice is None else "; ".join(filter(None, reasons)),
            cpu_trial=0.0 if self._choice is None else self._choice.cpu,
            gpu_trial=0.0 if self._choice is None else self._choice.gpu,
        )


def _end(stream: Stream, cache: ShardCache | None, reader: Reader, process: int) -> None:
    """End the threads of a loader that nobody closed, in the process that has them."""
    if os.getpid() != process:
        return
    reader.interrupt()
    if cache is not None:
        cache.cancel()
    stream.stop()
    if cache is not None:
        cache.close()
    reader.close()


_unclosed: "weakref.WeakSet[ClipLoader]" = weakref.WeakSet()


def _close_all() -> None:
    """End the loaders that a program leaves open at its exit."""
    for loader in list(_unclosed):
        loader.close()


def _close_before_dali_ends_at_exit() -> None:
    """Once DALI is loaded: at exit loaders end before DALI ends the pipelines under their threads.

    A decoding thread takes a pipeline that was ended for a fault of a clip, and makes another. Functions that run at
    exit run last come, first served: this one is registered after DALI's. That of `weakref.finalize`, which would do
    the same, is registered by the first object of any library that has a finalizer, as a rule before DALI's.
    """
    atexit.unregister(_close_all)
    atexit.register(_close_all)


atexit.register(_close_all)


class _ReadAhead:
    """Steps of which some were read already; the others are read now."""

    def __init__(self, reader: Reader, ahead: dict[tuple[int, int], Loaded]) -> None:
        self._reader, self._ahead = reader, ahead

    def draw(self, epoch: int, step: int, settle: Callable[[], None]) -> Drawn | Loaded:
        return self._ahead.pop((epoch, step), None) or self._reader.draw(epoch, step, settle)

    def load(self, drawn: Drawn | Loaded) -> Drawn | Loaded:
        return drawn if isinstance(drawn, Loaded) else self._reader.load(drawn)

    def finish(self, drawn: Drawn | Loaded) -> Loaded:
        return drawn if isinstance(drawn, Loaded) else self._reader.finish(drawn)

    def without_undecodable(self, loaded: Loaded, fault: Fault) -> Loaded | None:
        return self._reader.without_undecodable(loaded, fault)


def _weights(dataset: Any) -> dict[Place, float]:
    """Datasets with their weights, of one or of several. Raises InputError where it is neither, or there is none."""
    if not isinstance(dataset, Mapping | str | Path | Dataset):
        raise InputError(
            f"dataset is {dataset!r}: give a folder, a URL or a Dataset, or several with their weights, as "
            '{"data/vox1": 1, "data/vox2": 0.5}'
        )
    if not isinstance(dataset, Mapping):
        return {dataset: 1.0}
    if not dataset:
        raise InputError("no dataset was given: give the folder of one")
    for place, weight in dataset.items():
        if not isinstance(place, str | Path | Dataset):
            raise InputError(f"dataset has {place!r} among the several: give a folder, a URL or a Dataset")
        if not isfinite(plain(weight)):
            raise InputError(f"{place} has weight {weight!r}: use a number above 0")
    return {place: plain(weight) for place, weight in dataset.items()}


def _check(name: str, value: int, low: int, high: int) -> int:
    """The value as Python's own number. Raises InputError where it is no whole number from ``low`` to ``high``."""
    try:
        number = operator.index(value)
    except TypeError as error:
        raise InputError(f"{name} is {value!r}: use a whole number from {low} to {high}") from error
    if not low <= number <= high:
        raise InputError(f"{name} is {number}: use {low} to {high}")
    return number


def _require_own_process(process: int) -> None:
    """Raise InputError in a process that must not use a loader made by ``process``."""
    if get_worker_info() is not None:
        raise InputError(
            "a ClipLoader in a worker of a torch DataLoader would yield every batch once a worker: it has threads of "
            "its own, give the DataLoader num_workers=0"
        )
    if os.getpid() != process:
        raise InputError(
            f"this ClipLoader is of process {process}, and a forked child has none of its threads: make one in the "
            "process that uses it"
        )


def _rank_and_world(rank: int | None, world_size: int | None) -> tuple[int, int]:
    """This process's place in the training: as given, or of the process group, or what a launcher has announced.

    Raises:
        InputError: one is given without the other, or the environment's are no numbers.
    """
    if rank is None and world_size is None:
        return _process_group() or _announced()
    if world_size is None and rank == 0:
        return 0, 1
    if world_size is None or (rank is None and world_size > 1):
        raise InputError(f"rank is {rank} and world_size {world_size}: give both, or neither")
    return rank or 0, world_size


def _process_group() -> tuple[int, int] | None:
    """Rank and world size of accelerate's or torch.distributed's group, None where there is none yet."""
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        return torch.distributed.get_rank(), torch.distributed.get_world_size()
    return None


def _announced() -> tuple[int, int]:
    """Rank and world size as torchrun and accelerate put them into the environment before there is a group."""
    rank, world_size = os.environ.get("RANK"), os.environ.get("WORLD_SIZE")
    if rank is None or world_size is None:
        return 0, 1
    try:
        return int(rank), int(world_size)
    except ValueError as error:
        raise InputError(f"RANK is {rank!r} and WORLD_SIZE {world_size!r} in the environment: unset them") from error


def _parse_state(state: Any) -> tuple[int, int, Mapping[str, Any]]:
    """Epoch, step and fingerprint of what should be a loader's state.

    Raises:
        InputError: it is none.
    """
    if not isinstance(state, Mapping) or not isinstance(state.get("fingerprint"), Mapping):
        raise InputError(f"no state of a ClipLoader: {str(state)[:80]!r}: give what its state_dict returned")
    for name, limit in (("epoch", _EPOCHS), ("step", _STEPS)):
        _require_below(name, state.get(name), limit)
    if state.get("decoder") not in (None, *get_args(Decoder)):
        raise InputError(
            f"a loader's state with the decoder {str(state['decoder'])[:80]!r}: give what its state_dict returned"
        )
    return state["epoch"], state["step"], state["fingerprint"]


def _require_below(name: str, value: Any, limit: int) -> None:
    if type(value) is not int or not 0 <= value < limit:
        raise InputError(
            f"a loader's state with the {name} {str(value)[:80]}: that is from 0 to {limit - 1}, give what its "
            "state_dict returned"
        )


def _device(name: str | torch.device) -> torch.device:
    """The device, a GPU with its index: without one it is the process' current GPU, as everywhere in torch."""
    try:
        device = torch.device(name)
    except (RuntimeError, TypeError) as error:
        raise InputError(f"device is {name!r}: use cpu or cuda:0") from error
    if device.type not in ("cpu", "cuda"):
        raise InputError(f"device is {name!r}: DALI decodes on cpu and cuda only")
    if device.type == "cpu":
        return device
    if not torch.cuda.is_available():
        raise InputError(f"device is {name!r}: there is no GPU here that torch can use: use cpu")
    index = torch.cuda.current_device() if device.index is None else device.index
    if index >= torch.cuda.device_count():
        raise InputError(f"device is {name!r}: of GPUs there are {torch.cuda.device_count()} here: count from cuda:0")
    return torch.device("cuda", index)


def _require_default(**options: Any) -> None:
    """Without filmstrips, what says how they are decoded has no effect."""
    for name, value in options.items():
        if value != inspect.signature(ClipLoader).parameters[name].default:
            raise InputError(f"{name} is {value!r} and video False, which leaves nothing for it to do: leave one out")


def _require_modalities(dataset: Dataset, catalog: Catalog, video: bool, audio: bool) -> None:
    """Every clip must have what is asked for: clips without sound, or without pictures, make no batch with it."""
    lacking = {}
    for member, wanted, mend in ((FILMSTRIP, video, "video=False"), (AUDIO, audio, "audio=False")):
        extent = catalog.members.get(member)
        missing = len(catalog) if extent is None else int((extent.size == 0).sum())
        if wanted and missing:
            lacking[member] = missing, mend
    if lacking:
        what = " and ".join(f"{missing} have no {member}" for member, (missing, _) in lacking.items())
        [mend, *more] = (mend for _, mend in lacking.values())
        mend = _WHOLE if more else f"give {mend}, or {_WHOLE}"
        raise InputError(f"{dataset}: of {len(catalog)} clips of the split {catalog.split!r} {what}: {mend}")


def _members_of(manifest: Manifest, video: bool, audio: bool) -> list[str]:
    wanted = (*((FILMSTRIP,) if video else ()), *((AUDIO,) if audio else ()), GAZE)
    return [name for name in wanted if manifest.member(name) is not None]


def _require_alike(datasets: Sequence[Dataset]) -> None:
    """Datasets of one batch must have clips of one shape."""
    first = datasets[0].manifest.clip
    for other in datasets[1:]:
        # Frames that can be cut apart and frames that cannot may be mixed: all are then taken of clips decoded whole.
        if replace(other.manifest.clip, addressable=first.addressable) != first:
            raise InputError(
                f"{other}: its clips are {other.manifest.clip}, those of {datasets[0]} {first}: build them alike"
            )


def _kinds(negatives: Mapping[int, Mapping[str, float]] | None) -> set[str]:
    """Of the negatives that some epoch has."""
    return {kind for shares in (negatives or {}).values() for kind, weight in shares.items() if weight}


def _names(option: str, given: Sequence[str]) -> tuple[str, ...]:
    """Names that were given. Raises InputError where it is one alone, or one of them comes twice."""
    if isinstance(given, str):
        raise InputError(f"{option} is {given!r}: give names in a tuple, as ({given!r},)")
    if not isinstance(given, Iterable):
        raise InputError(f"{option} is {given!r}: give names in a tuple, () for none")
    names = tuple(given)
    twice = [name for name in names if names.count(name) > 1]
    if twice:
        raise InputError(f"{option} names {twice[0]!r} twice: give each name once")
    return names


def _require_arrays(dataset: Dataset, members: Sequence[str]) -> None:
    """Only what is declared as numbers in an .npy file can be asked for beside what every batch has."""
    for name in members:
        if name in _IN_EVERY_BATCH:
            raise InputError(f"members: {name!r} is {_IN_EVERY_BATCH[name]}: leave it out")
        member = dataset.manifest.member(name)
        if member is not None and member.extension != "npy":
            raise InputError(
                f"members: {dataset} declares {name!r} as an .{member.extension}, and only arrays (.npy) can be in a "
                "batch: leave it out"
            )


def _require_members_alike(datasets: Sequence[Dataset], members: Sequence[str]) -> None:
    """Arrays of one batch must be of one shape and type of number; gaze may be missing."""
    for name in members:
        declared = [(opened, member) for opened in datasets if (member := opened.manifest.member(name)) is not None]
        for opened, member in declared:
            first = declared[0][1]
            if (member.dtype, member.shape, member.variable) != (first.dtype, first.shape, first.variable):
                raise InputError(
                    f"{opened}: its {name} is {member.dtype} {member.shape}, that of {declared[0][0]} {first.dtype} "
                    f"{first.shape}: build them alike"
                )


def _require_targets_alike(datasets: Sequence[Dataset], targets: Sequence[str]) -> None:
    """A class must have the same number in all datasets of one batch; numbers may have other ranges."""
    for name in targets:
        labels = [(opened, label) for opened in datasets if (label := opened.manifest.label(name)) is not None]
        for opened, label in labels:
            if label.classes != labels[0][1].classes:
                raise InputError(
                    f"{opened}: its label {name!r} is {_told(label)}, that of {labels[0][0]} {_told(labels[0][1])}: "
                    "build them alike, or leave it out of targets"
                )


def _told(label: Label) -> str:
    return "a number" if label.classes is None else f"one of {', '.join(label.classes)}"


@contextmanager
def _named(what: str) -> Iterator[None]:
    """Say of what a complaint is that knows only numbers."""
    try:
        yield
    except InputError as error:
        raise InputError(f"{what}: {error}") from error


def _fingerprint(manifests: Sequence[Manifest], split: str, **settings: Any) -> dict[str, Any]:
    """What decides the order: the split's bytes and the settings."""
    shards = "".join(shard.sha256 for manifest in manifests for shard in manifest.splits[split].shards)
    return {"dataset": hashlib.sha256(shards.encode()).hexdigest()[:16], "split": split, **settings}


def _batch(loaded: Loaded, video: torch.Tensor, audio: torch.Tensor) -> Batch:
    examples = loaded.examples
    columns = {
        "gaze": loaded.arrays[GAZE].values,
        "gaze_valid": loaded.arrays[GAZE].mask,
        "match": examples.match.astype(np.int64),
        "clip": examples.clip,
        "audio_clip": examples.audio_clip.copy(),
        "seed": examples.seed,
    }
    members = {name: arrays for name, arrays in loaded.arrays.items() if name != GAZE}
    groups: list[Mapping[str, NDArray[Any]]] = [
        columns,
        loaded.targets,
        {name: arrays.values for name, arrays in members.items()},
        {name: arrays.mask for name, arrays in members.items()},
    ]
    moved = iter(to_device([column for group in groups for column in group.values()], video.device))
    small, targets, values, masks = ({name: next(moved) for name in group} for group in groups)
    return Batch(video=video, audio=audio, **small, targets=targets, members=values, masks=masks)
