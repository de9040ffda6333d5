"""A build from an object store makes what a build from a folder makes, and fails rather than lose an utterance."""

import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from loaders.dataset.manifest import CATALOG, REJECTED, Manifest, read_manifest
from loaders.errors import InputError
from sharding.cards.card import CARD
from sharding.corpora.omg import OmgSources, read_omg
from sharding.corpora.tree import read_tree
from sharding.corpora.voxceleb import VoxcelebSources, read_voxceleb
from sharding.media.probe import probe_seconds
from sharding.packing.building import build
from sharding.settings import BuildSettings
from sharding.sources.copies import local_media, read_bytes
from sharding.sources.store import Store
from sharding.stages import Stopwatch
from sharding.utterance import Corpus, Utterance
from tests.films import tone, write_film, write_table
from tests.s3 import S3, Misdeed, s3_server

SETTINGS = BuildSettings(size=32)


@pytest.fixture(scope="module")
def server() -> Iterator[S3]:
    with s3_server() as s3:
        yield s3


@pytest.fixture
def s3(server: S3, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> S3:
    server.misdeeds.clear()
    server.requests.clear()
    server.done = 0
    (tmp_path / "temporary").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))
    return server


@pytest.fixture
def url(request: pytest.FixtureRequest) -> str:
    return f"s3://bucket/{request.node.name}"


def upload(folder: Path, url: str) -> None:
    for path in folder.rglob("*"):
        if path.is_file():
            Store(url=url).put(path, path.relative_to(folder).as_posix())


def vox(root: Path, **sources: Path) -> Corpus:
    return read_voxceleb(VoxcelebSources(source=root / "mp4", test_fraction=0.0, **sources))  # type: ignore[arg-type]


def same_but_for_paths(local: Path, remote: Path, root: Path, url: str) -> Manifest:
    """Both datasets hold the same bytes; only the rejected are named by where they lie."""
    one, other = read_manifest(local), read_manifest(remote)
    # croissant.json has the table's SHA-256.
    one, other = (replace(of, rejected_sha256="", documents={CARD: of.documents[CARD]}) for of in (one, other))
    assert one == other
    rows, others = (pq.read_table(folder / REJECTED).to_pylist() for folder in (local, remote))
    moved = [
        {name: value.replace(str(root), url) if isinstance(value, str) else value for name, value in row.items()}
        for row in rows
    ]
    assert moved == others
    return other


def test_voxceleb_with_sound_and_gaze_apart(url: str, s3: S3, tmp_path: Path) -> None:
    root = tmp_path / "root"
    for number in range(4):
        write_film(root / f"mp4/s{number % 2}/vidéo {number}/1.mp4", 4.2, sound=None, fps=5)
        if number != 2:
            write_film(root / f"wav/s{number % 2}/vidéo {number}/1.m4a", 4.2, fps=5, sound=tone(4.2))
        write_table(root / f"gaze/s{number % 2}/vidéo {number}/1.csv", 105, seed=number)
    (root / "mp4/s1/vidéo 1/2.mp4").write_bytes(b"no film")
    for name in ("s1/vidéo 1/._1.mp4", ".Trashes/501/x/1.mp4", "@eaDir/y.mp4", "s1/lost+found/v/1.mp4", "s1/1.jpg"):
        (root / "mp4" / name).parent.mkdir(parents=True, exist_ok=True)
        (root / "mp4" / name).write_bytes(b"no film, and no part of the corpus")
    write_film(root / "wav/s1/vidéo 1/2.m4a", 2, fps=5)
    upload(root, url)
    local = vox(root, audio=root / "wav", openface=root / "gaze")
    remote = vox(Path(url), audio=Path(url, "wav"), openface=Path(url, "gaze"))
    assert [u.key for u in local.utterances] == [u.key for u in remote.utterances]
    assert [note.replace(str(root), url) for note in local.notes] == list(remote.notes)
    assert any("4 hidden entries" in note for note in remote.notes)
    assert any("not looked at: 1 .jpg" in note for note in remote.notes)
    build(local, tmp_path / "local", SETTINGS, 1)
    build(remote, tmp_path / "remote", SETTINGS, 2)
    manifest = same_but_for_paths(tmp_path / "local", tmp_path / "remote", root, url)
    assert manifest.splits["train"].clips == 6
    assert dict(manifest.rejected) == {"missing": 1, "undecodable": 1}
    assert manifest.gaze_mean is not None
    assert list((tmp_path / "temporary").iterdir()) == []


def test_whole_videos_by_their_boxes(url: str, s3: S3, tmp_path: Path) -> None:
    root = tmp_path / "root"
    write_film(root / "mp4/s/video.mp4", 8, fps=5)
    rows = "".join(f"{number:06d} 0.2 0.2 0.5 0.5\n" for number in range(50, 110))
    for name in ("00001", "00002"):
        text = root / f"txt/s/video/{name}.txt"
        text.parent.mkdir(parents=True, exist_ok=True)
        text.write_text(f"Identity: s\n\nFRAME X Y W H\n{rows if name == '00001' else ''}")
    upload(root, url)
    build(vox(root, boxes=root / "txt"), tmp_path / "local", SETTINGS, 1)
    build(vox(Path(url), boxes=Path(url, "txt")), tmp_path / "remote", SETTINGS, 1)
    manifest = same_but_for_paths(tmp_path / "local", tmp_path / "remote", root, url)
    assert (manifest.splits["train"].clips, dict(manifest.rejected)) == (1, {"boxes_unreadable": 1})


