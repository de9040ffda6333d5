"""Tars of samples with videos, as WebDataset, img2dataset, video2dataset and Energon have them."""

import csv
import gzip
import hashlib
import io
import json
import tarfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import webdataset

from loaders.dataset.manifest import CATALOG, read_manifest
from loaders.errors import InputError
from sharding.corpora.table import TableSources, read_table
from sharding.corpora.webdataset import WebdatasetSources, read_webdataset
from sharding.media.waveform import encode_waveform
from sharding.packing.building import build
from sharding.settings import BuildSettings
from sharding.sources.packed import packed_of
from sharding.sources.store import Store
from sharding.utterance import Corpus
from tests.films import tone, write_film, write_table
from tests.s3 import S3, s3_server

SETTINGS = BuildSettings(clip_seconds=1, fps=4, size=32)
Sample = Mapping[str, Any]  # bytes, or what is to be JSON


def pack(path: Path, samples: Mapping[str, Sample], mode: str = "w") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, mode) as tar:  # type: ignore[call-overload]
        for key, files in samples.items():
            for suffix, content in files.items():
                data = content if isinstance(content, bytes) else json.dumps(content).encode()
                info = tarfile.TarInfo(f"{key}.{suffix}")
                info.size = len(data)
                tar.addfile(info, io.BytesIO(data))
    return path


def read(*source: object, **options: Any) -> Corpus:
    return read_webdataset(WebdatasetSources(source=tuple(map(str, source)), **options))


FILM = b"no film"


def test_samples_become_utterances(tmp_path: Path) -> None:
    pack(
        tmp_path / "shards/000.tar",
        {
            "a/1": {
                "mp4": FILM,
                "json": {"speaker": "ann", "felt": "sad", "level": 0.5},
                "txt": b"so it is",
                "cls": b"3",
            },
            "a/2": {"webm": FILM, "wav": FILM, "json": {"speaker": "bob", "felt": None}, "cls": b"10"},
        },
    )
    corpus = read(tmp_path / "shards/000.tar", labels=("felt", "cls"), numbers=("level",), ranges=("level=0,1",))
    one, two = corpus.utterances
    assert (one.speaker, one.video, one.utterance, one.key) == ("ann", "a/1", "1", "ann+a~2f~1+1")
    assert dict(one.labels) == {"felt": "sad", "level": 0.5, "cls": "3"}
    assert dict(two.labels) == {"cls": "10"}
    packed = packed_of(one.video_path)
    assert packed is not None
    assert (packed.archive, packed.name) == (tmp_path / "shards/000.tar", "1.mp4")
    assert packed.archive.read_bytes()[packed.offset : packed.offset + packed.size] == FILM
    assert two.audio_path is not None
    assert [(label.name, label.classes, label.low, label.high) for label in corpus.labels] == [
        ("felt", ("sad",), None, None),
        ("cls", ("3", "10"), None, None),
        ("level", None, 0.0, 1.0),
    ]
    assert any("columns not used: txt" in note for note in corpus.notes)


def test_braces_globs_and_folders_name_the_same_tars(tmp_path: Path) -> None:
    for number in (8, 9, 10):
        pack(tmp_path / f"shards/{number:03d}.tar", {f"k{number}": {"mp4": FILM}})
    (tmp_path / "shards/._008.tar").write_bytes(b"not ours")
    expected = ["k8", "k9", "k10"]
    for source in ("{008..010}.tar", "{008,009,010}.tar", "*.tar", ""):
        corpus = read(tmp_path / "shards" / source)
        assert [u.video for u in corpus.utterances] == expected, source
    with pytest.raises(InputError, match=r"011\.tar: no such tar"):
        read(tmp_path / "shards/{008..011}.tar")
    with pytest.raises(InputError, match=r"009\.tar twice"):
        read(tmp_path / "shards/*.tar", tmp_path / "shards/009.tar")


def test_a_tar_that_looks_like_a_pattern_is_itself(tmp_path: Path) -> None:
    pack(tmp_path / "of [1]/a[0].tar", {"k": {"mp4": FILM}})
    for source in ("of [1]/a[0].tar", "of [1]"):
        assert [u.video for u in read(tmp_path / source).utterances] == ["k"], source


def test_key_and_shard_are_where_a_sample_lies_whatever_its_description_says(tmp_path: Path) -> None:
    pack(tmp_path / "0.tar", {"k": {"mp4": FILM, "json": {"__key__": "other", "__shard__": "other"}}})
    (one,) = read(tmp_path / "0.tar", columns=("video_id=__shard__", "utterance=__key__")).utterances
    assert one.name == ("0", "0", "k")


