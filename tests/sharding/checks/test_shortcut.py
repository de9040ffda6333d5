"""A classifier of cues is no better than a coin on honest data, and finds a shortcut that was planted."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from numpy.typing import NDArray

from loaders.dataset.catalog import Catalog, open_catalog
from loaders.errors import InputError
from sharding.checks import shortcut
from sharding.checks.shortcut import find_shortcuts, report_shortcuts
from sharding.settings import BuildSettings
from tests.damage import declare_catalog, edit_catalog
from tests.datasets import Contents, make_dataset

SETTINGS = BuildSettings(size=16, clip_seconds=0.25)
CONTENTS = Contents(speakers={"train": 25}, shards={"train": 2}, videos=2, utterances=2, clips=3)


@pytest.fixture(scope="module")
def many(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """50 videos with nothing in common but their format; for reading only."""
    folder = tmp_path_factory.mktemp("datasets") / "many"
    make_dataset(folder, CONTENTS, SETTINGS)
    return folder


def padded(dataset: Path, folder: Path, draw: Callable[[NDArray[np.int64]], NDArray[np.float64]]) -> Path:
    """A copy whose catalog has another padding, drawn from the clips' numbers of video."""
    copy = Path(shutil.copytree(dataset, folder / "padded"))
    path = copy / "train" / "clips.parquet"
    table = pq.read_table(path)
    _, video = np.unique(table["video"].to_pylist(), return_inverse=True)
    padding = pa.array(draw(video).astype(np.float32))
    pq.write_table(table.set_column(table.schema.get_field_index("padded"), "padded", padding), path)
    declare_catalog(copy, "train")
    return copy


