"""Builds from end to end: small films in, a dataset out that the loader reads, and nothing lost on the way."""

import hashlib
import io
import json
import os
import shutil
import subprocess
import sys
from collections import Counter
from dataclasses import replace
from fractions import Fraction
from itertools import pairwise
from pathlib import Path

import msgpack
import numpy as np
import pyarrow.parquet as pq
import pytest

from loaders.dataset.catalog import open_catalog, utterances
from loaders.dataset.manifest import CATALOG, REJECTED, Manifest, read_manifest
from loaders.errors import TRY_AGAIN, InputError
from loaders.loader import ClipLoader
from sharding.build import console, tell
from sharding.corpora.leaks import OnLeak
from sharding.corpora.omg import OmgSources, read_omg
from sharding.corpora.table import TableSources, read_table
from sharding.corpora.voxceleb import VoxcelebSources, read_voxceleb
from sharding.gaze.statistics import GAZE_NAMES, SIGNAL_NAMES, statistics
from sharding.gaze.statistics import read_table as read_gaze
from sharding.media.reader import read_media
from sharding.packing.building import build
from sharding.packing.workfolder import sole_builder
from sharding.settings import BuildSettings
from sharding.utterance import Corpus
from sharding.verify import verify
from tests import forked
from tests.exposition import parsed
from tests.films import shades, tone, write_film, write_table
from tests.networks import needs_centerface
from tests.pipes import pipe, without_waiting
from tests.sharding.gaze.tracked import needs_real_faces

ROOT = Path(__file__).parents[2]
REAL = ROOT / "../shared/real"
needs_real_clips = pytest.mark.skipif(not REAL.is_dir(), reason="../shared/real is not here")
SMALL = BuildSettings(size=32)


def vox(source: Path, **options: object) -> Corpus:
    return read_voxceleb(VoxcelebSources(source=source, test_fraction=0.0, **options))  # type: ignore[arg-type]


def built(
    corpus: Corpus, output: Path, settings: BuildSettings = SMALL, workers: int = 1, on_leak: OnLeak = "refuse"
) -> Manifest:
    done = build(corpus, output, settings, workers, on_leak, console=console)
    tell(done)
    manifest = done.manifest
    # Whatever a test is about: every utterance is in the catalog or among the rejected, and never in both.
    found = {key.rpartition("+")[0] for split in manifest.splits for key in column(output, "key", split)}
    rejected = rejections(output)
    assert Counter(r["reason"] for r in rejected) == Counter(manifest.rejected)
    assert len(found) + sum(r["utterance"] != "" for r in rejected) == len(corpus.utterances) + sum(
        r.utterance != "" for r in corpus.rejected
    )
    return manifest


def column(dataset: Path, name: str, split: str = "train") -> list[object]:
    values: list[object] = pq.read_table(dataset / split / CATALOG, columns=[name])[name].to_pylist()
    return values


def rejections(dataset: Path) -> list[dict[str, str]]:
    rows: list[dict[str, str]] = pq.read_table(dataset / REJECTED).to_pylist()
    return rows


def reasons(dataset: Path) -> dict[str, str]:
    return {row["utterance"]: row["reason"] for row in rejections(dataset)}


def member(dataset: Path, clip: int, name: str, split: str = "train") -> bytes:
    table = pq.read_table(dataset / split / CATALOG)
    row = table.slice(clip, 1).to_pylist()[0]
    tar = sorted((dataset / split).glob("*.tar"))[row["shard"]]
    with tar.open("rb") as file:
        file.seek(row[f"{name}_offset"])
        return file.read(row[f"{name}_size"])


def array(data: bytes) -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
    loaded: np.ndarray[tuple[int, ...], np.dtype[np.float32]] = np.load(io.BytesIO(data))
    return loaded