def test_files_of_a_sample_that_contradict_each_other_reject_it_in_whatever_order(tmp_path: Path) -> None:
    """The later one in the tar won without a word, an empty one too."""

    def sample(described: object, *, last: bool, **more: bytes) -> Sample:
        files = {"mp4": FILM, "json": described, **more}
        return dict(reversed(files.items())) if last else files

    for last in (False, True):
        path = pack(
            tmp_path / f"{last}.tar",
            {
                "alike": sample({"cls": 5, "txt": "so", "level": 1}, last=last, cls=b"5\n", txt=b" so"),
                "empty": sample({"cls": None, "txt": "so", "level": 1.5}, last=last, cls=b"7", txt=b""),
                "unlike": sample({"cls": 5, "level": 1}, last=last, cls=b"6"),
                "elsewhere": sample({"cls": 5, "txt": "one", "level": 2}, last=last, txt=b"another"),
            },
        )
        corpus = read(path, labels=("cls",), numbers=("level",))
        assert {u.video: u.labels["cls"] for u in corpus.utterances} == {"alike": "5", "empty": "7", "elsewhere": "5"}
        (rejected,) = corpus.rejected
        assert (rejected.reason, rejected.path) == ("contradiction", f"{path}/unlike")
        assert rejected.detail in ("cls is 5 by its json and '6' by its cls", "cls is '6' by its cls and 5 by its json")
        said = f"1 samples contradict themselves and are left out, the first {path}/unlike ({rejected.detail})"
        assert any(note.endswith(said) for note in corpus.notes)
        with_texts = read(path, labels=("cls", "txt"))
        assert [u.video for u in with_texts.utterances] == ["alike", "empty"]
        assert dict(with_texts.utterances[1].labels) == {"cls": "7", "txt": "so"}
    pack(tmp_path / "s.tar", {"k": {"mp4": FILM, "json": {"split": "a", "s": "train"}, "split.json": "b"}})
    (unused,) = read(tmp_path / "s.tar", columns=("split=s",)).utterances
    assert unused.split == "train"  # the column split is not used
    with pytest.raises(InputError, match=r"no sample can be used: .*: split is .a. by its json"):
        read(tmp_path / "s.tar")
    pack(tmp_path / "n.tar", {"a": {"mp4": FILM, "x.json": {"cls": "1.0"}, "x.cls": b"1"}})
    (one,) = read(tmp_path / "n.tar", numbers=("n",), columns=("n=x.cls",)).utterances
    assert dict(one.labels) == {"n": 1.0}
    with pytest.raises(
        InputError, match=r"no sample can be used: .*n\.tar/a: x\.cls is '1\.0' by its x\.json and '1' by"
    ):
        read(tmp_path / "n.tar", labels=("x.cls",))


@pytest.mark.parametrize("kind", ["audio", "gaze"])
def test_a_suffix_that_no_sample_has_is_refused(tmp_path: Path, kind: str) -> None:
    pack(tmp_path / "0.tar", {"a": {"mp4": FILM}, "b": {"mp4": FILM}})
    with pytest.raises(InputError, match=f"no sample has a my.part: leave out --{kind}-suffix"):
        read(tmp_path / "0.tar", **{f"{kind}_suffix": "my.part"})


def test_parts_with_dots_as_energon_has_them(tmp_path: Path) -> None:
    said = {"answer.json": {"emotion": "joy"}, "context.txt": b"why", "score.json": 4}
    pack(tmp_path / "0.tar", {"s/0001": {"left.mp4": FILM, "right.mp4": FILM, **said}})
    with pytest.raises(InputError, match=r"left\.mp4 and right\.mp4: --video-suffix"):
        read(tmp_path / "0.tar")
    options = {"labels": ("emotion", "why", "score"), "columns": ("emotion=answer.emotion", "why=context.txt")}
    (one,) = read(tmp_path / "0.tar", video_suffix="right.mp4", **options).utterances
    assert one.video_path.name == "0001.right.mp4"
    assert dict(one.labels) == {"emotion": "joy", "why": "why", "score": "4"}


def test_samples_without_a_video_are_rejected_by_name(tmp_path: Path) -> None:
    pack(tmp_path / "0.tar", {"a": {"mp4": FILM}, "b": {"jpg": b"", "json": {}}, "._a": {"mp4": b""}})
    corpus = read(tmp_path / "0.tar")
    assert [(r.reason, r.path) for r in corpus.rejected] == [("no_video", f"{tmp_path}/0.tar/b")]
    assert any("1 samples have no video, the first" in note for note in corpus.notes)
    assert any("1 hidden files were passed by" in note for note in corpus.notes)
    assert any("not looked at (--member takes .npy): 1 .jpg" in note for note in corpus.notes)
    pack(tmp_path / "1.tar", {"b": {"jpg": b""}})
    with pytest.raises(InputError, match=r"no sample has a video, but 1 \.jpg"):
        read(tmp_path / "1.tar")


def test_what_is_no_plain_tar_is_refused_by_name(tmp_path: Path) -> None:
    whole = pack(tmp_path / "0.tar", {"a": {"mp4": bytes(3000)}, "b": {"mp4": bytes(3000)}})
    data = whole.read_bytes()
    (tmp_path / "packed.tar").write_bytes(gzip.compress(data))
    with pytest.raises(InputError, match=r"packed\.tar: is compressed \(gzip\).*decompress it"):
        read(tmp_path / "packed.tar")
    (tmp_path / "cut.tar").write_bytes(data[:2000])
    with pytest.raises(InputError, match=r"cut\.tar: is cut off"):
        read(tmp_path / "cut.tar")
    header = 512 + 3072
    (tmp_path / "damaged.tar").write_bytes(data[:header] + b"x" * 40 + data[header + 40 :])
    with pytest.raises(InputError, match=rf"damaged\.tar: is damaged at byte {header}"):
        read(tmp_path / "damaged.tar")
    (tmp_path / "text.tar").write_text("nothing of the kind, " * 100)
    with pytest.raises(InputError, match=r"text\.tar: is cut off, or no tar"):
        read(tmp_path / "text.tar")


