"""Tables of what was answered about videos."""

import io
from collections.abc import Sequence

import pytest
from rich.console import Console

from models.prediction.results import VideoPrediction
from models.prediction.shown import videos_table


def shown(paths: Sequence[str]) -> str:
    console = Console(file=io.StringIO(), width=80)
    videos = [
        VideoPrediction(path=path, start=0.0, seconds=2.0, labels=(), targets={}, windows=(), notes=())
        for path in paths
    ]
    console.print(videos_table((), videos))
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


@pytest.mark.parametrize(
    ("folder", "names"),
    [
        ("/data/clips", ["1.mp4", "more/2.mp4"]),
        ("s3://bucket/clips", ["1.mp4", "2.mp4"]),
        ("", ["/data/1.mp4", "/home/2.mp4"]),
        ("", ["s3://one/1.mp4", "s3://two/2.mp4"]),
    ],
)
def test_a_folder_that_all_are_in_is_told_once_and_every_name_is_whole(folder: str, names: Sequence[str]) -> None:
    text = shown([f"{folder}/{name}" if folder else name for name in names])
    told = [line.strip() for line in text.splitlines() if line.startswith("in ")]
    assert told == ([f"in {folder}"] if folder else [])
    for name in names:
        assert f" {name}, 2 s " in text
