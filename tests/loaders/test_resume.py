"""A run that is stopped again and again, by a kill or in peace, at any step and with other ranks after, is one run."""

import hashlib
import json
import random
import signal
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import pytest
import torch

from loaders import Batch, ClipLoader, InputError
from tests import forked
from tests.batches import tensors

PATIENCE = 60.0  # seconds until a killed process that has not ended counts as stuck
GLOBAL_BATCH, STEPS_AN_EPOCH = 8, 7
SETTINGS: dict[str, Any] = {
    "seed": 3,
    "threads": 1,
    "frames": 4,
    "prefetch": 2,
    "negatives": {0: {"other_video": 1.0}, 1: {"same_speaker": 0.7, "shifted": 0.3}},
}


class Ranks:
    """All ranks of a training in one process: a step is the global batch, and what all of them have to save."""

    def __init__(self, dataset: Path, world: int, state: dict[str, Any] | None) -> None:
        self._loaders = [
            ClipLoader(dataset, batch_size=GLOBAL_BATCH // world, rank=rank, world_size=world, **SETTINGS)
            for rank in range(world)
        ]
        for loader in self._loaders:
            if state is not None:
                loader.load_state_dict(state)

    def steps(self) -> Iterator[list[str]]:
        """Every further step's fields, a hash each, over the ends of epochs."""
        while True:
            for batches in zip(*self._loaders, strict=True):
                yield digests_of(batches)

    def state(self) -> dict[str, Any]:
        """The state, which is the same on every rank."""
        states = [loader.state_dict() for loader in self._loaders]
        assert all(state == states[0] for state in states)
        return states[0]

    def close(self) -> None:
        for loader in self._loaders:
            loader.close()


def columns_of(batch: Batch) -> list[torch.Tensor]:
    return [tensor for _, tensor in tensors(batch)]


def digests_of(batches: tuple[Batch, ...]) -> list[str]:
    """A hash of each field of a global batch."""
    columns = [torch.cat(parts) for parts in zip(*(columns_of(batch) for batch in batches), strict=True)]
    return [hashlib.sha256(column.numpy().tobytes()).hexdigest()[:16] for column in columns]


KILLED = """
import json, sys
from pathlib import Path
from tests.loaders.test_resume import Ranks
dataset, world, state = Path(sys.argv[1]), int(sys.argv[2]), json.loads(sys.argv[3])
ranks = Ranks(dataset, world, state)
for step in ranks.steps():
    print(json.dumps([step, ranks.state()]), flush=True)
"""


def run_until_killed(dataset: Path, world: int, state: dict[str, Any] | None, least: int) -> list[Any]:
    """Steps and the states after them, from a process that is killed with -9 after at least so many of them."""
    process = forked.execute(KILLED, dataset, world, json.dumps(state))
    process.lines(least)
    process.kill()
    out, _ = process.communicate(timeout=PATIENCE)
    assert process.returncode == -signal.SIGKILL
    # What the kill cut in half was never said.
    return [json.loads(line) for line in out.splitlines(keepends=True) if line.endswith("\n")]


def test_a_run_that_is_stopped_again_and_again_is_one_run(dataset: Path, full: bool) -> None:
    """12 stops, of them 3 kills; with ``--full`` 50, of them 15. Ranks change between 1, 2 and 4 at every stop."""
    stops, kills = (50, 15) if full else (12, 3)
    draw = random.Random(5)
    killed = set(draw.sample(range(stops), kills))
    at_epoch_ends = set(draw.sample(sorted(set(range(stops)) - killed), stops // 4))
    state: dict[str, Any] | None = None
    found: list[Any] = []
    worlds: list[int] = []
    for stop in range(stops):
        worlds.append(draw.choice([world for world in (1, 2, 4) if world not in worlds[-1:]]))
        if stop in killed:
            said = run_until_killed(dataset, worlds[-1], state, least=draw.randint(1, 9))
            found += [step for step, _ in said]
            state = said[-1][1]
            continue
        count = draw.randint(1, 9)
        if stop in at_epoch_ends:
            count = STEPS_AN_EPOCH - len(found) % STEPS_AN_EPOCH
        ranks = Ranks(dataset, worlds[-1], state)
        found += islice(ranks.steps(), count)
        state = ranks.state()
        ranks.close()
        assert stop not in at_epoch_ends or state["step"] == 0
    uninterrupted = Ranks(dataset, 1, None)
    whole = list(islice(uninterrupted.steps(), len(found)))
    uninterrupted.close()
    assert found == whole


def test_a_checkpoint_of_a_version_that_drew_other_pairs_is_refused_with_that_reason(dataset: Path) -> None:
    with ClipLoader(dataset, batch_size=4) as loader:
        state = loader.state_dict()
        del state["fingerprint"]["draws"]
        with pytest.raises(InputError, match="draws pairs in another way"):
            loader.load_state_dict(state)
