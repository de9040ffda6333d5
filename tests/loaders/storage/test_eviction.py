"""What is fetched fits, soonest first; what goes is what was used least recently, and nothing more than must."""

from dataclasses import dataclass

from hypothesis import given
from hypothesis import strategies as st

from loaders.storage.eviction import fitting, make_room, next_to_fetch, room_for


@dataclass(frozen=True, slots=True)
class Shard:
    sha256: str
    bytes: int


shards = st.lists(
    st.integers(0, 8).map(lambda n: Shard(str(n), 10 + 3 * n)), max_size=8
)  # equal names have equal sizes


@given(shards, shards, st.integers(0, 200))
def test_what_is_wanted_fits_and_is_the_longest_beginning_that_does(
    now: list[Shard], soon: list[Shard], capacity: int
) -> None:
    wanted = fitting(now, soon, capacity)
    in_order = list(dict.fromkeys([*now, *soon]))
    assert wanted == in_order[: len(wanted)]
    assert room_for(wanted) <= capacity
    if len(wanted) < len(in_order):
        assert room_for(in_order[: len(wanted) + 1]) > capacity


@given(shards, shards, st.integers(0, 200), st.sets(st.integers(0, 8).map(str)))
def test_the_next_one_is_the_first_that_is_not_there(
    now: list[Shard], soon: list[Shard], capacity: int, there: set[str]
) -> None:
    chosen = next_to_fetch(now, soon, capacity, lambda shard: shard.sha256 in there)
    left = [shard for shard in fitting(now, soon, capacity) if shard.sha256 not in there]
    assert chosen == (left[0] if left else None)


@given(st.lists(st.tuples(st.integers(1, 30), st.booleans()), max_size=8), st.integers(1, 40), st.integers(0, 150))
def test_room_is_made_from_the_least_recently_used_and_no_more_than_needed(
    held: list[tuple[int, bool]], size: int, capacity: int
) -> None:
    gone: list[int] = []

    def evict(number: int) -> bool:
        if held[number][1]:
            gone.append(number)
        return held[number][1]

    made = make_room([(n, bytes_) for n, (bytes_, _) in enumerate(held)], size=size, capacity=capacity, evict=evict)
    free = [n for n, (_, may_go) in enumerate(held) if may_go]
    assert gone == free[: len(gone)]
    left = sum(bytes_ for bytes_, _ in held) - sum(held[n][0] for n in gone)
    assert made == (left + size <= capacity)
    if gone:
        assert left + held[gone[-1]][0] + size > capacity
    if not made:
        assert gone == free
