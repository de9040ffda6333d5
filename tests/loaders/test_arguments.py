"""What a command line says twice is not lost in silence."""

import shlex
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Generic, TypeVar

import pytest
import tyro

from loaders.arguments import cli, require_once
from loaders.errors import InputError

S = TypeVar("S")


@dataclass(frozen=True, kw_only=True)
class Columns:
    labels: tuple[str, ...] = ()
    meta: tuple[Path, ...] | None = None
    span: tuple[float, float] = (0.0, 1.0)


@dataclass(frozen=True, kw_only=True)
class Settings:
    member: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Whole(Generic[S]):
    videos: Annotated[tuple[str, ...], tyro.conf.Positional] = ()
    size: int = 1
    sources: Annotated[S, tyro.conf.arg(name="")]
    settings: Annotated[Settings, tyro.conf.arg(name=""), tyro.conf.UseAppendAction] = field(default_factory=Settings)


@dataclass(frozen=True)
class Other:
    """A second command."""

    labels: str = ""
    """One value, where the first takes several."""


COMMANDS = Annotated[Whole[Columns], tyro.conf.subcommand("whole")] | Annotated[Other, tyro.conf.subcommand("other")]


@pytest.mark.parametrize(
    ("line", "mend"),
    [
        ("--labels a --labels b", "--labels is given 2 times: give all at once: --labels a b"),
        (
            "--labels=a --size 3 --labels b c --labels d",
            "--labels is given 3 times: give all at once: --labels a b c d",
        ),
        ("--meta a --meta b", "--meta is given 2 times: give all at once: --meta a b"),
        ("--meta=-1 -o x --meta 'a b'", "--meta is given 2 times: give all at once: --meta -1 'a b'"),
    ],
)
def test_values_of_an_earlier_use_are_not_lost(line: str, mend: str, capsys: pytest.CaptureFixture[str]) -> None:
    for kind, command in ((Whole[Columns], []), (COMMANDS, ["whole"])):
        with pytest.raises(SystemExit) as ended:
            cli(kind, args=[*command, *shlex.split(line)])
        assert ended.value.code == 2
        assert capsys.readouterr().err == f"error: {mend}\n"


def test_all_else_may_be_given_twice_as_before() -> None:
    line = ["--member", "a", "--size", "2", "--member", "b", "--size", "3", "--span", "0", "1", "--span", "2", "3"]
    found = cli(Whole[Columns], args=["x", "y", *line, "--labels", "a", "b"])
    assert found.settings.member == ("a", "b")
    assert (found.size, found.sources.span, found.sources.labels) == (3, (2.0, 3.0), ("a", "b"))
    assert found.videos == ("x", "y")


def test_an_option_of_one_value_is_not_taken_for_that_of_another_command() -> None:
    assert cli(COMMANDS, args=["other", "--labels", "a", "--labels", "whole"]) == Other("whole")


def test_a_functions_parameters_are_options_too() -> None:
    def shown(*, names: tuple[str, ...] = (), as_json: bool = False) -> None: ...

    with pytest.raises(InputError, match="--names is given 2 times"):
        require_once(shown, ["--names", "a", "--as-json", "--as-json", "--names", "b"])
