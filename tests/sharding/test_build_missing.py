"""Utterances without sound, or without pictures, where a build allows them."""

import io
import sys
import tarfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import av
import numpy as np
import pyarrow.parquet as pq
import pytest

from loaders.dataset.manifest import CATALOG, REJECTED, read_manifest
from loaders.errors import InputError
from sharding import build as command
from sharding.checks.shortcut import find_shortcuts
from sharding.gallery import GallerySettings, write_gallery
from sharding.info import describe
from sharding.media.reader import MediaError, read_media
from sharding.packing.building import Built, build
from sharding.settings import BuildSettings
from sharding.utterance import Corpus, Utterance
from sharding.verify import verify
from tests.damage import copy_of
from tests.films import tone, write_film

SETTINGS = BuildSettings(size=16)
REASONS = {"mute": "no_audio", "silent": "silent", "voice": "no_video", "lost": "missing", "text": "undecodable"}


def write_sound(path: Path, samples: np.ndarray[tuple[int, ...], np.dtype[np.float32]]) -> Path:
    """A file without a picture, in whatever container its suffix says."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("pcm_s16le" if path.suffix == ".wav" else "aac", rate=16000, layout="mono")
        for at in range(0, len(samples), 1024):
            piece = (samples[None, at : at + 1024] * 32767).astype(np.int16)
            frame = av.AudioFrame.from_ndarray(piece, "s16", "mono")
            frame.sample_rate, frame.pts = 16000, at
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Corpus:
    """Films that lack something, four seconds each, beside films that lack nothing."""
    folder = tmp_path_factory.mktemp("missing")
    gap = np.concatenate([tone(2.0), np.zeros(32000 + 6400, np.float32)])
    files: dict[str, dict[str, Any]] = {
        "whole": {"video_path": write_film(folder / "whole.mp4", 4.4)},
        "other": {"video_path": write_film(folder / "other.mp4", 4.4)},
        "mute": {"video_path": write_film(folder / "mute.mp4", 4.4, sound=None)},
        "silent": {"video_path": write_film(folder / "silent.mp4", 4.4, sound=np.zeros(70400, np.float32))},
        "half": {"video_path": write_film(folder / "half.mp4", 4.4, sound=gap)},
        "voice": {"video_path": write_sound(folder / "voice.m4a", tone(4.4))},
        "lost": {"video_path": write_film(folder / "lost.mp4", 4.4), "audio_path": folder / "lost.wav"},
        "text": {"video_path": folder / "text.mp4"},
    }
    (folder / "text.mp4").write_text("no film\n" * 100)
    utterances = tuple(
        Utterance(corpus="c", split="train", speaker=name, video=name, utterance=name, **paths)
        for name, paths in files.items()
    )
    return Corpus(name="c", utterances=utterances)


def clips(output: Path) -> dict[str, list[tuple[bool, bool]]]:
    """By utterance: whether each of its clips has pictures, and sound."""
    found: dict[str, list[tuple[bool, bool]]] = {}
    for row in pq.read_table(output / "train" / CATALOG).to_pylist():
        has = tuple(row[f"{name}_size"] is not None for name in ("filmstrip", "audio"))
        assert all((row[f"{name}_{part}"] is None) == (row[f"{name}_size"] is None)
                   for name in ("filmstrip", "audio") for part in ("offset", "xxh3"))  # fmt: skip
        found.setdefault(row["utterance"], []).append(has)  # type: ignore[arg-type]
    return found


def rejected(output: Path) -> dict[str, str]:
    return {row["utterance"]: row["reason"] for row in pq.read_table(output / REJECTED).to_pylist()}


def lacks(built: Built) -> dict[str, dict[str, int]]:
    assert built.made is not None
    return {name: dict(counts) for name, counts in built.made.lacks.members.items() if name != "gaze"}


WHOLE, BLIND, MUTE = (True, True), (False, True), (True, False)


def test_without_being_asked_a_build_rejects_them(corpus: Corpus, tmp_path: Path) -> None:
    built = build(corpus, tmp_path / "out", SETTINGS, 1)
    assert clips(tmp_path / "out") == {"whole": [WHOLE] * 2, "other": [WHOLE] * 2, "half": [WHOLE]}
    assert rejected(tmp_path / "out") == REASONS
    assert lacks(built) == {}
    assert built.made is not None
    assert built.made.lacks.clips == {"silent": 1}


@pytest.mark.parametrize("allowed", [("audio",), ("video",), ("audio", "video")])
def test_what_may_be_missing_is_kept_counted_and_verified(
    corpus: Corpus, tmp_path: Path, allowed: tuple[Any, ...]
) -> None:
    output = tmp_path / "out"
    built = build(corpus, output, replace(SETTINGS, allow_missing=allowed), 1)
    expected = {"whole": [WHOLE] * 2, "other": [WHOLE] * 2, "half": [WHOLE]}
    counts: dict[str, dict[str, int]] = {}
    kept = set()
    if "audio" in allowed:
        kept |= {"mute", "silent", "lost"}
        expected |= {"mute": [MUTE] * 2, "silent": [MUTE] * 2, "lost": [MUTE] * 2, "half": [WHOLE, MUTE]}
        counts["audio"] = {"no_audio": 2, "silent": 3, "audio_missing": 2}
    if "video" in allowed:
        kept |= {"voice"}
        expected |= {"voice": [BLIND] * 2}
        counts["filmstrip"] = {"no_video": 2}
    assert clips(output) == expected
    assert rejected(output) == {name: reason for name, reason in REASONS.items() if name not in kept}
    assert lacks(built) == counts
    required = {member.name: member.required for member in built.manifest.members}
    assert (required["filmstrip"], required["audio"]) == ("video" not in allowed, "audio" not in allowed)
    report = verify(output, decode=True)
    assert report.is_whole, report.faults
    flat = [has for of_utterance in expected.values() for has in of_utterance]
    shares = describe(output).splits["train"].members
    for place, (modality, member) in enumerate((("video", "filmstrip"), ("audio", "audio"))):
        if modality in allowed:
            assert shares[member] == pytest.approx(sum(has[place] for has in flat) / len(flat))


def test_what_is_there_is_what_it_always_is(corpus: Corpus, tmp_path: Path) -> None:
    """The clips of the others are the same to the byte."""
    keys = []
    for name, allowed in (("strict", ()), ("lax", ("audio", "video"))):
        build(corpus, tmp_path / name, replace(SETTINGS, allow_missing=allowed), 1)  # type: ignore[arg-type]
        table = pq.read_table(tmp_path / name / "train" / CATALOG)
        wanted = ["key", "filmstrip_xxh3", "audio_xxh3", "clip_xxh3"]
        keys.append({tuple(row.values()) for row in table.select(wanted).to_pylist()})
    assert keys[0] < keys[1]


def test_a_short_one_is_padded_with_what_it_has(tmp_path: Path) -> None:
    files = {
        "mute": write_film(tmp_path / "mute.mp4", 1.2, sound=None),
        "voice": write_sound(tmp_path / "voice.wav", tone(1.25)),
    }
    utterances = tuple(
        Utterance(corpus="c", split="train", speaker=name, video=name, utterance=name, video_path=path)
        for name, path in files.items()
    )
    settings = replace(SETTINGS, allow_missing=("audio", "video"), pad_short=True)
    build(Corpus(name="c", utterances=utterances), tmp_path / "out", settings, 1)
    table = pq.read_table(tmp_path / "out/train" / CATALOG)
    assert dict(zip(table["utterance"].to_pylist(), table["padded"].to_pylist(), strict=True)) == {
        "mute": 0.75,  # a frame stands for an eighth of a second
        "voice": 0.75,
    }
    assert verify(tmp_path / "out", decode=True).is_whole


def test_nothing_is_made_of_what_has_neither(tmp_path: Path) -> None:
    path = write_sound(tmp_path / "voice.m4a", np.zeros(70400, np.float32))
    utterance = Utterance(corpus="c", split="train", speaker="s", video="v", utterance="u", video_path=path)
    settings = replace(SETTINGS, allow_missing=("audio", "video"))
    with pytest.raises(InputError, match=r"1 silent"):
        build(Corpus(name="c", utterances=(utterance,)), tmp_path / "out", settings, 1)


def test_what_lacks_one_of_them_is_shown_and_not_paired(corpus: Corpus, tmp_path: Path) -> None:
    output = tmp_path / "out"
    build(corpus, output, replace(SETTINGS, allow_missing=("audio", "video")), 1)
    with pytest.raises(InputError, match=r"2 of 14 clips have no filmstrip, and cannot be paired: .*--pairs 0"):
        write_gallery(output, tmp_path / "page", GallerySettings())
    written = write_gallery(output, tmp_path / "page", GallerySettings(pairs=0))
    assert written.clips == 14
    media = [path.name.split(".", 1)[1] for path in (tmp_path / "page/media").iterdir()]
    assert {kind: media.count(kind) for kind in media} == {"filmstrip.jpg": 12, "audio.wav": 7, "spectrogram.png": 7}
    with pytest.raises(InputError, match="2 of 14 clips have no filmstrip, and nothing to match"):
        find_shortcuts(output)


def test_a_clip_that_has_neither_any_more_is_a_fault(corpus: Corpus, tmp_path: Path) -> None:
    """A tar from which the only thing of a clip was taken."""
    build(corpus, tmp_path / "out", replace(SETTINGS, allow_missing=("audio", "video")), 1)
    shard = copy_of(tmp_path / "out", tmp_path / "copy") / "train/000000.tar"
    with tarfile.open(shard) as tar:
        entries = [(entry, tar.extractfile(entry)) for entry in tar]
        kept = [(entry, file.read()) for entry, file in entries if file and entry.name != "voice+voice+000.audio.wav"]
    assert len(kept) == len(entries) - 1
    with tarfile.open(shard, "w", format=tarfile.GNU_FORMAT) as tar:
        for entry, data in kept:
            tar.addfile(entry, io.BytesIO(data))
    faults = [str(fault) for fault in verify(tmp_path / "copy").faults]
    assert any("(voice+voice+000): the clip has neither frames nor sound" in fault for fault in faults)


def test_the_command_line_takes_both(
    corpus: Corpus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    write_film(tmp_path / "mp4/s/v/a.mp4", 2.2, sound=None)
    options = [
        "voxceleb",
        "--source",
        tmp_path / "mp4",
        "--output",
        tmp_path / "out",
        "--size",
        16,
        "--test-fraction",
        0,
    ]
    both = ["--workers", 1, "--allow-missing", "audio", "--allow-missing", "video"]
    monkeypatch.setattr(sys, "argv", ["build", *map(str, [*options, *both])])
    command.main()
    assert "clips without audio, no_audio: 1" in capsys.readouterr().out
    assert read_manifest(tmp_path / "out").settings["allow_missing"] == ["audio", "video"]


# How one is read without the other -----------------------------------------------------------------------------------


def test_pictures_alone_are_those_that_are_there_with_sound(tmp_path: Path) -> None:
    path = write_film(tmp_path / "film.mp4", 3.0)
    both = read_media(path, fps=8, size=16)
    alone = read_media(path, fps=8, size=16, needs_audio=False)
    assert np.array_equal(alone.frames, both.frames)
    assert np.array_equal(alone.changes, both.changes)
    assert alone.audio.shape == (0,)
    part = read_media(path, fps=8, size=16, start=1.0, stop=2.0, needs_audio=False)
    assert np.array_equal(part.frames, both.frames[8:16])


@pytest.mark.parametrize("suffix", [".wav", ".m4a"])
def test_sound_alone_is_all_of_it_in_whole_frames(tmp_path: Path, suffix: str) -> None:
    path = write_sound(tmp_path / f"voice{suffix}", tone(3.1))
    whole = read_media(path, fps=8, size=16, needs_video=False)
    assert (whole.frames.shape, whole.changes.shape) == ((0, 16, 16, 3), (0,))
    assert len(whole.audio) == 25 * 2000 or len(whole.audio) == 24 * 2000  # 3.1 s, and 25 ms that may lack
    assert whole.seconds == len(whole.audio) / 16000
    part = read_media(path, fps=8, size=16, start=1.0, stop=2.0, needs_video=False)
    assert len(part.audio) == 16000
    assert np.abs(part.audio[500:-500].astype(int) - whole.audio[16500:31500]).max() < 700
    apart = read_media(tmp_path / "none.mp4", fps=8, size=16, audio_path=path, needs_video=False)
    assert np.array_equal(apart.audio, whole.audio)
    with pytest.raises(MediaError, match="no_video"):
        read_media(path, fps=8, size=16, needs_audio=False)
    with pytest.raises(MediaError, match="too_long"):
        read_media(path, fps=8, size=16, needs_video=False, max_seconds=2)
    with pytest.raises(MediaError, match="too_short"):
        read_media(path, fps=0.1, size=16, needs_video=False)
