"""Nodes that read shards from an object store, simulated with a clock of its own.

Which clips and which audio a step takes, which shards are held for it, which are fetched next and which are let go is
decided by the loader's own code (`loaders.sampling.examples`, `loaders.sampling.mixture`, `loaders.sampling.pairs`,
`loaders.storage.eviction`). Simulated is what takes time: transfers, failures, and the training between them.

The model of the store. A node has one process that fetches, with a few threads. A transfer of a shard asks for 8 MiB at
a time, each after the store's latency, and gets the least of what a connection gives, its share of the node's link and
its share of the store's bandwidth. An attempt fails with a given probability, somewhere on its way; the bytes so far
are lost, and the thread tries again after the loader's own backoff. The model of the training: a step begins on all
nodes at once when each has its clips, and lasts as long as a GPU needs for them. Reading from the disk and decoding
take no time: they have benchmarks of their own.
"""

import heapq
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from loaders.dataset.catalog import Catalog
from loaders.sampling import randomness
from loaders.sampling.examples import Sampler
from loaders.sampling.mixture import DatasetSize, MixedOrder
from loaders.storage.cache import BLOCK, THREADS
from loaders.storage.eviction import make_room, next_to_fetch, room_for
from loaders.storage.retry import ATTEMPTS, pause


@dataclass(frozen=True, slots=True, kw_only=True)
class Cluster:
    """Who trains."""

    nodes: int = 16
    gpus: int = 8  #: of a node
    batch_size: int = 32  #: clips a GPU and step
    clips_per_second: float = 500.0  #: that a GPU trains on
    window: int = 8  #: shards drawn from at a time on a node
    ahead: int = 6  #: steps that are read before they are trained on: the loader's queues

    @property
    def step_seconds(self) -> float:
        """A step without waiting."""
        return self.batch_size / self.clips_per_second

    @property
    def global_batch(self) -> int:
        """Clips a step."""
        return self.nodes * self.gpus * self.batch_size


@dataclass(frozen=True, slots=True, kw_only=True)
class Store:
    """Where the shards come from. Rates in bytes a second."""

    link: float  #: of a node
    bandwidth: float = math.inf  #: of the whole store
    connection: float = math.inf  #: of one transfer
    latency: float = 0.02  #: seconds from asking to the first byte
    failure_rate: float = 0.0  #: of an attempt to fetch a shard


@dataclass(frozen=True, slots=True)
class SimulatedShard:
    """One shard, as the cache's decisions see it."""

    sha256: str
    bytes: int


@dataclass(frozen=True, slots=True)
class Step:
    """What a node needs for a step."""

    shards: frozenset[int]  #: that its clips and their audio lie in
    hold: (
        tuple[tuple[int, ...], tuple[int, ...]] | None
    )  #: shards to hold from here on and those after; None: as before


@dataclass(frozen=True, slots=True)
class Schedule:
    """What the loader would ask for: the same for any store, and drawn once."""

    cluster: Cluster
    shards: tuple[SimulatedShard, ...]
    steps: tuple[tuple[Step, ...], ...]  #: by node
    epochs: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Fetched:
    """What became of a run."""

    seconds: float  #: from the start to the end of the last step
    first_step: float  #: seconds until the first step could begin
    stalled: float  #: seconds of waiting for shards after that
    bytes: Sequence[int]  #: that came to each node, those of failed attempts too
    largest: Sequence[int]  #: most bytes in each node's cache, those on their way too
    failures: int  #: attempts that failed

    @property
    def stall_share(self) -> float:
        """Of the time after the first step began."""
        return self.stalled / (self.seconds - self.first_step)


class GaveUpError(Exception):
    """A shard could not be fetched in as many attempts as the loader makes: the run would have ended."""


