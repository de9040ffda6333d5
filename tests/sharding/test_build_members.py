"""Arrays that a build adds, from a file beside a video to a dataset that is whole."""

import io
import re
import sys
import textwrap
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from rich.console import Console

from loaders.dataset.manifest import CATALOG, REJECTED, Manifest, read_manifest, write_manifest
from loaders.errors import InputError
from loaders.loader import ClipLoader
from sharding import build as command
from sharding.corpora.voxceleb import VoxcelebSources, read_voxceleb
from sharding.info import describe, render
from sharding.members import registry
from sharding.members.registry import ArrayType, NoArrayError, OfClip, Source, member
from sharding.packing.building import build
from sharding.packing.shard import build_shard
from sharding.settings import SAMPLE_RATE, BuildSettings
from sharding.sources.read_errors import SourceError
from sharding.sources.store import Store
from sharding.utterance import Corpus
from sharding.verify import verify
from tests.films import write_film, write_table
from tests.s3 import S3

MEMBERS = ("tokens=.tokens.npy:int32[<=8]", "lm=.lm.npy:float32[5,2]@25", "who=.who.npy:float64[3]")
SETTINGS = BuildSettings(size=16, member=MEMBERS)


def vox(source: Path) -> Corpus:
    return read_voxceleb(VoxcelebSources(source=source, test_fraction=0.0))


def rows(dataset: Path) -> list[dict[str, object]]:
    found: list[dict[str, object]] = pq.read_table(dataset / "train" / CATALOG).to_pylist()
    return found


