"""What decodes is decided by measurements, and a GPU that cannot is never passed over in silence."""

import logging
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from loaders import ClipLoader, InputError
from loaders.decode import dali
from loaders.decode.pipeline import Decoder, Encoded, PipelineSettings, _outputs
from loaders.decode.placement import (
    Demand,
    Placement,
    Trial,
    as_before,
    check_placement,
    choose,
    first_choice,
    on_cpu,
    settled,
    turned,
)
from loaders.loader import _device
from loaders.reader import Reader
from tests.batches import digests

CPU, GPU = torch.device("cpu"), torch.device("cuda", 0)
RATES = st.floats(1, 1e6)


def measuring(rates: dict[Decoder, Iterable[float | Exception]]) -> tuple[Callable[[Decoder], float], list[Decoder]]:
    """A measure that says these rates one after another, and what it was asked for."""
    rest = {decoder: iter(said) for decoder, said in rates.items()}
    asked: list[Decoder] = []

    def measure(decoder: Decoder) -> float:
        asked.append(decoder)
        rate = next(rest[decoder])
        if isinstance(rate, Exception):
            raise rate
        return rate

    return measure, asked


# -- the decision


@given(cpu=RATES, gpu=RATES)
def test_the_cpu_decodes_first_and_a_faster_gpu_is_at_hand_and_the_reason_says_both_rates(
    cpu: float, gpu: float
) -> None:
    choice = first_choice(cpu=cpu, gpu=gpu)
    assert choice.decoder == "cpu"
    assert choice.instead == ("gpu" if gpu > cpu else None)
    assert (choice.cpu, choice.gpu) == (cpu, gpu)
    assert f"{cpu:.0f}" in choice.reason
    assert f"{gpu:.0f}" in choice.reason


@given(cpu=st.lists(RATES, min_size=3, max_size=3), gpu=st.lists(RATES, min_size=3, max_size=3))
def test_auto_takes_turns_and_goes_by_the_medians(cpu: list[float], gpu: list[float]) -> None:
    measure, asked = measuring({"cpu": cpu, "gpu": gpu})
    assert choose("auto", measure, rounds=3) == first_choice(cpu=sorted(cpu)[1], gpu=sorted(gpu)[1])
    assert asked == ["gpu", "cpu"] * 3


def shares(seconds: float, waits: float, starves: float, batches: int = 1000) -> list[float]:
    """What `Demand` tells of batches that each take so many seconds, of which so many are waited for."""
    demand = Demand()
    told = (demand.told(n * seconds, n * waits, n * starves) for n in range(batches))
    return [share for share in told if share is not None]


@given(seconds=st.floats(0.001, 10), share=st.floats(0, 1), starving=st.floats(0, 1))
def test_waits_for_what_decodes_are_told_and_others_are_not(seconds: float, share: float, starving: float) -> None:
    found = shares(seconds, share * seconds, starving * seconds, batches=5000)
    if share < 0.019 or starving > 0.51:
        assert found == []
    elif share > 0.021 and starving < 0.49 and 5000 * seconds > 10:
        assert found
        assert found == pytest.approx([share] * len(found), rel=1e-3)


def test_what_only_the_first_steps_take_is_no_reason() -> None:
    """A network's first steps take long, and batches are at hand for the next."""
    demand = Demand()
    assert demand.told(0, 5.0, 0) is None  # what was waited for the first batch is not counted
    assert [demand.told(20 + n, 5.0, 0) for n in range(40)] == [None] * 40


def test_what_takes_over_says_why_and_nothing_takes_over_from_it() -> None:
    choice = turned(first_choice(cpu=100, gpu=300), 0.25)
    assert (choice.decoder, choice.instead, choice.cpu, choice.gpu) == ("gpu", None, 100, 300)
    assert "the CPU did not keep up: batches were waited for 25% of the time" in choice.reason
    with pytest.raises(ValueError, match="take over"):
        turned(choice, 0.25)


def test_a_gpu_that_is_asked_for_is_tried_once_and_taken_however_slow() -> None:
    measure, asked = measuring({"cpu": [], "gpu": [3.0]})
    choice = choose("gpu", measure)
    assert (choice.decoder, choice.reason, choice.gpu, asked) == ("gpu", "as asked for", 3.0, ["gpu"])


@pytest.mark.parametrize(("wanted", "good_rounds"), [("gpu", 0), ("auto", 0), ("auto", 1)])
def test_where_the_gpu_fails_the_cpu_decodes_and_the_reason_is_said(
    wanted: Placement, good_rounds: int, caplog: pytest.LogCaptureFixture
) -> None:
    broken = [*[9.0] * good_rounds, RuntimeError("no nvJPEG\n  here")]
    measure, _ = measuring({"cpu": [5.0] * (good_rounds + 1), "gpu": broken})
    with caplog.at_level(logging.WARNING):
        choice = choose(wanted, measure)
    assert (choice.decoder, choice.cpu, choice.gpu) == ("cpu", 5.0, 0.0)
    assert choice.reason == "the GPU cannot decode these clips (no nvJPEG here)"
    assert choice.reason in caplog.text