def schedule(
    catalog: Catalog,
    cluster: Cluster,
    *,
    clip_bytes: int,
    epochs: int = 1,
    seed: int = 0,
    negatives: Mapping[str, float] | None = None,
) -> Schedule:
    """Draw what every node needs, step by step, with a node group a node.

    Args:
        catalog: of the corpus.
        cluster: see there.
        clip_bytes: that a clip takes of its shard.
        epochs: how many.
        seed: of the run.
        negatives: kinds of pairs with their weights; by default audio of other videos.
    """
    order = MixedOrder(
        [DatasetSize(catalog.shard_clips)],
        seed=seed,
        shuffle=True,
        global_batch=cluster.global_batch,
        node_groups=cluster.nodes,
        window=cluster.window,
    )
    frames = catalog.manifest.clip.frames
    sampler = Sampler(
        catalog, seed=seed, training=True, frames=frames, negatives=negatives or {"other_video": 1.0}, order=order
    )
    steps: list[list[Step]] = [[] for _ in range(cluster.nodes)]
    held: list[tuple[object, ...]] = [()] * cluster.nodes
    share = cluster.global_batch // cluster.nodes
    for epoch in range(epochs):
        for step in range(order.steps):
            for node in range(cluster.nodes):
                first = step * cluster.global_batch + node * share
                positions = np.arange(first, first + share)
                examples = sampler.examples(epoch, positions)
                used = np.concatenate([catalog.shard[examples.clip], catalog.shard[examples.audio_clip]])
                now, soon = sampler.window_slices(epoch, positions)
                keys = tuple(part.key for part in now)
                hold = None
                if keys != held[node]:
                    held[node] = keys
                    current = [n for part in now for n in part.window.shards.tolist()]
                    later = [n for part in soon for n in part.window.shards.tolist()]
                    hold = tuple(dict.fromkeys(current)), tuple(n for n in dict.fromkeys(later) if n not in current)
                steps[node].append(Step(frozenset(np.unique(used).tolist()), hold))
    sizes = tuple(SimulatedShard(str(n), clips * clip_bytes) for n, clips in enumerate(catalog.shard_clips.tolist()))
    return Schedule(cluster, sizes, tuple(tuple(of_node) for of_node in steps), epochs)


@dataclass(slots=True)
class _Transfer:
    """A thread's work on a shard."""

    node: "_Node"
    shard: int
    attempt: int
    left: float = 0.0  #: bytes of this attempt
    size: int = 0  #: bytes that it gets through
    fails: bool = False


@dataclass(slots=True)
class _Node:
    number: int
    read: int = 0  #: steps read
    now: tuple[int, ...] = ()
    soon: tuple[int, ...] = ()
    strays: list[int] = field(default_factory=list)
    cached: dict[int, None] = field(default_factory=dict)  # least recently used first
    opened: set[int] = field(default_factory=set)
    fetching: set[int] = field(default_factory=set)
    idle: int = THREADS
    bytes: int = 0
    largest: int = 0


def simulate(plan: Schedule, store: Store, cache_bytes: int, *, seed: int = 0) -> Fetched:
    """Run a schedule against a store, with caches that are empty at first.

    Args:
        plan: what every node asks for.
        store: see there.
        cache_bytes: of each node.
        seed: of the failures.

    Raises:
        GaveUpError: a shard failed as often as the loader tries.
        ValueError: what is needed at one time does not fit in the cache.
    """
    return _Simulation(plan, store, cache_bytes, seed).run()


