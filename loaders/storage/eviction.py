"""Which shards a cache fetches, and which it lets go: decisions alone, without files, threads or a clock.

`loaders.storage.cache` acts on them, and a simulation can drive them with a clock of its own.
"""

from collections.abc import Callable, Iterable
from typing import Protocol, TypeVar


class Fetchable(Protocol):
    """A shard that can be fetched."""

    @property
    def sha256(self) -> str:
        """What tells it from others."""

    @property
    def bytes(self) -> int:
        """Its size."""


S = TypeVar("S", bound=Fetchable)
H = TypeVar("H")


def room_for(now: Iterable[S]) -> int:
    """Bytes that shards take which are needed at one time, each counted once."""
    return sum({shard.sha256: shard.bytes for shard in now}.values())


def fitting(now: Iterable[S], soon: Iterable[S], capacity: int) -> list[S]:
    """What fits of what is wanted, soonest first: more would only push out what is needed before it.

    Args:
        now: shards that are drawn from.
        soon: shards that are drawn from after those.
        capacity: bytes.
    """
    wanted: dict[str, S] = {}
    room = capacity
    for shards in (now, soon):
        for shard in shards:
            if shard.sha256 not in wanted:
                room -= shard.bytes
                if room < 0:
                    return list(wanted.values())
                wanted[shard.sha256] = shard
    return list(wanted.values())


def next_to_fetch(now: Iterable[S], soon: Iterable[S], capacity: int, have: Callable[[S], bool]) -> S | None:
    """The soonest of what fits that is neither there nor on its way, as ``have`` says."""
    return next((shard for shard in fitting(now, soon, capacity) if not have(shard)), None)


def make_room(held: Iterable[tuple[H, int]], *, size: int, capacity: int, evict: Callable[[H], bool]) -> bool:
    """Let go of what was used least recently until there is room.

    Args:
        held: what takes up room with its bytes, the least recently used first.
        size: bytes of the shard to make room for.
        capacity: bytes for all.
        evict: lets one go; False where it is in use.

    Returns:
        Whether there is room now.
    """
    files = list(held)
    used = sum(bytes_ for _, bytes_ in files)
    for file, bytes_ in files:
        if used + size <= capacity:
            break
        if evict(file):
            used -= bytes_
    return used + size <= capacity