def arrays(dataset: Path, name: str) -> dict[tuple[object, object], np.ndarray[tuple[int, ...], np.dtype[np.generic]]]:
    """By utterance and start, the clips' arrays, as plain numpy reads them."""
    found = {}
    shards = read_manifest(dataset).splits["train"].shards
    for row in rows(dataset):
        if row[f"{name}_size"] is not None:
            with (dataset / "train" / shards[int(str(row["shard"]))].name).open("rb") as file:
                file.seek(int(str(row[f"{name}_offset"])))
                data = file.read(int(str(row[f"{name}_size"])))
            found[row["utterance"], row["start"]] = np.load(io.BytesIO(data))
    return found


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three films; one has all files, one has a wrong one, one has none."""
    root = tmp_path_factory.mktemp("members") / "mp4"
    for name in ("all", "wrong", "none"):
        write_film(root / f"s/v/{name}.mp4", 4.4)
    folder = root / "s/v"
    np.save(folder / "all.tokens.npy", np.arange(5, dtype=np.int32))
    np.save(folder / "all.lm.npy", np.arange(1100, dtype=np.float32).reshape(110, 5, 2))
    np.save(folder / "all.who.npy", np.array([1.5, 2, 3]))
    np.save(folder / "wrong.tokens.npy", np.arange(9, dtype=np.int32))
    return root


def test_files_beside_the_videos_are_declared_stored_and_verified(source: Path, tmp_path: Path) -> None:
    output = tmp_path / "out"
    built = build(vox(source), output, SETTINGS, 1)
    manifest = built.manifest
    declared = {one.name: (one.suffix, one.dtype, one.shape, one.variable, one.required) for one in manifest.members}
    assert list(declared) == ["filmstrip", "audio", "gaze", "tokens", "lm", "who", "clip"]
    assert declared["tokens"] == ("tokens.npy", "int32", (8,), True, False)
    assert declared["lm"] == ("lm.npy", "float32", (50, 5, 2), False, False)
    assert declared["who"] == ("who.npy", "float64", (3,), False, False)
    assert read_manifest(output) == manifest

    landmarks = np.load(source / "s/v/all.lm.npy")
    assert {key: array.tolist() for key, array in arrays(output, "tokens").items()} == {
        ("all", start): [0, 1, 2, 3, 4] for start in (0.0, 2.0)
    }
    assert {key: array.tolist() for key, array in arrays(output, "lm").items()} == {
        ("all", 0.0): landmarks[:50].tolist(),
        ("all", 2.0): landmarks[50:100].tolist(),
    }
    assert [array.dtype for array in arrays(output, "who").values()] == [np.dtype(np.float64)] * 2

    assert manifest.rejected == {"tokens_wrong": 1}
    (rejected,) = pq.read_table(output / REJECTED).to_pylist()
    assert rejected["utterance"] == "wrong"
    assert "wrong.tokens.npy: has the shape (9,), declared as int32[<=8]" in rejected["detail"]
    assert built.made is not None
    assert {name: dict(counts) for name, counts in built.made.lacks.members.items()} == {
        "gaze": {"gaze_missing": 4},
        "tokens": {"tokens_missing": 2},
        "lm": {"lm_missing": 2},
        "who": {"who_missing": 2},
    }
    report = verify(output, decode=True)
    assert report.is_whole, report.faults
    info = describe(output)
    assert info.splits["train"].members == {"gaze": 0.0, "tokens": 0.5, "lm": 0.5, "who": 0.5}
    console = Console(width=200, record=True, file=(tmp_path / "printed").open("w"))
    render(info, output, console)
    assert "up to 8" in console.export_text()
    build(vox(source), output, SETTINGS, 1)  # is built already


def test_a_loader_gets_what_the_files_hold(source: Path, tmp_path: Path) -> None:
    build(vox(source), tmp_path / "out", SETTINGS, 1)
    clips = rows(tmp_path / "out")
    with ClipLoader(
        tmp_path / "out", batch_size=len(clips), training=False, negatives=None, members=("tokens", "lm", "who")
    ) as loader:
        (batch,) = loader
    landmarks = np.load(source / "s/v/all.lm.npy")
    for place, row in enumerate(clips):
        has = row["utterance"] == "all"
        first = round(25 * float(str(row["start"])))
        assert batch.masks["tokens"][place].tolist() == [has] * 5 + [False] * 3
        assert batch.members["tokens"][place].tolist() == ([0, 1, 2, 3, 4, 0, 0, 0] if has else [0] * 8)
        assert (bool(batch.masks["lm"][place]), bool(batch.masks["who"][place])) == (has, has)
        assert np.array_equal(batch.members["lm"][place], landmarks[first : first + 50] * has)


def test_verify_holds_arrays_to_their_declaration(source: Path, tmp_path: Path) -> None:
    """The same bytes under another declaration: of rows, of numbers, of what varies."""
    output = tmp_path / "out"
    manifest = build(vox(source), output, SETTINGS, 1).manifest
    for changes, told in (
        ({"tokens": {"shape": (4,)}}, r"tokens.npy\): not an .npy file of int32 at most \(4,\)"),
        ({"tokens": {"variable": False}}, r"tokens.npy\): not an .npy file of int32 \(8,\)"),
        (
            {"lm": {"shape": (49, 5, 2), "variable": True}},
            r"lm.npy\): not an .* at most \(49, 5, 2\)",
        ),
        ({"who": {"dtype": "float32"}}, r"who.npy\): not an .npy file of float32 \(3,\)"),
    ):
        members = tuple(replace(one, **changes.get(one.name, {})) for one in manifest.members)  # type: ignore[arg-type]
        write_manifest(output, replace(manifest, members=members))
        faults = verify(output, decode=True).faults
        assert faults
        for fault in faults:
            assert fault.kind == "content"
            assert re.search(told, str(fault))


def test_the_files_are_part_of_what_an_utterance_is(source: Path, tmp_path: Path) -> None:
    """A dataset is not extended, where one of them has become another, or has come or gone."""
    root = tmp_path / "mp4"
    write_film(root / "s/v/a.mp4", 2.2)
    write_film(root / "s/v/b.mp4", 2.2)
    np.save(root / "s/v/a.tokens.npy", np.arange(5, dtype=np.int32))
    settings = BuildSettings(size=16, member=MEMBERS[:1])
    build(vox(root), tmp_path / "out", settings, 1)
    assert build(vox(root), tmp_path / "out", settings, 1, extend=True).made is None
    with pytest.raises(InputError, match="was built with --member"):
        build(vox(root), tmp_path / "out", BuildSettings(size=16), 1)
    np.save(root / "s/v/a.tokens.npy", np.arange(6, dtype=np.int32))
    with pytest.raises(InputError, match=r"a\.mp4: it, .* have changed since the dataset was built"):
        build(vox(root), tmp_path / "out", settings, 1, extend=True)
    np.save(root / "s/v/a.tokens.npy", np.arange(5, dtype=np.int32))
    np.save(root / "s/v/b.tokens.npy", np.arange(5, dtype=np.int32))
    with pytest.raises(InputError, match=r"b\.mp4: it, .* have changed since the dataset was built"):
        build(vox(root), tmp_path / "out", settings, 1, extend=True)


def test_a_file_that_goes_while_a_build_is_at_work_stops_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = tmp_path / "mp4"
    write_film(root / "s/v/a.mp4", 2.2)
    np.save(root / "s/v/a.tokens.npy", np.arange(5, dtype=np.int32))

    def lose(job: object) -> object:
        (root / "s/v/a.tokens.npy").unlink()
        return build_shard(job)  # type: ignore[arg-type]

    monkeypatch.setattr("sharding.packing.building.build_shard", lose)
    with pytest.raises((InputError, SourceError), match=r"a\.tokens\.npy: is gone since the build began"):
        build(vox(root), tmp_path / "out", BuildSettings(size=16, member=MEMBERS[:1]), 1)


def test_from_a_store_it_is_the_same(source: Path, tmp_path: Path, s3: S3) -> None:
    url = "s3://bucket/members/mp4"
    for path in source.rglob("*.*"):
        Store(url=url).put(path, path.relative_to(source).as_posix())
    build(vox(source), tmp_path / "here", SETTINGS, 1)
    build(vox(Path(url)), tmp_path / "there", SETTINGS, 1)
    assert rows(tmp_path / "here") == rows(tmp_path / "there")
    assert all(
        (tmp_path / "there" / path.relative_to(tmp_path / "here")).read_bytes() == path.read_bytes()
        for path in (tmp_path / "here").rglob("*.tar")
    )
    (rejected,) = pq.read_table(tmp_path / "there" / REJECTED).to_pylist()
    assert f"{url}/s/v/wrong.tokens.npy: has the shape" in rejected["detail"]


# Functions of the registry -------------------------------------------------------------------------------------------


def test_a_function_is_called_once_an_utterance_and_its_result_once_a_clip(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As one of an utterance's whole sound would be, with a share of each clip's own."""
    monkeypatch.setattr(registry, "_REGISTERED", dict(registry.registered()))
    calls: list[str] = []

    @member("power", array=lambda settings: ArrayType(dtype="float32", shape=(2,)))
    def power(source: Source) -> OfClip:
        calls.append(source.utterance.utterance)
        if source.utterance.utterance == "b":
            raise NoArrayError("power_unasked", "not of this one")
        sound = np.square(source.media.audio.astype(np.float32))

        def of_clip(start: float, end: float) -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
            if start == 2.0:
                raise NoArrayError("power_odd", "not of this clip")
            own = sound[round(start * SAMPLE_RATE) : round(end * SAMPLE_RATE)]
            return np.array([sound.mean(), own.mean()], np.float32)

        return of_clip

    write_film(tmp_path / "mp4/s/v/a.mp4", 6.2)
    write_film(tmp_path / "mp4/s/v/b.mp4", 2.2)
    built = build(vox(tmp_path / "mp4"), tmp_path / "out", BuildSettings(size=16, member=("power",)), 1)
    assert sorted(calls) == ["a", "b"]
    assert set(arrays(tmp_path / "out", "power")) == {("a", 0.0), ("a", 4.0)}
    assert built.made is not None
    assert built.made.lacks.members["power"] == {"power_unasked": 1, "power_odd": 1}
    assert verify(tmp_path / "out", decode=True).is_whole


