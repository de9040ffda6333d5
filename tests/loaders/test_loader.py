"""A loader's batches are what its catalog says, on any number of ranks, after any interruption."""

import contextlib
import errno
import gc
import itertools
import json
import logging
import os
import resource
import signal
import subprocess
import sys
import threading
import time
import weakref
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest import mock

import fsspec
import numpy as np
import pytest
import simplejpeg
import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState

import loaders.loader
from loaders import Batch, ClipLoader, InputError
from loaders.dataset.catalog import open_catalog
from loaders.dataset.shards import Shards
from loaders.decode.placement import Choice
from loaders.processes import members
from loaders.reader import Reader, TooManyBadClipsError
from loaders.sampling.speakers import SpeakerShare
from loaders.stream import Stream
from sharding.media.filmstrip import decode_filmstrip, encode_filmstrip
from sharding.media.waveform import AudioFormat, encode_waveform
from sharding.settings import BuildSettings
from tests import forked
from tests.batches import digest, digests, tensors
from tests.damage import copy_of, flip_byte, shard_of
from tests.datasets import SETTINGS, Contents, make_dataset
from tests.limits import at_most_open_files, open_files
from tests.planes import needs_libturbojpeg

ROOT = Path(__file__).parents[2]
CLIPS = {"train": 62, "test": 38}
PATIENCE = 60.0  # seconds until something that should end counts as stuck


def loader_of(dataset: Path | Mapping[Path, float], split: str = "train", **changes: Any) -> ClipLoader:
    return ClipLoader(dataset, split, **{"batch_size": 8, "seed": 3, "threads": 1, "targets": ("emotion",), **changes})


def take(loader: ClipLoader, count: int) -> list[Batch]:
    """The next batches, over the ends of epochs."""
    batches: list[Batch] = []
    while len(batches) < count:
        batches += itertools.islice(loader, count - len(batches))
    return batches


def run_of(dataset: Path | Mapping[Path, float], count: int, **changes: Any) -> list[str]:
    with loader_of(dataset, **changes) as loader:
        return digests(take(loader, count))


def own_threads() -> set[str]:
    return {thread.name for thread in threading.enumerate() if thread.name.startswith("filmstrip")}


