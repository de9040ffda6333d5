"""A file of figures: whole at every moment, never decreasing, in the end what the loader says."""

from __future__ import annotations

import json
import logging
import threading
import time
from itertools import pairwise
from pathlib import Path

import pytest

from loaders import ClipLoader, LoaderStats
from loaders.errors import InputError
from loaders.exposition import Metric, as_text, loader_metrics
from loaders.metrics_file import MetricsFile, of_rank, require_metrics_file
from tests.exposition import Series, parsed


def count(value: float) -> list[Metric]:
    return [Metric(name="filmstrip_a_total", kind="counter", says="A.", value=value)]


def test_counters_never_decrease_and_the_last_file_is_what_the_loader_says(dataset: Path, tmp_path: Path) -> None:
    path, seen, told = tmp_path / "loader.prom", list[dict[Series, float]](), list[LoaderStats]()

    def figures() -> list[Metric]:
        told.append(loader.stats())
        return loader_metrics(told[-1], {"split": "train"})

    with ClipLoader(dataset, split="train", batch_size=4, device="cpu", seed=1) as loader:
        with MetricsFile(path, figures, every=0.002):
            for _ in range(2):
                for _ in loader:
                    seen.append(parsed(path.read_text()))
        seen.append(parsed(path.read_text()))
    for before, after in pairwise(seen):
        for (name, labels), value in before.items():
            assert not name.endswith("_total") or after[name, labels] >= value, name
    assert seen[-1] == parsed(as_text(loader_metrics(told[-1], {"split": "train"})))
    assert seen[-1]["filmstrip_loader_clips_total", (("split", "train"),)] == loader.stats().clips > 0
    assert [entry.name for entry in tmp_path.iterdir()] == ["loader.prom"]


def test_whoever_reads_finds_a_whole_file(tmp_path: Path) -> None:
    path, ended, found = tmp_path / "a.prom", threading.Event(), list[float]()

    def read() -> None:
        while not ended.is_set():
            if path.exists():
                found.extend(parsed(path.read_text()).values())

    reader = threading.Thread(target=read)
    values = iter(range(10**9))
    with MetricsFile(path, lambda: count(next(values)), every=0.0005):
        reader.start()
        time.sleep(0.2)
    ended.set()
    reader.join()
    assert len(set(found)) > 10
    assert found == sorted(found)


def test_json_lines_are_appended_on_lines_of_their_own(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    for value in (1, 2):
        with MetricsFile(path, lambda value=value: count(value), every=60):  # type: ignore[misc]
            pass
        with path.open("a") as file:
            file.write('{"time": 3, "film')  # a process that was killed in the middle of a line
    whole = [json.loads(line) for line in path.read_text().splitlines() if line.endswith("}")]
    assert [line["filmstrip_a_total"] for line in whole] == [1, 1, 2, 2]


@pytest.mark.parametrize(
    ("name", "content", "why"),
    [
        ("a.txt", None, "give a name that ends in .prom"),
        ("a", None, "give a name that ends in .prom"),
        ("missing/a.prom", None, "there is no folder"),
        ("a.prom", "node_load1 0.5\n", "another file is there"),
        ("a.jsonl", '{"step": 20}\n', "another file is there"),
        ("folder.prom", "", "Is a directory"),
    ],
)
def test_what_cannot_be_written_or_is_not_ours_is_refused(
    tmp_path: Path, name: str, content: str | None, why: str
) -> None:
    path = tmp_path / name
    if content == "":
        path.mkdir()
    elif content is not None:
        path.write_text(content)
    with pytest.raises(InputError, match=why):
        MetricsFile(path, lambda: count(1))
    assert content in (None, "") or path.read_text() == content


def test_a_disk_that_fails_is_said_once_and_nothing_stops(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    folder = tmp_path / "gone"
    folder.mkdir()
    with caplog.at_level(logging.WARNING), MetricsFile(folder / "a.prom", lambda: count(1), every=60) as file:
        (folder / "a.prom").unlink(missing_ok=True)
        time.sleep(0.05)  # its thread's first
        (folder / "a.prom").unlink(missing_ok=True)
        folder.rmdir()
        file.write()
        file.write()
    assert [record.getMessage() for record in caplog.records] == [
        f"{folder / 'a.prom'}: No such file or directory: the figures are not written"
    ]


def test_each_of_several_ranks_has_its_own_file(tmp_path: Path) -> None:
    path = tmp_path / "run.v2.prom"
    assert of_rank(path, 0, 1) == path
    assert {of_rank(path, rank, 3).name for rank in range(3)} == {f"run.v2.rank{rank}.prom" for rank in range(3)}
    require_metrics_file(of_rank(path, 2, 3))
