"""Claims on a folder: never more is claimed than fits, and everybody is served in turn."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from loaders.errors import InputError
from loaders.storage.claims import Claims, together
from tests.limits import unprivileged

SHARDS = st.sets(st.integers(0, 9), min_size=1, max_size=4).map(lambda some: {str(n): 10 + n for n in some})


@given(
    wanted=st.lists(SHARDS, min_size=2, max_size=4),
    moves=st.lists(st.tuples(st.integers(0, 3), st.sampled_from(["read", "rest", "turn"])), max_size=60),
)
@settings(max_examples=60)
def test_steps_that_are_read_at_once_fit_together_and_every_holder_gets_its_turn(
    tmp_path_factory: pytest.TempPathFactory,
    wanted: list[dict[str, int]],
    moves: list[tuple[int, str]],
) -> None:
    """The capacity is what the largest claim takes: not a byte more than one of them needs."""
    capacity = max(map(together, wanted))
    folder = tmp_path_factory.mktemp("cache")
    holders = [Claims(folder, capacity) for _ in wanted]
    for holder, shards in zip(holders, wanted, strict=True):
        holder.say(shards, {})
    for who, move in moves:
        holder = holders[who % len(holders)]
        if move == "read":
            holder.begin()
        elif move == "rest":
            holder.end()
        else:
            holder.say(dict(reversed(wanted[who % len(holders)].items())), {})
        reading = [shards for holder, shards in zip(holders, wanted, strict=True) if holder.in_step]
        assert together(*reading) <= capacity
        assert all(holder.holds for holder in holders if holder.in_step)
    # Those that wait are served one after the other, each as soon as who reads has rested.
    for holder in holders:
        holder.end()
    waiting = [holder for holder in holders if holder.begin()]
    for _ in range(len(holders)):
        for holder in holders:
            holder.end()
        waiting = [holder for holder in waiting if holder.begin()]
    assert not waiting
    for holder in holders:
        holder.close()
    assert not list((folder / "filmstrip.holders").iterdir())


def test_who_waits_longest_comes_first(tmp_path: Path) -> None:
    one, other, large = (Claims(tmp_path, 4) for _ in range(3))
    one.say({"a": 2}, {})
    other.say({"b": 2}, {})
    assert not one.begin()
    assert not other.begin()
    large.say({"c": 4}, {})
    assert len(large.begin()) == 2
    one.end()
    assert one.is_asked_for
    assert [blocker.now for blocker in one.begin()] == [{"c": 4}]  # though there is room for it
    other.end()
    assert not large.begin()
    assert one.begin()
    large.end()
    assert not one.begin()
    assert not other.begin()


def test_a_claim_between_steps_is_taken_only_where_it_is_in_the_way(tmp_path: Path) -> None:
    paused, small, large = (Claims(tmp_path, 4) for _ in range(3))
    paused.say({"a": 2}, {})
    assert not paused.begin()
    paused.end()
    small.say({"b": 2}, {})
    assert not small.begin()
    assert paused.holds
    small.end()
    large.say({"c": 3}, {})
    assert not large.begin()
    assert not (paused.holds and small.holds)


def test_shards_that_several_want_count_once(tmp_path: Path) -> None:
    one, other = Claims(tmp_path, 4), Claims(tmp_path, 4)
    one.say({"a": 2, "b": 2}, {})
    other.say({"b": 2, "a": 2}, {})
    assert not one.begin()
    assert not other.begin()


_HOLD = """
import sys, time
from pathlib import Path
from loaders.storage.claims import Claims
claims = Claims(Path(sys.argv[1]), 4)
claims.say({"a": 4}, {})
assert not claims.begin()
print("reads", flush=True)
time.sleep(60)
"""


def test_what_a_killed_process_claimed_is_free_and_a_stopped_one_is_named(tmp_path: Path) -> None:
    process = subprocess.Popen([sys.executable, "-c", _HOLD, str(tmp_path)], stdout=subprocess.PIPE)
    assert process.stdout is not None
    with process, process.stdout:
        process.stdout.readline()
        process.send_signal(signal.SIGSTOP)
        claims = Claims(tmp_path, 4)
        claims.say({"b": 1}, {})
        [blocker] = claims.begin()
        assert f"process {process.pid} (-c): 1 shards, 4 bytes" in str(blocker)
        process.kill()
        process.wait()
        assert not claims.begin()
    claims.close()
    assert not list((tmp_path / "filmstrip.holders").iterdir())


def test_who_waits_and_is_stopped_does_not_hold_up_the_others(tmp_path: Path) -> None:
    reader, stopped, later = (Claims(tmp_path, 4) for _ in range(3))
    reader.say({"a": 4}, {})
    assert not reader.begin()
    stopped.say({"b": 4}, {})
    assert stopped.begin()
    reader.end()
    later.say({"c": 4}, {})
    assert later.begin()  # after the one that is stopped
    old = time.time() - 60
    os.utime(stopped._path, (old, old))
    assert not later.begin()


def test_a_folder_that_cannot_be_written_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "read-only").mkdir(mode=0o555)
    tmp_path.chmod(0o755)
    for folder in (tmp_path / "file" / "cache", tmp_path / "file"):
        with pytest.raises(InputError, match="can be written") as refused:
            Claims(folder, 4)
        assert "\n" not in str(refused.value)
    with unprivileged(), pytest.raises(InputError, match="can be written"):
        Claims(tmp_path / "read-only" / "cache", 4)


def test_a_lock_that_is_never_let_go_is_no_silent_wait(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("loaders.storage.claims._LOCK_SECONDS", 0.2)
    one, other = Claims(tmp_path, 4), Claims(tmp_path, 4)
    with one.locked(), pytest.raises(InputError, match=r"filmstrip\.lock"):
        other.say({"a": 1}, {})
