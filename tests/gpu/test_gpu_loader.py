"""On a GPU batches are what they are on a CPU, wherever they are decoded, and nobody waits for them in the step."""

import gc
import itertools
import logging
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
import torch

from loaders import Batch, ClipLoader
from loaders.decode import dali
from loaders.decode.pipeline import DecodePipeline
from sharding.settings import BuildSettings
from tests.batches import digest, tensors
from tests.datasets import Contents, make_dataset
from tests.frames import frame_faults

CARD = "cuda:0"
PLACEMENTS = ("gpu", "cpu")
MIB = 1 << 20
LEAST = 12  #: batches that are taken even where fewer are asked for
MILLISECOND = 2_000_000  # cycles, at about 2 GHz

_PLAIN = ("video", "audio", "gaze", "gaze_valid", "match", "clip", "audio_clip", "seed")  # without targets and members

_taken: dict[tuple[Any, ...], list[Batch]] = {}


def loader_of(dataset: Path, split: str = "train", **changes: Any) -> ClipLoader:
    return ClipLoader(dataset, split, **{"batch_size": 8, "seed": 3, "threads": 4, "device": CARD, **changes})


def endless(loader: ClipLoader) -> Iterator[Batch]:
    """Over the ends of epochs; holds no batch."""
    while True:
        yield from loader


def taken(dataset: Path, count: int, split: str = "train", **changes: Any) -> list[Batch]:
    """The first batches, on the CPU. Each loader's are taken once, however many tests compare with them."""
    changes = {"batch_size": 8, "device": CARD, "frames": 16, **changes}
    key = dataset, split, tuple(sorted(changes.items()))
    if len(_taken.get(key, ())) < count:
        _taken[key] = freshly_taken(dataset, max(count, LEAST), split, **changes)
    return _taken[key][:count]


def freshly_taken(dataset: Path, count: int, split: str = "train", **changes: Any) -> list[Batch]:
    """By a loader that is made for it."""
    with loader_of(dataset, split, **changes) as loader:
        batches = [batch.to("cpu") for batch in itertools.islice(endless(loader), count)]
        # Where the GPU cannot decode, the CPU does: that would pass for what was asked for.
        assert loader.stats().decoder == changes.get("placement", loader.stats().decoder), loader.stats().decoder_reason
    return batches


def assert_alike(ours: list[Batch], theirs: list[Batch], *, exact: bool) -> None:
    """Everything to the bit, but for frames where two decoders are compared."""
    for one, other in zip(ours, theirs, strict=True):
        for (name, mine), (_, yours) in zip(tensors(one.to("cpu")), tensors(other.to("cpu")), strict=True):
            assert (mine.dtype, mine.shape) == (yours.dtype, yours.shape), name
            if name == "video" and not exact:
                assert not mine.numel() or frame_faults(mine, yours) == []
            else:
                assert torch.equal(mine, yours), name


# -- what a batch is


@pytest.mark.parametrize("placement", PLACEMENTS)
@pytest.mark.parametrize(
    ("name", "frames"),
    [("dataset", 16), ("dataset", 1), ("full_size", 16), ("full_size", 5), ("full_colour", 16), ("full_colour", 5)],
)
def test_batches_are_the_cpus(name: str, frames: int, placement: str, request: pytest.FixtureRequest) -> None:
    dataset = request.getfixturevalue(name)
    expected = taken(dataset, 9, frames=frames, device="cpu")
    found = taken(dataset, 9, frames=frames, placement=placement)
    assert_alike(found, expected, exact=placement == "cpu")


@pytest.mark.parametrize("placement", PLACEMENTS)
@pytest.mark.parametrize(
    "choice",
    [{"frames": 5, "stride": 3}, {"frames": 8, "sample": "random"}, {"frames": 4, "sample": "even"}],
    ids=["stride", "random", "even"],
)
def test_so_they_are_whichever_frames_are_taken(full_size: Path, choice: dict[str, Any], placement: str) -> None:
    expected = taken(full_size, 4, **choice, device="cpu")
    found = taken(full_size, 4, **choice, placement=placement)
    assert_alike(found, expected, exact=placement == "cpu")