@pytest.mark.parametrize("array", [np.zeros(2), np.zeros(3, np.float32), np.full(2, np.nan, np.float32)])
def test_a_function_that_breaks_its_own_declaration_is_a_defect(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, array: np.ndarray[tuple[int, ...], np.dtype[np.floating]]
) -> None:
    monkeypatch.setattr(registry, "_REGISTERED", dict(registry.registered()))
    member("power", array=lambda settings: ArrayType(dtype="float32", shape=(2,)))(
        lambda source: lambda start, end: array
    )
    write_film(tmp_path / "mp4/s/v/a.mp4", 2.2)
    with pytest.raises(ValueError, match=r"^power: "):
        build(vox(tmp_path / "mp4"), tmp_path / "out", BuildSettings(size=16, member=("power",)), 1)


@pytest.mark.parametrize(("dtype", "name"), [(">f4", "float32"), (">i2", "int16")])
def test_a_function_that_declares_the_other_byte_order_is_refused_before_anything_is_built(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, dtype: str, name: str
) -> None:
    """Files of clips are little-endian, and no loader would have read what was built."""
    monkeypatch.setattr(registry, "_REGISTERED", dict(registry.registered()))
    member("power", array=lambda settings: ArrayType(dtype=dtype, shape=(2,)))(
        lambda source: lambda start, end: np.zeros(2, dtype)
    )
    write_film(tmp_path / "mp4/s/v/a.mp4", 2.2, fps=5)
    with pytest.raises(InputError, match=f"^--member power: is declared as '{dtype}', big-endian: .* as '{name}'$"):
        build(vox(tmp_path / "mp4"), tmp_path / "out", BuildSettings(size=16, member=("power",)), 1)
    assert not (tmp_path / "out").exists()