def test_clips_that_neither_decodes_are_the_clips_fault() -> None:
    measure, _ = measuring({"cpu": [RuntimeError("cut")], "gpu": [RuntimeError("critical error")]})
    with pytest.raises(RuntimeError, match="cut"):
        choose("gpu", measure)


def test_what_needs_no_trial_is_settled() -> None:
    copied = settled("cpu")
    assert copied is not None
    assert (copied.decoder, copied.reason) == ("cpu", "as asked for")
    assert settled("gpu") is None
    assert settled("auto") is None


def test_on_a_cpu_libjpeg_turbo_decodes_alone_what_it_can() -> None:
    assert on_cpu("auto", None).decoder == on_cpu("turbo", None).decoder == "turbo"
    assert on_cpu("dali", None).decoder == on_cpu("dali", "the audio is flac").decoder == "cpu"
    choice = on_cpu("auto", "the audio is flac")
    assert (choice.decoder, "the audio is flac" in choice.reason) == ("cpu", True)
    with pytest.raises(InputError, match="the audio is flac: use auto"):
        on_cpu("turbo", "the audio is flac")


def test_a_run_that_goes_on_keeps_to_its_decoder() -> None:
    for decoder in ("cpu", "turbo"):  # a run on a CPU may go on where there is a GPU
        wanted, choice = as_before(decoder)  # type: ignore[arg-type]
        assert choice is not None
        assert (wanted, choice.decoder) == ("auto", "cpu")
    assert as_before("gpu") == ("gpu", None)  # tried again: it may be another machine
    assert as_before(None) == ("auto", None)


def test_placements_that_cannot_be_are_refused(dataset: Path) -> None:
    for placement in ("gpu", "cpu", "auto"):
        assert check_placement(placement, GPU) == placement
    for placement in ("gpu", "GPU", ""):
        with pytest.raises(InputError, match="placement"):
            ClipLoader(dataset, device="cpu", placement=placement)
    for load in (-0.1, 1.5, float("nan")):
        with pytest.raises(InputError, match="hw_decoder_load"):
            ClipLoader(dataset, hw_decoder_load=load)


# -- the trial


@pytest.fixture(scope="module")
def encoded(dataset: Path) -> Any:
    """Clip format and two batches of different sizes, as a reader hands them over; their sound needs no decoder."""
    with ClipLoader(dataset, "test", batch_size=10, frames=4) as loader:
        batches = [loader._reader.read(0, step).encoded for step in (0, 3)]
        assert [len(batch) for batch in batches] == [10, 8]
        return loader._clip, batches


def trial(encoded: Any, frames: int = 4, device: torch.device = CPU) -> Trial:
    clip, batches = encoded
    return Trial(clip, frames, PipelineSettings(max_batch=10, threads=1, device=device, audio=False), batches)


