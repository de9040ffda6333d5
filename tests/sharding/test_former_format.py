"""A dataset of the format before this one: every command says so, in a line with the mend."""

import hashlib
import json
import sys
from importlib import import_module
from pathlib import Path

import pytest

from loaders.dataset.dataset import Dataset
from loaders.errors import InputError
from loaders.loader import ClipLoader
from tests.damage import copy_of
from tests.films import write_film


def former(dataset: Path, folder: Path) -> Path:
    """A copy whose dataset.json says that it is of format 1, and has the digest that such a one had."""
    copy = copy_of(dataset, folder)
    path = copy / "dataset.json"
    body = json.loads(path.read_text())
    del body["digest"], body["labels"], body["documents"]
    body["version"] = 1
    text = json.dumps(body, indent=1, ensure_ascii=False) + "\n"
    body["digest"] = hashlib.sha256(text.encode()).hexdigest()
    path.write_text(json.dumps(body, indent=1, ensure_ascii=False) + "\n")
    return copy


@pytest.fixture(scope="module")
def old(dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return former(dataset, tmp_path_factory.mktemp("former") / "dataset")


@pytest.mark.parametrize(
    ("program", "arguments", "status"),
    [
        ("sharding.info", ["{old}"], 2),
        ("sharding.gallery", ["{old}", "--output", "{new}"], 2),
        ("sharding.verify", ["{old}"], 1),
        ("sharding.verify", ["{old}", "--repair"], 2),
        ("sharding.verify", ["{old}", "--shortcut"], 2),
        ("sharding.build", ["voxceleb", "--source", "{films}", "--output", "{old}", "--workers", "1"], 2),
        ("sharding.build", ["voxceleb", "--source", "{films}", "--output", "{old}", "--workers", "1", "--extend"], 2),
        ("train", ["--stage", "pretrain", "--preset", "tiny", "--data", "{old}", "--output", "{new}"], 2),
    ],
)
def test_every_command_refuses_it_with_the_mend(
    old: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    program: str,
    arguments: list[str],
    status: int,
) -> None:
    write_film(tmp_path / "mp4/s/v/1.mp4", 2.2)
    places = {"old": old, "new": tmp_path / "new", "films": tmp_path / "mp4"}
    before = {path: path.read_bytes() for path in old.rglob("*") if path.is_file()}
    monkeypatch.setattr(sys, "argv", ["program", *(argument.format(**places) for argument in arguments)])
    monkeypatch.setenv("COLUMNS", "300")
    with pytest.raises(SystemExit) as ended:
        import_module(program).main()
    printed = capsys.readouterr()
    assert ended.value.code == status
    said = printed.out if status == 1 else printed.err.strip().splitlines()[-1]
    assert "format version 1, which this program no longer reads" in said or "--repair" in arguments
    assert "build the dataset again" in said
    assert not (tmp_path / "new").exists()
    assert {path: path.read_bytes() for path in old.rglob("*") if path.is_file()} == before


def test_so_do_those_who_open_it(old: Path) -> None:
    for opens in (Dataset.open, lambda folder: ClipLoader(folder, "train", batch_size=2)):
        with pytest.raises(InputError, match=r"dataset\.json: format version 1, .*: build the dataset again$"):
            opens(old)
