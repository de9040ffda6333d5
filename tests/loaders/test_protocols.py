"""What code expects that was written for a DataLoader, a DistributedSampler or torchdata: a ClipLoader has it."""

import copy
import inspect
import json
import pickle
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

import pytest
import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from accelerate.utils import DataLoaderConfiguration
from torch.distributed.checkpoint.stateful import Stateful

from loaders import ClipLoader, InputError
from tests.batches import digests
from tests.datasets import Contents, make_dataset

STEPS = 7


def loader_of(dataset: Path | Mapping[Path, float], split: str = "train", **changes: Any) -> ClipLoader:
    return ClipLoader(dataset, split, **{"batch_size": 8, "seed": 3, "threads": 1, **changes})


@pytest.fixture(scope="module")
def epochs(dataset: Path) -> list[list[str]]:
    """The batches of three epochs."""
    with loader_of(dataset) as loader:
        return [digests(loader) for _ in range(3)]


# -- set_epoch


def test_saying_the_epoch_changes_nothing_where_it_is_the_next(dataset: Path, epochs: list[list[str]]) -> None:
    """Also what was read ahead of it is kept: the decoder's threads stay the same ones."""
    with loader_of(dataset) as loader:
        seen, threads = [], set()
        for epoch in range(3):
            loader.set_epoch(epoch)
            seen.append(digests(loader))
            threads |= {thread for thread in threading.enumerate() if thread.name == "filmstrip-decode"}
    assert seen == epochs
    assert len(threads) == 1


def test_any_epoch_can_be_said_before_a_loop(dataset: Path, epochs: list[list[str]]) -> None:
    with loader_of(dataset) as loader:
        for epoch in (2, 0, 1, 1, 0):
            loader.set_epoch(epoch)
            assert digests(loader) == epochs[epoch]


def test_an_epoch_that_was_broken_off_begins_anew_only_as_another(dataset: Path, epochs: list[list[str]]) -> None:
    with loader_of(dataset) as loader:
        loop = iter(loader)
        assert digests([next(loop), next(loop)]) == epochs[0][:2]
        loader.set_epoch(0)
        assert digests(loader) == epochs[0][2:]
        loop = iter(loader)
        next(loop)
        loader.set_epoch(2)
        assert list(loop) == []  # it was over epoch 1
        assert digests(loader) == epochs[2]


def test_an_epoch_that_would_lose_a_loaded_state_is_refused(dataset: Path, epochs: list[list[str]]) -> None:
    with loader_of(dataset) as loader:
        loader.load_state_dict({**loader.state_dict(), "epoch": 1, "step": 4})
        with pytest.raises(
            InputError, match=r"set_epoch\(0\) would leave the state that was loaded, of epoch 1, step 4"
        ):
            loader.set_epoch(0)
        loader.set_epoch(1)
        assert digests(loader) == epochs[1][4:]
        loader.set_epoch(0)
        assert digests(loader) == epochs[0]


@pytest.mark.parametrize("epoch", [-1, 1 << 32, 1.5, "1"])
def test_what_is_no_epoch_is_refused(dataset: Path, epoch: Any) -> None:
    with loader_of(dataset) as loader, pytest.raises(InputError, match="epoch is"):
        loader.set_epoch(epoch)


def test_what_accelerate_prepares_says_the_epoch_and_does_not_lose_a_resumed_place(
    dataset: Path, epochs: list[list[str]]
) -> None:
    """It counts loops from 0, whatever was loaded: that is refused until it is told."""
    accelerator = Accelerator(cpu=True, dataloader_config=DataLoaderConfiguration(dispatch_batches=False))
    try:
        with loader_of(dataset) as loader:
            prepared = accelerator.prepare(torch.utils.data.DataLoader(loader, batch_size=None))
            assert [digests(prepared) for _ in range(2)] == epochs[:2]
        with loader_of(dataset) as loader:
            prepared = accelerator.prepare(torch.utils.data.DataLoader(loader, batch_size=None))
            loader.load_state_dict({**loader.state_dict(), "epoch": 1, "step": 4})
            with pytest.raises(InputError, match=r"say it set_epoch\(1\) first"):
                next(iter(prepared))
            prepared.set_epoch(1)
            assert [digests(prepared) for _ in range(2)] == [epochs[1][4:], epochs[2]]
    finally:
        AcceleratorState._reset_state(reset_partial_state=True)


# -- weights


