"""The programs of docs/interop.md that know nothing of us, on a dataset with its card: each gives the clips' very
pictures, sound and descriptions. What is compared with is read by tarfile, Pillow, wave and msgpack."""

import importlib
import importlib.util
import io
import json
import os
import re
import runpy
import shutil
import subprocess
import sys
import tarfile
import wave
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any, TypeVar

import msgpack
import numpy as np
import pyarrow.parquet as pq
import pytest
from numpy.typing import NDArray
from PIL import Image

from loaders.dataset.manifest import CATALOG, read_manifest
from sharding.cards.card import CARD
from sharding.cards.croissant import CROISSANT
from sharding.verify import verify
from tests.interop.conftest import CLIPS
from tests.programs import ROOT, as_module

SPLIT = "train"
T = TypeVar("T")


@dataclass(frozen=True)
class Clip:
    """What its files hold."""

    strip: NDArray[np.uint8]  #: (T · H, W, 3)
    waveform: NDArray[np.float32]
    description: Mapping[str, Any]
    files: Mapping[str, bytes]  #: by suffix


def needs(module: str) -> pytest.MarkDecorator:
    return pytest.mark.skipif(importlib.util.find_spec(module) is None, reason=f"{module} is not installed")


@pytest.fixture(scope="module")
def expected(clips: Path) -> dict[str, Clip]:
    """The training split's clips, by key."""
    files: dict[str, dict[str, bytes]] = {}
    for tar in tars(clips):
        with tarfile.open(tar) as archive:
            for entry in archive:
                key, _, suffix = entry.name.partition(".")
                content = archive.extractfile(entry)
                assert content is not None
                files.setdefault(key, {})[suffix] = content.read()
    assert len(files) == CLIPS[SPLIT]
    assert {len(members) for members in files.values()} == {3, 4}, "some have gaze, some have not"
    return {key: read(members) for key, members in files.items()}


def read(members: dict[str, bytes]) -> Clip:
    with wave.open(io.BytesIO(members["audio.wav"])) as sound:
        samples = np.frombuffer(sound.readframes(sound.getnframes()), "<i2")
    return Clip(
        strip=np.asarray(Image.open(io.BytesIO(members["filmstrip.jpg"])).convert("RGB")),
        waveform=samples.astype(np.float32) / 32768,
        description=msgpack.unpackb(members["clip.msg"]),
        files=members,
    )


def tars(data: Path) -> list[str]:
    return [str(data / SPLIT / shard.name) for shard in read_manifest(data).splits[SPLIT].shards]


@pytest.fixture
def program(programs: Path) -> Callable[[str], ModuleType]:
    return lambda name: as_module(programs / f"with_{name}.py")