@pytest.mark.parametrize("placement", PLACEMENTS)
def test_so_they_are_of_clips_without_markers(tmp_path: Path, placement: str) -> None:
    contents = Contents(speakers={"train": 2}, shards={"train": 2}, videos=2)
    make_dataset(tmp_path / "dataset", contents, BuildSettings(restart_markers=False))
    choice = {"frames": 5, "stride": 3}
    expected = freshly_taken(tmp_path / "dataset", 3, **choice, device="cpu")
    found = freshly_taken(tmp_path / "dataset", 3, **choice, placement=placement)
    assert_alike(found, expected, exact=placement == "cpu")


def test_so_they_are_where_threads_read(dataset: Path) -> None:
    """By default processes do, and sound takes another way to the card."""
    expected = taken(dataset, 9, device="cpu")
    assert_alike(taken(dataset, 9, placement="cpu", readers="threads"), expected, exact=True)


def test_so_they_are_without_dali(dataset: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An extra that not everybody installs: libjpeg-turbo decodes, and torch copies."""
    monkeypatch.setattr(dali, "is_installed", lambda: False)
    expected = taken(dataset, 9, device="cpu")
    with loader_of(dataset, frames=16) as loader:
        found = list(itertools.islice(endless(loader), 9))
        assert loader.stats().decoder == "turbo"
    assert {tensor.device for _, tensor in tensors(found[0])} == {torch.device(CARD)}
    assert_alike(found, expected, exact=True)


@pytest.mark.parametrize("share", [0.0, 0.5, 1.0])
def test_engines_and_kernels_decode_alike(share: float, full_size: Path) -> None:
    expected = taken(full_size, 4, device="cpu")
    assert_alike(taken(full_size, 4, placement="gpu", hw_decoder_load=share), expected, exact=False)


@pytest.mark.real_trials
@pytest.mark.parametrize("placement", ["gpu", "cpu", "auto"])
def test_batches_lie_on_the_gpu_and_the_statistics_say_what_decoded(dataset: Path, placement: str) -> None:
    with loader_of(dataset, placement=placement) as loader:
        batch = next(iter(loader))
        stats = loader.stats()
    assert {tensor.device for _, tensor in tensors(batch)} == {torch.device(CARD)}
    if placement == "auto":
        assert stats.decoder == "cpu"  # whichever is faster, while it keeps up
        assert min(stats.gpu_trial, stats.cpu_trial) > 0
        assert "measured" in stats.decoder_reason
    else:
        assert (stats.decoder, stats.decoder_reason) == (placement, "as asked for")


@pytest.mark.real_trials
def test_the_gpu_takes_over_where_the_cpu_does_not_keep_up(
    full_size: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Whether it does is told here: how long a batch is waited for depends on who else uses the card."""
    expected = taken(full_size, 24, device="cpu")
    monkeypatch.setattr("loaders.decode.placement._JUDGED_SECONDS", 0.0)
    monkeypatch.setattr("loaders.decode.placement._TOO_LONG", -1.0)
    monkeypatch.setattr("loaders.decode.placement.Trial.__call__", lambda _, decoder: {"cpu": 1.0, "gpu": 2.0}[decoder])
    with caplog.at_level(logging.INFO), loader_of(full_size, placement="auto", threads=1) as loader:
        found = [batch.to("cpu") for batch in itertools.islice(endless(loader), 24)]
        stats, state = loader.stats(), loader.state_dict()
    assert_alike(found[:12], expected[:12], exact=True)
    assert_alike(found, expected, exact=False)
    assert (stats.decoder, state["decoder"]) == ("gpu", "gpu")
    assert "did not keep up" in stats.decoder_reason
    assert stats.decoder_reason in caplog.text


@pytest.mark.parametrize("placement", PLACEMENTS)
def test_evaluation_has_its_short_and_empty_batches(dataset: Path, placement: str) -> None:
    first_of_five = {"rank": 0, "world_size": 5, "batch_size": 1}
    for rank, sizes in (({}, [8, 8, 8, 8, 6]), (first_of_five, [1, 1, 1, 1, 1, 1, 1, 0])):
        expected = taken(dataset, len(sizes), "test", device="cpu", **rank)
        found = taken(dataset, len(sizes), "test", placement=placement, **rank)
        assert [len(batch) for batch in found] == sizes
        assert_alike(found, expected, exact=placement == "cpu")


@pytest.mark.parametrize("placement", PLACEMENTS)
def test_two_ranks_make_the_global_batch_of_one(dataset: Path, placement: str) -> None:
    whole = taken(dataset, 7, placement=placement)
    halves = [taken(dataset, 7, placement=placement, batch_size=4, rank=rank, world_size=2) for rank in range(2)]
    joined = [
        Batch(**{name: torch.cat([getattr(half, name) for half in pair]) for name in _PLAIN})
        for pair in zip(*halves, strict=True)
    ]
    assert_alike(joined, whole, exact=placement == "cpu")


# -- resuming


@pytest.mark.parametrize("placement", PLACEMENTS)
def test_a_run_stopped_anywhere_goes_on_as_if_it_had_not(dataset: Path, placement: str) -> None:
    draw, found = random.Random(1), list[Batch]()
    whole = taken(dataset, 24, placement=placement)
    state: dict[str, Any] | None = None
    while len(found) < 24:
        with loader_of(dataset, placement=placement) as loader:
            if state is not None:
                loader.load_state_dict(state)
            for batch in itertools.islice(endless(loader), min(draw.randint(1, 9), 24 - len(found))):
                found.append(batch.to("cpu"))
                state = loader.state_dict()
    assert_alike(found, whole, exact=placement == "cpu")


@pytest.mark.real_trials
def test_a_run_moves_between_cpu_and_gpu_and_auto_keeps_its_decoder(dataset: Path) -> None:
    expected = taken(dataset, 12, device="cpu")
    with loader_of(dataset, placement="auto") as loader:
        found = [batch.to("cpu") for batch in itertools.islice(endless(loader), 6)]
        decoder, state = loader.stats().decoder, loader.state_dict()
    with loader_of(dataset, placement="auto") as loader:
        loader.load_state_dict(state)
        found += [batch.to("cpu") for batch in itertools.islice(endless(loader), 3)]
        assert loader.stats().decoder == decoder
        state = loader.state_dict()
    with loader_of(dataset, device="cpu") as loader:
        loader.load_state_dict(state)
        found += itertools.islice(endless(loader), 3)
    assert_alike(found, expected, exact=False)


# -- streams and memory


def snapshot(batch: Batch) -> Batch:
    """Copies that are queued on the current stream."""
    return Batch(**{name: getattr(batch, name).clone() for name in _PLAIN})


@pytest.mark.alone
@pytest.mark.parametrize("stream_of_its_own", [False, True])
@pytest.mark.parametrize("placement", PLACEMENTS)
def test_a_batch_outlasts_the_kernels_queued_on_it(full_size: Path, placement: str, stream_of_its_own: bool) -> None:
    """The host drops each batch long before the GPU has read it, while DALI decodes the ones after the next."""
    calm = taken(full_size, 24, placement=placement)
    stream = torch.cuda.Stream() if stream_of_its_own else torch.cuda.current_stream()
    hurried = []
    with torch.cuda.stream(stream), loader_of(full_size, placement=placement, prefetch=3) as loader:
        for batch in itertools.islice(endless(loader), 24):
            torch.cuda._sleep(30 * MILLISECOND)
            hurried.append(snapshot(batch))
            del batch
        stream.synchronize()
    assert_alike(hurried, calm, exact=placement == "cpu")


@pytest.mark.parametrize("placement", PLACEMENTS)
def test_batches_that_are_held_stay_as_they_are(full_size: Path, placement: str) -> None:
    with loader_of(full_size, placement=placement) as loader:
        held = list(itertools.islice(endless(loader), 12))
        before = [digest(batch) for batch in held]
        for _ in itertools.islice(endless(loader), 30):
            pass
    assert [digest(batch) for batch in held] == before


@pytest.mark.alone
@pytest.mark.parametrize("placement", PLACEMENTS)
def test_the_consumer_is_never_made_to_wait_for_the_gpu(dataset: Path, placement: str) -> None:
    with loader_of(dataset, placement=placement) as loader:
        batches = endless(loader)

        def handed_over_while_busy() -> tuple[bool, list[torch.Tensor]]:
            """Whether the GPU was still busy with what came before when five batches had been handed over."""
            done = torch.cuda.Event()
            torch.cuda._sleep(1000 * MILLISECOND)
            done.record()
            sums = [next(batches).video.sum() for _ in range(5)]
            return not done.query(), sums

        handed_over_while_busy()  # after which DALI's and torch's allocators have all that they need
        torch.cuda.synchronize()
        torch.cuda.set_sync_debug_mode("error")  # torch raises where it would synchronise
        try:
            busy, sums = handed_over_while_busy()
        finally:
            torch.cuda.set_sync_debug_mode("default")
        assert busy
        assert all(int(total) > 0 for total in sums)


@pytest.mark.alone
@pytest.mark.parametrize("placement", PLACEMENTS)
def test_a_thousand_steps_take_no_more_memory_than_two_hundred(dataset: Path, placement: str) -> None:
    """Of the whole device: DALI's memory is not torch's."""
    used = []
    with loader_of(dataset, placement=placement) as loader:
        for step, batch in enumerate(itertools.islice(endless(loader), 1001)):
            batch.video.float().mean()
            if step % 200 == 0:
                torch.cuda.synchronize()
                free, total = torch.cuda.mem_get_info()
                used.append(total - free)
    assert max(used[2:]) - used[1] <= 32 * MIB, used


@pytest.mark.alone
def test_loaders_that_come_and_go_leave_nothing_on_the_device(dataset: Path) -> None:
    used = []
    for _ in range(6):
        freshly_taken(dataset, 3, placement="gpu")
        gc.collect()
        torch.cuda.synchronize()
        free, total = torch.cuda.mem_get_info()
        used.append(total - free)
    assert used[-1] - used[2] <= 32 * MIB, used


# -- when the GPU cannot


class _NoGpuDecoder(DecodePipeline):
    """As on a card, or with libraries, that decode no JPEG."""

    def __init__(self, clip: Any, frames: int, settings: Any, source: Any) -> None:
        if settings.decoder == "gpu":
            raise RuntimeError("nvJPEG is out of order")
        super().__init__(clip, frames, settings, source)


@pytest.mark.real_trials
@pytest.mark.parametrize("placement", ["gpu", "auto"])
def test_where_the_gpu_cannot_decode_the_cpu_does_and_says_why(
    dataset: Path, placement: str, caplog: pytest.LogCaptureFixture
) -> None:
    expected = taken(dataset, 6, placement="cpu")
    with (
        mock.patch("loaders.decode.placement.DecodePipeline", _NoGpuDecoder),
        caplog.at_level(logging.WARNING),
        loader_of(dataset, placement=placement) as loader,
    ):
        found = [batch.to("cpu") for batch in itertools.islice(endless(loader), 6)]
        stats = loader.stats()
    assert_alike(found, expected, exact=True)
    assert stats.decoder == "cpu"
    assert "nvJPEG is out of order" in stats.decoder_reason
    assert stats.decoder_reason in caplog.text


# -- several GPUs


@pytest.mark.skipif(torch.cuda.device_count() < 2, reason="there are fewer than two GPUs")
def test_loaders_on_two_gpus_do_not_meet(dataset: Path) -> None:
    expected = taken(dataset, 12, device="cpu")
    loaders = [loader_of(dataset, device=f"cuda:{index}", placement="gpu") for index in range(2)]
    try:
        streams = [endless(loader) for loader in loaders]
        for step in range(12):
            for index, stream in enumerate(streams):
                batch = next(stream)
                assert batch.video.device == batch.clip.device == torch.device("cuda", index)
                assert_alike([batch], [expected[step]], exact=False)
    finally:
        for loader in loaders:
            loader.close()