def test_a_trial_measures_a_decoder(encoded: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("loaders.decode.placement._SECONDS", 0.05)
    rate = trial(encoded)("cpu")
    assert 20 < rate < 1e6


@pytest.mark.skipif(torch.cuda.is_available(), reason="here nvJPEG decodes: see tests/gpu")
@pytest.mark.parametrize("device", [CPU, GPU])
def test_a_trial_of_a_gpu_that_is_not_there_fails_and_the_cpu_takes_over(
    encoded: Any, device: torch.device, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The real graph with nvJPEG in it, which DALI refuses to build here; the CPU's side is measured on the CPU."""
    monkeypatch.setattr("loaders.decode.placement._SECONDS", 0.05)
    sides = {"gpu": trial(encoded, device=device), "cpu": trial(encoded)}
    choice = choose("auto", lambda decoder: sides[decoder](decoder))
    assert choice.decoder == "cpu"
    assert choice.cpu > 0
    assert "GPU" in choice.reason
    assert "\n" not in choice.reason


def test_a_trial_of_broken_clips_fails_on_the_cpu_too(encoded: Any) -> None:
    clip, _ = encoded
    damaged = np.zeros(500, np.uint8)
    broken = Encoded([damaged], [damaged], np.zeros((1, 4), np.int16), np.zeros(1, np.int64))
    settings = PipelineSettings(max_batch=10, threads=1, device=CPU)
    with pytest.raises(RuntimeError):
        choose("gpu", Trial(clip, 4, settings, [broken]))


# -- in the loader


def as_if_on_a_gpu(loader: ClipLoader, placement: Placement) -> None:
    """Leave open what decodes, as it is for a GPU; batches lie on the CPU all the same."""
    loader._placement = loader._wanted = placement
    loader._choice = None


@pytest.mark.parametrize(("split", "size"), [("train", 8), ("train", 31), ("test", 5)])
def test_a_trial_changes_no_batch_and_reads_nothing_twice(
    split: str, size: int, dataset: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[tuple[int, int]] = []
    original = Reader.draw

    def noted(self: Reader, epoch: int, step: int, *settle: Any) -> Any:
        read.append((epoch, step))
        return original(self, epoch, step, *settle)

    monkeypatch.setattr(Reader, "draw", noted)
    monkeypatch.setattr("loaders.decode.placement._SECONDS", 0.01)

    def epochs(loader: ClipLoader) -> list[str]:
        return digests([batch for _ in range(3) for batch in loader])

    with ClipLoader(dataset, split, batch_size=size, frames=4, threads=1, seed=3) as plain:
        expected = epochs(plain)
    read.clear()
    with ClipLoader(dataset, split, batch_size=size, frames=4, threads=1, seed=3) as loader:
        as_if_on_a_gpu(loader, "auto")
        assert loader.stats().decoder == ""
        assert epochs(loader) == expected
        stats = loader.stats()
    assert stats.decoder == "cpu"
    assert stats.cpu_trial > 0
    assert "GPU" in stats.decoder_reason
    assert read == sorted(set(read))


def test_ranks_without_clips_have_nothing_to_try(dataset: Path) -> None:
    with ClipLoader(dataset, "test", batch_size=1, rank=0, world_size=64, threads=1) as loader:
        as_if_on_a_gpu(loader, "gpu")
        [batch] = list(loader)
        assert len(batch) == 0
        assert loader.stats().decoder == "cpu"
        assert "no clips" in loader.stats().decoder_reason


def test_the_state_says_what_decodes_and_the_fingerprint_does_not(dataset: Path) -> None:
    with ClipLoader(dataset, batch_size=8, threads=1) as loader:
        state = loader.state_dict()
        assert state["decoder"] == "turbo"
        assert not {"decoder", "placement", "device", "hw_decoder_load"} & state["fingerprint"].keys()
        loader.load_state_dict(state | {"decoder": "gpu"})  # saved on a GPU, gone on with on a CPU
        assert loader.state_dict() == state
        del state["decoder"]  # saved before there was a choice
        loader.load_state_dict(state)


# -- devices, without one


@pytest.fixture
def four_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    """What torch says on the third rank of a machine with four GPUs, after accelerate has set its device."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 4)
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 2)


@pytest.mark.usefixtures("four_gpus")
@pytest.mark.parametrize(("given_device", "index"), [("cuda", 2), ("cuda:0", 0), ("cuda:3", 3)])
def test_each_rank_decodes_for_its_own_gpu(given_device: str, index: int, dataset: Path) -> None:
    assert _device(given_device) == torch.device("cuda", index)
    loader = ClipLoader(dataset, device=torch.device(given_device), rank=2, world_size=4, batch_size=4)
    assert loader._settings.device == torch.device("cuda", index)
    loader.close()


@pytest.mark.usefixtures("four_gpus")
def test_a_gpu_beyond_the_last_is_refused() -> None:
    with pytest.raises(InputError, match=r"cuda:4.*4"):
        _device("cuda:4")


@pytest.mark.skipif(not dali.is_installed(), reason="DALI is not installed: the extra cuda13")
@pytest.mark.usefixtures("four_gpus")
def test_a_run_with_auto_goes_on_as_it_was_decoded_before(dataset: Path) -> None:
    for placement, saved, settled_as in (
        ("auto", "cpu", "cpu"),
        ("auto", "gpu", ""),
        ("auto", None, ""),
        ("gpu", "cpu", ""),
        ("cpu", "gpu", "cpu"),
    ):
        loader = ClipLoader(dataset, device="cuda:1", placement=placement, batch_size=4)
        loader.load_state_dict(loader.state_dict() | {"decoder": saved})
        assert loader.stats().decoder == settled_as, (placement, saved)
        assert loader._wanted == ("gpu" if saved == "gpu" and placement == "auto" else placement)
        loader.close()


@pytest.mark.parametrize("decoder", ["cpu", "gpu"])
@pytest.mark.parametrize("frames", [4, 16])
def test_one_graph_serves_every_placement(decoder: Decoder, frames: int, encoded: Any) -> None:
    """DALI describes a graph without a GPU, and only builds it with one: what it describes ends on the right device."""
    clip, _ = encoded
    settings = {"batch_size": 4, "num_threads": 1, "prefetch_queue_depth": 2, "exec_dynamic": True}
    graph = dali.graph(_outputs, clip, frames, lambda: (), decoder, True, True, 0.5, 8_000, device_id=0, **settings)
    video, audio = graph._graph_out
    assert (video.device, audio.device) == ("gpu", "gpu")
    assert video.source._op.device == {"cpu": "cpu", "gpu": "mixed"}[decoder]
    on_cpu = dali.graph(_outputs, clip, frames, lambda: (), "cpu", False, True, 0.5, 8_000, device_id=None, **settings)
    assert {node.device for node in on_cpu._graph_out} == {"cpu"}
