"""The benchmark of some frames: every side gets its figures, of the same clips, and datasets mixed up are refused."""

from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks.windows import FIGURES, KINDS, UNMARKED, WHOLE, Settings, measure, sides_of
from loaders.dataset.manifest import read_manifest
from loaders.errors import InputError
from tests.datasets import CONTENTS, SETTINGS, make_dataset


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    folder = tmp_path_factory.mktemp("windows")
    few = replace(CONTENTS, speakers={"train": 2}, shards={"train": 1}, videos=2)
    for name, markers in (("with", True), ("without", False)):
        make_dataset(folder / name, few, replace(SETTINGS, restart_markers=markers))
    return folder / "with", folder / "without"


def test_every_side_is_measured_and_compared(built: tuple[Path, Path], tmp_path: Path) -> None:
    settings = Settings(data=built[0], unmarked=built[1], clips=16, batch_size=4, rounds=1, threads=1)
    record = measure(settings, tmp_path)
    sides = sides_of(read_manifest(built[0]).clip)
    assert set(record.rounds) == {f"{name}, {kind}" for name in sides for kind in KINDS}
    assert all(figures[name] > 0 for [figures] in record.rounds.values() for name in FIGURES)
    assert len(record.ratios) == (len(sides) - 1) * len(KINDS)
    for kind in KINDS:
        assert f"{WHOLE} / {UNMARKED}, {kind}" in record.ratios


def test_of_clips_with_markers_alone_those_sides_are_measured(built: tuple[Path, Path], tmp_path: Path) -> None:
    record = measure(Settings(data=built[0], clips=8, batch_size=4, rounds=1, threads=1), tmp_path)
    marked = [name for name, (has_markers, _) in sides_of(read_manifest(built[0]).clip).items() if has_markers]
    assert set(record.rounds) == {f"{name}, {kind}" for name in marked for kind in KINDS}


def test_datasets_that_were_mixed_up_are_refused(built: tuple[Path, Path], tmp_path: Path) -> None:
    for data, unmarked, wanted in ((built[1], built[0], "--restart-markers"), (built[0], built[0], "--no-restart")):
        with pytest.raises(InputError, match=wanted):
            measure(Settings(data=data, unmarked=unmarked, clips=16), tmp_path / wanted)