def test_one_key_in_two_tars_is_told_apart_by_columns(tmp_path: Path) -> None:
    for name in ("0", "1"):
        pack(tmp_path / f"{name}.tar", {"a": {"mp4": FILM}})
    with pytest.raises(InputError, match=r"1\.tar: a: is the utterance a/a/a of .*0\.tar: a too"):
        read(tmp_path / "*.tar")
    corpus = read(tmp_path / "*.tar", columns=("video_id=__shard__", "utterance=__key__"))
    assert [u.name for u in corpus.utterances] == [("0", "0", "a"), ("1", "1", "a")]


@pytest.fixture(scope="module")
def films(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six small films, two with the sound apart, a table of them, and the same in tars."""
    root = tmp_path_factory.mktemp("films")
    rows = []
    samples: dict[str, Sample] = {}
    for number in range(6):
        name = f"clips/{number}"
        apart = number % 3 == 0
        film = write_film(root / f"{name}.mp4", 1.6 + number / 5, fps=10, sound=None if apart else "tone")
        fields = {
            "speaker": f"s{number % 3}",
            "split": "test" if number % 3 == 2 else "train",
            "felt": "ab"[number % 2],
        }
        fields |= {"level": number / 7, "start": 0.4 if number == 4 else None, "end": 1.5 if number == 4 else None}
        sample: dict[str, Any] = {"mp4": film.read_bytes(), "json": fields}
        row = {"path": f"{name}.mp4", "sound": None, "eyes": None, **fields}
        if apart:
            sample["wav"] = encode_waveform((tone(3.0) * 32767).astype(np.int16), sample_rate=16000, audio_format="wav")
            row["sound"] = f"{name}.wav"
            (root / f"{name}.wav").write_bytes(sample["wav"])
        if number % 2 == 0:
            table = write_table(root / f"{name}.gaze.csv", round(25 * (1.6 + number / 5)))
            row["eyes"] = f"{name}.gaze.csv"
            sample["gaze.csv"] = table.read_bytes()
        rows.append(row)
        samples[name] = sample
    with (root / "films.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    pack(root / "tars/0.tar", dict(list(samples.items())[:4]))
    pack(root / "tars/1.tar", dict(list(samples.items())[4:]))
    return root


@pytest.fixture(scope="module")
def server() -> Iterator[S3]:
    with s3_server() as s3:
        yield s3


def digests(dataset: Path) -> dict[str, str]:
    files = sorted(path for path in dataset.rglob("*") if path.is_file())
    return {path.relative_to(dataset).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def test_a_corpus_is_the_same_as_films_and_in_tars_and_in_a_store(films: Path, server: S3, tmp_path: Path) -> None:
    """Shards, catalogs, indices, description: every byte."""
    options: dict[str, Any] = {"labels": ("felt",), "numbers": ("level",), "name": "films"}
    columns = ("video=path", "audio=sound", "gaze=eyes")
    corpora = {
        "films": read_table(TableSources(table=films / "films.csv", columns=columns, **options)),
        "tars": read(films / "tars/{0..1}.tar", gaze_suffix="gaze.csv", **options),
    }
    for path in (films / "tars").iterdir():
        Store(url="s3://bucket/tars").put(path, path.name)
    corpora["store"] = read("s3://bucket/tars/{0..1}.tar", gaze_suffix="gaze.csv", **options)
    found = {}
    for name, corpus in corpora.items():
        build(corpus, tmp_path / name, SETTINGS, 1)
        found[name] = digests(tmp_path / name)
    assert found["films"] == found["tars"] == found["store"]
    manifest = read_manifest(tmp_path / "tars")
    assert {name: split.clips for name, split in manifest.splits.items()} == {"train": 5, "test": 4}
    catalog = pq.read_table(tmp_path / "tars/train" / CATALOG)
    assert set(catalog["felt"].to_pylist()) == {"a", "b"}
    assert catalog["gaze_size"].null_count < len(catalog)


def test_what_webdataset_reads_as_a_sample_is_one(films: Path) -> None:
    """The reference reader groups and names the files of a tar as we do."""
    expected = {}
    for sample in webdataset.WebDataset(str(films / "tars/{0..1}.tar"), shardshuffle=False):
        expected[sample["__key__"]] = sample["mp4"]
    corpus = read(films / "tars/{0..1}.tar")
    assert [u.video for u in corpus.utterances] == list(expected)
    for utterance in corpus.utterances:
        packed = packed_of(utterance.video_path)
        assert packed is not None
        data = packed.archive.read_bytes()[packed.offset : packed.offset + packed.size]
        assert data == expected[utterance.video]
