"""The parts of the loaders' benchmark: what it prepares, what it accepts, what it makes of the rounds."""

import io
import json
import os
import shutil
import subprocess
import sys
import time
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import tyro
from hypothesis import given
from hypothesis import strategies as st

from benchmarks import loaders
from benchmarks.loaders import (
    CLOSE_PEER,
    DALI,
    FRAMES,
    JUST_BEFORE,
    LIMIT,
    OURS,
    PLANES,
    STRIPS,
    Measuring,
    Settings,
    Sides,
    chosen_peers,
    plot,
    ratios_of,
    side_name,
)
from benchmarks.peers.decode import decoder_of, wav
from benchmarks.peers.limit import parse_tjbench, strips_of
from benchmarks.peers.measure import Order, check, measure, psnr_of
from benchmarks.peers.prepare import copies_of, encode_video, prepare, samples_of
from benchmarks.peers.processes import cpu_seconds, memory_mb, tree
from benchmarks.peers.registry import GPU_PEERS, PEERS
from benchmarks.peers.served import SUFFIXES, Prepared, Served, Task
from benchmarks.record import Figures, Record, SideError
from loaders import ClipLoader, InputError
from loaders.dataset.catalog import open_catalog
from sharding.media.filmstrip import decode_filmstrip
from sharding.settings import BuildSettings
from tests.datasets import Contents, make_dataset
from tests.planes import lack_of_library, needs_libturbojpeg

ROOT = Path(__file__).parents[2]
CLIPS = 30


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data") / "dataset"
    contents = Contents(speakers={"train": 3}, shards={"train": 2}, videos=2, utterances=1, clips=2)
    make_dataset(folder, contents, BuildSettings(size=64))
    return folder


