"""All sources are looked at before a build is planned, by many processes or one, and what is known is kept."""

import os
import struct
import subprocess
import sys
import time
from pathlib import Path
from unittest import mock

import pytest

from sharding.engines.local import LocalEngine
from sharding.media.probe import probe_seconds
from sharding.packing.survey import require_all_unchanged, survey
from sharding.packing.writer import LENGTHS, WORK_FOLDER
from sharding.sources.fingerprint import fingerprint
from sharding.sources.read_errors import SourceError
from sharding.utterance import Corpus, Utterance
from tests.films import shades, tone, write_film

ROOT = Path(__file__).parents[3]
ONE = LocalEngine(workers=1)


@pytest.fixture
def corpus(tmp_path: Path) -> Corpus:
    """Films of different lengths, one broken, one missing."""
    paths = [write_film(tmp_path / f"{n}.mp4", 0.5 + 0.25 * n, fps=8, picture=shades(16, 16)) for n in range(5)]
    (tmp_path / "5.mp4").write_bytes(b"no film")
    paths += [tmp_path / "5.mp4", tmp_path / "6.mp4"]
    utterances = tuple(
        Utterance(corpus="c", split="train", speaker="s", video=path.stem, utterance="u", video_path=path)
        for path in paths
    )
    return Corpus(name="c", utterances=utterances)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "out" / WORK_FOLDER / LENGTHS).parent.mkdir(parents=True)
    return tmp_path / "out"


def test_what_is_seen_of_each_does_not_depend_on_who_looks(
    corpus: Corpus, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = survey(corpus, folder, ONE)
    assert list(seen.seconds) == [probe_seconds(utterance) for utterance in corpus.utterances]
    assert [u.source_xxh3 for u in seen.utterances] == [fingerprint(utterance) for utterance in corpus.utterances]
    monkeypatch.setattr("sharding.packing.survey._FEW", 0)
    monkeypatch.setattr("sharding.packing.survey._CHUNK", 2)
    told: list[int] = []
    (folder / WORK_FOLDER / LENGTHS).unlink()
    assert survey(corpus, folder, LocalEngine(workers=2), told.append) == seen
    assert sum(told) == len(corpus.utterances)
    require_all_unchanged(seen.utterances, LocalEngine(workers=2))


def test_lengths_are_read_once_and_again_where_a_source_has_changed(corpus: Corpus, folder: Path) -> None:
    with mock.patch("sharding.packing.survey.probe_seconds", side_effect=probe_seconds) as probed:
        first = survey(corpus, folder, ONE)
        assert probed.call_count == 7
        assert survey(corpus, folder, ONE) == first
        assert probed.call_count == 7
        write_film(corpus.utterances[2].video_path, 3.0, fps=8, picture=shades(16, 16))
        again = survey(corpus, folder, ONE)
        assert probed.call_count == 8
    assert again.seconds[2] == pytest.approx(3.0, abs=0.1)
    assert [a == b for a, b in zip(first.utterances, again.utterances, strict=True)] == [n != 2 for n in range(7)]


@pytest.mark.parametrize("left", [b"", b"[[12, 0.5], [13, 0.", b"[[12, 0.5]]", b"null\n", b"{}\nnull\n", b"\x00\xff\n"])
def test_what_a_kill_leaves_of_the_kept_lengths_is_not_believed(corpus: Corpus, folder: Path, left: bytes) -> None:
    first = survey(corpus, folder, ONE)
    whole = (folder / WORK_FOLDER / LENGTHS).read_bytes()
    for content in (whole + left, whole[:-3], left):
        (folder / WORK_FOLDER / LENGTHS).write_bytes(content)
        for _ in range(2):
            assert survey(corpus, folder, ONE) == first
        for line in (folder / WORK_FOLDER / LENGTHS).read_bytes().splitlines():
            assert line.startswith(b"[")


def test_lengths_that_other_code_read_are_read_again(
    corpus: Corpus, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    survey(corpus, folder, ONE)
    monkeypatch.setattr("sharding.packing.survey._WRITTEN_BY", [0, "another"])
    with mock.patch("sharding.packing.survey.probe_seconds", return_value=9.0):
        assert set(survey(corpus, folder, ONE).seconds) == {9.0}


def test_no_length_is_kept_for_a_file_that_changed_while_it_was_read(corpus: Corpus, folder: Path) -> None:
    def replaced(utterance: Utterance) -> float:
        seconds = probe_seconds(utterance)
        utterance.video_path.write_bytes(b"another")
        return seconds

    with (
        mock.patch("sharding.packing.survey.probe_seconds", side_effect=replaced),
        pytest.raises(SourceError, match="changed"),
    ):
        survey(corpus, folder, ONE)
    assert len((folder / WORK_FOLDER / LENGTHS).read_text().splitlines()) == 1


def test_twenty_thousand_utterances_are_begun_with_soon(tmp_path: Path, full: bool) -> None:
    """The first line within ten seconds, the first shard within thirty, a line every thirty. ``--full`` alone."""
    if not full:
        pytest.skip("twenty thousand films take minutes: --full")
    film = write_film(tmp_path / "a.mp4", 0.5, fps=8, picture=shades(16, 16), sound=tone(0.5)).read_bytes()
    for number in range(20_000):
        path = tmp_path / f"mp4/s{number // 10 % 100}/v{number // 10}/{number}.mp4"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(film + struct.pack(">I4sI", 12, b"free", number))  # each one its own file
    output = tmp_path / "dataset"
    began = time.monotonic()
    command = [
        *(sys.executable, str(ROOT / "sharding/build.py"), "voxceleb", "--source", str(tmp_path / "mp4")),
        *("--output", str(output), "--size", "16", "--fps", "4", "--clip-seconds", "0.5", "--workers", "2"),
    ]
    log = tmp_path / "log"
    with log.open("wb") as written:
        process = subprocess.Popen(command, stdout=written, env={**os.environ, "PYTHONPATH": str(ROOT)})
    first_line = first_shard = None
    grown, size, longest = began, 0, 0.0
    while process.poll() is None:
        now = time.monotonic()
        if log.stat().st_size > size:
            first_line = first_line or now - began
            grown, size = now, log.stat().st_size
        longest = max(longest, now - grown)
        if first_shard is None and any(output.glob("*/*.tar")):
            first_shard = now - began
        time.sleep(0.05)
    assert process.returncode == 0
    print(f"first line {first_line:.1f} s, first shard {first_shard:.1f} s, silent for at most {longest:.1f} s,"
          f" {time.monotonic() - began:.0f} s in all")  # fmt: skip
    assert (first_line or 99) < 10
    assert (first_shard or 99) < 30
    assert longest < 33
