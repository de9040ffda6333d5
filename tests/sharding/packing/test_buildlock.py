"""Of several builds into one URL one works, and none is kept out by the dead."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, replace

import pytest

from loaders.errors import TRY_AGAIN, InputError
from sharding.packing.buildlock import LOCK, Holder, acquire, holder_of, release, require_held
from sharding.sources.store import Store
from tests.s3 import S3, Misdeed, s3_server


@pytest.fixture(scope="module")
def s3() -> Iterator[S3]:
    with s3_server() as server:
        yield server


@pytest.fixture
def store(s3: S3, request: pytest.FixtureRequest) -> Store:
    s3.misdeeds.clear()
    return Store(url=f"s3://bucket/{request.node.name}", pause=0.01, attempts=2)


def put(store: Store, holder: Holder) -> None:
    store.remove([LOCK])
    assert store.put_new(json.dumps(asdict(holder)).encode(), LOCK)


def ended_process() -> int:
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


def test_a_second_one_is_refused_until_the_first_lets_go(store: Store) -> None:
    own, dead = acquire(store)
    assert dead is None
    require_held(store, own.token)
    with pytest.raises(InputError, match=own.name) as refused:
        acquire(store)
    assert "\n" not in str(refused.value)
    assert refused.value.exit_status == TRY_AGAIN
    release(store, "another's")
    require_held(store, own.token)
    release(store, own.token)
    assert holder_of(store) is None
    other, _ = acquire(store)
    with pytest.raises(InputError, match=f"taken by {other.name}"):
        require_held(store, own.token)


def test_of_many_at_once_one_wins(store: Store) -> None:
    def attempt(_: int) -> str | None:
        try:
            return acquire(store)[0].token
        except InputError:
            return None

    with ThreadPoolExecutor(8) as pool:
        won = [token for token in pool.map(attempt, range(8)) if token is not None]
    assert len(won) == 1
    require_held(store, won[0])


def test_the_lock_of_a_process_that_has_ended_is_taken_over(store: Store) -> None:
    dead = replace(Holder.this_process(), process=ended_process())
    put(store, dead)
    own, before = acquire(store)
    assert before == dead
    require_held(store, own.token)


def test_a_process_of_the_same_number_that_began_later_is_another(store: Store) -> None:
    put(store, replace(Holder.this_process(), started="1"))
    assert acquire(store)[0].process == os.getpid()


def test_whether_a_process_elsewhere_has_ended_must_be_said(store: Store) -> None:
    far = replace(Holder.this_process(), machine="another", host="far", process=ended_process())
    put(store, far)
    for name in (None, "far", far.name[:-1]):
        with pytest.raises(InputError, match=f"--break-lock {far.name}"):
            acquire(store, name)
    _, dead = acquire(store, far.name)
    assert dead == far


def test_where_the_store_ignores_the_condition_the_one_overwritten_learns_of_it(store: Store, s3: S3) -> None:
    own, _ = acquire(store)
    s3.misdeeds.append(Misdeed("PUT", "lock", "forget"))
    put_over = Holder.this_process()
    assert store.put_new(json.dumps(asdict(put_over)).encode(), LOCK)
    with pytest.raises(InputError, match=f"taken by {put_over.name}"):
        require_held(store, own.token)


def test_something_else_in_its_place_is_left_alone(store: Store) -> None:
    # A folder of the token's name would be removed with the lock: it must not lead anywhere.
    outside = json.dumps(asdict(replace(Holder.this_process(), process=ended_process(), token="../../home"))).encode()
    for text in (b"no json", b"[]", b'{"a": 1}', b"\xff", outside):
        store.remove([LOCK])
        store.put_new(text, LOCK)
        with pytest.raises(InputError, match="no lock of a build"):
            acquire(store)
        assert store.get(LOCK) == text