@pytest.fixture(scope="module")
def prepared(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Prepared:
    return prepare(data, "train", None, CLIPS, [], tmp_path_factory.mktemp("work"))


def task_of(prepared: Prepared, batch_size: int) -> Task:
    return Task(
        prepared=prepared,
        form="filmstrip",
        batch_size=batch_size,
        workers=1,
        audio=True,
        seconds=0.1,
        device="cpu",
        part=0,
    )


def order_of(prepared: Prepared, module: str, **changes: Any) -> Order:
    order = Order(
        prepared=str(prepared.folder),
        module=module,
        options={},
        form="filmstrip",
        batch_size=8,
        workers=1,
        audio=False,
        seconds=0.05,
        part=0,
        warm_up=0.0,
    )
    return replace(order, **changes)


@given(st.integers(1, 40), st.integers(1, 200))
def test_copies_are_enough_and_spread_evenly(originals: int, clips: int) -> None:
    copies = copies_of(originals, clips)
    assert clips <= len(copies) < clips + originals
    assert len({copy.key for copy in copies}) == len(copies)
    counts = np.bincount([copy.original for copy in copies], minlength=originals)
    assert counts.min() == counts.max()


def test_the_repeated_dataset_holds_the_bytes_of_its_originals_many_times(prepared: Prepared) -> None:
    catalog = open_catalog(prepared.dataset, "train", ["filmstrip", "audio"])
    assert len(catalog) == prepared.facts["clips"] >= CLIPS
    originals = prepared.facts["originals"]
    assert catalog.table(["key"])["key"].to_pylist() == list(originals)
    for sample in samples_of(prepared, "filmstrip"):
        assert (sample["picture"], sample["sound"]) == prepared.reference(originals[sample["key"]])


def test_every_form_shows_the_same_clips_under_the_same_keys(prepared: Prepared) -> None:
    originals = prepared.facts["originals"]
    assert prepared.forms == ["h264", "mjpeg", "filmstrip"]
    for form in prepared.forms:
        decode = decoder_of(form, "pyav", prepared.facts, audio=True)
        samples = list(samples_of(prepared, form))
        assert [sample["key"] for sample in samples] == list(originals)
        size = np.mean([len(sample["picture"]) + len(sample["sound"]) for sample in samples])  # type: ignore[arg-type]
        assert prepared.facts["bytes"][form] == pytest.approx(size)
        for sample in samples[:3]:
            frames, audio = decode(sample["picture"], sample["sound"])  # type: ignore[arg-type]
            strip, sound = prepared.reference(originals[sample["key"]])
            assert psnr_of(frames.numpy(), decode_filmstrip(strip, prepared.facts["frames"])) > 28
            assert audio is not None
            assert torch.equal(audio, wav(sound))


def test_what_was_prepared_is_used_again_and_not_for_other_clips(prepared: Prepared, data: Path) -> None:
    before = (prepared.folder / "prepared.json").stat().st_mtime_ns
    again = prepare(data, "train", None, CLIPS, [], prepared.folder)
    assert (again.folder / "prepared.json").stat().st_mtime_ns == before
    with pytest.raises(InputError, match="--work"):
        prepare(data, "train", None, CLIPS + 100, [], prepared.folder)


def test_a_folder_with_other_things_in_it_is_left_alone(data: Path, tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("all of it")
    with pytest.raises(InputError, match="--work"):
        prepare(data, "train", None, CLIPS, [], tmp_path)
    assert (tmp_path / "thesis.txt").read_text() == "all of it"


def served_by_ours(prepared: Prepared, **options: Any) -> Served:
    with ClipLoader(prepared.dataset, batch_size=8, threads=1, negatives=None, **options) as loader:
        batch = next(iter(loader))
        keys = loader.catalogs[0].table(["key"])["key"].to_pylist()
    named = [keys[row] for row in batch.clip.tolist()]
    return Served(batch.video, batch.audio, named, named)


def test_a_side_that_cheats_is_found_out(prepared: Prepared) -> None:
    served, task = served_by_ours(prepared), task_of(prepared, 8)
    assert check(served, task)["psnr_db"] == 99
    check(served._replace(frames=served.frames.permute(0, 1, 4, 2, 3)), task)
    originals = prepared.facts["originals"]
    first = originals[served.keys[0]]
    other = next(key for key, original in originals.items() if original != first)
    assert served.audio is not None
    cheats = [
        served._replace(frames=served.frames[:7], keys=served.keys[:7]),
        served._replace(frames=served.frames[:, :15]),
        served._replace(frames=served.frames.float()),
        served._replace(frames=served.frames[:, [0] * 16]),
        served._replace(frames=served.frames.flip(4)),
        served._replace(keys=[other, *served.keys[1:]]),
        served._replace(audio=None),
        served._replace(audio=served.audio[:, :100]),
        served._replace(audio=served.audio.roll(1, 0)),
    ]
    for cheat in cheats:
        with pytest.raises(ValueError, match=r"frames|sound"):
            check(cheat, task)


@needs_libturbojpeg
def test_planes_are_compared_as_pictures(prepared: Prepared) -> None:
    served, task = served_by_ours(prepared, pixels="yuv420"), task_of(prepared, 8)
    assert isinstance(served.frames, torch.Tensor)
    assert served.frames.ndim == 4
    assert check(served, task)["psnr_db"] > 30  # FFmpeg repeats chroma where libjpeg interpolates it
    height = served.frames.shape[2] * 2 // 3
    luma, blue, red = served.frames.split([height, height // 4, height // 4], 2)
    with pytest.raises(ValueError, match="frames"):
        check(served._replace(frames=torch.cat([luma, red, blue], 2)), task)


def test_an_encoded_video_has_its_frames_and_one_key_frame() -> None:
    import av

    frames = np.tile(np.arange(0, 256, 16, dtype=np.uint8)[:, None, None, None], (1, 64, 64, 3))
    for codec in ("libx264", "mjpeg"):
        with av.open(io.BytesIO(encode_video(frames, 8.0, codec, {}))) as container:
            decoded = list(container.decode(video=0))
        assert [round(float(frame.time) * 8) for frame in decoded] == list(range(16))
        assert codec == "mjpeg" or [frame.key_frame for frame in decoded] == [True] + [False] * 15
        levels = [frame.to_ndarray(format="rgb24").mean() for frame in decoded]
        assert np.abs(np.array(levels) - frames[:, 0, 0, 0]).max() < 4


def test_the_limit_is_read_from_what_tjbench_prints() -> None:
    text = """
Pixel      JPEG   JPEG     Image  Image   Xform   Comp    Decomp
Format     CS     Subsamp  Width  Height  Perf    Ratio   Perf

RGB  (TD)  YCbCr  4:2:0    224    3584    N/A     N/A     313.1
"""
    assert parse_tjbench(text) == 313.1
    with pytest.raises(InputError, match="libjpeg-turbo-progs"):
        parse_tjbench("USAGE: tjbench <Inputimage (BMP|PPM)>")


def test_rounds_take_other_strips_until_all_had_their_turn(prepared: Prepared) -> None:
    strips = set(strips_of(prepared, 0)) | set(strips_of(prepared, 1))
    assert len(strips) == len(set(prepared.facts["originals"].values()))


def test_time_and_memory_of_children_count() -> None:
    busy = "import time; held = bytearray(100_000_000); end = time.process_time() + 0.5\n"
    busy += "while time.process_time() < end: pass\nprint('done', flush=True); input()"
    before, memory, cpu = tree(), memory_mb(), cpu_seconds()  # another test's fork server may be there
    child = subprocess.Popen([sys.executable, "-c", busy], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert child.stdout is not None
    child.stdout.readline()
    assert set(tree()) - set(before) == {child.pid}
    assert cpu_seconds() - cpu > 0.4
    assert memory_mb() - memory > 90
    child.communicate("\n")
    assert tree() == before
    assert cpu_seconds() - cpu > 0.4


def test_ratios_name_the_best_peer_of_each_kind() -> None:
    def rounds(*rates: float) -> list[dict[str, float]]:
        return [{"clips_per_second": rate} for rate in rates]

    def after_ours(*rates: float) -> list[dict[str, float]]:
        return [{**figures, JUST_BEFORE: ours} for figures, ours in zip(rounds(*rates), (120, 240), strict=True)]

    ratios = ratios_of(
        {
            LIMIT: rounds(100, 200, 50),
            STRIPS: rounds(90, 180, 45),
            FRAMES: rounds(80, 160, 40),
            OURS: rounds(60, 120, 30),
            DALI: rounds(90, 180, 45),
            CLOSE_PEER: rounds(40, 80, 20),
            side_name("a", "source"): after_ours(12, 24),
            side_name("b", "source"): after_ours(10, 20),
            side_name("a", "filmstrip"): after_ours(60, 120),
        }
    )
    assert ratios[f"{FRAMES} / {LIMIT}"] == pytest.approx(0.8)
    assert ratios[f"{OURS} / best peer @ source"] == pytest.approx(10)
    assert ratios[f"{OURS} / {side_name('a', 'filmstrip')}"] == pytest.approx(2)
    assert ratios[f"{OURS} / best peer @ filmstrip"] == pytest.approx(1.5)
    assert ratios[f"{OURS} / best peer on any form"] == pytest.approx(1.5)
    assert f"{OURS} / best peer @ h264" not in ratios
    assert ratios[f"{OURS} / b @ source"] == pytest.approx(12)


def test_peers_that_are_not_installed_are_named_and_unknown_ones_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("benchmarks.peers.registry._installed", lambda name: name != "torchcodec")
    chosen, missing = chosen_peers(["all"], "cpu")
    assert set(chosen) | set(missing) == set(PEERS)
    assert not set(chosen) & set(missing)
    assert missing["webdataset+torchcodec"] == ["torchcodec"]
    assert chosen_peers(["none"], "cpu") == ({}, {})
    assert set(chosen_peers(["all"], "cuda")[0]) <= set(GPU_PEERS)
    with pytest.raises(InputError, match="--peers ffcv"):
        chosen_peers(["dali", "ffcv"], "cpu")
    with pytest.raises(InputError, match="--peers mosaic"):
        chosen_peers(["mosaic"], "cuda")


def test_every_peer_has_a_module_that_says_how_it_is_set_up() -> None:
    for peer in [*PEERS.values(), *GPU_PEERS.values()]:
        text = (ROOT / "benchmarks" / "peers" / f"{peer.module}.py").read_text()
        assert "def batches(task: Task" in text
        assert ("def write(" in text) == peer.own_format
        assert set(peer.forms) <= set(SUFFIXES)


@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_every_side_is_another_order(prepared: Prepared, device: Any) -> None:
    """That the modules take these options, the tests that run them show; on a GPU none has yet."""
    settings = Settings(data=prepared.dataset, device=device)
    orders: list[Order] = []

    def run(order: Order) -> Figures:
        orders.append(order)
        return {"clips_per_second": 1.0}

    peers = PEERS if device == "cpu" else GPU_PEERS
    sides = Sides(prepared, peers, settings, 4, run)
    close, others = sides.close(), sides.others()
    assert {LIMIT, FRAMES, OURS, CLOSE_PEER} <= set(close)
    assert not set(close) & set(others)
    for name, measure_side in (close | others).items():
        if device == "cuda" or not name.startswith(LIMIT):
            measure_side()
        assert not orders or orders[-1].keep == (name in close)
    # But for ours with its defaults, which is measured before every other peer.
    again = len([name for name in others if " @ " in name])
    assert again > 2
    assert len({json.dumps(asdict(order), sort_keys=True) for order in orders}) == len(orders) - again
    assert {order.device for order in orders} == {device}
    assert [order.audio for order in orders].count(False) == (5 if device == "cuda" else 1)
    placements = [order.options.get("placement") for order in orders if order.module == "ours"]
    assert set(placements) == ({"gpu", "cpu"} if device == "cuda" else {None})


@pytest.mark.parametrize("module", ["nvimgcodec", "ours", "dali"])
def test_a_side_is_measured(prepared: Prepared, module: str) -> None:
    figures = next(measure(order_of(prepared, module)))
    assert figures["psnr_db"] == 99
    assert figures["clips_per_second"] > 0
    assert figures["frames_per_second"] == pytest.approx(16 * figures["clips_per_second"])


def test_sides_that_fail_say_why_and_the_next_one_is_measured(prepared: Prepared) -> None:
    with Measuring() as run:
        with pytest.raises(SideError, match=r"ModuleNotFoundError: .*abacus"):
            run(order_of(prepared, "abacus"))
        with pytest.raises(SideError, match="frames of a clip"):
            # Two clips with each other's keys: where the reference is another, the side is found out.
            run(order_of(mixed_up(prepared), "ours"))
        assert run(order_of(prepared, "ours", audio=True))["sound_likeness"] == pytest.approx(1)


def test_a_kept_side_stands_still_between_its_turns_and_ends_with_them(prepared: Prepared) -> None:
    order, others = order_of(prepared, "ours", audio=True, keep=True), tree()
    with Measuring() as run:
        first = run(order)
        run(order_of(prepared, "ours"))
        [kept] = [pid for pid in tree() if Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "T"]
        time.sleep(0.2)
        before = Path(f"/proc/{kept}/schedstat").read_text()
        time.sleep(0.2)
        assert Path(f"/proc/{kept}/schedstat").read_text() == before
        again = run(order)
        # It was not started again, and did not work ahead.
        assert again["first_batch_seconds"] == first["first_batch_seconds"]
        assert Path(f"/proc/{kept}/schedstat").read_text() != before
    assert tree() == others


def mixed_up(prepared: Prepared) -> Prepared:
    folder = prepared.folder.with_name("mixed_up")
    if not folder.exists():
        shutil.copytree(prepared.folder, folder)
        facts = dict(prepared.facts)
        originals = set(facts["originals"].values())
        facts["originals"] = {key: (number + 1) % len(originals) for key, number in facts["originals"].items()}
        (folder / "prepared.json").write_text(json.dumps(facts))
    return Prepared(folder)


def test_a_gpu_that_is_not_there_is_told() -> None:
    if torch.cuda.is_available():
        pytest.skip("there is a GPU here")
    command = [sys.executable, "benchmarks/loaders.py", "--data", "x", "--device", "cuda"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert (done.returncode, "--device" in done.stderr, done.stderr.count("\n")) == (2, True, 1)


def test_the_plot_shows_every_side(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    rounds = {side: [{"clips_per_second": rate} for rate in (3.0, 4.0)] for side in (LIMIT, OURS, "a @ source")}
    record = Record(benchmark="loaders", settings={"workers": 2, "rounds": 2}, rounds=rounds, ratios={}, facts={})
    plot(record, tmp_path / "plots" / "loaders.png")
    assert (tmp_path / "plots" / "loaders.png").read_bytes()[:4] == b"\x89PNG"


def test_it_runs_from_the_command_line_and_writes_what_it_measured(
    data: Path, prepared: Prepared, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    program = tmp_path / "tjbench"  # in place of the real one, which need not be installed where tests run
    program.write_text("#!/bin/sh\necho 'RGB  (TD)  YCbCr  4:2:0    64    1024    N/A     N/A     300.0'\n")
    program.chmod(0o755)
    # Everything but the second of warming up that each side would have.
    monkeypatch.setattr(loaders, "Order", partial(Order, warm_up=0.0))
    command = ["benchmarks/loaders.py", "--data", str(data), "--work", str(prepared.folder)]
    command += ["--clips", str(CLIPS), "--rounds", "1", "--close-rounds", "2", "--seconds", "0.1"]
    command += ["--peers", "webdataset+pyav", "dali"]
    command += ["--batch-size", "8", "--workers", "1", "--json", str(tmp_path / "loaders.json")]
    monkeypatch.setattr(sys, "argv", command)
    loaders.main(tyro.cli(Settings))
    record = json.loads((tmp_path / "loaders.json").read_text())
    close = [LIMIT, STRIPS, FRAMES, OURS, DALI, CLOSE_PEER]
    if (lack := lack_of_library()) is None:
        close.append(PLANES)
        assert record["ratios"][f"{PLANES} / {CLOSE_PEER}"] > 0
    else:
        assert record["facts"]["not_measured"][PLANES] == lack
    assert set(record["rounds"]) == {*close, "webdataset+pyav @ h264", "webdataset+pyav @ mjpeg"}
    assert record["rounds"][LIMIT][0]["clips_per_second"] == pytest.approx(300e6 / 64 / 1024, rel=1e-3)
    assert {side: len(rounds) for side, rounds in record["rounds"].items()} == {
        **dict.fromkeys(close, 2),
        **dict.fromkeys(("webdataset+pyav @ h264", "webdataset+pyav @ mjpeg"), 1),
    }
    assert record["rounds"][OURS][0]["psnr_db"] == record["rounds"][DALI][0]["psnr_db"] == 99
    assert record["ratios"][f"{OURS} / best peer on any form"] > 0