def test_after_a_whole_epoch_other_weights_go_on_by_the_epoch(dataset: Path, tmp_path: Path) -> None:
    """A checkpoint of other weights is refused, and the message says how they are meant; nothing of it depends on what
    the epochs before were."""
    second = tmp_path / "second"
    make_dataset(second, Contents(speakers={"train": 4}, shards={"train": 1}, seed=1))
    with loader_of({dataset: 1.0, second: 0.5}) as before:
        loop = iter(before)
        next(loop)
        state = before.state_dict()
    with loader_of({dataset: 0.5, second: 1.0}) as whole:
        expected = [digests(whole) for _ in range(2)][1]
    with loader_of({dataset: 0.5, second: 1.0}) as after:
        with pytest.raises(InputError, match=r"weights was \[1.0, 0.5\] and is \[0.5, 1.0\]: .* with set_epoch\(1\)$"):
            after.load_state_dict(state)
        after.set_epoch(1)
        assert digests(after) == expected


# -- states, by the names of their protocols


class _Torchdatas(Protocol):  # what torchdata.stateful_dataloader.Stateful says, in its words
    def state_dict(self) -> dict[str, Any]: ...

    def load_state_dict(self, state_dict: dict[str, Any]) -> None: ...


def test_a_state_goes_through_the_protocols_of_torch_and_torchdata(dataset: Path, epochs: list[list[str]]) -> None:
    with loader_of(dataset) as loader, loader_of(dataset) as other:
        assert isinstance(loader, Stateful)
        theirs: _Torchdatas = loader  # for mypy
        next(iter(loader))
        other.load_state_dict(state_dict=json.loads(json.dumps(theirs.state_dict())))
        assert digests(other) == epochs[0][1:]


def test_the_protocol_is_torchdatas() -> None:
    torchdata = pytest.importorskip("torchdata.stateful_dataloader", reason="the extra interop is not installed")
    assert issubclass(ClipLoader, torchdata.Stateful)
    for name in ("state_dict", "load_state_dict"):
        ours, theirs = (inspect.signature(getattr(of, name)) for of in (ClipLoader, torchdata.Stateful))
        assert list(ours.parameters) == list(theirs.parameters)


# -- pickling


@pytest.mark.parametrize("use", [pickle.dumps, copy.copy, copy.deepcopy])
@pytest.mark.parametrize("begun", [False, True])
def test_pickling_and_copying_are_refused_with_the_mend(dataset: Path, use: Any, begun: bool) -> None:
    with loader_of(dataset) as loader:
        if begun:
            next(iter(loader))
        with pytest.raises(InputError, match="neither pickled nor copied: make one with the same arguments") as refused:
            use(loader)
        assert isinstance(refused.value, pickle.PicklingError)  # what those catch who try whether something can be
        assert "\n" not in str(refused.value)


@pytest.mark.filterwarnings("ignore:Got pickle error")  # of torch, before it
def test_a_worker_that_is_started_anew_is_refused_where_the_loader_is(dataset: Path) -> None:
    """Not in it, where there would be a traceback of a process that has nothing."""
    with loader_of(dataset) as loader:
        workers = torch.utils.data.DataLoader(loader, batch_size=None, num_workers=1, multiprocessing_context="spawn")
        with pytest.raises(InputError, match="num_workers=0 for a DataLoader"):
            next(iter(workers))


# -- start


def decodes(loader: ClipLoader, since: float = 0.0) -> bool:
    """Whether more is decoded than so many seconds' worth, without being asked for, within ten seconds."""
    deadline = time.monotonic() + 10
    while loader.stats().decode_seconds == since and time.monotonic() < deadline:
        time.sleep(0.005)
    return loader.stats().decode_seconds > since


@pytest.mark.parametrize(("split", "place"), [("train", (0, 0)), ("train", (1, 3)), ("test", (0, 2))])
def test_started_it_works_before_it_is_asked_and_yields_the_same(
    dataset: Path, split: str, place: tuple[int, int]
) -> None:
    with loader_of(dataset, split) as loader:
        state = {**loader.state_dict(), "epoch": place[0], "step": place[1]}
        loader.load_state_dict(state)
        expected = digests(loader)
        loader.load_state_dict(state)
        before = loader.stats().decode_seconds
        loader.start()
        assert decodes(loader, before)
        assert (loader.epoch, loader.step) == place
        loader.start()  # again has no effect
        assert digests(loader) == expected


def test_a_fresh_loader_can_be_started(dataset: Path, epochs: list[list[str]]) -> None:
    with loader_of(dataset) as loader:
        loader.start()
        assert decodes(loader)
        assert digests(loader) == epochs[0]


def test_a_loop_goes_on_where_start_comes_in_between(dataset: Path) -> None:
    with loader_of(dataset, "test") as loader:
        whole = digests(loader)
        loader.set_epoch(0)
        loop = iter(loader)
        first = next(loop)
        loader.start()
        assert digests([first, *loop]) == whole


def test_a_closed_loader_is_not_started(dataset: Path) -> None:
    loader = loader_of(dataset)
    loader.close()
    with pytest.raises(RuntimeError, match="closed"):
        loader.start()