class _Simulation:
    def __init__(self, plan: Schedule, store: Store, cache_bytes: int, seed: int) -> None:
        self._plan, self._store, self._capacity, self._seed = plan, store, cache_bytes, seed
        self._nodes = [_Node(number) for number in range(plan.cluster.nodes)]
        self._time = 0.0
        self._step = 0
        self._moving: list[_Transfer] = []
        self._timers: list[tuple[float, int, _Transfer]] = []  # attempts that begin later: latency and backoff
        self._count = 0
        self._failures = 0

    def run(self) -> Fetched:
        total = len(self._plan.steps[0])
        ready, first, stalled = 0.0, math.nan, 0.0
        until: float | None = None  # when the running step ends
        while self._step < total:
            for node in self._nodes:
                self._progress(node)
            if until is None and all(node.read > self._step for node in self._nodes):
                if math.isnan(first):
                    first = self._time
                else:
                    stalled += self._time - ready
                until = self._time + self._plan.cluster.step_seconds
            rates = self._rates()
            finish = min((t.left / r for t, r in zip(self._moving, rates, strict=True)), default=math.inf)
            timer = self._timers[0][0] if self._timers else math.inf
            moment = min(self._time + finish, timer, math.inf if until is None else until)
            if math.isinf(moment):
                raise ValueError("nothing is on its way and the training waits: the cache is too small")
            for transfer, rate in zip(self._moving, rates, strict=True):
                transfer.left -= rate * (moment - self._time)
            self._time = moment
            arrived = [t for t in self._moving if t.left <= 1e-6 * t.size + 1e-3]
            self._moving = [t for t in self._moving if t.left > 1e-6 * t.size + 1e-3]
            for transfer in arrived:
                self._arrive(transfer)
            while self._timers and self._timers[0][0] <= self._time:
                self._moving.append(heapq.heappop(self._timers)[2])
            if until is not None and until <= self._time:
                until, ready = None, self._time
                self._step += 1
        return Fetched(
            seconds=self._time,
            first_step=first,
            stalled=stalled,
            bytes=[node.bytes for node in self._nodes],
            largest=[node.largest for node in self._nodes],
            failures=self._failures,
        )

    def _rates(self) -> list[float]:
        """Bytes a second of each transfer."""
        of_node: dict[int, int] = {}
        for transfer in self._moving:
            of_node[transfer.node.number] = of_node.get(transfer.node.number, 0) + 1
        most = min(self._store.connection, self._store.bandwidth / max(len(self._moving), 1))
        return [min(most, self._store.link / of_node[transfer.node.number]) for transfer in self._moving]

    # -- a node: what loaders.reader and loaders.storage.cache do

    def _progress(self, node: _Node) -> None:
        """Read as far as there are shards and room in the queues, and let idle threads fetch."""
        steps = self._plan.steps[node.number]
        while node.read < min(len(steps), self._step + 1 + self._plan.cluster.ahead):
            step = steps[node.read]
            if step.hold is not None and step.hold != (node.now, node.soon):
                node.now, node.soon = step.hold
                node.strays.clear()
                node.opened &= set(node.now)
                self._require_room(node)
                for shard in (*node.now, *node.soon):
                    self._touch(node, shard)
            missing = [shard for shard in step.shards if shard not in node.cached]
            strays = [shard for shard in missing if shard not in node.now and shard not in node.strays]
            if strays:
                node.strays += strays
                self._require_room(node)
            for shard in step.shards:
                if shard in node.cached and shard not in node.opened:
                    node.opened.add(shard)
                    self._touch(node, shard)
            if missing:
                break
            node.read += 1
        while node.idle and self._fetch_next(node):
            node.idle -= 1

    def _wanted_now(self, node: _Node) -> list[SimulatedShard]:
        return [self._plan.shards[number] for number in (*node.now, *node.strays)]

    def _require_room(self, node: _Node) -> None:
        needed = room_for(self._wanted_now(node))
        if needed > self._capacity:
            raise ValueError(
                f"a cache of {self._capacity} bytes does not hold the {needed} that are drawn from at a time"
            )

    def _touch(self, node: _Node, shard: int) -> None:
        if shard in node.cached:
            del node.cached[shard]
            node.cached[shard] = None

    def _fetch_next(self, node: _Node) -> bool:
        """Begin to fetch the next shard, where there is one and room for it."""
        chosen = next_to_fetch(
            self._wanted_now(node),
            [self._plan.shards[number] for number in node.soon],
            self._capacity,
            lambda shard: int(shard.sha256) in node.cached or int(shard.sha256) in node.fetching,
        )
        if chosen is None:
            return False
        on_their_way = sum(self._plan.shards[number].bytes for number in node.fetching)

        def evict(shard: int) -> bool:
            if shard in node.opened:
                return False
            del node.cached[shard]
            return True

        held = [(number, self._plan.shards[number].bytes) for number in node.cached]
        if not make_room(held, size=chosen.bytes, capacity=self._capacity - on_their_way, evict=evict):
            return False
        node.fetching.add(int(chosen.sha256))
        used = sum(self._plan.shards[number].bytes for number in (*node.cached, *node.fetching))
        node.largest = max(node.largest, used)
        self._attempt(_Transfer(node, int(chosen.sha256), 0), 0.0)
        return True

    def _attempt(self, transfer: _Transfer, delay: float) -> None:
        stream = randomness.key(self._seed, "attempt", transfer.node.number, transfer.shard, self._count)
        fails, how_far = randomness.uniform(stream, np.arange(2)).tolist()
        size = self._plan.shards[transfer.shard].bytes
        transfer.fails = fails < self._store.failure_rate
        transfer.size = int(size * how_far) if transfer.fails else size
        transfer.left = float(transfer.size)
        waits = self._store.latency * -(-max(transfer.size, 1) // BLOCK)
        self._count += 1
        heapq.heappush(self._timers, (self._time + delay + waits, self._count, transfer))

    def _arrive(self, transfer: _Transfer) -> None:
        node = transfer.node
        node.bytes += transfer.size
        if transfer.fails:
            self._failures += 1
            if transfer.attempt + 1 == ATTEMPTS:
                raise GaveUpError(f"node {node.number} could not fetch shard {transfer.shard}")
            self._attempt(_Transfer(node, transfer.shard, transfer.attempt + 1), pause(transfer.attempt))
            return
        node.fetching.discard(transfer.shard)
        node.cached[transfer.shard] = None
        node.idle += 1


def lane_bytes(plan: Schedule) -> NDArray[np.int64]:
    """Bytes of the different shards that each node takes anything of, (nodes,): what it cannot do without."""
    return np.array(
        [sum(plan.shards[n].bytes for n in set().union(*(step.shards for step in steps))) for steps in plan.steps],
        np.int64,
    )