def digests(folder: Path) -> dict[str, str]:
    files = [path for path in sorted(folder.rglob("*")) if path.is_file()]
    return {path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


# What goes in comes out -----------------------------------------------------------------------------------------------


def test_every_utterance_is_in_the_catalog_or_rejected_with_its_reason(tmp_path: Path) -> None:
    source = tmp_path / "Größe 東京/mp4"
    films = source / "spe aker/vidéo"
    write_film(films / "good one.mp4", 4.5)
    write_film(films / "silent.mp4", 2, sound=np.zeros(32000, np.float32))
    write_film(films / "mute.mp4", 2, sound=None)
    write_film(films / "short.mp4", 1.2)
    write_film(films / "long.mp4", 7)
    (films / "empty.mp4").touch()
    (films / "text.mp4").write_text("this is no film\n" * 100)
    whole = write_film(tmp_path / "whole.mp4", 3).read_bytes()
    (films / "truncated.mp4").write_bytes(whole[: len(whole) // 2])
    (films / "outside.mp4").symlink_to(tmp_path / "whole.mp4")
    (films / "notes.txt").write_text("not a film, and no utterance")
    output = tmp_path / "out put"
    manifest = built(vox(source), output, BuildSettings(size=32, max_seconds=6))
    assert column(output, "start") == [0.0, 2.0]
    assert set(column(output, "utterance")) == {"good one"}
    assert set(column(output, "video")) == {"vidéo"}
    assert reasons(output) == {
        "silent": "silent",
        "mute": "no_audio",
        "short": "too_short",
        "long": "too_long",
        "empty": "undecodable",
        "text": "undecodable",
        "truncated": "undecodable",
        "outside": "outside_source",
    }
    assert manifest.splits["train"].clips == 2
    assert all(row["detail"] and "\n" not in row["detail"] for row in rejections(output))
    assert not (output / ".build").exists()


def test_a_ten_hour_file_is_rejected_without_being_decoded(tmp_path: Path) -> None:
    source = tmp_path / "mp4"
    write_film(source / "s/v/1.mp4", 2)
    # A picture every two minutes: the container says ten hours, and the file is small.
    write_film(source / "s/v/2.mp4", times=[120.0 * number for number in range(300)], sound=tone(1))
    built(vox(source), tmp_path / "out")
    assert reasons(tmp_path / "out") == {"2": "too_long"}


def test_sources_are_only_read(tmp_path: Path) -> None:
    source = tmp_path / "mp4"
    write_film(source / "s/v/1.mp4", 2)
    write_table(tmp_path / "csv/s/v/1.csv", 50)
    before = digests(source) | digests(tmp_path / "csv")
    folders = [path for root in (source, tmp_path / "csv") for path in (root, *root.rglob("*"))]
    for path in folders:
        path.chmod(0o555 if path.is_dir() else 0o444)
    try:
        manifest = built(vox(source, openface=tmp_path / "csv"), tmp_path / "out")
        assert digests(source) | digests(tmp_path / "csv") == before
    finally:
        for path in folders:
            path.chmod(0o755 if path.is_dir() else 0o644)
    assert manifest.splits["train"].clips == 1


def test_the_same_bytes_from_any_number_of_workers(tmp_path: Path) -> None:
    """Shards that divide among them, and that do not."""
    for number in range(66):
        seconds = 0.5 if number % 3 else 0.2
        write_film(tmp_path / f"mp4/s{number % 5}/v{number}/1.mp4", seconds, fps=10, picture=shades(16, 16))
    corpus = vox(tmp_path / "mp4")
    settings = BuildSettings(size=16, fps=4.0, clip_seconds=0.5)
    one = built(corpus, tmp_path / "1", settings, workers=1)
    assert len(one.splits["train"].shards) == 4
    for workers in (2, 3, 4):
        built(corpus, tmp_path / str(workers), settings, workers=workers)
        assert digests(tmp_path / str(workers)) == digests(tmp_path / "1")


def test_a_build_goes_on_where_it_was_broken_off(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(34):
        write_film(tmp_path / f"mp4/s/v{number}/1.mp4", 2, fps=5)
    corpus, settings = vox(tmp_path / "mp4"), BuildSettings(size=16, fps=2)
    built(corpus, tmp_path / "whole", settings)

    def killed(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("sharding.packing.building.finish_dataset", killed)
    with pytest.raises(KeyboardInterrupt):
        build(corpus, tmp_path / "broken", settings, 1)
    monkeypatch.undo()
    shards = sorted((tmp_path / "broken/train").glob("*.tar"))
    shards[0].unlink()
    written = shards[1].stat().st_mtime_ns
    built(corpus, tmp_path / "broken", settings, workers=2)
    assert shards[1].stat().st_mtime_ns == written
    assert digests(tmp_path / "whole") == digests(tmp_path / "broken")


# Sources --------------------------------------------------------------------------------------------------------------


def test_a_pipe_that_takes_a_sources_place_after_the_corpus_was_read(tmp_path: Path) -> None:
    for name in "1234":
        write_film(tmp_path / f"mp4/s/v/{name}.mp4", 2, fps=5, sound=None if name == "2" else "tone")
        write_film(tmp_path / f"wav/s/v/{name}.m4a", 2, fps=5)
        write_table(tmp_path / f"csv/s/v/{name}.csv", 50)
    corpus = vox(tmp_path / "mp4", audio=tmp_path / "wav", openface=tmp_path / "csv")
    pipes = [pipe(tmp_path / name) for name in ("mp4/s/v/1.mp4", "wav/s/v/2.m4a", "csv/s/v/3.csv")]
    # One worker builds in a process of its own; what waits there waits for ever.
    without_waiting(pipes, lambda: built(corpus, tmp_path / "out"), patience=60)
    assert reasons(tmp_path / "out") == {"1": "missing", "2": "missing"}
    assert set(column(tmp_path / "out", "utterance")) == {"3", "4"}


def test_parts_that_would_end_after_their_film_are_counted_and_the_first_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_film(tmp_path / "a.mp4", 2.0, fps=5)
    rows = ("a.mp4,whole,0,2", "a.mp4,rounded,1,2.05", "a.mp4,beyond,0.5,7", "a.mp4,open,1,", "a.mp4,little,1.5,3.5")
    (tmp_path / "list.csv").write_text("\n".join(("video,utterance,start,end", *rows)))
    corpus = read_table(TableSources(table=tmp_path / "list.csv", split_by="utterance", test_fraction=0.0))
    done = build(corpus, tmp_path / "out", replace(SMALL, clip_seconds=1.0, fps=5.0), 1)
    assert Counter(column(tmp_path / "out", "utterance")) == {"whole": 2, "rounded": 1, "beyond": 1, "open": 1}
    (rejected,) = rejections(tmp_path / "out")
    assert (rejected["utterance"], rejected["reason"]) == ("little", "too_short")
    assert rejected["detail"].endswith(": its end, 3.5 s, lies beyond the film's, 2.00 s")
    tell(done)
    told = " ".join(capsys.readouterr().out.split())
    what = "utterances that end with their film, before the end that is stated: 1 (the first: "
    assert f"{what}{tmp_path}/a.mp4: its end, 7 s, lies beyond the film's, 2.00 s)" in told
    tell(build(replace(corpus, utterances=corpus.utterances[:2]), tmp_path / "none", SMALL, 1))
    assert "end with their film" not in capsys.readouterr().out


def test_copies_are_told_or_rejected_and_the_rest_keeps_its_bytes(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = tmp_path / "mp4"
    for number in range(6):
        write_film(source / f"s{number}/v{number}/1.mp4", 2 + number / 5, fps=5)
    plain = read_voxceleb(VoxcelebSources(source=source, test_fraction=0.5))
    split = {u.speaker: u.split for u in plain.utterances}
    test, train = (sorted(name for name in split if split[name] == side) for side in ("test", "train"))
    tell(build(plain, tmp_path / "plain", SMALL, 1))
    assert "the same sources" not in capsys.readouterr().out
    # A copy of test's in train, and one of train's in train.
    for number, (of, to) in enumerate(((test[0], train[0]), (train[0], train[1]))):
        shutil.copy(source / f"{of}/v{of[1:]}/1.mp4", source / f"{to}/v{to[1:]}/copy{number}.mp4")
    corpus = read_voxceleb(VoxcelebSources(source=source, test_fraction=0.5))
    tell(build(corpus, tmp_path / "warned", SMALL, 1))
    told = " ".join(capsys.readouterr().out.split())
    assert f"WARNING: 1 utterances have the same sources as one in another split, such as train: {train[0]}" in told
    assert "1 utterances have the same sources as another of their split" in told
    tell(build(corpus, tmp_path / "allowed", SMALL, 1, on_duplicate="allow"))
    assert "the same sources" not in capsys.readouterr().out
    assert digests(tmp_path / "warned") == digests(tmp_path / "allowed")
    done = build(corpus, tmp_path / "rejected", SMALL, 1, on_duplicate="reject")
    tell(done)
    assert "the same sources" not in capsys.readouterr().out
    assert dict(done.manifest.rejected) == {"duplicate": 2}
    assert {row["utterance"] for row in rejections(tmp_path / "rejected")} == {"copy0", "copy1"}
    for side in ("test", "train"):
        kept = digests(tmp_path / "rejected" / side)
        assert kept == digests(tmp_path / "plain" / side)


def test_following_links_builds_what_the_files_themselves_build(tmp_path: Path) -> None:
    for name in ("s/v/1", "s/w/2", "t/x/1"):
        write_film(tmp_path / f"mp4/{name}.mp4", 2, fps=5)
        (tmp_path / f"links/{name}.mp4").parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / f"links/{name}.mp4").symlink_to(tmp_path / f"mp4/{name}.mp4")
    built(vox(tmp_path / "mp4"), tmp_path / "files")
    built(vox(tmp_path / "links", follow_links=True), tmp_path / "followed")
    assert digests(tmp_path / "files") == digests(tmp_path / "followed")


def test_audio_apart_and_missing(tmp_path: Path) -> None:
    for name in "123":
        write_film(tmp_path / f"mp4/s/v/{name}.mp4", 2, sound=None)
    write_film(tmp_path / "wav/s/v/1.m4a", 2)
    write_film(tmp_path / "wav/s/v/2.m4a", 2, sound=np.zeros(32000, np.float32))
    built(vox(tmp_path / "mp4", audio=tmp_path / "wav"), tmp_path / "out")
    assert column(tmp_path / "out", "utterance") == ["1"]
    assert reasons(tmp_path / "out") == {"2": "silent", "3": "missing"}


def test_whole_videos_are_cut_and_cropped_by_their_boxes(tmp_path: Path) -> None:
    """The face is a red square that turns green at 5 s, on blue, and moves to the right."""

    def picture(seconds: float) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
        frame = np.full((96, 160, 3), (0, 0, 255), np.uint8)
        left = round(20 + 8 * seconds)
        frame[30:62, left : left + 32] = (255, 0, 0) if seconds < 5 else (0, 200, 0)
        return frame

    write_film(tmp_path / "mp4/s/abc.mp4", 10, picture=picture, options={"crf": "5"})
    rows = [(number, 20 + 8 * number / 25, 30, 32, 32) for number in range(150, 200)]  # from 6 s to 8 s
    texts = {
        "pixels": [f"{n:06d} \t{x} \t{y} \t{w} \t{h}" for n, x, y, w, h in rows],
        "fractions": [f"{n:06d} \t{x / 160} \t{y / 96} \t{w / 160} \t{h / 96}" for n, x, y, w, h in rows],
        "broken": ["no number"],
        "beyond": ["1000 1 1 9 9", "1100 1 1 9 9"],
    }
    for name, lines in texts.items():
        path = tmp_path / f"boxes/txt/s/abc/{name}.txt"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("Identity  : \ts\n\nFRAME \tX \tY \tW \tH \n" + "\n".join(lines) + "\n")
    (tmp_path / "boxes/txt/s/gone").mkdir()
    shutil.copy(tmp_path / "boxes/txt/s/abc/pixels.txt", tmp_path / "boxes/txt/s/gone/missing.txt")
    built(vox(tmp_path / "mp4", boxes=tmp_path / "boxes"), tmp_path / "out")
    assert sorted(map(str, column(tmp_path / "out", "utterance"))) == ["fractions", "pixels"]
    assert reasons(tmp_path / "out") == {"beyond": "too_short", "broken": "boxes_unreadable", "missing": "missing"}
    with ClipLoader(tmp_path / "out", batch_size=2, training=False, negatives=None) as loader:
        (batch,) = loader
    video = batch.video.numpy().astype(int)[:, :, 4:-4, 4:-4]
    assert video.shape == (2, 16, 24, 24, 3)
    assert (video[..., 1] > 150).all()  # green throughout: the right time, the right place
    assert (video[..., 2] < 90).all()


def test_speakers_of_the_metadata_are_in_the_catalog(tmp_path: Path) -> None:
    write_film(tmp_path / "mp4/id1/v/1.mp4", 2)
    write_film(tmp_path / "mp4/id2/w/1.mp4", 2)
    meta = tmp_path / "vox1_meta.csv"
    meta.write_text("VoxCeleb1 ID\tVGGFace1 ID\tGender\tNationality\tSet\nid1\tAnn\tf\tIreland\tdev\n")
    built(vox(tmp_path / "mp4", meta=(meta,)), tmp_path / "out")
    rows = zip(*(column(tmp_path / "out", name) for name in ("speaker", "gender", "nationality")), strict=True)
    assert set(rows) == {("id1", "f", "Ireland"), ("id2", None, None)}
    description = msgpack.unpackb(member(tmp_path / "out", 0, "clip"))
    assert description["gender"] in ("f", None)


def write_omg(folder: Path, films: dict[str, float]) -> Corpus:
    header = "link,start,end,video,utterance,arousal,valence,EmotionMaxVote"
    rows = {"train": [], "validation": []}
    for name, seconds in films.items():
        video, utterance = name.split("/")
        if seconds > 0:
            write_film(folder / f"files/{name}.mp4", seconds)
        split = "validation" if video.startswith("v") else "train"
        rows[split].append(f"http://,0,{seconds},{video},{utterance}.mp4,0.25,-0.5,{len(rows[split]) % 7}")
    rows["train"].insert(1, ",,,,,0.1,0.2,")
    for split, lines in rows.items():
        (folder / f"{split}.csv").write_text("\n".join([header, *lines]) + "\n")
    return read_omg(
        OmgSources(source=folder / "files", train_csv=folder / "train.csv", validation_csv=folder / "validation.csv")
    )


def test_omg_keeps_its_labels_and_pads_what_is_short(tmp_path: Path) -> None:
    films = {"a/utterance_1": 5.0, "a/utterance_2": 1.25, "b/utterance_1": 0.0, "v/utterance_1": 2.0}
    corpus = write_omg(tmp_path, films)
    assert "train.csv: 1 of 4 rows name no utterance and were dropped" in corpus.notes
    output = tmp_path / "out"
    built(corpus, output, BuildSettings(size=32, pad_short=True))
    rows = zip(
        *(column(output, name) for name in ("utterance", "start", "padded", "emotion", "arousal", "valence")),
        strict=True,
    )
    assert sorted(rows) == [  # type: ignore[type-var]
        ("utterance_1", 0.0, 0.0, "anger", 0.25, -0.5),
        ("utterance_1", 2.0, 0.0, "anger", 0.25, -0.5),
        ("utterance_2", 0.0, 0.75, "disgust", 0.25, -0.5),
    ]
    assert reasons(output) == {"utterance_1": "missing"}
    short = column(output, "utterance").index("utterance_2")
    with ClipLoader(output, batch_size=3, training=False, negatives=None, targets=("emotion",)) as loader:
        (batch,) = loader
    frames, sound = batch.video[short].numpy().astype(int), batch.audio[short].numpy()
    assert np.abs(frames[9] - frames[8]).max() > 30
    assert np.abs(frames[10:] - frames[9]).max() < 8  # the last frame is held, but for JPEG
    assert np.abs(sound[:19000]).max() > 0.1
    assert not sound[20100:].any()
    assert batch.targets["emotion"].numpy()[short] == 1


def test_the_published_shape_of_omg_gives_a_clip_of_every_row(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """2,444 rows, two of them blank, and 617. The same film stands in for all, decoded once."""
    film = read_media(write_film(tmp_path / "film.mp4", 0.5, fps=4, picture=shades(16, 16)), fps=2, size=16)
    monkeypatch.setattr("sharding.packing.clips.read_media", lambda *_, **__: film)
    header = "link,start,end,video,utterance,arousal,valence,EmotionMaxVote"
    for split, counts, videos in (
        ("train", (293, 113, 60, 713, 891, 346, 26), 231),
        ("validation", (61, 48, 18, 207, 196, 79, 8), 60),
    ):
        rows = []
        for number, emotion in enumerate(np.repeat(np.arange(7), counts).tolist()):
            video = f"{split}{number % videos}"
            (tmp_path / "files" / video).mkdir(parents=True, exist_ok=True)
            (tmp_path / f"files/{video}/utterance_{number}.mp4").touch()
            rows.append(f"x,0,1,{video},utterance_{number}.mp4,0.5,0.5,{emotion}")
        if split == "train":
            rows[7:7] = rows[900:900] = [",,,,,0.5,0.5,"]
            assert len(rows) == 2444
        (tmp_path / f"{split}.csv").write_text("\n".join([header, *rows]) + "\n")
    corpus = read_omg(
        OmgSources(
            source=tmp_path / "files", train_csv=tmp_path / "train.csv", validation_csv=tmp_path / "validation.csv"
        )
    )
    settings = BuildSettings(size=16, fps=2, clip_seconds=1, pad_short=True)
    manifest = built(corpus, tmp_path / "out", settings)
    assert {name: split.clips for name, split in manifest.splits.items()} == {"train": 2442, "validation": 617}
    emotions = Counter(column(tmp_path / "out", "emotion"))
    (label,) = (label for label in manifest.labels if label.classes is not None)
    assert [emotions[name] for name in label.classes or ()] == [293, 113, 60, 713, 891, 346, 26]
    assert manifest.rejected == {}


# Time -----------------------------------------------------------------------------------------------------------------

NTSC = Fraction(30000, 1001)


@pytest.mark.parametrize("rate", [Fraction(2213, 100), Fraction(24), Fraction(25), NTSC, Fraction(30), "variable"])
def test_a_flash_and_its_beep_stay_together_through_build_and_loader(tmp_path: Path, rate: Fraction | str) -> None:
    if rate == "variable":
        steps = np.random.default_rng(3).integers(15, 70, 200) / 1000
        times = [t for t in np.concatenate([[0.0], np.cumsum(steps)]).tolist() if t < 4.1]
    else:
        times = [float(number / Fraction(rate)) for number in range(int(4.1 * Fraction(rate)))]
    flash = next(t for t in times if t >= 2.7)
    samples = np.arange(int(4.1 * 48000)) / 48000
    # Before the beep a hum: a clip of silence would be left out.
    level = np.where(samples >= flash, 0.5, 0.01)
    sound = (level * np.sin(2 * np.pi * 1000 * (samples - flash))).astype(np.float32)
    write_film(
        tmp_path / "mp4/s/v/1.mp4",
        times=times,
        picture=lambda t: np.full((32, 32, 3), 255 if t >= flash - 1e-4 else 0, np.uint8),
        sound=sound,
        sample_rate=48000,
    )
    fps = 100.0
    built(vox(tmp_path / "mp4"), tmp_path / "out", BuildSettings(size=16, fps=fps))
    with ClipLoader(tmp_path / "out", batch_size=2, training=False, negatives=None) as loader:
        (batch,) = loader
    frames, audio = batch.video[1].numpy(), batch.audio[1].numpy()
    seen = 2 + float(np.argmax(frames.mean((1, 2, 3)) > 127)) / fps
    heard = 2 + float(np.argmax(np.abs(audio) > 0.12)) / 16000
    half_a_frame = 0.5 * max(later - earlier for earlier, later in pairwise(times))
    assert abs(seen - flash) <= min(half_a_frame, 1 / fps + 0.002)
    assert abs(heard - flash) <= 0.010
    assert abs(seen - heard) <= half_a_frame + 0.010


# Gaze -----------------------------------------------------------------------------------------------------------------


def test_gaze_is_the_utterances_and_its_problems_are_counted(tmp_path: Path) -> None:
    tables = tmp_path / "csv"
    for name in ("good", "lost", "long", "old", "none"):
        write_film(tmp_path / f"mp4/s/v/{name}.mp4", 4)
    write_table(tables / "s/v/good.csv", 100)
    write_table(tables / "s/v/lost.csv", 100, success=lambda row: row < 40)
    write_table(tables / "s/v/long.csv", 150)
    (tables / "s/v/old.csv").write_text("frame, timestamp, confidence, success, pose_Tx\n1, 0, 0.9, 1, 2\n")
    corpus = vox(tmp_path / "mp4", openface=tables)
    manifest = built(corpus, tmp_path / "out")
    clips = dict(zip(map(str, column(tmp_path / "out", "utterance")), range(10), strict=False))
    expected = statistics(read_gaze(tables / "s/v/good.csv")).astype(np.float32)
    assert np.array_equal(array(member(tmp_path / "out", clips["good"], "gaze")), expected)
    assert np.count_nonzero(column(tmp_path / "out", "gaze_size")) == 2
    assert manifest.gaze_mean is not None
    np.testing.assert_allclose(manifest.gaze_mean, expected, rtol=1e-6)
    with ClipLoader(tmp_path / "out", batch_size=10, training=False, negatives=None) as loader:
        (batch,) = loader
    assert batch.gaze_valid.sum() == 2

    manifest = built(corpus, tmp_path / "required", BuildSettings(size=32, require_gaze=True))
    assert manifest.splits["train"].clips == 2
    assert reasons(tmp_path / "required") == {
        "lost": "gaze_few_frames",
        "long": "gaze_wrong_length",
        "old": "gaze_unreadable",
        "none": "gaze_missing",
    }
    (old,) = (row for row in rejections(tmp_path / "required") if row["utterance"] == "old")
    assert "gaze_angle_x" in old["detail"]


def test_a_clips_own_gaze(tmp_path: Path) -> None:
    write_film(tmp_path / "mp4/s/v/1.mp4", 6)
    table = write_table(tmp_path / "csv/s/v/1.csv", 150, success=lambda row: not 50 <= row < 90)
    corpus = vox(tmp_path / "mp4", openface=tmp_path / "csv")
    output = tmp_path / "out"
    built(corpus, output, BuildSettings(size=32, gaze_window="clip", member=("gaze_frames",)))
    assert column(output, "start") == [0.0, 2.0, 4.0]
    assert [bool(size) for size in column(output, "gaze_size")] == [True, False, True]
    values = array(member(output, 0, "gaze"))
    assert values.shape == (103,)
    assert not np.array_equal(values, array(member(output, 2, "gaze")))
    frames = array(member(output, 0, "gaze_frames"))
    assert (frames.shape, frames.dtype) == ((50, 13), np.dtype(np.float32))
    assert frames[:, -1].all()
    np.testing.assert_allclose(frames[:, 0], read_gaze(table).gaze_angle_x[:50], atol=1e-6)
    required = BuildSettings(size=32, gaze_window="clip", require_gaze=True)
    built(corpus, tmp_path / "required", required)
    assert column(tmp_path / "required", "start") == [0.0, 4.0]


def write_closed_eyes(path: Path, rows: range, fps: float, last_closed: int) -> None:
    """A table of these rows, in which the eyes are closed up to a frame."""
    header, *lines = write_table(path, rows.stop, fps).read_text().splitlines()
    lines = [f"{line.rsplit(',', 1)[0]}, {int(row <= last_closed)}" for row, line in enumerate(lines) if row in rows]
    path.write_text("\n".join([header, *lines]) + "\n")


def test_where_the_frame_rate_varies_rows_are_taken_at_their_pictures_times(tmp_path: Path) -> None:
    """The eyes are closed for four seconds at 25 pictures a second, and open for four at 5: 15 a second, says OpenFace.

    Of one table the last rows were left out. One table is of a copy with a fixed rate: its timestamps are right.
    """
    starts = [*(number / 25 for number in range(100)), *(4 + number / 5 for number in range(20))]
    for name, rows, fps, last in (("own", 120, 15, 99), ("cut", 117, 15, 99), ("copy", 240, 30, 119)):
        write_film(tmp_path / f"mp4/s/v/{name}.mp4", 8, times=starts)
        write_closed_eyes(tmp_path / f"csv/s/v/{name}.csv", range(rows), fps, last)
    output = tmp_path / "out"
    settings = BuildSettings(size=16, gaze_window="clip", member=("gaze_frames",), gaze_fps=10.0)
    built(vox(tmp_path / "mp4", openface=tmp_path / "csv"), output, settings)
    ratio = GAZE_NAMES.index("eyes_closed_time_ratio")
    clips = list(zip(column(output, "utterance"), column(output, "start"), strict=True))
    assert sorted(set(clips)) == [(name, start) for name in ("copy", "cut", "own") for start in (0.0, 2.0, 4.0, 6.0)]
    for clip, (name, start) in enumerate(clips):
        are_closed = start < 4  # type: ignore[operator]
        assert array(member(output, clip, "gaze"))[ratio] == are_closed
        signals = array(member(output, clip, "gaze_frames"))
        there = 14 if (name, start) == ("cut", 6.0) else 20  # three pictures of a fifth of a second are missing
        assert signals[:, -1].tolist() == [1] * there + [0] * (20 - there)
        assert signals[:there, SIGNAL_NAMES.index("eyes_closed")].tolist() == [are_closed] * there


def test_rows_that_were_left_out_at_the_start_are_missed(tmp_path: Path) -> None:
    for name, first in (("most", 60), ("some", 40)):
        write_film(tmp_path / f"mp4/s/v/{name}.mp4", 4)
        write_closed_eyes(tmp_path / f"csv/s/v/{name}.csv", range(first, 100), 25, 99)
    built(vox(tmp_path / "mp4", openface=tmp_path / "csv"), tmp_path / "out", BuildSettings(size=16, require_gaze=True))
    (rejected,) = rejections(tmp_path / "out")
    assert (rejected["utterance"], rejected["reason"]) == ("most", "gaze_few_frames")
    assert "40 of 100 frames" in rejected["detail"]


def test_clips_of_silence_or_of_a_frozen_picture_are_left_out_by_reason(tmp_path: Path) -> None:
    """Two seconds, then a gap of four, then two more: of the pictures, of the sound, or of both."""
    moving = [number / 25 for number in range(200) if not 50 <= number < 150]
    sound = tone(8.0)
    gap = np.where((np.arange(len(sound)) // 16000) // 2 % 3 == 0, sound, 0).astype(np.float32)
    write_film(tmp_path / "mp4/s/v/both.mp4", 8, times=moving, sound=gap)
    write_film(tmp_path / "mp4/s/v/frozen.mp4", 8, times=moving)
    write_film(tmp_path / "mp4/s/v/mute.mp4", 8, sound=gap)
    write_film(tmp_path / "mp4/s/v/photo.mp4", 8, picture=lambda _: shades()(0.0))
    output = tmp_path / "out"
    built(vox(tmp_path / "mp4"), output, BuildSettings(size=32))
    clips = sorted(zip(map(str, column(output, "utterance")), column(output, "start"), strict=True))
    ends = [(name, start) for name in ("both", "frozen", "mute") for start in (0.0, 6.0)]
    assert clips == [*ends, *(("photo", start) for start in (0.0, 2.0, 4.0, 6.0))]


STAND_IN = """#!{python}
import sys
sys.path[:0] = {path!r}
from pathlib import Path
import av
from tests.films import write_table
given = dict(zip(sys.argv[1::2], sys.argv[2::2]))
with av.open(given["-f"]) as film:
    rate = float(film.streams.video[0].average_rate)
    frames = sum(1 for _ in film.decode(video=0))
if "{fail}":
    print("first line", file=sys.stderr)
    sys.exit("cannot find the model")
write_table(Path(given["-out_dir"], given["-of"] + ".csv"), frames, rate, seed=5)
"""


def stand_in(path: Path, *, fail: bool = False) -> str:
    """A program that takes FeatureExtraction's arguments and writes a table as long as the film it is given."""
    path.write_text(STAND_IN.format(python=sys.executable, path=[str(ROOT)], fail="yes" if fail else ""))
    path.chmod(0o755)
    return str(path)


def test_openface_is_run_where_there_is_no_table(tmp_path: Path) -> None:
    write_film(tmp_path / "mp4/s/v/1.mp4", 3, fps=Fraction(24000, 1001))
    write_film(tmp_path / "mp4/s/v/2.mp4", 2.2)
    write_table(tmp_path / "csv/s/v/2.csv", 55)
    corpus = vox(tmp_path / "mp4", openface=tmp_path / "csv")
    settings = BuildSettings(size=32, openface_bin=stand_in(tmp_path / "Feature Extraction"))
    built(corpus, tmp_path / "out", settings)
    assert all(column(tmp_path / "out", "gaze_size"))
    clip = column(tmp_path / "out", "utterance").index("1")
    table = write_table(tmp_path / "again.csv", 72, 23.976, seed=5)
    expected = statistics(read_gaze(table)).astype(np.float32)
    np.testing.assert_allclose(array(member(tmp_path / "out", clip, "gaze")), expected, rtol=1e-5, atol=1e-6)


def test_openface_that_fails_is_a_reason(tmp_path: Path) -> None:
    write_film(tmp_path / "mp4/s/v/1.mp4", 2)
    write_film(tmp_path / "mp4/s/v/2.mp4", 2)
    write_table(tmp_path / "csv/s/v/2.csv", 50)
    corpus = vox(tmp_path / "mp4", openface=tmp_path / "csv")
    binary = stand_in(tmp_path / "FeatureExtraction", fail=True)
    built(corpus, tmp_path / "out", BuildSettings(size=32, openface_bin=binary, require_gaze=True))
    (rejected,) = rejections(tmp_path / "out")
    assert rejected["reason"] == "gaze_openface"
    assert "cannot find the model" in rejected["detail"]
    with pytest.raises(InputError, match="--openface-bin"):
        build(corpus, tmp_path / "other", BuildSettings(size=32, openface_bin=str(tmp_path / "nothing")), 1)


def test_gaze_by_one_tracker_takes_no_tables_of_another(tmp_path: Path) -> None:
    write_film(tmp_path / "mp4/s/v/1.mp4", 2)
    table = write_table(tmp_path / "csv/s/v/1.csv", 50)
    corpus = vox(tmp_path / "mp4", openface=tmp_path / "csv")
    with pytest.raises(InputError, match=r"1 of 1 come with a table of gaze: leave the tables away \(--openface"):
        build(corpus, tmp_path / "out", BuildSettings(size=16, gaze="mediapipe"), 1)
    with pytest.raises(InputError, match="--openface-bin has no effect with --gaze mediapipe"):
        build(corpus, tmp_path / "out", BuildSettings(size=16, gaze="mediapipe", openface_bin=sys.executable), 1)
    header, *rows = table.read_text().splitlines()
    table.write_text("\n".join([f"{header}, tracker", *(f"{row}, mediapipe" for row in rows)]) + "\n")
    with pytest.raises(InputError, match=r"1 gaze_other_tracker.*made by mediapipe"):
        build(corpus, tmp_path / "out", BuildSettings(size=16, require_gaze=True), 1)


@needs_real_faces
def test_gaze_by_mediapipe_is_that_of_its_table(tmp_path: Path, full: bool) -> None:
    if not full:
        pytest.skip("seconds of tracking: --full")
    clip = tmp_path / "mp4/s/v/1.mp4"
    clip.parent.mkdir(parents=True)
    shutil.copy(REAL / "edge/single_face_30fps.mp4", clip)
    manifest = built(vox(tmp_path / "mp4"), tmp_path / "out", BuildSettings(size=16, gaze="mediapipe"))
    assert manifest.gaze_tracker == manifest.settings["gaze"] == "mediapipe"
    command = [sys.executable, "-m", "sharding.gaze.mediapipe", clip, "--csv", tmp_path / "1.csv"]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    found = array(member(tmp_path / "out", 0, "gaze"))
    np.testing.assert_allclose(found, statistics(read_gaze(tmp_path / "1.csv")), rtol=1e-4, atol=1e-5)


# Faces ----------------------------------------------------------------------------------------------------------------


@needs_centerface
def test_a_face_is_cropped_and_clips_without_it_are_left_out(tmp_path: Path) -> None:
    from tests.sharding.crops.test_faces import draw_faces

    with_face = draw_faces(320, 240, (100.0, 130.0, 45.0))
    without = np.full((240, 320, 3), (90, 120, 150), np.uint8)
    for name, seconds, last in (("stays", 2.0, 9.0), ("leaves", 6.0, 3.2), ("comes", 4.0, 0.7)):
        write_film(
            tmp_path / f"mp4/s/v/{name}.mp4",
            seconds,
            fps=8,
            picture=lambda t, last=last: with_face if t < last else without,
            options={"crf": "12"},
        )
    output = tmp_path / "out"
    built(vox(tmp_path / "mp4"), output, BuildSettings(size=64, crop="face"))
    clips = sorted(zip(map(str, column(output, "utterance")), column(output, "start"), strict=True))
    assert clips == [("leaves", 0.0), ("leaves", 2.0), ("stays", 0.0)]
    assert reasons(output) == {"comes": "no_face"}
    with ClipLoader(output, batch_size=3, training=False, negatives=None) as loader:
        (batch,) = loader
    # Skin in the middle of the upper half, as in VoxCeleb2's clips; in the whole picture it is elsewhere.
    skin = batch.video.numpy()[0, 3, 24, 24:40].astype(int).mean(0)
    assert skin[0] > skin[2] + 30


@needs_centerface
def test_where_hardly_any_face_is_seen_the_other_crop_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from tests.sharding.crops.test_faces import draw_faces

    pictures = [draw_faces(160, 120, (60.0, 65.0, 40.0)), *[np.full((120, 160, 3), 120, np.uint8)] * 2]
    settings = BuildSettings(size=32, fps=4, clip_seconds=1, crop="face")
    for number, picture in enumerate(pictures):
        write_film(tmp_path / f"mp4/s/v/{number}.mp4", 1.0, fps=8, picture=lambda t, shown=picture: shown)
    assert built(vox(tmp_path / "mp4"), tmp_path / "most", settings).rejected == {"no_face": 2}
    shown = " ".join(capsys.readouterr().out.split())
    assert "warning: in 2 of 3 utterances no face is seen: if there are some, drawn or unusual ones," in shown
    assert "--crop centre" in shown
    (tmp_path / "mp4/s/v/2.mp4").unlink()
    built(vox(tmp_path / "mp4"), tmp_path / "half", settings)
    assert "--crop centre" not in capsys.readouterr().out
    (tmp_path / "mp4/s/v/0.mp4").unlink()
    with pytest.raises(InputError, match=r"1 no_face.*build with --crop centre, .*, or give other sources"):
        build(vox(tmp_path / "mp4"), tmp_path / "none", settings, 1)


# Leaks and bad input --------------------------------------------------------------------------------------------------


def test_a_leak_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    corpus = write_omg(tmp_path, {"a/utterance_1": 1.0, "b/utterance_1": 1.0, "v/utterance_1": 1.0})
    (tmp_path / "validation.csv").write_text(
        (tmp_path / "validation.csv").read_text() + "x,0,1,a,utterance_1.mp4,0.1,0.1,3\n"
    )
    shutil.copy(tmp_path / "files/a/utterance_1.mp4", tmp_path / "files/a/utterance_2.mp4")
    text = (tmp_path / "validation.csv").read_text().replace("a,utterance_1.mp4", "a,utterance_2.mp4")
    (tmp_path / "validation.csv").write_text(text)
    corpus = read_omg(
        OmgSources(
            source=tmp_path / "files", train_csv=tmp_path / "train.csv", validation_csv=tmp_path / "validation.csv"
        )
    )
    with pytest.raises(InputError, match="video 'a' is in the splits train and validation"):
        build(corpus, tmp_path / "out", SMALL, 1)
    assert not (tmp_path / "out").exists()
    manifest = built(corpus, tmp_path / "out", BuildSettings(size=32, pad_short=True), on_leak="reject")
    assert manifest.rejected == {"leak": 1}


def actors(folder: Path) -> Path:
    """Eight speakers whose films all have the same names: s0 … s7/interview, song/take."""
    for speaker in range(8):
        for video in ("interview", "song"):
            level = 0.1 + 0.02 * speaker + 0.005 * (video == "song")
            write_film(
                folder / f"s{speaker}/{video}/take.mp4", 1, fps=8, picture=shades(16, 16), sound=tone(1, level=level)
            )
    return folder


def test_speakers_may_share_names_of_videos(tmp_path: Path) -> None:
    """From the tree to the pairs: each speaker's is a video of its own, in the plan, on both sides, in every count."""
    tree, output = actors(tmp_path / "tree"), tmp_path / "out"
    corpus = read_voxceleb(VoxcelebSources(source=tree, test_fraction=0.4))
    manifest = built(corpus, output, BuildSettings(size=16, fps=8, clip_seconds=0.5))
    speakers = {split: set(column(output, "speaker", split)) for split in manifest.splits}
    assert {split: entry.videos for split, entry in manifest.splits.items()} == {
        split: 2 * len(names) for split, names in speakers.items()
    }
    assert not speakers["train"] & speakers["test"]
    assert (manifest.video_names, manifest.rejected) == ("speaker", {})
    report = verify(output, decode=True)
    assert report.is_whole, report.faults
    named = open_catalog(output, "train", []).table(["speaker", "video", "utterance"]).to_pylist()
    relations = set()
    with ClipLoader(output, batch_size=4, negatives={"other_video": 1.0}) as loader:
        for _ in range(10):
            for batch in loader:
                for clip, audio, match in zip(batch.clip, batch.audio_clip, batch.match.tolist(), strict=True):
                    one, other = named[clip], named[audio]
                    assert match == (one["speaker"] == other["speaker"] and one["video"] == other["video"])
                    relations.add((one["speaker"] == other["speaker"], one["video"] == other["video"]))
        assert len(np.unique(utterances(loader.catalogs[0]))) == 2 * len(speakers["train"])
    assert relations == {(True, True), (True, False), (False, True), (False, False)}


def test_a_split_that_leaks_whole_is_told_before_and_after(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    tree = actors(tmp_path / "tree")
    corpus = read_voxceleb(VoxcelebSources(source=tree, video_names="corpus", test_fraction=0.4))
    counts = Counter(u.split for u in corpus.utterances)
    left = f"0 of {counts['train']} in train, {counts['test']} of {counts['test']} in test"
    settings = BuildSettings(size=16, fps=8, clip_seconds=0.5)
    with pytest.raises(InputError, match=left):
        build(corpus, tmp_path / "out", settings, 1)
    manifest = built(corpus, tmp_path / "out", settings, on_leak="reject")
    shown = " ".join(capsys.readouterr().out.split())
    assert left in shown
    assert "warning: train will be empty: every utterance of it leaks" in shown
    assert f"warning: train holds no clip: its utterances were rejected, {counts['train']} leak" in shown
    assert manifest.rejected == {"leak": counts["train"]}
    assert manifest.splits["test"].videos == 2


def test_a_corpus_that_gives_nothing_leaves_nothing_behind(tmp_path: Path) -> None:
    write_film(tmp_path / "mp4/s/v/1.mp4", 0.5)
    with pytest.raises(InputError, match="1 too_short"):
        build(vox(tmp_path / "mp4"), tmp_path / "out", SMALL, 2)
    assert not (tmp_path / "out").exists()


def run(*arguments: object) -> subprocess.CompletedProcess[str]:
    process = forked.script(("sharding/build.py", *arguments), os.environ)
    out, err = process.communicate(timeout=60)
    assert process.returncode is not None
    return subprocess.CompletedProcess(arguments, process.returncode, out, err)


def test_the_command_line_builds(tmp_path: Path) -> None:
    write_film(tmp_path / "mp4/s/v/1.mp4", 2)
    write_film(tmp_path / "mp4/s/v/2.mp4", 1)
    done = run("voxceleb", "--source", tmp_path / "mp4", "--output", tmp_path / "out", "--size", 32, "--workers", 1,
               "--test-fraction", 0, "--metrics", tmp_path / "build.prom")  # fmt: skip
    assert done.returncode == 0, done.stderr
    short = tmp_path / "mp4/s/v/2.mp4"
    assert f"utterances rejected, too_short: 1 (the first: {short}: 1 s short of a clip of 2 s)" in done.stdout
    assert f"{tmp_path / 'out'}/rejected.parquet names them all" in done.stdout
    assert "all clips are in train, and a training has none to be scored on: build with" in done.stdout
    train = read_manifest(tmp_path / "out").splits["train"]
    figures = parsed((tmp_path / "build.prom").read_text())
    for name, value in (("clips", train.clips), ("bytes", train.shards[0].bytes), ("utterances", 2), ("shards", 1)):
        assert figures[f"filmstrip_build_{name}_total", (("corpus", "voxceleb"), ("split", "train"))] == value
    rejected = "filmstrip_build_rejected_utterances_total", (("corpus", "voxceleb"), ("reason", "too_short"))
    assert figures[rejected] == 1
    assert "clips/s a process: decode" in done.stdout
    assert (tmp_path / "out/dataset.json").is_file()
    again = run("voxceleb", "--source", tmp_path / "mp4", "--output", tmp_path / "out", "--size", 32,
                "--test-fraction", 0)  # fmt: skip
    assert (again.returncode, again.stderr) == (0, "")
    assert again.stdout.splitlines()[-1] == f"{tmp_path / 'out'}: is built already, nothing to do"
    again = run("voxceleb", "--source", tmp_path / "mp4", "--output", tmp_path / "out", "--size", 16)
    assert (again.returncode, again.stderr.count("\n")) == (2, 1)
    assert "was built with --size 32, not 16" in again.stderr


def test_what_is_built_is_not_built_again_and_what_differs_is_named(tmp_path: Path) -> None:
    """A scheduler starts a job again that had ended: that is no error. Nothing is written either way."""
    corpus = write_omg(
        tmp_path, {"a/utterance_1": 2.0, "a/utterance_2": 2.0, "b/utterance_1": 1.0, "v/utterance_1": 2.0}
    )
    output = tmp_path / "out"
    built(corpus, output)
    assert reasons(output) == {"utterance_1": "too_short"}
    before = {path: (path.stat().st_mtime_ns, path.stat().st_ino) for path in output.rglob("*")}
    assert build(corpus, output, SMALL, 2).manifest == build(corpus, output, SMALL, 1).manifest
    first, *others = corpus.utterances
    (moved,) = (utterance for utterance in corpus.utterances if utterance.video == "b")
    rest = [utterance for utterance in corpus.utterances if utterance is not moved]
    for other, message in (
        (replace(corpus, name="mine"), "was built from omg, not from mine"),
        (replace(corpus, utterances=tuple(others)), "1 of its utterances are not in the sources now .*a/utterance_1"),
        (
            replace(corpus, utterances=(*corpus.utterances, replace(first, utterance="new"))),
            r"1 utterances of the sources are not in it .*train/a/a/new\): --extend it",
        ),
        (replace(corpus, utterances=(*rest, replace(moved, split="validation"))), "1 utterances .*validation/b/b"),
        (
            replace(corpus, utterances=(replace(first, labels={**first.labels, "emotion": "sad"}), *others)),
            "its emotion is sad now, and was anger",
        ),
    ):
        with pytest.raises(InputError, match=f"{message}.*another --output"):
            build(other, output, SMALL, 1)
    with pytest.raises(InputError, match="was built with --quality 90, not 80"):
        build(corpus, output, replace(SMALL, quality=80), 1)
    assert {path: (path.stat().st_mtime_ns, path.stat().st_ino) for path in output.rglob("*")} == before
    (output / "train/000000.tar").unlink()
    with pytest.raises(InputError, match=r"train/000000.tar: is not as dataset.json says"):
        build(corpus, output, SMALL, 1)


def test_a_demo_corpus_is_made_in_a_folder_alone() -> None:
    done = run("demo", "--output", "s3://bucket/corpus")
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1)
    assert "--output s3://bucket/corpus" in done.stderr


def test_bad_input_ends_with_status_2_and_one_line(tmp_path: Path) -> None:
    write_omg(tmp_path, {"a/utterance_1": 1.0, "v/utterance_1": 1.0})
    (tmp_path / "train.csv").write_text("link,video,utterance,arousal,valence\n")
    done = run("omg", "--source", tmp_path / "files", "--train-csv", tmp_path / "train.csv",
               "--validation-csv", tmp_path / "validation.csv", "--output", tmp_path / "out")  # fmt: skip
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "listing the sources\n", 1)
    assert "EmotionMaxVote" in done.stderr
    assert "train.csv" in done.stderr


def test_a_folder_at_which_another_build_works_ends_with_status_75(tmp_path: Path) -> None:
    write_omg(tmp_path, {"a/utterance_1": 1.0, "v/utterance_1": 1.0})
    with sole_builder(tmp_path / "out"):
        done = run("omg", "--source", tmp_path / "files", "--train-csv", tmp_path / "train.csv",
                   "--validation-csv", tmp_path / "validation.csv", "--output", tmp_path / "out")  # fmt: skip
    assert done.returncode == TRY_AGAIN, done.stderr
    assert done.stderr.startswith(f"error: {tmp_path}/out: another build is at work there: wait for it")
    assert done.stderr.count("\n") == 1


# Real clips -----------------------------------------------------------------------------------------------------------


@needs_real_clips
def test_real_voxceleb2_clips(tmp_path: Path) -> None:
    corpus = read_voxceleb(VoxcelebSources(source=REAL / "voxceleb2", test_fraction=0.3))
    manifest = built(corpus, tmp_path / "out", BuildSettings(size=224))
    assert manifest.rejected == {}
    assert sum(split.clips for split in manifest.splits.values()) == 29


@needs_real_clips
def test_real_openface_tables(tmp_path: Path) -> None:
    """One that fits its film gives the reference values; one of OpenFace 1 and one that does not fit give a reason."""
    tables = {"new": "openface2_30fps_600frames", "old": "openface1_old_layout", "wrong": "openface2_30fps_600frames"}
    for name, table in tables.items():
        write_film(tmp_path / f"mp4/s/v/{name}.mp4", 10 if name == "wrong" else 20, fps=5)
        (tmp_path / "csv").mkdir(exist_ok=True)
        shutil.copy(REAL / f"openface/{table}.csv", tmp_path / f"csv/s_v_{name}.csv")
    corpus = vox(tmp_path / "mp4", openface=tmp_path / "csv")
    built(corpus, tmp_path / "out", BuildSettings(size=16, require_gaze=True))
    assert reasons(tmp_path / "out") == {"old": "gaze_unreadable", "wrong": "gaze_wrong_length"}
    golden = json.loads((REAL / "../reference/gaze103_golden.json").read_text())["rows 0-599"]
    stored = array(member(tmp_path / "out", 0, "gaze"))
    np.testing.assert_allclose(stored, list(golden.values()), rtol=1e-6, atol=1e-9)


@needs_real_clips
@needs_centerface
def test_real_clips_in_omgs_layout(tmp_path: Path) -> None:
    """grid/, wide/ and edge/, as utterances of a corpus of faces in larger pictures."""
    header = "link,start,end,video,utterance,arousal,valence,EmotionMaxVote"
    rows = []
    for folder in ("grid", "wide", "edge"):
        (tmp_path / "files" / folder).mkdir(parents=True)
        for path in sorted((REAL / folder).iterdir()):
            shutil.copy(path, tmp_path / "files" / folder)
            rows.append(f"x,0,1,{folder},{path.name},0.1,0.1,4")
    (tmp_path / "train.csv").write_text("\n".join([header, *rows]) + "\n")
    (tmp_path / "validation.csv").write_text(f"{header}\nx,0,1,v,utterance_1.mp4,0.1,0.1,4\n")
    corpus = read_omg(
        OmgSources(
            source=tmp_path / "files", train_csv=tmp_path / "train.csv", validation_csv=tmp_path / "validation.csv"
        )
    )
    built(corpus, tmp_path / "out", BuildSettings(size=64, fps=2, crop="face", pad_short=True), workers=2)
    told = {row["utterance"]: row["reason"] for row in rejections(tmp_path / "out") if row["split"] == "train"}
    assert told == {
        "face_leaves_hevc": "silent",  # while the face is there, and without a face when there is sound
        "no_audio_track": "no_audio",
        "no_face": "no_face",
        "short_10fps_no_face": "no_face",
        "silent_audio": "silent",
    }
    counts = Counter(column(tmp_path / "out", "video"))
    assert counts["grid"] >= 6
    assert counts["wide"] >= 2
    clips = zip(column(tmp_path / "out", "utterance"), column(tmp_path / "out", "start"), strict=True)
    assert ("single_face_30fps", 0.0) in clips