def own_processes() -> list[int]:
    """Those that read for this one."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            command = (process / "cmdline").read_text().split("\0")
            if members.__file__ in command and str(os.getpid()) in command:
                found.append(int(process.name))
    return found


def wait_until(holds: Callable[[], bool]) -> bool:
    deadline = time.monotonic() + 10
    while not holds() and time.monotonic() < deadline:
        time.sleep(0.005)
    return holds()


@pytest.fixture(autouse=True)
def _no_thread_or_process_is_left() -> Iterator[None]:
    yield
    assert wait_until(lambda: not own_threads()), own_threads()
    assert wait_until(lambda: not own_processes()), own_processes()


# -- what a batch holds


@pytest.mark.parametrize(("split", "frames"), [("train", 16), ("train", 5), ("test", 16), ("test", 1)])
def test_a_batch_is_what_its_catalog_rows_say(dataset: Path, split: str, frames: int) -> None:
    catalog = open_catalog(dataset, split, ["filmstrip", "audio", "gaze"])
    shards = Shards(catalog)
    with loader_of(dataset, split, frames=frames) as loader:
        assert len(loader) == {"train": 7, "test": 5}[split]
        batches = list(loader)
    assert [len(batch) for batch in batches] == {"train": [8] * 7, "test": [8] * 4 + [6]}[split]
    for batch in batches:
        size = len(batch)
        described = {name: (tuple(tensor.shape), tensor.dtype) for name, tensor in tensors(batch)}
        assert described == {
            "video": ((size, frames, 32, 32, 3), torch.uint8),
            "audio": ((size, 2000 * frames), torch.float32),
            "gaze": ((size, 103), torch.float32),
            "gaze_valid": ((size,), torch.bool),
            "match": ((size,), torch.int64),
            "clip": ((size,), torch.int64),
            "audio_clip": ((size,), torch.int64),
            "seed": ((size,), torch.int64),
            "targets.emotion": ((size,), torch.int64),
        }
        clip, audio_clip = batch.clip.numpy(), batch.audio_clip.numpy()
        assert batch.gaze_valid.tolist() == (catalog.members["gaze"].size[clip] > 0).tolist()
        for row, number in enumerate(clip):
            stored = shards.read("gaze", int(number))
            expected = np.zeros(103, "<f4") if stored is None else np.frombuffer(stored.tobytes()[-412:], "<f4")
            assert batch.gaze[row].numpy().tobytes() == expected.tobytes()
        assert batch.match.sum() == size / 2
        assert (batch.match == 1).tolist() == (clip == audio_clip).tolist()
        assert (batch.match == 1).tolist() == (catalog.video[clip] == catalog.video[audio_clip]).tolist()
        assert -1 <= batch.audio.min() < -0.5
        assert 0.5 < batch.audio.max() <= 1


def test_matching_audio_is_the_sound_under_the_very_frames(dataset: Path) -> None:
    """The window of the audio moves with the window of the frames."""
    with loader_of(dataset, frames=16, negatives=None) as whole, loader_of(dataset, frames=3, negatives=None) as cut:
        clips = {int(row): (batch, at) for batch in whole for at, row in enumerate(batch.clip)}
        for batch in cut:
            for at, row in enumerate(batch.clip.tolist()):
                full, place = clips.get(row, (None, 0))
                if full is None:  # among what the other run dropped at the epoch's end
                    continue
                video, audio = full.video[place], full.audio[place]
                inner = batch.video[at, :, 1:-1]  # a frame's first and last row also show what is decoded beside it
                [first] = [f for f in range(14) if torch.equal(video[f : f + 3, 1:-1], inner)]
                assert torch.equal(audio[2000 * first : 2000 * (first + 3)], batch.audio[at])


@pytest.mark.parametrize("negatives", [None, {"other_video": 1.0}])
def test_no_two_tensors_share_memory(dataset: Path, negatives: Mapping[str, float] | None) -> None:
    with loader_of(dataset, "test", negatives=negatives) as loader:
        one, other = take(loader, 2)
    places = [tensor.data_ptr() for batch in (one, other) for _, tensor in tensors(batch)]
    assert len(set(places)) == len(places)


def test_a_batch_that_is_held_does_not_change(dataset: Path) -> None:
    with loader_of(dataset) as loader:
        held = take(loader, 30)
        before = digests(held)
        take(loader, 30)
    assert digests(held) == before


def test_a_batch_moves_to_a_device_as_a_whole(dataset: Path) -> None:
    with loader_of(dataset) as loader:
        [batch] = take(loader, 1)
    for (name, there), (same, here) in zip(tensors(batch.to("meta")), tensors(batch), strict=True):
        assert (name, there.shape, there.device.type) == (same, here.shape, "meta")
    assert digest(batch.to("cpu")) == digest(batch)


# -- order, epochs and ranks


def test_an_epoch_is_a_loop_and_the_next_loop_the_next_epoch(dataset: Path) -> None:
    with loader_of(dataset) as loader:
        epochs = [[row for batch in loader for row in batch.clip.tolist()] for _ in range(3)]
        assert (loader.epoch, loader.step) == (3, 0)
    assert [len(set(epoch)) for epoch in epochs] == [56] * 3
    assert epochs[0] != epochs[1] != epochs[2]


def test_seeds_make_other_runs_and_the_same_seed_the_same(dataset: Path) -> None:
    assert run_of(dataset, 9) == run_of(dataset, 9, threads=3, prefetch=5)
    assert not set(run_of(dataset, 9)) & set(run_of(dataset, 9, seed=4))


def test_a_seed_of_numpy_or_torch_is_its_number(dataset: Path) -> None:
    for seed in (np.int64(4), np.uint8(4), torch.tensor(4)):
        assert run_of(dataset, 1, seed=seed) == run_of(dataset, 1, seed=4)


def columns(batch: Batch) -> list[torch.Tensor]:
    return [tensor for _, tensor in tensors(batch)]


def columns_of(dataset: Path, world: int, global_batch: int, count: int, **changes: Any) -> list[list[torch.Tensor]]:
    """For every step the fields, the ranks' laid end to end."""
    ranks = []
    for rank in range(world):
        with loader_of(dataset, batch_size=global_batch // world, rank=rank, world_size=world, **changes) as loader:
            ranks.append(take(loader, count))
    return [
        [torch.cat(parts) for parts in zip(*(columns(batch) for batch in step), strict=True)]
        for step in zip(*ranks, strict=True)
    ]


@pytest.mark.parametrize(
    ("split", "global_batch", "worlds"),
    [("train", 8, (2, 4)), ("test", 8, (2, 4)), ("test", 5, (5,))],  # in the last, two ranks' last batches are empty
)
def test_any_number_of_ranks_makes_the_same_global_batches(
    dataset: Path, split: str, global_batch: int, worlds: tuple[int, ...]
) -> None:
    alone = columns_of(dataset, 1, global_batch, 11, split=split, frames=4)
    for world in worlds:
        shared = columns_of(dataset, world, global_batch, 11, split=split, frames=4)
        for one, other in zip(alone, shared, strict=True):
            assert all(torch.equal(a, b) for a, b in zip(one, other, strict=True))


@pytest.mark.parametrize(("world", "batch_size"), [(1, 8), (2, 5), (3, 7), (4, 3), (5, 1), (5, 7)])
def test_evaluation_counts_every_clip_once_on_any_number_of_ranks(dataset: Path, world: int, batch_size: int) -> None:
    seen: list[int] = []
    steps = set()
    for rank in range(world):
        with loader_of(dataset, "test", batch_size=batch_size, rank=rank, world_size=world, negatives=None) as loader:
            batches = list(loader)
            steps.add(len(batches))
            assert len(batches) == len(loader)
        seen += [row for batch in batches for row in batch.clip.tolist()]
    assert sorted(seen) == list(range(CLIPS["test"]))
    assert len(steps) == 1


def test_a_rank_without_a_clip_makes_its_steps_all_the_same(dataset: Path) -> None:
    # Of 38 clips on 5 ranks of batches of 1, the last step has 3: two ranks have none.
    sizes = []
    for rank in range(5):
        with loader_of(dataset, "test", batch_size=1, rank=rank, world_size=5) as loader:
            sizes.append([[len(batch) for batch in loader] for _ in range(2)])
    assert [sum(step) for step in zip(*(rank[1] for rank in sizes), strict=True)] == [5] * 7 + [3]
    assert sorted(rank[1][-1] for rank in sizes) == [0, 0, 1, 1, 1]
    # On 64 ranks, the first never has one.
    with loader_of(dataset, "test", batch_size=3, rank=0, world_size=64) as loader:
        for _ in range(30):
            [batch] = loader
            assert len(batch) == 0
            assert batch.video.shape == (0, 16, 32, 32, 3)


def test_the_rank_is_the_process_groups_where_there_is_one(dataset: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = run_of(dataset, 8, batch_size=4, rank=1, world_size=3)
    monkeypatch.setattr(torch.distributed, "is_initialized", lambda: True)
    monkeypatch.setattr(torch.distributed, "get_rank", lambda: 1)
    monkeypatch.setattr(torch.distributed, "get_world_size", lambda: 3)
    assert run_of(dataset, 8, batch_size=4) == expected


def ranks_and_worlds(dataset: Path, environment: Mapping[str, str], group_later: str = "") -> str:
    """What a process with these variables reads: its rows, or the error that it ends with."""
    code = f"""
import itertools, sys
from loaders import ClipLoader, InputError
try:
    with ClipLoader(sys.argv[1], batch_size=4, seed=3, threads=1) as loader:
        {group_later or "pass"}
        print([batch.clip.tolist() for batch in itertools.islice(loader, 3)])
except InputError as error:
    print(error)
"""
    process = forked.execute(code, dataset, environment={**os.environ, **environment})
    out, err = process.communicate(timeout=PATIENCE)
    assert process.returncode == 0, err
    return out.strip()


def test_before_the_process_group_the_rank_is_what_the_launcher_announced(
    dataset: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with loader_of(dataset, batch_size=4, rank=1, world_size=3) as loader:
        expected = [batch.clip.tolist() for batch in take(loader, 3)]
    assert ranks_and_worlds(dataset, {"RANK": "1", "WORLD_SIZE": "3"}) == str(expected)
    monkeypatch.setenv("WORLD_SIZE", "3")
    monkeypatch.setenv("RANK", "one")
    with pytest.raises(InputError, match="RANK is 'one'"):
        loader_of(dataset)


def test_a_process_group_that_makes_it_another_rank_is_refused(dataset: Path, tmp_path: Path) -> None:
    group = "import torch.distributed as d; d.init_process_group('gloo', init_method='file://{}', rank=0, world_size=1)"
    before_it = ranks_and_worlds(dataset, {"RANK": "1", "WORLD_SIZE": "2"}, group.format(tmp_path / "a"))
    assert "made for rank 1 of 2, before the process group that makes it 0 of 1" in before_it
    assert ranks_and_worlds(dataset, {"RANK": "0", "WORLD_SIZE": "1"}, group.format(tmp_path / "b")).startswith("[[")


def test_a_rank_without_a_world_size_is_refused(dataset: Path) -> None:
    """Every process of a training would be rank 0."""
    for given in ({"world_size": 3}, {"rank": 1}):
        with pytest.raises(InputError, match="give both, or neither"):
            loader_of(dataset, **given)


# -- the process that made it


@pytest.mark.parametrize("yielded", [0, 1])
def test_a_forked_child_is_refused_and_disturbs_nothing(dataset: Path, yielded: int) -> None:
    whole = run_of(dataset, 7)
    with loader_of(dataset) as loader:
        found = digests(take(loader, yielded))
        child = os.fork()
        if child == 0:  # no assertion here: what is said is the exit status
            signal.alarm(20)
            status = 1
            with contextlib.suppress(BaseException):
                try:
                    next(iter(loader))
                except InputError as error:
                    status = 0 if "forked child" in str(error) else 2
                loader.close()
            os._exit(status)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        found += digests(take(loader, 7 - yielded))
    assert found == whole


IN_A_WORKER = """
import multiprocessing, os, sys, torch
from loaders import ClipLoader, InputError
class Wrapper(torch.utils.data.IterableDataset):  # the one that everyone writes first
    def __init__(self, loader): self.loader = loader
    def __iter__(self):
        for batch in self.loader or ClipLoader(sys.argv[1], batch_size=8): yield batch.clip
def of(wrapper, workers):
    try:
        return len(list(torch.utils.data.DataLoader(wrapper, batch_size=None, num_workers=workers)))
    except InputError as error:
        return "num_workers=0" in str(error)
with ClipLoader(sys.argv[1], batch_size=8) as loader:
    print(of(Wrapper(loader), 0), of(Wrapper(loader), 2), of(Wrapper(None), 2), flush=True)
for worker in multiprocessing.active_children(): worker.kill()  # torch would wait seconds for workers that failed, and
os._exit(0)  # one that starts after its parent has ended would wait for ever, with these pipes open
"""


def test_the_workers_of_a_torch_data_loader_are_refused(dataset: Path) -> None:
    """Be the loader made before them or in them. (In a process of its own: a fork takes no threads of other tests.)"""
    process = forked.execute(IN_A_WORKER, dataset)
    out, err = process.communicate(timeout=PATIENCE)
    assert process.returncode == 0, err
    assert out.split() == ["7", "True", "True"]


def test_a_torch_data_loader_without_workers_hands_on_its_batches(dataset: Path) -> None:
    """As they are, also with its length: a ClipLoader is an IterableDataset of batches."""
    with loader_of(dataset) as loader:
        whole = digests(loader)
        again = torch.utils.data.DataLoader(loader, batch_size=None)
        assert len(again) == len(whole)
        loader.load_state_dict({**loader.state_dict(), "epoch": 0})
        assert digests(again) == whole


def test_a_batch_as_keyword_arguments_is_the_same_batch(dataset: Path) -> None:
    with loader_of(dataset) as loader:
        batch = next(iter(loader))
    named = batch.as_dict()
    again = Batch(**named)
    assert all(one is other for one, other in zip(columns(again), columns(batch), strict=True))
    assert named["targets"] == batch.targets


@pytest.mark.parametrize(("split", "examples"), [("train", 56), ("test", 38)])
@pytest.mark.parametrize("world_size", [1, 2])
def test_it_knows_the_examples_of_an_epoch(dataset: Path, split: str, examples: int, world_size: int) -> None:
    """Over all ranks; in training the remainder that fills no global batch is left out."""
    share = {"batch_size": 8 // world_size, "world_size": world_size}
    found = 0
    for rank in range(world_size):
        with loader_of(dataset, split, rank=rank, **share) as loader:
            assert (loader.batch_size, loader.examples) == (8 // world_size, examples)
            found += sum(len(batch) for batch in loader)
    assert found == examples


# -- going on where it was


def test_a_run_can_go_on_from_every_step(dataset: Path) -> None:
    """Among them the ends of epochs, with the state through JSON, as a checkpoint might hold it."""
    steps, tail = 7, 4
    whole = run_of(dataset, 2 * steps + 1 + tail, frames=6)
    with loader_of(dataset, frames=6) as loader:
        states = [loader.state_dict()]
        for _ in range(2 * steps + 1):
            take(loader, 1)
            states.append(json.loads(json.dumps(loader.state_dict())))
    for done, state in enumerate(states):
        assert (state["epoch"], state["step"]) == divmod(done, steps)
        with loader_of(dataset, frames=6) as loader:
            loader.load_state_dict(state)
            assert digests(take(loader, tail)) == whole[done : done + tail], done


def test_a_run_can_go_on_with_another_number_of_ranks(dataset: Path) -> None:
    whole = columns_of(dataset, 1, 8, 12)
    for before, after in ((1, 2), (2, 4), (4, 1)):
        for stop in (3, 7):
            with loader_of(dataset, batch_size=8 // before, rank=before - 1, world_size=before) as loader:
                take(loader, stop)
                state = loader.state_dict()
            ranks = []
            for rank in range(after):
                with loader_of(dataset, batch_size=8 // after, rank=rank, world_size=after) as loader:
                    loader.load_state_dict(state)
                    ranks.append(take(loader, 3))
            for number, step in enumerate(zip(*ranks, strict=True)):
                for parts, column in zip(zip(*map(columns, step), strict=True), whole[stop + number], strict=True):
                    assert torch.equal(torch.cat(parts), column)


def test_breaking_off_and_looping_again_goes_on_with_the_next_batch(dataset: Path) -> None:
    whole = run_of(dataset, 14)
    found: list[str] = []
    lengths = []
    with loader_of(dataset) as loader:
        for stop in (1, 3, 99, 2, 99):
            before = len(found)
            for batch in loader:
                found.append(digest(batch))
                if len(found) - before == stop:
                    break
            lengths.append(len(found) - before)
    assert lengths == [1, 3, 3, 2, 5]
    assert found == whole


def test_every_loop_over_an_evaluation_is_whole(dataset: Path) -> None:
    """Whatever was broken off before: a sanity check looks at two batches, and then comes the evaluation."""
    whole = run_of(dataset, 5, split="test")
    with loader_of(dataset, "test") as loader:
        for stop in (2, 4, 1):
            digests(itertools.islice(loader, stop))
            assert (loader.epoch, loader.step) == (0, stop)
        state = loader.state_dict()
        assert digests(loader) == whole
        assert (loader.epoch, loader.step) == (1, 0)
        loader.load_state_dict(state)
        assert digests(loader) == whole[1:]
        loader.load_state_dict(state)
        digests(itertools.islice(loader, 2))
        older = iter(loader)
        assert digest(next(older)) == whole[0]
        assert digests(loader) == whole
        with pytest.raises(RuntimeError, match="later loop"):
            next(older)


def test_a_state_of_a_smaller_batch_is_refused_for_that(dataset: Path) -> None:
    """Although its step may also lie beyond the epoch: it is the setting that is to be mended."""
    with loader_of(dataset) as small, loader_of(dataset, batch_size=16) as large:
        take(small, len(large) + 1)
        with pytest.raises(InputError, match="global_batch was 8 and is 16: resume with the settings"):
            large.load_state_dict(small.state_dict())


def test_what_is_no_state_is_refused(dataset: Path) -> None:
    with loader_of(dataset) as loader:
        good = loader.state_dict()
        for odd in ({}, None, [], "state", {"epoch": 0, "step": 0}, {**good, "fingerprint": None}):
            with pytest.raises(InputError, match="no state of a ClipLoader"):
                loader.load_state_dict(odd)  # type: ignore[arg-type]
        for name, values in {"step": (-1, 7, 10**9), "epoch": (-1, 2**70, 1.7, "3", True, None)}.items():
            for value in values:
                with pytest.raises(InputError, match=f"state with the {name} {value}"):
                    loader.load_state_dict({**good, name: value})
        with pytest.raises(InputError, match="decoder 'abacus'"):
            loader.load_state_dict({**good, "decoder": "abacus"})
        assert loader.state_dict() == good


def test_a_state_can_be_loaded_into_a_loader_that_runs(dataset: Path) -> None:
    whole = run_of(dataset, 12)
    with loader_of(dataset) as loader:
        take(loader, 2)
        state = loader.state_dict()
        for _ in range(3):
            take(loader, 6)
            loader.load_state_dict(state)
            assert digests(take(loader, 2)) == whole[2:4]
        assert digests(take(loader, 8)) == whole[4:]


def test_accelerate_saves_and_restores_a_loader(dataset: Path, tmp_path: Path) -> None:
    accelerator = Accelerator(cpu=True)
    try:
        with loader_of(dataset) as loader, loader_of(dataset) as other:
            accelerator.register_for_checkpointing(loader)
            take(loader, 10)
            accelerator.save_state(str(tmp_path))
            expected = digests(take(loader, 5))
            again = Accelerator(cpu=True)
            again.register_for_checkpointing(other)
            again.load_state(str(tmp_path))
            assert digests(take(other, 5)) == expected
    finally:
        AcceleratorState._reset_state(reset_partial_state=True)


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"seed": 4}, "seed was 3 and is 4"),
        ({"frames": 5}, "frames was 16 and is 5"),
        ({"batch_size": 4}, "global_batch was 8 and is 4"),
        ({"rank": 0, "world_size": 2}, "global_batch was 8 and is 16"),
        ({"split": "test"}, "split was 'train' and is 'test'"),
        ({"training": False}, "training was True and is False"),
        ({"negatives": None}, "negatives was {'other_video': 1.0} and is None"),
        ({"negatives": {"shifted": 1.0, "other_video": 1.0}}, "negatives was"),
    ],
)
def test_a_state_of_other_settings_is_refused_with_what_differs(
    dataset: Path, changes: dict[str, Any], named: str
) -> None:
    with loader_of(dataset) as loader, loader_of(dataset, **changes) as other:
        with pytest.raises(InputError) as refused:
            other.load_state_dict(loader.state_dict())
        assert named in str(refused.value)
        assert "\n" not in str(refused.value)
        assert (other.epoch, other.step) == (0, 0)


def test_a_state_of_another_dataset_is_refused(dataset: Path, tmp_path: Path) -> None:
    contents = Contents(speakers={"train": 4}, shards={"train": 1}, seed=1)
    make_dataset(tmp_path / "other", contents)
    with loader_of(dataset) as loader:
        state = loader.state_dict()
    with loader_of(tmp_path / "other") as other, pytest.raises(InputError, match="dataset was"):
        other.load_state_dict(state)


# -- bad clips


def test_bad_clips_are_replaced_alike_in_every_run_and_counted(dataset: Path, tmp_path: Path) -> None:
    copy = copy_of(dataset, tmp_path / "copy")
    for row in (4, 17, 40):
        flip_byte(copy, "train", row)
    with loader_of(copy, max_bad_fraction=0.1) as loader:
        found = take(loader, 14)
        assert loader.stats().bad_clips == 3
        assert loader.stats().substitutions >= 4
    assert not {4, 17, 40} & {row for batch in found for row in batch.clip.tolist()}
    assert all(batch.match.sum() == 4 for batch in found)
    again = run_of(copy, 14, max_bad_fraction=0.1)
    assert digests(found) == again
    whole = run_of(dataset, 14)
    assert 8 <= sum(one == other for one, other in zip(whole, again, strict=True)) < 14


def test_as_many_bad_clips_are_counted_as_there_are(tmp_path: Path, full: bool) -> None:
    """24 of 500 or so; with ``--full`` of 5,000."""
    contents = Contents(speakers={"train": 450 if full else 45}, shards={"train": 16}, seed=11)
    clips = make_dataset(tmp_path / "rotten", contents, BuildSettings(size=16)).splits["train"].clips
    assert clips > (4_900 if full else 490)
    rotten = np.random.default_rng(1).choice(clips, 24, replace=False)
    for row in rotten.tolist():
        flip_byte(tmp_path / "rotten", "train", row)
    runs = []
    for _ in range(2):
        with loader_of(tmp_path / "rotten", batch_size=20, max_bad_fraction=0.06, threads=2, frames=1) as loader:
            batches = take(loader, 2 * len(loader) + 1)
            assert loader.stats().bad_clips == 24
        drawn = [(batch.clip.tolist(), batch.audio_clip.tolist(), batch.match.tolist()) for batch in batches]
        assert not set(rotten.tolist()) & {row for clip, _, _ in drawn for row in clip}
        assert all(sum(match) == 10 for _, _, match in drawn)
        runs.append((drawn, digests(batches)))
    assert runs[0] == runs[1]


@pytest.mark.parametrize("threads", [1, 2, 4])
def test_too_many_bad_clips_end_the_run_after_the_batches_before(dataset: Path, tmp_path: Path, threads: int) -> None:
    copy = copy_of(dataset, tmp_path / "copy")
    whole = run_of(dataset, 7)
    with loader_of(dataset) as loader:
        fifth = take(loader, 5)[-1]
    flip_byte(copy, "train", int(fifth.clip[3]))
    found: list[str] = []
    with loader_of(copy, max_bad_fraction=0.0, reading_threads=threads) as loader:
        with pytest.raises(TooManyBadClipsError, match="1 of 62 clips"):
            found.extend(digest(batch) for batch in loader)
        assert found == whole[:4]
        assert (loader.epoch, loader.step) == (0, 4)


@pytest.mark.parametrize(("readers", "threads"), [("threads", 2), ("threads", 4), ("processes", 1), ("processes", 3)])
@pytest.mark.parametrize("split", ["train", "test"])
def test_whatever_reads_batches_and_counts_are_the_same(
    dataset: Path, tmp_path: Path, readers: str, threads: int, split: str
) -> None:
    copy = copy_of(dataset, tmp_path / "copy")
    for row in range(2, 38, 5):
        flip_byte(copy, split, row, ("filmstrip", "audio")[row % 2])

    def outcome(**options: Any) -> tuple[list[str], list[str], tuple[int, ...], dict[str, Any]]:
        with loader_of(copy, split, max_bad_fraction=0.5, **options) as loader:
            found = digests(take(loader, 3 * len(loader)))
            state = loader.state_dict()
            take(loader, 1)  # of what is read ahead, a count says nothing
            stats = loader.stats()
            assert len(own_processes()) == (threads if options["readers"] == "processes" else 0)
            return found, sorted(loader._reader.bad.values()), (stats.bad_clips, stats.bytes > 0), state

    whole = outcome(readers="threads", reading_threads=1)
    assert outcome(readers=readers, reading_threads=threads) == whole
    assert whole[2] == (8, True)


@pytest.mark.parametrize(
    "options", [{}, {"frames": 5}, {"video": False, "targets": ()}, {"audio": False}, {"cpu_decoder": "turbo"}]
)
def test_processes_read_what_is_asked_for(dataset: Path, options: dict[str, Any]) -> None:
    if "video" in options:
        options = {**options, "negatives": None}
    assert run_of(dataset, 9, readers="processes", reading_threads=2, **options) == run_of(dataset, 9, **options)


def test_a_reading_process_that_was_killed_is_said_and_takes_nothing_with_it(
    dataset: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with loader_of(dataset, readers="processes", reading_threads=2, prefetch=1) as loader:
        found = digests(take(loader, 3))
        for pid in own_processes():
            os.kill(pid, signal.SIGKILL)
        found += digests(take(loader, 30))
        assert "times threads read in the place of processes" in loader.stats().decoder_reason
    assert "was ended by signal 9" in caplog.text
    assert found == run_of(dataset, 33)


def test_where_no_memory_can_be_shared_threads_read_until_it_can(
    dataset: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    create, refused = os.memfd_create, [True]

    def sometimes(*given: Any) -> int:
        if refused:
            raise PermissionError(errno.EPERM, os.strerror(errno.EPERM))
        return create(*given)

    monkeypatch.setattr(os, "memfd_create", sometimes)
    with loader_of(dataset, readers="processes", reading_threads=2) as loader:
        found = digests(take(loader, 9))
        assert own_processes() == []
        refused.clear()
        found += digests(take(loader, 9))
        assert own_processes() != []
        assert "times threads read in the place of processes" in loader.stats().decoder_reason
    assert caplog.text.count("no memory can be shared with the processes that read (Operation not permitted)") == 1
    assert found == run_of(dataset, 18)


def test_by_default_threads_read_for_a_cpu(dataset: Path) -> None:
    with loader_of(dataset) as loader:
        take(loader, 1)
        assert own_processes() == []


@pytest.mark.parametrize(
    ("readers", "threads"), [("threads", 1), ("threads", 2), ("threads", 4), ("processes", 1), ("processes", 3)]
)
def test_remote_shards_are_read_window_by_window(dataset: Path, tmp_path: Path, readers: str, threads: int) -> None:
    url, biggest = f"memory://{tmp_path.name}", max(path.stat().st_size for path in dataset.glob("train/*.tar"))
    fsspec.filesystem("memory").put(str(dataset), f"/{tmp_path.name}", recursive=True)
    options: dict[str, Any] = {"shard_window": 1, "cache": tmp_path / "cache", "cache_bytes": 2 * biggest + 1}
    with loader_of(url, readers=readers, reading_threads=threads, **options) as loader:  # type: ignore[arg-type]
        found = digests(take(loader, 30))
        assert loader.stats().fetched_shards >= 4
    assert found == run_of(dataset, 30, shard_window=1)


@pytest.mark.parametrize(("windows", "is_said"), [(2, False), (1, True), (0.6, True)])
def test_a_cache_too_small_for_two_windows_is_said_once(
    dataset: Path, tmp_path: Path, windows: float, is_said: bool, caplog: pytest.LogCaptureFixture
) -> None:
    """Shards are fetched again and again, those at windows' borders or all, and a store sends a bill for each time."""
    fsspec.filesystem("memory").put(str(dataset), f"/{tmp_path.name}", recursive=True)
    biggest = max(path.stat().st_size for path in dataset.glob("train/*.tar"))
    options: dict[str, Any] = {"cache": tmp_path / "cache", "cache_bytes": int(windows * 2 * biggest) + 1}
    with loader_of(f"memory://{tmp_path.name}", shard_window=2, **options) as loader:  # type: ignore[arg-type]
        found = digests(take(loader, 14))
    assert found == run_of(dataset, 14, shard_window=2)
    said = [record.getMessage() for record in caplog.records if "fetched again and again" in record.getMessage()]
    assert len(said) == is_said
    assert all("raise it, or lower shard_window" in line for line in said)


def test_a_missing_shard_ends_the_run_in_one_line(dataset: Path, tmp_path: Path) -> None:
    copy = copy_of(dataset, tmp_path / "copy")
    path = shard_of(copy, "train", 0)
    path.unlink()
    with loader_of(copy) as loader:
        for _ in range(2):  # trying again does not make it better
            with pytest.raises(InputError, match=path.name):
                take(loader, 7)


# -- life cycle


def test_two_loaders_at_once_do_not_disturb_each_other(dataset: Path) -> None:
    expected = run_of(dataset, 9), run_of(dataset, 9, split="test", frames=3)
    with loader_of(dataset) as one, loader_of(dataset, "test", frames=3) as other:
        epochs = itertools.chain.from_iterable(itertools.repeat(other))  # loop after loop, each whole
        found = [(digest(take(one, 1)[0]), digest(next(epochs))) for _ in range(9)]
    assert tuple(map(list, zip(*found, strict=True))) == expected


def test_an_exception_in_the_consumer_ends_the_threads_and_passes(dataset: Path) -> None:
    loader = loader_of(dataset)

    def train() -> None:
        with loader:
            for batch in loader:
                assert own_threads()
                assert len(batch) // 0

    with pytest.raises(ZeroDivisionError):
        train()
    assert not own_threads()
    with pytest.raises(RuntimeError, match="closed"):
        take(loader, 1)


def test_a_loader_can_be_closed_at_any_moment_and_twice(dataset: Path) -> None:
    for count in (0, 0, 1, 2, 7):
        loader = loader_of(dataset)
        held = take(loader, count)
        before = digests(held)
        loader.close()
        loader.close()
        assert not own_threads()
        assert digests(held) == before


def test_closing_lets_the_files_go(dataset: Path, tmp_path: Path) -> None:
    copy = copy_of(dataset, tmp_path / "copy")
    with loader_of(copy) as loader:
        take(loader, 7)
    assert not [path for path in open_files() if path.is_relative_to(copy) and path.suffix == ".tar"]


def test_closing_lets_the_memory_go_that_is_shared_with_processes(dataset: Path) -> None:
    """A file each, which a program that keeps its closed loaders would run out of."""
    before = len(list(Path("/proc/self/fd").iterdir()))
    loader = loader_of(dataset, readers="processes")
    held = take(loader, 3)
    said = digests(held)
    loader.close()
    assert digests(held) == said
    held.clear()
    assert wait_until(lambda: len(list(Path("/proc/self/fd").iterdir())) <= before)


def test_a_loader_that_is_closed_while_it_starts_leaves_no_thread(
    dataset: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By another thread; a trial of a GPU's placement takes seconds."""

    def closing(*given: Any) -> Stream:
        loader.close()
        return Stream(*given)

    monkeypatch.setattr("loaders.loader.Stream", closing)
    loader = loader_of(dataset)
    with pytest.raises(RuntimeError, match="closed by another thread"):
        take(loader, 1)
    assert not own_threads()


def test_an_interrupt_while_threads_start_leaves_none(dataset: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    start = threading.Thread.start

    def interrupted(self: threading.Thread) -> None:
        if self.name == "filmstrip-decode":
            raise KeyboardInterrupt
        start(self)

    expected = run_of(dataset, 2)
    with loader_of(dataset) as loader:
        with monkeypatch.context() as patch:
            patch.setattr(threading.Thread, "start", interrupted)
            with pytest.raises(KeyboardInterrupt):
                take(loader, 1)
        assert not own_threads()
        assert digests(take(loader, 2)) == expected


def test_an_interrupt_just_after_threads_started_lets_close_end_them(
    dataset: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    loader = loader_of(dataset)
    with monkeypatch.context() as patch:
        patch.setattr("loaders.loader.weakref.finalize", mock.Mock(side_effect=KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            take(loader, 1)
    loader.close()
    assert not own_threads()


@pytest.mark.parametrize("interrupted", [0, 3, 6, 7])
def test_after_an_interrupt_the_loop_goes_on_with_the_batch_that_was_not_handed_out(
    dataset: Path, monkeypatch: pytest.MonkeyPatch, interrupted: int
) -> None:
    """As in a notebook: Ctrl-C, and the cell once more."""
    expected, made, batch_of = run_of(dataset, 10), itertools.count(), loaders.loader._batch

    def interrupting(*given: Any) -> Batch:
        if next(made) == interrupted:
            raise KeyboardInterrupt
        return batch_of(*given)

    with loader_of(dataset) as loader:
        monkeypatch.setattr("loaders.loader._batch", interrupting)
        seen = digests(take(loader, interrupted))
        with pytest.raises(KeyboardInterrupt):
            take(loader, 1)
        state = loader.state_dict()
        seen += digests(take(loader, 10 - interrupted))
    assert seen == expected
    with loader_of(dataset) as loader:
        loader.load_state_dict(state)
        assert digests(take(loader, 10 - interrupted)) == expected[interrupted:]


def test_threads_that_share_a_loader_get_each_batch_once(dataset: Path) -> None:
    with loader_of(dataset, batch_size=2) as loader:
        expected = digests(take(loader, len(loader)))
    seen: list[str] = []
    in_one_epoch = threading.Barrier(4)

    def use() -> None:
        batches = iter(loader)
        seen.append(digest(next(batches)))
        in_one_epoch.wait()
        seen.extend(map(digest, batches))

    with loader_of(dataset, batch_size=2) as loader:
        threads = [threading.Thread(target=use) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert sorted(seen) == sorted(expected)


def test_a_loader_that_nobody_holds_any_more_ends_its_threads(dataset: Path) -> None:
    loader = loader_of(dataset)
    take(loader, 2)
    gone = weakref.ref(loader)
    del loader
    assert gone() is None
    assert not own_threads()


def test_a_loader_that_failed_and_that_nobody_holds_any_more_ends_its_threads(dataset: Path, tmp_path: Path) -> None:
    copy = copy_of(dataset, tmp_path / "copy")
    for path in (copy / "train").glob("*.tar"):
        path.unlink()
    loader = loader_of(copy)
    with pytest.raises(InputError):
        take(loader, 1)
    gone = weakref.ref(loader)
    del loader
    gc.collect()
    assert gone() is None


def test_a_loader_may_be_found_unreachable_in_its_own_thread(dataset: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The collector of cycles runs in whatever thread allocates."""
    draw, dropped, collected = Reader.draw, threading.Event(), threading.Event()

    def collecting(self: Reader, epoch: int, step: int, settle: Callable[[], None]) -> Any:
        if step >= 4:  # ahead of the first batch, and of what is held up until another is asked for
            dropped.wait(10)
            gc.collect()
            collected.set()
        return draw(self, epoch, step, settle)

    monkeypatch.setattr(Reader, "draw", collecting)
    loader = loader_of(dataset, batch_size=2)
    cycle: list[Any] = [loader]
    cycle.append(cycle)
    stream = loader
    take(stream, 1)
    gc.disable()
    try:
        dropped.set()
        del loader, stream, cycle
        assert collected.wait(5)
        assert wait_until(lambda: not own_threads())
    finally:
        gc.enable()


def test_batches_may_come_from_more_shards_than_a_process_may_open_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A sixteenth of the usual 1,024 files and of a batch of 256: what is read and not yet decoded counts too."""
    contents = Contents(speakers={"train": 100}, shards={"train": 100}, videos=1, utterances=1, clips=1)
    make_dataset(tmp_path / "many", contents, BuildSettings(size=16, clip_seconds=0.5, fps=4))
    monkeypatch.setattr("loaders.dataset.shards._OPEN", 16)
    with at_most_open_files(len(open_files()) + 64):
        assert len(run_of(tmp_path / "many", 12, batch_size=16)) == 12


def test_a_long_run_over_a_tiny_dataset_leaks_nothing(tmp_path: Path) -> None:
    contents = Contents(speakers={"train": 4}, shards={"train": 2}, videos=1, utterances=2, clips=1)
    make_dataset(tmp_path / "tiny", contents)

    def holdings() -> tuple[int, ...]:
        gc.collect()
        # Of shared memory, what is named after this process: other tests have some of their own.
        shared = [path for path in Path("/dev/shm").iterdir() if str(os.getpid()) in path.name]
        return threading.active_count(), len(list(Path("/proc/self/fd").iterdir())), len(shared)

    def resident() -> int:
        return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()

    with loader_of(tmp_path / "tiny", batch_size=4) as loader:
        for _ in range(50):
            assert sum(1 for _ in loader) == 2
        before, memory = holdings(), resident()
        for _ in range(200):
            assert sum(1 for _ in loader) == 2
        assert holdings() == before
        assert resident() - memory < 16e6  # 400 batches of 650 kB went by
        assert loader.epoch == 250
    before, memory = holdings(), resident()
    for _ in range(20):
        with loader_of(tmp_path / "tiny", batch_size=4) as loader:
            take(loader, 1)
    assert holdings() == before
    assert resident() - memory < 16e6


def run_python(script: str, *arguments: object) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", script, *map(str, arguments)]
    return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


UNCLOSED = """
import itertools, sys
from loaders import ClipLoader
from tests.batches import digests
options = dict(batch_size=8, seed=3, threads=2, frames=9, targets=["emotion"], readers=sys.argv[2])
loader = ClipLoader(sys.argv[1], **options)
print(*digests([*loader, *itertools.islice(loader, 4)]))
"""


@pytest.mark.parametrize("readers", ["threads", "processes"])
def test_another_process_makes_the_same_batches_and_ends_though_it_never_closes_its_loader(
    dataset: Path, readers: str
) -> None:
    process = run_python(UNCLOSED, dataset, readers)
    expected = run_of(dataset, 11, frames=9)
    output, errors = process.communicate(timeout=PATIENCE)
    assert (process.returncode, errors) == (0, "")
    assert output.split() == expected


BUSY_AT_EXIT = """
import sys, threading, time, weakref
from tests.batches import digest
weakref.finalize(digest, print)  # as torch and others have them: these run after what DALI does at exit
from nvidia.dali.pipeline import Pipeline
from loaders import ClipLoader
shutdown = Pipeline._shutdown
def slow_shutdown(self):
    shutdown(self)
    time.sleep(0.5)  # for a decoding thread to see that its pipeline has ended
Pipeline._shutdown = slow_shutdown
loader = ClipLoader(sys.argv[1], batch_size=8, seed=3, threads=2, frames=9, cpu_decoder="dali")
busy = threading.Event()
def consume():
    try:
        while True:
            for batch in loader:
                busy.set()
    except RuntimeError as error:
        print(error)
threading.Thread(target=consume, daemon=True).start()
busy.wait()
"""


def test_a_loader_that_is_busy_at_exit_ends_before_its_decoder_does(dataset: Path) -> None:
    process = run_python(BUSY_AT_EXIT, dataset)
    output, errors = process.communicate(timeout=PATIENCE)
    assert (process.returncode, errors) == (0, "")
    assert "closed" in output


UNTIL_KILLED = """
import json, os, sys
from loaders import ClipLoader
from tests.batches import digest
loader = ClipLoader(sys.argv[1], batch_size=8, seed=3, threads=1, targets=["emotion"])
while True:
    for batch in loader:
        with open(sys.argv[2] + ".new", "w") as file:
            json.dump(loader.state_dict(), file)
        os.replace(sys.argv[2] + ".new", sys.argv[2])
        print(digest(batch), flush=True)
"""


def test_a_killed_run_goes_on_from_its_last_state(dataset: Path, tmp_path: Path) -> None:
    process = forked.execute(UNTIL_KILLED, dataset, tmp_path / "state.json")
    seen = process.lines(11)
    process.kill()
    process.communicate(timeout=PATIENCE)
    assert process.returncode == -signal.SIGKILL
    state = json.loads((tmp_path / "state.json").read_text())
    done = 7 * state["epoch"] + state["step"]
    assert done >= 11
    whole = run_of(dataset, done + 8)
    assert seen == whole[:11]
    with loader_of(dataset) as loader:
        loader.load_state_dict(state)
        assert digests(take(loader, 8)) == whole[done:]


UNTIL_INTERRUPTED = """
import signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)  # the process that runs the tests may have it ignored
from loaders import ClipLoader
loader = ClipLoader(sys.argv[1], batch_size=8, threads=1)
while True:
    for batch in loader:
        print(loader.step, flush=True)
"""


@pytest.mark.parametrize(("sign", "last"), [(signal.SIGINT, "KeyboardInterrupt"), (signal.SIGTERM, "")])
def test_an_interrupted_run_ends_at_once(dataset: Path, sign: signal.Signals, last: str) -> None:
    process = run_python(UNTIL_INTERRUPTED, dataset)
    assert process.stdout is not None
    process.stdout.readline()
    process.send_signal(sign)
    _, errors = process.communicate(timeout=PATIENCE)
    assert process.returncode == -sign
    assert errors.rstrip().endswith(last)


# -- statistics


def test_the_statistics_add_up(dataset: Path) -> None:
    with loader_of(dataset) as loader:
        assert loader.stats().clips == 0
        assert loader.stats().clips_per_second == 0
        take(loader, 10)
        time.sleep(0.2)
        take(loader, 1)
        # What the decoding thread waited while the consumer slept is counted once it goes on.
        assert wait_until(lambda: loader.stats().decode_blocked > 0.1)
        stats = loader.stats()
    assert stats.clips == 88
    assert 0.2 < stats.seconds < PATIENCE
    assert stats.clips_per_second == pytest.approx(88 / stats.seconds)
    assert 0 <= stats.data_wait <= stats.seconds
    assert stats.data_wait_share == pytest.approx(stats.data_wait / stats.seconds)
    assert stats.bytes >= 88 * 64_000
    assert 0 < stats.check_seconds < stats.read_seconds
    assert stats.decode_seconds > 0
    assert 0 <= stats.decoded_depth <= 2
    assert (stats.bad_clips, stats.substitutions) == (0, 0)


# -- refusals


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"batch_size": 0}, "batch_size is 0"),
        ({"batch_size": -3}, "batch_size is -3"),
        ({"batch_size": 63}, "fewer than one global batch of 63"),
        ({"batch_size": 32, "rank": 1, "world_size": 2}, "fewer than one global batch of 64"),
        ({"frames": 0}, "frames is 0"),
        ({"frames": 17}, "frames is 17"),
        ({"world_size": 0}, "world_size is 0"),
        ({"rank": -1, "world_size": 2}, "rank is -1"),
        ({"rank": 2, "world_size": 2}, "rank is 2"),
        ({"rank": 1}, "rank is 1"),
        ({"prefetch": 0}, "prefetch is 0"),
        ({"threads": -1}, "threads is -1"),
        ({"threads": 0}, "threads is 0"),
        ({"shard_window": 0}, "shard_window is 0"),
        ({"batch_size": 2.0}, "batch_size is 2.0: use a whole number"),
        ({"seed": -1}, "seed is -1"),
        ({"seed": 2**64}, "seed is 18446744073709551616"),
        ({"seed": 1.5}, "seed is 1.5: use a whole number"),
        ({"seed": "1"}, "seed is '1': use a whole number"),
        ({"seed": None}, "seed is None: use a whole number"),
        ({"reading_threads": 0}, "reading_threads is 0"),
        ({"readers": "processors"}, "readers is 'processors'"),
        ({"max_bad_fraction": -0.1}, "max_bad_fraction is -0.1"),
        ({"max_bad_fraction": 1.5}, "max_bad_fraction is 1.5"),
        ({"max_bad_fraction": float("nan")}, "max_bad_fraction is nan"),
        ({"split": "validation"}, "no split 'validation'"),
        ({"negatives": {"other_planet": 1.0}}, "other_planet"),
        ({"negatives": {}}, "no kind has a weight"),
        ({"device": "abacus"}, "abacus"),
        ({"device": "mps"}, "mps"),
        ({"cpu_decoder": "abacus"}, "use auto, dali or turbo"),
        ({"max_bad_fraction": "0.1"}, "max_bad_fraction is '0.1': use a share"),
        ({"max_bad_fraction": None}, "max_bad_fraction is None: use a share"),
        ({"cache_patience": "10"}, "cache_patience is '10': use a number of seconds"),
        ({"hw_decoder_load": "1"}, "hw_decoder_load is '1': use a share"),
        ({"device": None}, "device is None: use cpu"),
        ({"device": ["cpu"]}, "device is ['cpu']: use cpu"),
        ({"members": None}, "members is None: give names in a tuple"),
        ({"negatives": "other_video"}, "give kinds with their weights"),
        ({"negatives": {"other_video": "1"}}, "has weight '1'"),
        ({"negatives": {"other_video": None}}, "has weight None"),
        ({"storage_options": "endpoint_url"}, "storage_options is 'endpoint_url': give a mapping"),
        ({"speakers": {"fraction": 0.1}}, "give a loaders.sampling.speakers.SpeakerShare"),
        ({"frames": 5, "stride": 4}, "5 frames at a stride of 4 span 17, and clips have 16: use 4 at most"),
        ({"frames": 5, "stride": 0}, "stride is 0: use 1"),
        ({"frames": 1, "stride": 2}, "frames is 1, between which there is none"),
        ({"frames": 5, "stride": 2, "sample": "even"}, "sample 'even', which has none"),
        ({"frames": 16, "stride": 2}, "span 31"),
        ({"frames": 5, "sample": "odd"}, "use window, random or even"),
        ({"sample": "random"}, "say how many frames"),
        ({"sample": "even"}, "say how many frames"),
        ({"frames": 5, "sample": "random", "training": False}, "which is for training"),
    ],
)
def test_settings_out_of_range_are_refused_in_one_line(dataset: Path, changes: dict[str, Any], named: str) -> None:
    with pytest.raises(InputError) as refused:
        loader_of(dataset, **changes)
    assert named in str(refused.value)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("places", "named"),
    [
        (["{}"], "several with their weights"),
        (("{}", "{}"), "several with their weights"),
        (None, "dataset is None: give a folder"),
        ({}, "no dataset was given"),
        ({("{}",): 1.0}, "give a folder, a URL or a Dataset"),
        ({"{}": None}, "has weight None: use a number above 0"),
        ({"{}": "1"}, "has weight '1': use a number above 0"),
        ({"{}": 0}, "has weight 0.0: use a number above 0"),
        ({"{}": float("inf")}, "has weight inf: use a number above 0"),
        ({"{}": 1e300}, "use smaller ones"),
        ({"{}": 1e9}, "use smaller ones"),
    ],
)
def test_what_is_no_dataset_nor_several_with_weights_is_refused_in_one_line(
    dataset: Path, places: Any, named: str
) -> None:
    if isinstance(places, dict):
        given: Any = {str(dataset) if place == "{}" else place: weight for place, weight in places.items()}
    else:
        given = places and type(places)(str(dataset) for _ in places)
    with pytest.raises(InputError) as refused:
        ClipLoader(given, batch_size=8)
    assert named in str(refused.value)
    assert "\n" not in str(refused.value)


def test_a_state_is_json_whosever_numbers_were_given(dataset: Path) -> None:
    """Those of numpy and torch are neither JSON nor what torch.load takes with weights_only."""
    number, real = np.int64, np.float32
    given: dict[str, Any] = {
        "frames": number(4),
        "stride": torch.tensor(2),
        "world_size": number(2),
        "rank": number(1),
        "node_groups": number(2),
        "shard_window": number(1),
        "prefetch": number(2),
        "training": np.bool_(True),
        "negatives": {0: {"other_video": real(1)}, 1: {"other_video": torch.tensor(1.0), "shifted": 1}},
        "speakers": SpeakerShare(fraction=real(0.5), seed=number(7), held_out=np.bool_(False)),
    }
    plain = {
        "frames": 4,
        "stride": 2,
        "world_size": 2,
        "rank": 1,
        "node_groups": 2,
        "shard_window": 1,
        "training": True,
        "negatives": {0: {"other_video": 1}, 1: {"other_video": 1, "shifted": 1}},
        "speakers": SpeakerShare(fraction=0.5, seed=7, held_out=False),
    }
    with loader_of({dataset: real(1)}, batch_size=2, **given) as loader:  # type: ignore[dict-item]
        expected = digests(take(loader, 5))
        state = json.loads(json.dumps(loader.state_dict()))
        later = digests(take(loader, 3))
    assert run_of({dataset: 1.0}, 5, batch_size=2, **plain) == expected
    with loader_of({dataset: 1}, batch_size=2, **plain) as loader:
        loader.load_state_dict(state)
        assert digests(take(loader, 3)) == later


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU here")
def test_a_gpu_that_is_not_there_is_refused(dataset: Path) -> None:
    with pytest.raises(InputError, match="cuda"):
        loader_of(dataset, device="cuda:0")


def test_what_is_no_dataset_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such folder"):
        ClipLoader(tmp_path / "nowhere")
    with pytest.raises(InputError, match="no dataset there"):
        ClipLoader(str(tmp_path))


# -- several datasets, node groups and windows


@pytest.fixture(scope="module")
def second(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("datasets") / "second"
    make_dataset(folder, Contents(speakers={"train": 4, "test": 2}, shards={"train": 3, "test": 1}, seed=5))
    return folder


def test_several_datasets_are_mixed_by_weight_and_paired_within_each(dataset: Path, second: Path) -> None:
    with loader_of({dataset: 1.0, second: 2.0}, batch_size=4, targets=["emotion"]) as loader:
        batches = list(loader)
        rows = [loader.locate(row) for batch in batches for row in batch.clip.tolist()]
        audio = [loader.locate(row) for batch in batches for row in batch.audio_clip.tolist()]
        lengths = [len(catalog) for catalog in loader.catalogs]
        emotion = [int(loader.catalogs[number].targets["emotion"][row]) for number, row in rows]
        videos = [[loader.catalogs[number].video[row] for number, row in found] for found in (rows, audio)]
    assert len(batches) == (lengths[0] + 2 * lengths[1]) // 4
    per_dataset = [sum(number == which for number, _ in rows) for which in (0, 1)]
    assert abs(per_dataset[1] - 2 * lengths[1]) <= 4
    assert [number for number, _ in rows] == [number for number, _ in audio]
    assert emotion == [label for batch in batches for label in batch.targets["emotion"].tolist()]
    match = [answer == 1 for batch in batches for answer in batch.match.tolist()]
    assert match == [a == b for a, b in zip(*videos, strict=True)]
    assert all(batch.match.sum() == 2 for batch in batches)


def test_evaluation_over_several_datasets_counts_every_clip_once(dataset: Path, second: Path) -> None:
    with loader_of({dataset: 1.0, second: 1.0}, "test", negatives=None) as loader:
        seen = [row for batch in loader for row in batch.clip.tolist()]
        assert seen == list(range(sum(len(catalog) for catalog in loader.catalogs)))


def test_datasets_with_clips_of_other_shapes_are_not_mixed(dataset: Path, tmp_path: Path) -> None:
    make_dataset(tmp_path / "larger", settings=BuildSettings(size=48))
    with pytest.raises(InputError, match="build them alike"):
        loader_of({dataset: 1.0, tmp_path / "larger": 1.0})


@pytest.mark.parametrize("changes", [{"node_groups": 2}, {"shard_window": 1}, {"node_groups": 2, "shard_window": 1}])
def test_node_groups_and_windows_make_the_same_batches_on_any_number_of_ranks(
    dataset: Path, second: Path, changes: dict[str, Any]
) -> None:
    both: Any = {dataset: 1.0, second: 0.5}
    alone = columns_of(both, 1, 8, 20, frames=4, **changes)
    for world in (2, 4):
        for one, other in zip(alone, columns_of(both, world, 8, 20, frames=4, **changes), strict=True):
            assert all(torch.equal(a, b) for a, b in zip(one, other, strict=True))


def test_a_run_over_windows_of_shards_can_go_on_from_every_step(dataset: Path, second: Path) -> None:
    both: Any = {dataset: 1.0, second: 0.5}
    changes: dict[str, Any] = {"node_groups": 2, "shard_window": 1, "frames": 4}
    whole = run_of(both, 24, **changes)
    assert len(set(whole)) == 24
    with loader_of(both, **changes) as loader:
        states = [loader.state_dict()]
        for _ in range(20):
            take(loader, 1)
            states.append(loader.state_dict())
    for done in range(0, 21, 3):
        with loader_of(both, **changes) as loader:
            loader.load_state_dict(states[done])
            assert digests(take(loader, 4)) == whole[done : done + 4], done


def test_a_window_of_shards_gives_negatives_from_its_own_shards_where_it_can(dataset: Path) -> None:
    with loader_of(dataset, shard_window=2, batch_size=2) as loader:
        shard = np.searchsorted(np.cumsum(loader.catalogs[0].shard_clips), np.arange(62), side="right")
        # Two windows of two shards each: an audio is from the clip's own window.
        batches = list(loader)
        halves = [set(shard[batch.clip.numpy()]) for batch in batches]
        first = set.union(*halves[: len(halves) // 2 - 2])
        for batch in batches:
            for clip, audio in zip(shard[batch.clip.numpy()], shard[batch.audio_clip.numpy()], strict=True):
                assert (clip in first) == (audio in first)


def test_frames_alone_are_those_that_come_with_sound(dataset: Path) -> None:
    for frames in (16, 5):
        with loader_of(dataset, frames=frames) as heard, loader_of(dataset, frames=frames, audio=False) as silent:
            for one, other in zip(take(heard, 4), take(silent, 4), strict=True):
                assert other.audio.shape == (8, 0)
                assert digest(other) != digest(one)
                assert digest(replace(one, audio=other.audio)) == digest(other)
            assert silent.stats().bytes < heard.stats().bytes


def test_a_decoder_that_does_not_keep_up_is_taken_over_from_within_an_epoch(
    dataset: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As a GPU's does on a GPU: here DALI's on the CPU, from libjpeg-turbo's without it."""
    monkeypatch.setattr("loaders.decode.placement._JUDGED_SECONDS", 0.0)
    monkeypatch.setattr("loaders.decode.placement._JUDGED_BATCHES", 3)
    monkeypatch.setattr("loaders.decode.placement._TOO_LONG", -1.0)
    with loader_of(dataset, cpu_decoder="turbo", threads=1) as loader:
        loader._choice = Choice("turbo", "to try", instead="cpu")
        found = take(loader, 12)
        stats, state = loader.stats(), loader.state_dict()
    assert digests(found) == run_of(dataset, 12)
    assert (stats.decoder, state["decoder"]) == ("cpu", "cpu")
    assert "did not keep up" in stats.decoder_reason


@pytest.mark.parametrize(("asked", "used"), [("turbo", "turbo"), ("dali", "cpu"), ("auto", "turbo")])
def test_both_decoders_of_a_cpu_make_the_same_batches(dataset: Path, asked: str, used: str) -> None:
    with loader_of(dataset, cpu_decoder=asked, threads=2) as loader:
        assert digests(take(loader, 9)) == run_of(dataset, 9)
        assert loader.stats().decoder == used


# -- which frames


CHOICES: list[dict[str, Any]] = [
    {"frames": 5},
    {"frames": 4, "stride": 3},
    {"frames": 6, "sample": "random"},
    {"frames": 3, "sample": "even"},
]


@pytest.mark.parametrize("choice", CHOICES)
@pytest.mark.parametrize("audio_format", ["wav", "flac"])
def test_both_decoders_yield_the_same_bytes_of_some_frames(
    dataset: Path, tmp_path: Path, choice: dict[str, Any], audio_format: AudioFormat
) -> None:
    folder = dataset
    if audio_format == "flac":
        folder = tmp_path / "dataset"
        make_dataset(folder, FEW, replace(SETTINGS, audio_format=audio_format))
    some = run_of(folder, 3, **choice, cpu_decoder="dali")
    assert some == run_of(folder, 3, **choice)
    if audio_format == "wav":
        assert some == run_of(folder, 3, **choice, cpu_decoder="turbo", threads=2, reading_threads=3)


FEW = Contents(speakers={"train": 4}, shards={"train": 2}, videos=2)


@pytest.fixture(scope="module")
def uncut(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """The same clips with restart markers and without."""
    folder = tmp_path_factory.mktemp("uncut")
    for name, markers in (("with", True), ("without", False)):
        make_dataset(folder / name, FEW, replace(SETTINGS, restart_markers=markers))
    return folder / "with", folder / "without"


@pytest.mark.parametrize("decoder", ["dali", "turbo"])
@pytest.mark.parametrize("choice", CHOICES)
def test_without_markers_the_same_frames_come_by_a_slower_path_that_is_told(
    uncut: tuple[Path, Path], choice: dict[str, Any], decoder: str, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO, "loaders.loader"):
        taken = []
        for folder in uncut:
            with loader_of(folder, cpu_decoder=decoder, **choice) as loader:
                taken.append((take(loader, 3), loader.stats().decoder_reason))
    (with_markers, reason), (without, slower) = taken
    for one, other in zip(with_markers, without, strict=True):
        assert torch.equal(one.video[:, :, 1:-1], other.video[:, :, 1:-1])
        for name in ("audio", "gaze", "match", "clip", "audio_clip", "seed"):
            assert torch.equal(getattr(one, name), getattr(other, name))
    told = f"decoded whole for {choice['frames']} of 16 frames, for want of restart markers"
    assert told in slower
    assert told not in reason
    assert caplog.text.count(told) == 1


def test_datasets_with_markers_and_without_are_mixed_by_the_slower_path(uncut: tuple[Path, Path]) -> None:
    with loader_of(dict.fromkeys(uncut, 1.0), frames=4) as loader:
        take(loader, 2)
        assert "decoded whole" in loader.stats().decoder_reason


@pytest.mark.parametrize("choice", CHOICES[1:])
def test_a_run_of_some_frames_goes_on_in_the_middle_and_with_others_it_does_not(
    dataset: Path, choice: dict[str, Any]
) -> None:
    whole = run_of(dataset, 9, **choice)
    with loader_of(dataset, **choice) as loader:
        take(loader, 3)
        state = json.loads(json.dumps(loader.state_dict()))
    with loader_of(dataset, **choice) as loader:
        loader.load_state_dict(state)
        assert digests(take(loader, 6)) == whole[3:]
    with (
        loader_of(dataset, frames=choice["frames"]) as loader,
        pytest.raises(InputError, match=r"stride was 3 and is 1|sample was '(even|random)' and is 'window'"),
    ):
        loader.load_state_dict(state)


@pytest.mark.parametrize(
    ("choice", "frames"), [({"frames": 4, "stride": 3}, 10), ({"frames": 4, "sample": "even"}, 16)]
)
def test_the_sound_is_that_under_the_frames_span(dataset: Path, choice: dict[str, Any], frames: int) -> None:
    with loader_of(dataset, "test", **choice) as some, loader_of(dataset, "test", frames=frames) as spanned:
        for one, other in zip(some, spanned, strict=True):
            assert torch.equal(one.audio, other.audio)
            step = 3 if "stride" in choice else 4
            inner = other.video[:, 0 if "stride" in choice else 2 :: step, 1:-1]
            assert torch.equal(one.video[:, :, 1:-1], inner)


@needs_libturbojpeg
def test_planes_are_of_some_frames_too(dataset: Path) -> None:
    with loader_of(dataset, frames=5, pixels="yuv420") as some, loader_of(dataset, frames=5) as others:
        for one, other in zip(take(some, 2), take(others, 2), strict=True):
            assert one.video.shape == (8, 5, 48, 32)
            assert torch.equal(one.audio, other.audio)
        assert some.stats().decoder == "turbo"


def test_strips_whose_markers_are_not_as_declared_are_bad_clips(tmp_path: Path) -> None:
    def unmarked(data: bytes) -> bytes:
        frames = decode_filmstrip(data, 16)
        return encode_filmstrip(frames, quality=90, subsampling="4:2:0", restart_markers=False)

    folder = made_otherwise(tmp_path / "dataset", encode_filmstrip, {4: unmarked, 30: unmarked})
    with loader_of(folder, max_bad_fraction=0.1) as loader:
        take(loader, 14)
        assert (loader.stats().bad_clips, loader.stats().substitutions) == (0, 0)
    stats = []
    for decoder, readers in (("turbo", 1), ("dali", 3)):
        with loader_of(folder, frames=5, max_bad_fraction=0.1, cpu_decoder=decoder, reading_threads=readers) as loader:
            seen = digests(take(loader, 14))
            stats.append((seen, loader.stats().bad_clips))
    assert stats[0] == stats[1]
    assert stats[0][1] == 2
    with loader_of(folder, frames=5, max_bad_fraction=0.0) as loader, pytest.raises(TooManyBadClipsError):
        take(loader, 14)


@pytest.mark.parametrize("wrong", [False, True], ids=["unsaid", "false"])
def test_frames_that_no_header_says_where_they_lie_are_searched_for_counted_and_named(
    dataset: Path, tmp_path: Path, wrong: bool, caplog: pytest.LogCaptureFixture
) -> None:
    """Of all strips of a dataset from before, or of one strip whose header is false: the same frames come."""

    def otherwise(data: bytes) -> bytes:
        at = data.index(b"filmstrip\0")
        numbers = at + len(b"filmstrip\0")
        if wrong:
            return data[:numbers] + bytes(64) + data[numbers + 64 :]
        return data[: at - 4] + data[numbers + 64 :]

    strips = [30] if wrong else range(1000)
    folder = made_otherwise(tmp_path / "dataset", encode_filmstrip, dict.fromkeys(strips, otherwise))
    with loader_of(dataset, frames=5) as loader:
        expected = digests(take(loader, 14))
        assert (loader.stats().searched, "searched for" in loader.stats().decoder_reason) == (0, False)
    for decoder, readers in (("turbo", 1), ("dali", 3)):
        caplog.clear()
        with (
            caplog.at_level(logging.INFO, "loaders.reader"),
            loader_of(folder, frames=5, cpu_decoder=decoder, reading_threads=readers) as loader,
        ):
            assert digests(take(loader, 14)) == expected
            stats = loader.stats()
        assert (stats.bad_clips, stats.substitutions) == (0, 0)
        assert 0 < stats.searched < 8 if wrong else stats.searched >= 14 * 8
        assert f"frames of {stats.searched} filmstrips were searched for" in stats.decoder_reason
        told = [record for record in caplog.records if "searched for" in record.message]
        assert [record.levelname for record in told] == ["WARNING" if wrong else "INFO"]
    # Whole clips need no offsets.
    with loader_of(folder) as loader:
        take(loader, 14)
        assert loader.stats().searched == 0


# -- clips that were written so that no decoder takes them


@pytest.fixture(scope="module")
def undecodable(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A dataset as `dataset`, of which two training clips' filmstrips end after their header, with right checksums."""
    folder = tmp_path_factory.mktemp("undecodable") / "dataset"
    return made_otherwise(folder, encode_filmstrip, {4: header_alone, 30: header_alone})


def made_otherwise(
    folder: Path,
    encode: Callable[..., bytes],
    otherwise: Mapping[int, Callable[[bytes], bytes]],
    settings: BuildSettings = SETTINGS,
) -> Path:
    """A dataset of which some clips' files are written otherwise than ``encode`` made them, with right checksums."""
    written = itertools.count()

    def encode_otherwise(*arguments: Any, **options: Any) -> bytes:
        return otherwise.get(next(written), lambda whole: whole)(encode(*arguments, **options))

    with mock.patch(f"sharding.packing.clips.{encode.__name__}", encode_otherwise):
        make_dataset(folder, settings=settings)
    return folder


def header_alone(jpeg: bytes) -> bytes:
    return jpeg[: jpeg.index(b"\xff\xda") + 14]


def scrambled(jpeg: bytes) -> bytes:
    """With other bytes within the scan, about its middle, so that libjpeg decodes it and warns."""
    middle = (jpeg.index(b"\xff\xda") + len(jpeg)) // 2
    for start in range(middle, len(jpeg) - 100):
        changed = jpeg[:start] + bytes(37 * n % 255 for n in range(64)) + jpeg[start + 64 :]
        try:
            simplejpeg.decode_jpeg(changed)
        except ValueError:
            return changed
    raise AssertionError("no place where other bytes are noticed")


def differing(folder: Path, other: Path, member: str = "filmstrip") -> set[int]:
    """Rows of clips of which a member is not the other dataset's."""
    one, two = (open_catalog(path, "train", [member]).members[member].xxh3 for path in (folder, other))
    return set(np.flatnonzero(one != two).tolist())


@pytest.mark.parametrize("decoder", ["turbo", "dali"])
@pytest.mark.parametrize("readers", [1, 3])
def test_a_clip_that_cannot_be_decoded_is_a_bad_clip_like_another(
    decoder: str, readers: int, undecodable: Path, dataset: Path, caplog: pytest.LogCaptureFixture
) -> None:
    bad = differing(undecodable, dataset)
    assert len(bad) == 2
    settings: dict[str, Any] = {"batch_size": 8, "seed": 3, "cpu_decoder": decoder, "reading_threads": readers}

    def batches(folder: Path, count: int = 16) -> tuple[list[Batch], Any]:
        with ClipLoader(folder, max_bad_fraction=1.0, **settings) as loader:
            found = [batch for _ in range(3) for batch in loader][:count]
            return found, loader.stats()

    with caplog.at_level(logging.WARNING):
        found, stats = batches(undecodable)
    named = [record.message for record in caplog.records if "cannot be decoded" in record.message]
    assert len(named) == len(bad)  # each once
    again, _ = batches(undecodable)
    assert [digest(batch) for batch in found] == [digest(batch) for batch in again]
    assert stats.bad_clips == len(bad)
    whole, _ = batches(dataset)
    replaced = 0
    for ours, theirs in zip(found, whole, strict=True):
        assert torch.equal(ours.match, theirs.match)
        for index, clip in enumerate(theirs.clip.tolist()):
            if clip in bad:
                replaced += 1
                assert int(ours.clip[index]) not in bad
                assert (ours.clip[index] == ours.audio_clip[index]) == bool(ours.match[index])
            else:
                assert int(ours.clip[index]) == clip
                assert torch.equal(ours.video[index], theirs.video[index])
                assert torch.equal(ours.audio[index], theirs.audio[index])
    assert 0 < replaced <= stats.substitutions  # of those that were decoded ahead, too


def test_whether_a_clip_is_bad_does_not_depend_on_what_is_decoded_beside_it(
    undecodable: Path, dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a scrambled clip libjpeg makes a picture and warns: DALI takes it, simplejpeg does not."""
    monkeypatch.setattr("loaders.decode.placement._SECONDS", 0.01)
    damage = dict.fromkeys((4, 30), header_alone) | dict.fromkeys((3, 5, 12, 20, 31, 40), scrambled)
    folder = made_otherwise(tmp_path / "dataset", encode_filmstrip, damage)
    bad = differing(undecodable, dataset)
    warning = differing(folder, dataset) - bad
    assert len(warning) == 6
    runs = []
    for prefetch, is_tried in ((1, False), (4, False), (2, True)):
        settings: dict[str, Any] = {"cpu_decoder": "dali", "prefetch": prefetch, "max_bad_fraction": 1.0}
        with loader_of(folder, **settings) as loader:
            if is_tried:  # as for a GPU, which is not here
                loader._placement, loader._choice = "auto", None
                loader._wanted = "auto"
            batches = take(loader, 21)
            assert loader.stats().bad_clips == len(bad)
        drawn = {row for batch in batches for row in batch.clip.tolist()}
        assert warning <= drawn
        assert not bad & drawn
        runs.append(digests(batches))
    assert runs[0] == runs[1] == runs[2]
    with loader_of(folder, cpu_decoder="turbo", max_bad_fraction=1.0) as loader:
        drawn = {row for batch in take(loader, 21) for row in batch.clip.tolist()}
        assert loader.stats().bad_clips == len(bad | warning)
    assert not (bad | warning) & drawn


@pytest.mark.parametrize(
    ("audio_format", "decoder", "frames"),
    [("flac", "dali", 16), ("flac", "dali", 5), ("wav", "dali", 16), ("wav", "turbo", 16)],
)
def test_sound_that_cannot_be_decoded_is_a_bad_clip_like_another(
    audio_format: AudioFormat, decoder: str, frames: int, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A WAV file that was cut is not as long as the others: then they do not come as rows."""
    settings = BuildSettings(size=32, audio_format=audio_format)
    cut = {4: lambda file: file[: len(file) // 2 if audio_format == "flac" else 20]}
    folder = made_otherwise(tmp_path / "cut", encode_waveform, cut, settings)
    make_dataset(tmp_path / "whole", settings=settings)
    [bad] = differing(folder, tmp_path / "whole", "audio")
    options: dict[str, Any] = {"cpu_decoder": decoder, "frames": frames, "max_bad_fraction": 1.0}
    with loader_of(folder, **options) as loader, caplog.at_level(logging.WARNING):
        found = take(loader, 21)
        assert loader.stats().bad_clips == 1
    key = open_catalog(folder, "train", []).table(["key"])["key"][bad]
    [named] = [record.message for record in caplog.records if "its audio cannot be decoded" in record.message]
    assert named.startswith(f"bad clip {key} ")
    assert "\n" not in named
    with loader_of(tmp_path / "whole", **options) as loader:
        whole = take(loader, 21)
    replaced = 0
    for ours, theirs in zip(found, whole, strict=True):
        is_bad = theirs.audio_clip == bad
        replaced += int(is_bad.sum())
        assert bad not in ours.audio_clip
        assert torch.equal(ours.audio_clip[~is_bad], theirs.audio_clip[~is_bad])
        assert torch.equal(ours.video[~is_bad], theirs.video[~is_bad])
        assert torch.equal(ours.audio[~is_bad], theirs.audio[~is_bad])
    assert replaced


@needs_libturbojpeg
def test_a_filmstrip_without_planes_is_a_bad_clip_where_planes_are_wanted(
    dataset: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    def whole_chroma(jpeg: bytes) -> bytes:
        frames = decode_filmstrip(jpeg, 16)
        return encode_filmstrip(frames, quality=90, subsampling="4:4:4")

    folder = made_otherwise(tmp_path / "dataset", encode_filmstrip, {4: whole_chroma})
    [bad] = differing(folder, dataset)
    with loader_of(folder, pixels="yuv420", max_bad_fraction=1.0) as loader, caplog.at_level(logging.WARNING):
        assert all(bad not in batch.clip for batch in take(loader, 14))
        assert loader.stats().bad_clips == 1
    key = open_catalog(folder, "train", []).table(["key"])["key"][bad]
    [named] = [record.message for record in caplog.records if "its filmstrip cannot be decoded" in record.message]
    assert named.startswith(f"bad clip {key} ")
    assert "4:2:0" in named
    with loader_of(folder) as loader:  # whose RGB can be had
        assert any(bad in batch.clip for batch in take(loader, 14))
        assert loader.stats().bad_clips == 0


def test_more_undecodable_clips_than_allowed_stop_the_run(undecodable: Path) -> None:
    with ClipLoader(undecodable, batch_size=8, seed=3, max_bad_fraction=0.0) as loader:
        batches = itertools.chain.from_iterable(itertools.repeat(loader))
        with pytest.raises(TooManyBadClipsError, match=r"1 of \d+ clips"):
            list(itertools.islice(batches, 16))


def test_a_decoder_that_fails_on_whole_clips_stops_the_run_with_its_own_error(dataset: Path) -> None:
    with (
        mock.patch(
            "loaders.decode.turbo.decode_filmstrip_into", side_effect=[RuntimeError("out of order")] + [None] * 10_000
        ),
        ClipLoader(dataset, batch_size=8, threads=1) as loader,
        pytest.raises(RuntimeError, match="out of order"),
    ):
        next(iter(loader))
