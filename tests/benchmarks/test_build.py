"""The benchmark of the build: what it counts is what was built, and its figures agree with each other."""

import json
import subprocess
import sys
import tarfile
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from benchmarks.build import (
    Arguments,
    Portion,
    decode_clips,
    main,
    measure_alone,
    measure_build,
    measure_ffmpeg,
    ratios,
    repeat_corpus,
    warm_up,
)
from benchmarks.record import read_record
from loaders.errors import InputError
from sharding.corpora.voxceleb import VoxcelebSources, read_voxceleb
from sharding.media.filmstrip import encode_filmstrip
from sharding.packing.building import build
from sharding.settings import BuildSettings
from sharding.stages import STAGES
from sharding.utterance import Corpus
from tests.films import shades, write_film

ROOT = Path(__file__).parents[2]
SETTINGS = BuildSettings(size=32)


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four films of 2, 2, 1 and 0 clips."""
    folder = tmp_path_factory.mktemp("films")
    for number, seconds in enumerate((5.0, 4.0, 2.5, 1.0)):
        write_film(folder / f"id{number}" / f"v{number}" / "u.mp4", seconds, picture=shades(80, 64))
    return folder


@pytest.fixture(scope="module")
def corpus(source: Path) -> Corpus:
    return read_voxceleb(VoxcelebSources(source=source, test_fraction=0))


@pytest.fixture(scope="module")
def portions(corpus: Corpus, tmp_path_factory: pytest.TempPathFactory) -> list[Portion]:
    return warm_up(corpus, tmp_path_factory.mktemp("warm"))


def stages_of(figures: dict[str, float]) -> float:
    return sum(figures.get(f"{stage}_ms_a_clip", 0.0) for stage in STAGES)


def test_a_warm_up_counts_the_clips_of_each_file(portions: list[Portion], corpus: Corpus) -> None:
    assert [portion.clips for portion in portions] == [2, 2, 1]
    assert [portion.path for portion in portions] == [utterance.video_path for utterance in corpus.utterances[:3]]


def test_decode_and_encode_alone_makes_the_filmstrips_of_the_build_to_the_byte(
    portions: list[Portion], corpus: Corpus, tmp_path: Path
) -> None:
    build(corpus, tmp_path / "built", SETTINGS, 1)
    with tarfile.open(tmp_path / "built" / "train" / "000000.tar") as tar:
        members = {name: tar.extractfile(name) for name in sorted(tar.getnames()) if name.endswith(".jpg")}
        built = [file.read() for file in members.values() if file is not None]
    alone = [
        encode_filmstrip(frames, quality=SETTINGS.quality, subsampling=SETTINGS.subsampling)
        for portion in portions
        for frames in decode_clips(portion, SETTINGS.clip)
    ]
    assert alone == built


def test_a_repeated_corpus_gives_as_many_times_the_clips(corpus: Corpus, tmp_path: Path) -> None:
    repeated = repeat_corpus(corpus, 3)
    assert len({utterance.key for utterance in repeated.utterances}) == 3 * len(corpus.utterances)
    assert measure_build(repeated, SETTINGS, 1, tmp_path)["clips"] == 15
    assert not list(tmp_path.iterdir())


def test_stages_add_up_to_no_more_than_the_time_of_the_whole(
    portions: list[Portion], corpus: Corpus, tmp_path: Path
) -> None:
    built = dict(measure_build(corpus, SETTINGS, 1, tmp_path))
    alone = dict(measure_alone(portions, SETTINGS, "exact", 1))
    for figures in (built, alone):
        assert figures["clips"] == 5
        assert 0 < stages_of(figures) <= figures["ms_a_clip"]
        assert figures["clips_per_s"] * figures["ms_a_clip"] == pytest.approx(1000)
        assert figures["clips_per_cpu_s"] * figures["cpu_ms_a_clip"] == pytest.approx(1000)
    assert built["decode_ms_a_clip"] > 0
    assert built["encode_ms_a_clip"] > 0
    assert built["write_ms_a_clip"] > 0


def stand_in(path: Path, script: str) -> str:
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    return str(path)


def test_ffmpegs_own_figures_count(portions: list[Portion], tmp_path: Path) -> None:
    program = stand_in(tmp_path / "ffmpeg", 'echo "bench: utime=0.030s stime=0.020s rtime=0.100s" >&2')
    one, two = (measure_ffmpeg(portions, program, workers) for workers in (1, 2))
    assert one["clips_per_s"] == pytest.approx(5 / 0.3)
    assert two["clips_per_s"] == pytest.approx(2 * one["clips_per_s"])
    assert one["clips_per_cpu_s"] == two["clips_per_cpu_s"] == pytest.approx(5 / 0.15)


@pytest.mark.parametrize("script", ["exit 3", "echo nothing measured"])
def test_a_file_that_ffmpeg_does_not_decode_is_named(script: str, portions: list[Portion], tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"u\.mp4: ffmpeg"):
        measure_ffmpeg(portions, stand_in(tmp_path / "ffmpeg", script), 1)


def test_ratios_are_of_rates_within_a_round() -> None:
    rounds = {
        "decode + encode alone, 1 process": [{"clips_per_s": 10.0, "clips_per_cpu_s": 20.0}] * 2,
        "build, 1 process": [{"clips_per_s": 8.0, "clips_per_cpu_s": 10.0}] * 2,
        "build --crop face, 1 process": [{"clips_per_s": 2.0, "clips_per_cpu_s": 2.0}] * 2,
    }
    found = ratios(rounds, (1,), ("centre", "face"))
    assert found["build, 1 process / decode + encode alone"] == pytest.approx(0.8)
    assert found["build, 1 process / decode + encode alone, a core"] == pytest.approx(0.5)
    assert found["build --crop face, 1 process / build, 1 process"] == pytest.approx(0.25)
    assert not any("FFmpeg" in name for name in found)  # it was not measured


def test_a_run_leaves_a_record_that_reads_back_and_a_picture(source: Path, tmp_path: Path) -> None:
    file, plot = tmp_path / "results" / "build.json", tmp_path / "results" / "build.png"
    record = main(Arguments(source=source, repeat=1, rounds=2, workers=(1,), crops=("centre",), json=file, plot=plot))
    read, machine, versions = read_record(file)
    assert {side: len(measured) for side, measured in read.rounds.items()} == dict.fromkeys(record.rounds, 2)
    assert read.rounds == json.loads(json.dumps(record.rounds))
    assert read.ratios == pytest.approx(record.ratios, abs=1e-4)
    assert read.facts["clips"] == 5
    assert machine["cores"] >= 1
    assert versions["av"]
    assert str(source) not in file.read_text()
    with Image.open(plot) as picture:
        assert picture.format == "PNG"
        assert picture.width >= 800


def test_a_missing_source_ends_in_one_line_and_status_2(tmp_path: Path) -> None:
    command = [sys.executable, "benchmarks/build.py", "--source", str(tmp_path / "absent")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert "--source" in done.stderr
    assert "no such folder" in done.stderr


@pytest.mark.parametrize("wrong", [{"rounds": 0}, {"repeat": 0}, {"workers": (0, 1)}, {"workers": ()}, {"crops": ()}])
def test_arguments_out_of_range_are_named(wrong: dict[str, Any], source: Path) -> None:
    (name,) = wrong
    with pytest.raises(InputError, match=f"--{name}"):
        main(Arguments(source=source, **wrong))