def test_omg_with_its_tables(url: str, s3: S3, tmp_path: Path) -> None:
    root, header = tmp_path / "root", "link,start,end,video,utterance,arousal,valence,EmotionMaxVote\n"
    for video in ("a", "b"):
        write_film(root / f"omg/{video}/utterance_1.mp4", 2, fps=5)
        write_table(root / f"gaze/{video}_utterance_1.csv", 50)
        rows = [f"l,0,1,{video},utterance_{number}.mp4,0.5,0.25,3\n" for number in (1, 2)]
        (root / f"{video}.csv").write_text(header + "".join(rows))
    upload(root, url)

    def read(root: Path) -> Corpus:
        return read_omg(
            OmgSources(
                source=root / "omg", train_csv=root / "a.csv", validation_csv=root / "b.csv", openface=root / "gaze"
            )
        )

    build(read(root), tmp_path / "local", SETTINGS, 1)
    build(read(Path(url)), tmp_path / "remote", SETTINGS, 1)
    manifest = same_but_for_paths(tmp_path / "local", tmp_path / "remote", root, url)
    assert {name: split.clips for name, split in manifest.splits.items()} == {"train": 1, "validation": 1}
    assert pq.read_table(tmp_path / "remote/train" / CATALOG)["emotion"].to_pylist() == ["happy"]
    with pytest.raises(InputError, match=rf"{url}/nowhere: no such folder"):
        read_omg(
            OmgSources(source=Path(url, "nowhere"), train_csv=Path(url, "a.csv"), validation_csv=Path(url, "b.csv"))
        )
    with pytest.raises(InputError, match=r"c\.csv: cannot be read"):
        read_omg(OmgSources(source=Path(url, "omg"), train_csv=Path(url, "c.csv"), validation_csv=Path(url, "b.csv")))


def test_what_fails_for_a_while_changes_nothing(
    url: str, s3: S3, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = tmp_path / "root"
    write_film(root / "mp4/s/v/1.mp4", 2, fps=5)
    upload(root, url)
    corpus = vox(Path(url))
    monkeypatch.setattr("sharding.sources.copies.Store", lambda url: Store(url=url, pause=0.01))
    s3.misdeeds.append(Misdeed("GET", r"1\.mp4", "503", times=3))
    assert probe_seconds(corpus.utterances[0]) == pytest.approx(2, abs=0.1)
    assert s3.done == 3
    s3.misdeeds.append(Misdeed("GET", r"1\.mp4", "503", times=2))
    with local_media(corpus.utterances[0], Stopwatch()) as local:
        assert local.utterance.video_path.read_bytes() == (root / "mp4/s/v/1.mp4").read_bytes()
    assert s3.done == 5
    assert list((tmp_path / "temporary").iterdir()) == []


def test_what_fails_for_good_ends_the_build_and_is_no_rejection(
    url: str, s3: S3, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = tmp_path / "root"
    for number in range(3):
        write_film(root / f"mp4/s/v/{number}.mp4", 2, fps=5)
    upload(root, url)
    corpus = vox(Path(url))
    monkeypatch.setattr("sharding.sources.copies.Store", lambda url: Store(url=url, attempts=2, pause=0.01))
    s3.misdeeds.append(Misdeed("GET", r"v/1\.mp4", "503"))
    with pytest.raises(InputError, match=rf"{url}/mp4/s/v/1\.mp4: failed 2 times") as failed:
        build(corpus, tmp_path / "out", SETTINGS, 1)
    assert "\n" not in str(failed.value)
    assert not (tmp_path / "out/dataset.json").exists()
    s3.misdeeds.clear()
    assert build(corpus, tmp_path / "out", SETTINGS, 1).manifest.splits["train"].clips == 3


def test_objects_whose_names_are_no_paths_are_left_out_by_name(url: str, s3: S3, tmp_path: Path) -> None:
    (tmp_path / "film").write_bytes(b"x")
    for name in ("s/v/1.mp4", "s//v/2.mp4", "s/./3.mp4", "s/v/1.txt", "s/v/4.MP4"):
        Store(url=url).put(tmp_path / "film", name)
    tree = read_tree(Path(url), (".mp4",))
    assert [entry.names for entry in tree.files] == [("s", "v", "1"), ("s", "v", "4")]
    assert {(out.entry.names[-1], out.reason) for out in tree.left_out} == {("2", "unreadable"), ("3", "unreadable")}


def test_a_name_longer_than_a_disk_takes(url: str, s3: S3, tmp_path: Path) -> None:
    content = np.random.default_rng(0).bytes(1000)
    (tmp_path / "film").write_bytes(content)
    name = "ü" * 150 + ".mp4"
    Store(url=url).put(tmp_path / "film", name)
    path = Path(url, name)
    assert read_bytes(path) == content
    utterance = Utterance(corpus="c", split="train", speaker="s", video="v", utterance="u", video_path=path)
    with local_media(utterance, Stopwatch()) as local:
        copy = local.utterance.video_path
        assert copy.read_bytes() == content
        assert local.rewrite_paths(f"{copy}: no film") == f"{url}/{name}: no film"
    assert not copy.exists()