def test_honest_data_are_a_coins_throw(many: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    catalog = open_catalog(many, "train", ["filmstrip", "audio"])
    cues = shortcut._measure(many, catalog, np.arange(len(catalog)), 1)
    monkeypatch.setattr(shortcut, "_measure", lambda *_: cues)  # once for all
    found = [find_shortcuts(many, seed=seed) for seed in range(10)]
    guesses = [guess for one in found for guess in one.guesses]
    assert all(guess.low <= guess.accuracy <= guess.high for guess in guesses)
    assert all(abs(guess.accuracy - 0.5) < 0.15 for guess in guesses)
    # Of a 95 % interval, one in forty lies above the truth.
    assert sum(guess.beats_chance for guess in guesses) <= 3
    assert found[0].pairs in (found[0].clips, found[0].clips - 1, found[0].clips - 2)


def test_padding_that_tells_the_match_is_found(many: Path, tmp_path: Path) -> None:
    dataset = padded(many, tmp_path, lambda video: np.random.default_rng(0).random(video.max() + 1)[video] / 5)
    guesses = {guess.cues: guess for guess in find_shortcuts(dataset).guesses}
    assert guesses["padding"].beats_chance
    assert guesses["padding"].accuracy > 0.75
    assert guesses["all of them"].beats_chance
    assert not guesses["bytes"].beats_chance


def test_halves_share_no_video_and_split_none_where_speakers_share_their_names(
    namesakes: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shortcut, "_PAIRS", 100)
    catalog = open_catalog(namesakes, "train", ["filmstrip", "audio"])
    found = find_shortcuts(namesakes)
    assert (found.clips, found.videos) == (len(catalog), catalog.manifest.splits["train"].videos)
    named = catalog.table(["speaker", "video"]).to_pylist()
    one, other = ({tuple(named[row].values()) for row in half} for half in shortcut._halves(catalog, 4000, 0))
    assert not one & other
    assert len(one) + len(other) == found.videos
    assert {video for _, video in one} == {video for _, video in other}


def test_padding_that_tells_nothing_is_no_shortcut(many: Path, tmp_path: Path) -> None:
    dataset = padded(many, tmp_path, lambda video: np.full(len(video), 0.1))
    guesses = {guess.cues: guess for guess in find_shortcuts(dataset).guesses}
    assert guesses["padding"].accuracy == pytest.approx(0.5, abs=0.1)


def test_loudness_that_goes_with_light_is_found(many: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    measure = shortcut._measure

    def planted(
        dataset: Path, catalog: Catalog, rows: NDArray[np.int64], workers: int
    ) -> dict[str, NDArray[np.float64]]:
        cues = measure(dataset, catalog, rows, workers)
        cues["rms"] = -20 + cues["luminance"] / 10
        return cues

    monkeypatch.setattr(shortcut, "_measure", planted)
    guesses = {guess.cues: guess for guess in find_shortcuts(many).guesses}
    assert guesses["loudness and light"].accuracy > 0.65
    assert guesses["loudness and light"].beats_chance
    assert not guesses["bytes"].beats_chance


def test_a_source_that_colour_and_bandwidth_tell_is_found(many: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two pooled corpora: the one bluish and cut off at 4 kHz."""
    measure = shortcut._measure

    def pooled(
        dataset: Path, catalog: Catalog, rows: NDArray[np.int64], workers: int
    ) -> dict[str, NDArray[np.float64]]:
        cues, draw = measure(dataset, catalog, rows, workers), np.random.default_rng(0)
        of_one = catalog.video % 2 == 0
        cues["blue"] = np.where(of_one, 140, 120) + draw.normal(0, 2, len(catalog))
        cues["bandwidth"] = np.where(of_one, 0.5, 0.9) + draw.normal(0, 0.02, len(catalog))
        return cues

    monkeypatch.setattr(shortcut, "_measure", pooled)
    guesses = {guess.cues: guess for guess in find_shortcuts(many).guesses}
    assert guesses["source (colour, bandwidth)"].accuracy > 0.65
    assert guesses["source (colour, bandwidth)"].beats_chance
    assert not guesses["bytes"].beats_chance


def test_a_video_of_most_clips_is_found_by_its_sound_alone(many: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(many, tmp_path / "uneven"))

    def most_of_one(table: pa.Table) -> pa.Table:
        names = table["video"].to_pylist()
        others = set(sorted(set(names))[:8])
        names = [name if name in others else "most" for name in names]
        column = table.schema.get_field_index("video")
        return table.set_column(column, table.schema.field(column), pa.array(names).dictionary_encode())

    edit_catalog(copy, "train", most_of_one)
    guesses = {guess.cues: guess for guess in find_shortcuts(copy, clips=10**6).guesses}
    video = open_catalog(copy, "train", []).video
    assert guesses["the sound's video"].accuracy == pytest.approx(np.bincount(video).max() / len(video), abs=0.03)
    assert guesses["the sound's video"].beats_chance
    alike = {guess.cues: guess for guess in find_shortcuts(many).guesses}
    assert alike["the sound's video"].accuracy == pytest.approx(0.5, abs=0.01)


def test_a_bandwidth_is_the_share_of_the_spectrum_that_holds_the_power() -> None:
    time = np.arange(16_000) / 16_000
    for hertz in (500, 2000, 6000):
        assert shortcut._bandwidth(np.sin(2 * np.pi * hertz * time)) == pytest.approx(hertz / 8000, abs=0.01)
    assert shortcut._bandwidth(np.zeros(16_000)) == 0


def test_the_halves_share_no_video_and_every_clip_is_tested_once(many: Path) -> None:
    catalog = open_catalog(many, "train", ["filmstrip", "audio"])
    halves = shortcut._halves(catalog, 10**6, 0)
    assert not set(catalog.video[halves[0]]) & set(catalog.video[halves[1]])
    assert sorted(np.concatenate(halves).tolist()) == list(range(len(catalog)))
    for half in halves:
        frames, audio, match = shortcut._pairs(catalog, half, {"other_video": 1.0}, 0)
        assert len(np.unique(frames)) == len(frames) == len(half) // 2 * 2
        assert set(audio) <= set(half.tolist())
        assert match.mean() == 0.5
        assert ((catalog.video[frames] == catalog.video[audio]) == match).all()


def test_whole_videos_are_taken_until_there_are_enough_clips(many: Path) -> None:
    found = find_shortcuts(many, clips=40)
    assert 40 <= found.clips < 50
    assert find_shortcuts(many, clips=40) == found


def test_it_says_what_it_cannot_do(tmp_path: Path, many: Path) -> None:
    with pytest.raises(InputError, match="no split"):
        find_shortcuts(many, split="test")
    few = Contents(speakers={"train": 1}, shards={"train": 1}, videos=3)
    make_dataset(tmp_path / "few", few, SETTINGS)
    with pytest.raises(InputError, match="3 videos are too few"):
        find_shortcuts(tmp_path / "few")
    damaged = Path(shutil.copytree(many, tmp_path / "damaged"))
    shard = damaged / "train" / "000000.tar"
    shard.write_bytes(bytes(shard.stat().st_size))
    with pytest.raises(InputError, match=r"run sharding/verify\.py first"):
        find_shortcuts(damaged)


def test_pairs_that_stand_and_fall_together_widen_the_interval() -> None:
    right = np.repeat([True, False, True, True, False, True], 20)
    apart = shortcut._guess("x", right, np.arange(120, dtype=np.int32))
    together = shortcut._guess("x", right, np.repeat(np.arange(6, dtype=np.int32), 20))
    assert apart.accuracy == together.accuracy == pytest.approx(2 / 3)
    assert apart.beats_chance
    assert not together.beats_chance


def test_the_report_warns(many: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "150")
    found = shortcut.Shortcuts(
        clips=9, videos=4, pairs=8, guesses=(shortcut.Guess(cues="padding", accuracy=0.9, low=0.8, high=0.95),)
    )
    report_shortcuts(found, many, as_json=False)
    out = capsys.readouterr().out
    assert "beats chance" in out
    assert "warning" in out
    assert "90.0%" in out
    report_shortcuts(found, many, as_json=True)
    (guess,) = json.loads(capsys.readouterr().out)["guesses"]
    assert guess == {"cues": "padding", "accuracy": 0.9, "low": 0.8, "high": 0.95, "beats_chance": True}
