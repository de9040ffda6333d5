"""The corpora of the command line."""

from dataclasses import dataclass, fields
from pathlib import Path

import pytest

from sharding.build import Build, parse
from sharding.corpora.omg import OmgSources
from sharding.corpora.registry import corpus, registered
from sharding.corpora.voxceleb import VoxcelebSources
from sharding.settings import BuildSettings
from sharding.utterance import Corpus


def test_every_corpus_is_a_command_with_its_own_defaults(tmp_path: Path) -> None:
    tables = ["--train-csv", "a.csv", "--validation-csv", "b.csv"]
    omg = parse(["omg", "--source", "files", *tables, "--output", str(tmp_path)])
    voxceleb = parse(["voxceleb", "--source", "files", "--output", str(tmp_path), "--fps", "4"])
    assert isinstance(omg, Build)
    assert isinstance(voxceleb, Build)
    assert omg.sources == OmgSources(source=Path("files"), train_csv=Path("a.csv"), validation_csv=Path("b.csv"))
    assert omg.settings == BuildSettings(crop="face", pad_short=True)
    assert voxceleb.sources == VoxcelebSources(source=Path("files"))
    assert voxceleb.settings == BuildSettings(fps=4)


def test_a_corpus_has_no_option_of_every_build_and_defaults_for_what_there_is() -> None:
    of_every_build = {field.name for kind in (Build, BuildSettings) for field in fields(kind)}
    settings = {field.name for field in fields(BuildSettings)}
    for found in registered().values():
        assert not {field.name for field in fields(found.sources)} & of_every_build  # type: ignore[arg-type]
        assert found.settings.keys() <= settings


def test_a_name_is_one_corpus_and_options_are_a_dataclass() -> None:
    class Plain:
        def read(self) -> Corpus:
            raise NotImplementedError

    with pytest.raises(TypeError, match="a dataclass"):
        corpus("plain", "Build a dataset.")(Plain)
    with pytest.raises(ValueError, match="is called omg, too"):
        corpus("omg", "Build a dataset.")(dataclass(Plain))
    assert "plain" not in registered()


def test_what_is_no_corpus_is_refused() -> None:
    with pytest.raises(SystemExit) as caught:
        parse(["nowhere", "--output", "x"])
    assert caught.value.code == 2
