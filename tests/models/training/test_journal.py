"""metrics.jsonl: whole lines, each step once."""

import json
import os
import resource
from pathlib import Path

import pytest

from loaders.errors import InputError
from models.training.journal import METRICS, Journal, read_metrics


def test_lines_behind_the_checkpoint_are_written_again(tmp_path: Path) -> None:
    with Journal(tmp_path, 0) as journal:
        for step in (2, 4, 6):
            journal.write({"step": step, "run": 1})
            journal.keep()
    with (tmp_path / METRICS).open("a") as file:
        file.write('{"step": 8, "r')  # a process that was killed in the middle of it
    assert [line["step"] for line in read_metrics(tmp_path)] == [2, 4, 6]
    with Journal(tmp_path, 5) as journal:
        journal.write({"step": 6, "run": 2})
    assert [(line["step"], line["run"]) for line in read_metrics(tmp_path)] == [(2, 1), (4, 1), (6, 2)]
    with Journal(tmp_path, 0):
        pass
    assert (tmp_path / METRICS).read_bytes() == b""


def test_what_is_validated_anew_is_not_there_twice(tmp_path: Path) -> None:
    with Journal(tmp_path, 0) as journal:
        for line in ({"step": 2, "validation": 1}, {"step": 4}, {"step": 4, "validation": 1}, {"step": 6}):
            journal.write(line)
    with Journal(tmp_path, 4):
        pass
    assert read_metrics(tmp_path) == [{"step": 2, "validation": 1}, {"step": 4}, {"step": 4, "validation": 1}]
    with Journal(tmp_path, 4, validated_anew=True):
        pass
    assert read_metrics(tmp_path) == [{"step": 2, "validation": 1}, {"step": 4}]


def test_json_has_no_nan(tmp_path: Path) -> None:
    with Journal(tmp_path, 0) as journal:
        journal.write({"step": 1, "parts": {"audio": float("nan"), "visual": float("-inf"), "joint": 0.1}})
    [line] = (tmp_path / METRICS).read_text().splitlines()
    assert json.loads(line, parse_constant=pytest.fail)["parts"] == {"audio": None, "visual": None, "joint": 0.1}


@pytest.mark.parametrize("line", ["no JSON", "[1]", '{"loss": 1}', '{"step": "2"}'])
def test_what_is_no_line_is_named(line: str, tmp_path: Path) -> None:
    (tmp_path / METRICS).write_text(f'{{"step": 1}}\n{line}\n')
    for attempt in (lambda: read_metrics(tmp_path), lambda: Journal(tmp_path, 9)):
        with pytest.raises(InputError, match=r"metrics\.jsonl: line 2 is none of a run's"):
            attempt()


def test_no_metrics_is_no_run(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="not there"):
        read_metrics(tmp_path)


def test_a_disk_without_room_is_named(tmp_path: Path) -> None:
    """A limit on a file's size stands for it, in a process of its own."""
    told = tmp_path / "told"
    child = os.fork()
    if child == 0:
        try:
            with Journal(tmp_path, 0) as journal:
                resource.setrlimit(resource.RLIMIT_FSIZE, (100, 100))
                for step in range(20):
                    journal.write({"step": step})
        except OSError as error:
            told.write_text(str(error.filename))
        finally:
            os._exit(0)
    os.waitpid(child, 0)
    assert told.read_text() == str(tmp_path / METRICS)
    assert read_metrics(tmp_path)[-1]["step"] > 2
