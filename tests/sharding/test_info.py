"""What info prints is what is there."""

import json
import subprocess
import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from rich.console import Console

from loaders.dataset.labels import Label
from loaders.dataset.manifest import read_manifest, write_manifest
from loaders.errors import InputError
from sharding.info import ClassCounts, as_json, describe, render
from sharding.sources.store import Store
from tests.damage import declare_catalog
from tests.parses import counted_parses
from tests.s3 import s3_server

ROOT = Path(__file__).parents[2]


def test_it_counts_what_the_catalogs_hold(dataset: Path) -> None:
    info = describe(dataset)
    assert set(info.splits) == set(read_manifest(dataset).splits) == {"train", "test"}
    for name, split in info.splits.items():
        table = pq.read_table(dataset / name / "clips.parquet")
        rows = table.to_pylist()
        assert split.clips == len(rows)
        assert split.hours == pytest.approx(len(rows) * 2 / 3600)
        assert split.speakers == len({row["speaker"] for row in rows})
        assert split.videos == len({row["video"] for row in rows})
        assert split.utterances == len({(row["speaker"], row["video"], row["utterance"]) for row in rows})
        assert split.shards == len(list((dataset / name).glob("*.tar")))
        assert split.bytes == sum(path.stat().st_size for path in (dataset / name).glob("*.tar"))
        assert split.padded == sum(row["padded"] > 0 for row in rows)
        assert split.members == {"gaze": sum(row["gaze_size"] is not None for row in rows) / len(rows)}
        assert 0 < split.members["gaze"] < 1
        counted = Counter(row["emotion"] for row in rows)
        assert split.classes["emotion"].unlabelled == counted.pop(None) > 0
        assert dict(split.classes["emotion"].clips) == dict(counted)
        for label in ("arousal", "valence"):
            values = [row[label] for row in rows if row[label] is not None]
            span = split.numbers[label]
            assert span.stated == len(values) < len(rows)
            assert (span.least, span.most) == pytest.approx((min(values), max(values)), rel=1e-6)
            assert span.mean == pytest.approx(sum(values) / len(values), rel=1e-5)


def test_videos_that_only_their_speakers_tell_apart_are_counted_and_told(namesakes: Path, tmp_path: Path) -> None:
    info = describe(namesakes)
    for name, split in info.splits.items():
        rows = pq.read_table(namesakes / name / "clips.parquet").to_pylist()
        assert split.videos == len({(row["speaker"], row["video"]) for row in rows}) > len({r["video"] for r in rows})
    assert as_json(info, namesakes)["video_names"] == "speaker"
    console = Console(width=160, record=True, file=(tmp_path / "out").open("w"))
    render(info, namesakes, console)
    assert "videos of one name are each speaker's own" in console.export_text()


def test_the_json_can_be_read_and_holds_everything(dataset: Path) -> None:
    script = [sys.executable, str(ROOT / "sharding" / "info.py"), str(dataset), "--json"]
    done = subprocess.run(script, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stderr
    content = json.loads(done.stdout)
    assert content == json.loads(json.dumps(as_json(describe(dataset), dataset)))
    assert content["splits"]["train"]["clips"] > 0
    assert content["clip"]["frames"] == 16


def test_the_tables_show_it(dataset: Path, tmp_path: Path) -> None:
    info = describe(dataset)
    manifest = replace(info.manifest, rejected={"silent": 7, "[bold]": 1, "\x1b[2J": 2}, corpus="the [red]corpus\x1b[H")
    console = Console(width=160, record=True, file=(tmp_path / "out").open("w"))
    render(replace(info, manifest=manifest), dataset, console)
    text = console.export_text()
    assert "\x1b" not in text  # which would move the cursor
    for expected in (
        "the [red]corpus",
        "silent",
        "[bold]",
        "filmstrip.jpg",
        "16 × 32 × 32 × 3",
        "surprise",
        "not stated",
        "valence",
        "quality",
    ):
        assert expected in text
    for figure in ("clips", "speakers"):
        (line, *_) = (line for line in text.splitlines() if line.startswith(f"│ {figure} "))
        assert [int(cell) for cell in line.split("│")[2:4]] == [getattr(s, figure) for s in info.splits.values()]


def test_a_label_of_many_classes_is_shown_by_its_commonest(dataset: Path, tmp_path: Path) -> None:
    info = describe(dataset)
    names = [f"class{number:02d}" for number in range(50)]
    counts = ClassCounts(clips={name: 100 - number for number, name in enumerate(names)}, unlabelled=0)
    splits = {name: replace(split, classes={"country": counts}, numbers={}) for name, split in info.splits.items()}
    manifest = replace(info.manifest, labels=(Label(name="country", classes=tuple(names)),))
    console = Console(width=160, record=True, file=(tmp_path / "out").open("w"))
    render(replace(info, manifest=manifest, splits=splits), dataset, console)
    text = console.export_text()
    assert [name in text for name in names] == [True] * 20 + [False] * 30
    assert "30 more classes" in text
    assert f" {sum(range(51, 81)):,} " in text
    assert "not stated" not in text


def test_what_cannot_be_read_is_told(dataset: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such folder"):
        describe(tmp_path / "nowhere")
    write_manifest(tmp_path, read_manifest(dataset))
    with pytest.raises(InputError, match=r"clips\.parquet: cannot be read"):
        describe(tmp_path)
    (tmp_path / "test").mkdir()
    (tmp_path / "test" / "clips.parquet").write_bytes(b"PAR1")
    with pytest.raises(InputError, match=r"clips\.parquet: its SHA-256 is not"):
        describe(tmp_path)
    declare_catalog(tmp_path, "test")
    with pytest.raises(InputError, match=r"clips\.parquet: cannot be read"):
        describe(tmp_path)


def test_a_remote_dataset_is_described_without_its_shards(dataset: Path, tmp_path: Path) -> None:
    url = "s3://bucket/data set"
    with s3_server() as s3:
        store = Store(url=url)
        with pytest.raises(InputError, match=f"{url}: no dataset there"):
            describe(Path(url))
        for name in ("dataset.json", "train/clips.parquet", "test/clips.parquet"):
            store.put(dataset / name, name)
        with counted_parses() as parses:
            assert describe(Path(url)) == describe(dataset)
        assert len(parses) == 2
        command = [sys.executable, str(ROOT / "sharding/info.py"), url, "--json"]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        assert json.loads(done.stdout) == json.loads(json.dumps(as_json(describe(dataset), url)))
        assert not any(path.endswith((".tar", ".idx")) for _, path in s3.requests)
        (tmp_path / "wrong").write_bytes(b"no catalog")
        store.put(tmp_path / "wrong", "test/clips.parquet")
        with pytest.raises(InputError, match=f"{url}/test/clips.parquet: its SHA-256 is not"):
            describe(Path(url))