@pytest.fixture
def run(programs: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """Run a program as the page says; what it prints."""

    def run(name: str, *arguments: object) -> str:
        path = str(programs / f"with_{name}.py")
        monkeypatch.setattr(sys, "argv", [path, *map(str, arguments)])

        def printed() -> str:
            capsys.readouterr()
            runpy.run_path(path, run_name="__main__")
            return capsys.readouterr().out

        return once_more_if_trees_mix(printed)

    return run


def once_more_if_trees_mix(call: Callable[[], T]) -> T:
    """What is called, again where threads of it met a fault of Python 3.11 (github.com/python/cpython/issues/106905).

    Two threads that parse at a time count the depth of their trees in one place. ``datasets`` reads a tar a thread, and
    numpy parses each array's header.
    """
    try:
        return call()
    except SystemError as error:
        if "AST constructor recursion depth mismatch" not in str(error):
            raise
        return call()


def test_webdataset_shows_pictures_waveforms_and_descriptions(
    program: Callable[[str], ModuleType], clips: Path, expected: Mapping[str, Clip]
) -> None:
    found = {clip["__key__"]: clip for clip in program("webdataset").clips(tars(clips))}
    assert found.keys() == expected.keys()
    for key, clip in expected.items():
        np.testing.assert_array_equal(found[key]["filmstrip.jpg"], clip.strip)
        np.testing.assert_array_equal(found[key]["audio.wav"], clip.waveform)
        assert found[key]["clip.msg"] == clip.description
        assert ("gaze.npy" in found[key]) == ("gaze.npy" in clip.files)
        if "gaze.npy" in clip.files:
            assert found[key]["gaze.npy"].shape == (103,)


def test_webloader_makes_batches_of_every_clip(
    run: Callable[..., str], program: Callable[[str], ModuleType], clips: Path, expected: Mapping[str, Clip]
) -> None:
    keys: list[str] = []
    for names, strips, sounds, descriptions in program("webdataset").batches(tars(clips), 4):
        keys += names
        for name, strip, sound, description in zip(names, strips, sounds, descriptions, strict=True):
            np.testing.assert_array_equal(strip, expected[name].strip)
            np.testing.assert_array_equal(sound, expected[name].waveform)
            assert description == expected[name].description
    assert sorted(keys) == sorted(expected)
    assert "torch.Size([4, 16, 32, 32, 3]) torch.Size([4, 32000]) {" in run("webdataset", *tars(clips))


@needs("wids")
@pytest.mark.filterwarnings("ignore:String specifications for transformations")
def test_wids_finds_any_clip_by_its_number_and_leaves_the_tars(
    run: Callable[..., str], program: Callable[[str], ModuleType], clips: Path, expected: Mapping[str, Clip]
) -> None:
    by_number = program("wids").clips(clips, SPLIT)
    rows = pq.read_table(clips / SPLIT / CATALOG)["key"].to_pylist()
    assert len(by_number) == len(rows)
    for number in (len(rows) - 1, 0, 7):
        clip = by_number[number]
        assert clip["__key__"] == rows[number]
        np.testing.assert_array_equal(np.asarray(clip[".filmstrip.jpg"]), expected[rows[number]].strip)
        assert clip[".audio.wav"].read() == expected[rows[number]].files["audio.wav"]
        assert clip[".clip.msg"] == expected[rows[number]].description
    assert rows[-1] in run("wids", clips, SPLIT)
    assert all(Path(tar).exists() for tar in tars(clips))


@needs("datasets")
def test_datasets_streams_a_folder_by_its_card(
    run: Callable[..., str],
    program: Callable[[str], ModuleType],
    clips: Path,
    expected: Mapping[str, Clip],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    """Also where one of the first clips lacks a member, by which ``datasets`` alone would refuse the tars."""
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path)
    found = once_more_if_trees_mix(
        lambda: {clip["__key__"]: clip for clip in program("datasets").clips(str(clips), SPLIT)}
    )
    assert found.keys() == expected.keys()
    for key, clip in expected.items():
        np.testing.assert_array_equal(np.asarray(found[key]["filmstrip.jpg"]), clip.strip)
        assert found[key]["audio.wav"] == clip.files["audio.wav"]
        assert (found[key]["gaze.npy"] is None) == ("gaze.npy" not in clip.files)
        assert found[key]["clip.msg"] == {
            name: pytest.approx(value, rel=1e-6) if isinstance(value, float) else value
            for name, value in clip.description.items()
        }
    assert len(run("datasets", clips, SPLIT).splitlines()) == 4


def test_dali_decodes_pictures_and_sound_by_its_index(
    run: Callable[..., str], program: Callable[[str], ModuleType], clips: Path, expected: Mapping[str, Clip]
) -> None:
    found: list[tuple[bytes, bytes, bytes]] = []
    for (batch,) in program("dali").batches(tars(clips), 4):
        for strip, waveform, description in zip(batch["strip"], batch["waveform"], batch["description"], strict=True):
            told = msgpack.Unpacker(io.BytesIO(description.numpy().tobytes())).unpack()  # zeros after it are padding
            found.append((strip.numpy().tobytes(), waveform.numpy().tobytes(), json.dumps(told).encode()))
    assert sorted(found) == sorted(
        (clip.strip.tobytes(), clip.waveform.tobytes(), json.dumps(clip.description).encode())
        for clip in expected.values()
    )
    assert "torch.Size([4, 16, 32, 32, 3]) torch.Size([4, 32000])" in run("dali", *tars(clips))


@needs("megatron")
@pytest.mark.filterwarnings("ignore")  # Energon's own
def test_energon_prepares_and_loads_it(
    run: Callable[..., str],
    program: Callable[[str], ModuleType],
    clips: Path,
    expected: Mapping[str, Clip],
    tmp_path: Path,
) -> None:
    data = tmp_path / "data"
    shutil.copytree(clips, data)
    (line,) = re.findall(r"^energon (prepare .*) DATASET$", (ROOT / "docs" / "interop.md").read_text(), re.MULTILINE)
    command = "from megatron.energon.cli.main import main; main()"
    subprocess.run([sys.executable, "-c", command, *line.split(), data], check=True, capture_output=True, timeout=120)
    assert not verify(data).faults
    seen: set[str] = set()
    for batch in program("energon").batches(str(data), 4):
        for number, path in enumerate(batch.__key__):
            strip, waveform = batch.strip[number], batch.waveform[number]
            key = path.rsplit("/", 1)[-1]
            seen.add(key)
            pixels = (255 * strip).round().to(dtype=strip.dtype).numpy().astype(np.uint8).transpose(1, 2, 0)
            np.testing.assert_array_equal(pixels, expected[key].strip)
            np.testing.assert_array_equal(waveform[0].numpy() / np.float32(32768), expected[key].waveform)
            assert {name: told[number] for name, told in batch.description.items()} == expected[key].description
        if len(seen) == len(expected):
            break
    assert len(run("energon", data).splitlines()) == 4


@needs("duckdb")
@needs("polars")
def test_tables_count_the_classes_in_a_line(
    run: Callable[..., str],
    program: Callable[[str], ModuleType],
    clips: Path,
    expected: Mapping[str, Clip],
    tmp_path: Path,
) -> None:
    counts = Counter(clip.description["emotion"] for clip in expected.values())
    assert len(counts) > 3
    catalog = clips / SPLIT / CATALOG
    for count in (program("tables").with_duckdb, program("tables").with_polars):
        assert dict(count(str(catalog), "emotion")) == counts
    assert run("tables", catalog, "emotion").count("anger") == 2
    reserved = tmp_path / CATALOG  # a label may be called by a word of SQL's
    pq.write_table(pq.read_table(catalog, columns=["emotion"]).rename_columns(["order"]), reserved)
    for count in (program("tables").with_duckdb, program("tables").with_polars):
        assert dict(count(str(reserved), "order")) == counts


@pytest.fixture
def mlcroissant(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> ModuleType:
    """It, with a cache of its own: where that is, it asks the environment when it is imported."""
    known: ModuleType = pytest.importorskip("mlcroissant", reason="mlcroissant is not installed")
    where = "mlcroissant._src.operation_graph.operations.extract.EXTRACT_PATH"
    monkeypatch.setattr(where, importlib.import_module("etils.epath").Path(tmp_path))
    return known


def test_mlcroissant_finds_no_fault_and_reads_every_record(
    mlcroissant: ModuleType, program: Callable[[str], ModuleType], clips: Path, expected: Mapping[str, Clip]
) -> None:
    issues = mlcroissant.Dataset(str(clips / CROISSANT)).metadata.ctx.issues
    assert not issues.errors
    assert all("is recommended" in warning for warning in issues.warnings), "nobody has stated a licence"
    records = program("croissant").records
    rows = pq.read_table(clips / SPLIT / CATALOG).to_pylist()
    read = list(records(str(clips), SPLIT))
    assert len(read) == len(rows) == len(expected)
    for record, row in zip(read, rows, strict=True):
        for name, value in record.items():
            told = row[name.rpartition("/")[2]]
            assert (value.decode() if isinstance(value, bytes) else value) == (
                pytest.approx(told) if isinstance(told, float) else told
            )
    for suffix in ("filmstrip.jpg", "audio.wav", "gaze.npy", "clip.msg"):
        name = f"{SPLIT}/{suffix}"
        found = {record[f"{name}/key"].decode(): record[f"{name}/content"] for record in records(str(clips), name)}
        assert found.keys() == {key for key, clip in expected.items() if suffix in clip.files}
        for key, content in found.items():
            if suffix == "filmstrip.jpg":
                np.testing.assert_array_equal(np.asarray(content.convert("RGB")), expected[key].strip)
            else:
                assert content == expected[key].files[suffix]


@needs("mlcroissant")
def test_the_program_for_croissant_runs_as_the_page_says(programs: Path, clips: Path, tmp_path: Path) -> None:
    command = [sys.executable, programs / "with_croissant.py", clips, SPLIT]
    environment = os.environ | {"CROISSANT_CACHE": str(tmp_path)}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count(f"'{SPLIT}/") > 10


def test_a_cards_programs_run(clips: Path, capsys: pytest.CaptureFixture[str]) -> None:
    programs = re.findall(r"^```python\n(.*?)^```", (clips / CARD).read_text(), re.MULTILINE | re.DOTALL)
    assert len(programs) == 3
    for program in programs:
        module = re.findall(r"^(?:import|from) (\w+)", program)[0]
        if importlib.util.find_spec(module) is not None:
            exec(compile(program.replace("DATASET", str(clips)), module, "exec"), {})
            assert capsys.readouterr().out


def test_a_fault_of_python_is_met_once_and_others_not_at_all() -> None:
    faults = [SystemError("AST constructor recursion depth mismatch (before=42, after=41)")]

    def call() -> str:
        if faults:
            raise faults.pop()
        return "done"

    assert once_more_if_trees_mix(call) == "done"
    faults += [SystemError("another")]
    with pytest.raises(SystemError, match="another"):
        once_more_if_trees_mix(call)
