"""The page says what the records say, of any benchmark, and nothing else."""

import re
from pathlib import Path
from typing import Any

import pytest

from benchmarks.record import Record, write_record
from benchmarks.report import AIMS, number, page

MACHINE: dict[str, Any] = {"processor": "P", "cores": 2, "memory_gb": 25.0, "gpu": None, "system": "Linux", "load": 0.1}


def records(folder: Path, *benchmarks: str) -> list[Path]:
    paths = []
    for place, name in enumerate(benchmarks):
        record = Record(
            benchmark=name,
            settings={"clips": 5, "json": "secret"},
            rounds={"ours": [{"clips_a_second": 7001.0 + place}, {"clips_a_second": 7003.0 + place}], "none": []},
            ratios={"ours / other": 1.25},
            facts={"note": f"note of {name}"},
        )
        paths.append(folder / f"{name}.json")
        write_record(paths[-1], record, MACHINE)
    return paths


def test_every_record_has_its_section_in_the_pages_order(tmp_path: Path) -> None:
    text = page(records(tmp_path, "unheard", "quality", "loaders"), tmp_path)
    assert re.findall("^## (.*)$", text, re.M) == ["Clips a second", "Bytes, loss and speed", "unheard"]
    assert "note of unheard" in text
    assert "secret" not in text


def test_medians_stand_with_their_spread(tmp_path: Path) -> None:
    text = page(records(tmp_path, "build"), tmp_path)
    assert "| ours | 7,002 (7,001–7,003) |" in text
    assert "| ours / other | 1.25 |" in text


def test_plots_beside_a_record_are_shown(tmp_path: Path) -> None:
    (tmp_path / "results").mkdir()
    paths = records(tmp_path / "results", "shuffle")
    (tmp_path / "results" / "shuffle.png").write_bytes(b"")
    (tmp_path / "results" / "other.png").write_bytes(b"")
    (tmp_path / "results" / "shuffle_gpu.png").write_bytes(b"")
    text = page(paths, tmp_path)
    assert "(results/shuffle.png)" in text
    assert "other.png" not in text
    assert "shuffle_gpu.png" not in text


def test_records_of_one_benchmark_are_told_apart(tmp_path: Path) -> None:
    [path] = records(tmp_path, "shuffle")
    (tmp_path / "shuffle_wide.json").write_text(path.read_text())
    text = page([path, tmp_path / "shuffle_wide.json"], tmp_path)
    assert re.findall("^## (.*)$", text, re.M) == ["Shuffling: shuffle", "Shuffling: shuffle_wide"]


def test_a_profile_is_a_table(tmp_path: Path) -> None:
    kernels = {"ms a step by kind": {"pooling": 3.0, "other": 1.0}}
    kernels["longest, ms a step"] = [{"kernel": "max_pool", "calls": 2.0, "ms": 3.0}]  # type: ignore[assignment]
    facts = {"kernels": kernels, "parameters": 7}
    record = Record(benchmark="train_gpu", settings={}, rounds={}, ratios={}, facts=facts)
    write_record(tmp_path / "train_gpu.json", record, MACHINE)
    text = page([tmp_path / "train_gpu.json"], tmp_path)
    assert "- parameters: 7" in text
    assert "| pooling | 3 | 75.0 % |" in text
    assert "| `max_pool` | 2 | 3 |" in text


def test_an_aim_is_met_or_not(tmp_path: Path) -> None:
    for value, told in ((0.5, "≤ 1: met"), (2.0, "≤ 1: not met")):
        record = Record(
            benchmark="train",
            settings={},
            rounds={},
            ratios={"share of time waited for data, %": value},
            facts={},
        )
        write_record(tmp_path / "train.json", record, MACHINE)
        assert f"| {told} |" in page([tmp_path / "train.json"], tmp_path)
    assert AIMS[0].told(1.0).endswith(": met")


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.0, "0"), (1.0, "1"), (0.98765, "0.988"), (12345.6, "12,346"), (0.0000123, "1.23e-05"), (float("nan"), "nan")],
)
def test_numbers_are_short(value: float, text: str) -> None:
    assert number(value) == text


def test_the_records_that_are_kept_make_a_page() -> None:
    home = Path(__file__).resolve().parents[2] / "benchmarks"
    paths = sorted((home / "results").glob("*.json"))
    text = page(paths, home)
    assert text.count("\n## ") == len(paths)
    for link in re.findall(r"\]\(([^)]+\.png)\)", text):
        assert (home / link).is_file()