def test_two_functions_of_one_name_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "_REGISTERED", dict(registry.registered()))
    with pytest.raises(ValueError, match="called gaze_frames, too"):
        member("gaze_frames", array=lambda settings: ArrayType(dtype="int8", shape=()))(lambda source: source)  # type: ignore[arg-type,return-value]


def test_gaze_frames_and_files_by_the_command_line(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    write_table(tmp_path / "csv/s/v/all.csv", 110)
    options = textwrap.dedent(f"""
        voxceleb --source {source} --openface {tmp_path / "csv"} --output {tmp_path / "out"} --size 16 --workers 1
        --test-fraction 0 --member gaze_frames --gaze-fps 10 --member {MEMBERS[0]} --member {MEMBERS[2]}
    """).split()
    monkeypatch.setattr(sys, "argv", ["build", *options])
    command.main()
    printed = capsys.readouterr().out
    for line in (
        "2 of 3 utterances have a .tokens.npy beside the video",
        "1 of 3 utterances have a .who.npy beside the video",
        "utterances rejected, tokens_wrong: 1",
        "clips without tokens, tokens_missing: 2",
        "clips without gaze_frames, gaze_missing: 2",
    ):
        assert line in printed
    manifest: Manifest = read_manifest(tmp_path / "out")
    assert [one.name for one in manifest.members][3:6] == ["gaze_frames", "tokens", "who"]
    assert {array.shape for array in arrays(tmp_path / "out", "gaze_frames").values()} == {(20, 13)}
    assert manifest.settings["member"] == ["gaze_frames", MEMBERS[0], MEMBERS[2]]
    monkeypatch.setattr(sys, "argv", ["build", *options, "--member", "landmarks"])
    with pytest.raises(SystemExit) as ended:
        command.main()
    assert ended.value.code == 2
    assert "--member landmarks: is none of egemaps, gaze_frames" in capsys.readouterr().err
