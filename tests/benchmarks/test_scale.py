"""Generated datasets are datasets; simulated nodes lose no shard, and time only to what is short."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from benchmarks.fetching import Cluster, GaveUpError, Schedule, Store, lane_bytes, schedule, simulate
from benchmarks.generated import Generated, generate_dataset
from benchmarks.record import Record
from benchmarks.scale import Settings, cache_needed, catalog_sizes, outcome, plot, probe, projection
from loaders import ClipLoader
from loaders.dataset.catalog import open_catalog
from loaders.errors import InputError

CLUSTER = Cluster(nodes=2, gpus=2, batch_size=16, clips_per_second=100.0, window=3, ahead=2)
CLIP_BYTES = 1000
DEMAND = CLUSTER.gpus * CLUSTER.clips_per_second * CLIP_BYTES
WINDOW = CLUSTER.window * 100 * CLIP_BYTES


@pytest.fixture(scope="module")
def generated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("generated") / "set"
    generate_dataset(folder, Generated(clips=2450, clips_per_shard=100, different=7, size=32))
    return folder


@pytest.fixture(scope="module")
def plan(generated: Path) -> Schedule:
    return schedule(open_catalog(generated, "train", ()), CLUSTER, clip_bytes=CLIP_BYTES)


def test_a_generated_dataset_loads_like_any_other(generated: Path) -> None:
    with ClipLoader(generated, "train", batch_size=50, training=False) as loader:
        clips = [clip for batch in loader for clip in batch.clip.tolist()]
        assert loader.stats().bad_clips == 0
    assert clips == list(range(2450))


def test_drawn_extents_change_nothing_else(generated: Path, tmp_path: Path) -> None:
    generate_dataset(
        tmp_path / "drawn", Generated(clips=2450, clips_per_shard=100, different=7, size=32, readable=False)
    )
    one, other = (pq.read_table(folder / "train" / "clips.parquet") for folder in (generated, tmp_path / "drawn"))
    # Arousal and valence are no numbers here, and unlike themselves.
    differing = {name for name in one.column_names if name not in ("arousal", "valence") and one[name] != other[name]}
    drawn = {name for name in one.column_names if name.endswith(("_offset", "_size", "_xxh3"))}
    assert differing == drawn - {"source_xxh3"}


def test_probing_a_catalog_gives_every_figure(generated: Path) -> None:
    figures = probe(generated, 64)
    assert figures["open_s"] < figures["first_examples_s"]
    assert figures["pairs_a_second"] > 1000
    assert figures["microseconds_a_position"] > 0


def test_sizes_go_up_by_tens() -> None:
    assert catalog_sizes(10_000, 10_000_000) == [10**4, 10**5, 10**6, 10**7]
    with pytest.raises(InputError, match="smallest"):
        catalog_sizes(10, 100)


def test_every_clip_is_read_on_the_node_of_its_node_group(plan: Schedule) -> None:
    of_nodes = [set().union(*(step.shards for step in steps)) for steps in plan.steps]
    assert not of_nodes[0] & of_nodes[1]
    assert of_nodes[0] | of_nodes[1] == set(range(25))


def test_with_a_fast_link_every_shard_comes_once_and_nobody_waits(plan: Schedule) -> None:
    found = simulate(plan, Store(link=100 * DEMAND), 100 * WINDOW)
    assert found.bytes == lane_bytes(plan).tolist()
    assert found.stalled == pytest.approx(0, abs=1e-6)
    assert found.seconds == pytest.approx(found.first_step + len(plan.steps[0]) * CLUSTER.step_seconds)


def test_a_link_at_half_of_what_is_needed_takes_twice_the_time(plan: Schedule) -> None:
    found = simulate(plan, Store(link=0.5 * DEMAND, latency=0), 100 * WINDOW)
    assert found.seconds >= 0.999 * max(found.bytes) / (0.5 * DEMAND) - CLUSTER.window * 100 * CLIP_BYTES / DEMAND
    assert 0.3 < found.stall_share < 0.6


@pytest.mark.parametrize("failure_rate", [0.0, 0.2])
@pytest.mark.parametrize("windows", [2.0, 2.5, 3.0])
def test_the_cache_stays_below_its_cap_and_the_run_ends(plan: Schedule, failure_rate: float, windows: float) -> None:
    capacity = int(windows * WINDOW)
    found = simulate(plan, Store(link=2 * DEMAND, failure_rate=failure_rate), capacity)
    assert max(found.largest) <= capacity
    assert (np.array(found.bytes) >= lane_bytes(plan)).all()
    assert (found.failures > 0) == (failure_rate > 0)
    assert found == simulate(plan, Store(link=2 * DEMAND, failure_rate=failure_rate), capacity)


def test_a_store_that_always_fails_ends_the_run(plan: Schedule) -> None:
    with pytest.raises(GaveUpError):
        simulate(plan, Store(link=DEMAND, failure_rate=1.0), 3 * WINDOW)
    assert outcome(plan, Store(link=DEMAND, failure_rate=1.0), 3 * WINDOW) == {"stall_share": None}


def test_a_cache_that_holds_no_window_is_refused(plan: Schedule) -> None:
    with pytest.raises(ValueError, match="does not hold"):
        simulate(plan, Store(link=DEMAND), WINDOW // 2)


def test_the_smallest_cache_that_is_enough_is_named() -> None:
    run = {"window": 8, "failure_rate": 0.0, "link": 2.0}
    runs = [run | {"cache_windows": c, "stall_share": s} for c, s in ((4.0, 0.0), (3.0, 0.005), (2.0, 0.2))]
    assert list(cache_needed(runs).values()) == [3.0]
    assert cache_needed([runs[2], run | {"cache_windows": 1.0, "stall_share": None}]) == {}


def test_the_large_corpus_grows_with_what_was_measured(tmp_path: Path) -> None:
    def figures(clips: int) -> dict[str, float]:
        return {
            "open_s": clips / 1e6,
            "resident_mb": 20 + clips / 1e4,
            "microseconds_a_position": 4.0,
            "pairs_a_second": 1e7,
            "first_examples_s": clips / 1e6,
        }

    sizes = {"a": 10**4, "b": 10**6}
    settings = Settings()
    record = Record(
        benchmark="scale",
        settings={},
        rounds={side: [figures(clips)] for side, clips in sizes.items()},
        ratios={},
        facts={"clips": sizes},
    )
    found = projection(record, settings, clips=10**9, gpus=1000)
    assert found["bytes_of_memory_a_clip"] == pytest.approx(100)
    assert found["memory_gb_a_rank_whole_catalog"] == pytest.approx(100)
    assert found["memory_gb_a_rank_lane_only"] == pytest.approx(100 / 125)
    assert found["corpus_tb"] == pytest.approx(1e9 * settings.clip_bytes / 1e12)
    twice = projection(record, replace(settings, cluster=replace(settings.cluster, clips_per_second=400.0)))
    assert twice["epoch_hours"] == pytest.approx(found["epoch_hours"] / 2)
    plot(record, tmp_path / "plot.png")
    assert (tmp_path / "plot.png").read_bytes().startswith(b"\x89PNG")
