"""Folders that may not be read or written, and files made to harm: one clear line, and nothing else is touched."""

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from loaders.errors import InputError
from sharding.corpora.omg import OmgSources, read_omg
from sharding.corpora.voxceleb import VoxcelebSources, read_voxceleb
from sharding.packing.building import build
from sharding.settings import BuildSettings
from sharding.verify import verify
from tests.datasets import Contents, make_dataset
from tests.films import shades, write_film
from tests.limits import unprivileged

ROOT = Path(__file__).parents[2]
SETTINGS = BuildSettings(size=16, fps=4.0, clip_seconds=0.5)
TINY = Contents(speakers={"train": 1, "test": 1}, shards={"train": 1, "test": 1}, videos=1, utterances=2, clips=1)


@pytest.fixture
def shared() -> Iterator[Path]:
    """A folder that users without rights can reach; pytest's own is its owner's alone."""
    with tempfile.TemporaryDirectory(prefix="filmstrip-test-") as name:
        Path(name).chmod(0o755)
        yield Path(name)


def test_an_output_that_may_not_be_written_is_told(shared: Path) -> None:
    write_film(shared / "mp4/s/v/1.mp4", 0.5, fps=8, picture=shades(16, 16))
    corpus = read_voxceleb(VoxcelebSources(source=shared / "mp4", test_fraction=0.0))
    (shared / "closed").mkdir(mode=0o555)
    with unprivileged():
        for output in (shared / "closed/new", shared / "closed"):
            with pytest.raises(InputError, match=f"^{output}: Permission denied: give an --output that can be written"):
                build(corpus, output, SETTINGS, 1)
    assert list((shared / "closed").iterdir()) == []
    build(corpus, shared / "dataset", SETTINGS, 1)
    write_film(shared / "mp4/s/v/2.mp4", 0.5, fps=8, picture=shades(16, 16))
    corpus = read_voxceleb(VoxcelebSources(source=shared / "mp4", test_fraction=0.0))
    with unprivileged(), pytest.raises(InputError, match=r"\.dataset\.extension: Permission denied"):
        build(corpus, shared / "dataset", SETTINGS, 1, extend=True)
    assert verify(shared / "dataset").is_whole


@pytest.mark.parametrize("mode", [0o000, 0o444])
@pytest.mark.parametrize("name", ["", "train"])
def test_a_folder_that_may_not_be_looked_into_is_told(shared: Path, name: str, mode: int) -> None:
    """Also where its files can be listed, but not opened: nothing is whole that was not read."""
    make_dataset(shared / "dataset", TINY, replace(SETTINGS, fps=8.0))
    folder = shared / "dataset" / name
    folder.chmod(mode)
    try:
        with unprivileged():
            if name:
                with pytest.raises(InputError, match="^" + str(folder) + ": Permission denied"):
                    verify(shared / "dataset")
            else:
                (fault,) = verify(shared / "dataset").faults
                assert (fault.path, fault.what) == ("dataset.json", "Permission denied")
    finally:
        folder.chmod(0o755)


@pytest.mark.parametrize("name", ["dataset.json", "train/000000.tar", "train/000000.idx",
                                  "train/clips.parquet", "rejected.parquet"])  # fmt: skip
def test_what_may_not_be_read_of_a_dataset_is_told(shared: Path, name: str) -> None:
    make_dataset(shared / "dataset", TINY, replace(SETTINGS, fps=8.0))
    path = shared / "dataset" / name
    path.chmod(0)
    try:
        with unprivileged():
            report = verify(shared / "dataset")
        told = {fault.path for fault in report.faults}
        assert any(name in fault_path for fault_path in told), told
        assert any("Permission denied" in fault.what for fault in report.faults), report.faults
    finally:
        path.chmod(0o755)


def test_names_of_a_table_that_lead_outside_are_refused(tmp_path: Path) -> None:
    """OMG's tables name files: one above the source is not read, and nothing is written above the output."""
    outside = write_film(tmp_path / "outside.mp4", 0.5, fps=8, picture=shades(16, 16))
    write_film(tmp_path / "files/a/utterance_1.mp4", 0.5, fps=8, picture=shades(16, 16))
    write_film(tmp_path / "files/v/utterance_1.mp4", 0.5, fps=8, picture=shades(16, 16))
    header = "link,start,end,video,utterance,arousal,valence,EmotionMaxVote"
    names = ("a,utterance_1.mp4", "..,outside.mp4", "../files/a,utterance_1.mp4", f"{tmp_path},outside.mp4")
    for name in names[1:]:
        rows = [f"x,0,1,{row},0.1,0.1,4" for row in (names[0], name)]
        (tmp_path / "train.csv").write_text("\n".join([header, *rows]) + "\n")
        (tmp_path / "validation.csv").write_text(f"{header}\nx,0,1,v,utterance_1.mp4,0.1,0.1,4\n")
        before = sorted(tmp_path.iterdir())
        with pytest.raises(InputError, match=r"train\.csv"):
            read_omg(
                OmgSources(
                    source=tmp_path / "files",
                    train_csv=tmp_path / "train.csv",
                    validation_csv=tmp_path / "validation.csv",
                )
            )
        assert sorted(tmp_path.iterdir()) == before
    assert outside.exists()


BOMBS = """
import sys, resource
from pathlib import Path
from sharding.verify import verify
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
for name in sys.argv[1:]:
    assert any(fault.kind == "content" for fault in verify(Path(name), decode=True).faults), name
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) >> 10)
"""


def test_bombs_are_told_in_bounded_memory(tmp_path: Path) -> None:
    """A picture that claims 65,500 × 65,500, an array of a terabyte, maps and lists of four billion entries."""
    from tests.sharding.test_verify import BAD_MEMBERS, put_member

    make_dataset(tmp_path / "whole", TINY, replace(SETTINGS, fps=8.0))
    for number, name in enumerate(BAD_MEMBERS):
        put_member(Path(shutil.copytree(tmp_path / "whole", tmp_path / str(number))), *BAD_MEMBERS[name])
    folders = [str(tmp_path / str(number)) for number in range(len(BAD_MEMBERS))]
    done = subprocess.run(
        [sys.executable, "-c", BOMBS, *folders], capture_output=True, text=True, timeout=60, check=False,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) < 100, f"{done.stdout} MiB"
