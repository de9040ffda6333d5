"""Settings from a file: the same as on the command line, which wins."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml

from loaders.errors import InputError
from models.training.config import FinetuneConfig, PretrainConfig, as_data, flat
from models.training.config_file import with_file
from train import parse

NEEDED = ["--data", "vox", "--output", "run"]


def file_of(tmp_path: Path, text: str) -> str:
    (tmp_path / "settings.yaml").write_text(text)
    return str(tmp_path / "settings.yaml")


def test_groups_and_plain_options_of_a_file_are_the_command_lines(tmp_path: Path) -> None:
    file = file_of(
        tmp_path,
        """
        optimizer: {learning_rate: 2e-3}
        schedule:
            schedule: cosine
            max_steps: null
        mixed_precision: no
        gaze: no
        weights: [1, 2.5]
        batch-size: 64
        data: [vox, s3://bucket/more]
        """,
    )
    config, given = parse(["--stage", "pretrain", "--config", file, "--output", "run"])
    assert isinstance(config, PretrainConfig)
    spelt = ["--stage=pretrain", "--learning-rate", "2e-3", "--schedule", "cosine", "--mixed-precision", "no"]
    spelt += ["--no-gaze", "--weights", "1", "2.5", "--batch-size", "64", "--data", "vox", "s3://bucket/more"]
    assert config == parse([*spelt, "--output", "run"])[0]
    named = {
        "learning_rate",
        "schedule",
        "max_steps",
        "mixed_precision",
        "gaze",
        "weights",
        "batch_size",
        "data",
        "output",
    }
    assert given == named


def test_options_beside_a_file_win(tmp_path: Path) -> None:
    file = file_of(tmp_path, "{learning_rate: 1, data: [a, b], gaze: false, seed: 3}")
    line = ["--stage", "pretrain", "--seed", "5", f"--config={file}", "--data", "c", "--gaze", "--output", "run"]
    values = flat(parse(line)[0])
    assert (values["learning_rate"], values["data"], values["gaze"], values["seed"]) == (1.0, ("c",), True, 5)


def test_targets_of_a_file_are_the_command_lines_in_a_group_or_not(tmp_path: Path) -> None:
    line = ["--stage", "finetune", *NEEDED, "--targets", "emotion", "valence", "--target-weights", "1", "0.5"]
    for text in (
        "targets: {targets: [emotion, valence], target_weights: [1, 0.5]}",
        "{targets: [emotion, valence], target-weights: [1, 0.5]}",
    ):
        config, _ = parse(["--stage", "finetune", "--config", file_of(tmp_path, text), *NEEDED])
        assert config == parse(line)[0]
    (tmp_path / "run.json").write_text(json.dumps({"stage": "finetune", "config": as_data(config)}))
    assert parse(["--stage", "finetune", "--config", str(tmp_path / "run.json")])[0] == config


@pytest.mark.parametrize("stage", ["pretrain", "finetune"])
def test_a_runs_description_is_a_file_of_settings(tmp_path: Path, stage: str) -> None:
    line = ["--stage", stage, *NEEDED, "--window", "12", "--schedule", "cosine", "--mixed-precision", "bf16"]
    config, _ = parse([*line, "--resume", "--change", "seed"])
    (tmp_path / "run.json").write_text(json.dumps({"stage": stage, "config": as_data(config)}))
    again, _ = parse(["--stage", stage, "--config", str(tmp_path / "run.json")])
    assert again == parse(line)[0]
    other = "finetune" if stage == "pretrain" else "pretrain"
    with pytest.raises(InputError, match=f"of a run of stage {stage}"):
        parse(["--stage", other, "--config", str(tmp_path / "run.json")])


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("learning_rat: 1", "learning_rat is no option"),
        ("alpha: 1", "alpha has no effect at --stage pretrain, only at finetune"),
        ("{triplet: {alpha: 1}}", "triplet is no option"),
        ("{seed: {a: 1}}", "seed holds names"),
        ("stage: finetune", "is for stage finetune"),
        ("- 1", "holds no options"),
        ("", "holds no options"),
        ("{", "neither YAML nor JSON"),
        ("!!python/object/apply:os.system ['false']", "neither YAML nor JSON"),
    ],
)
def test_what_a_file_cannot_say_is_refused_by_name(tmp_path: Path, text: str, problem: str) -> None:
    with pytest.raises(InputError, match=problem) as refusal:
        with_file("pretrain", ["--config", file_of(tmp_path, text)])
    assert "\n" not in str(refusal.value)


def test_a_file_that_is_not_there_or_two_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="No such file"):
        with_file("pretrain", ["--config", str(tmp_path / "none")])
    with pytest.raises(InputError, match="give a file"):
        with_file("pretrain", ["--config"])
    with pytest.raises(InputError, match="2 times"):
        with_file("pretrain", ["--config", "a", "--config", "b"])


def test_what_is_missing_is_named() -> None:
    with pytest.raises(InputError, match="--stage finetune needs --data and --output"):
        parse(["--stage", "finetune"])
    config, _ = parse(["--stage", "finetune", *NEEDED])
    assert isinstance(config, FinetuneConfig)
    for wrong in ([], ["--stage"], ["--stage", "predict"]):
        with pytest.raises(InputError, match="of pretrain, finetune, evaluate"):
            parse(wrong)


def test_the_help_names_the_program_as_it_was_called(capsys: pytest.CaptureFixture[str]) -> None:
    for prog in ("train.py", "filmstrip train"):
        for line, usage in (
            (["--stage", "evaluate", "--help"], f"usage: {prog} --stage evaluate "),
            (["-h"], f"usage: {prog} "),
        ):
            with pytest.raises(SystemExit) as ended:
                parse(line, prog)
            assert ended.value.code == 0
            assert capsys.readouterr().out.startswith(usage)


def test_a_file_of_settings_runs_no_code(tmp_path: Path) -> None:
    mark = tmp_path / "ran"
    text = f"learning_rate: !!python/object/apply:os.system ['touch {mark}']\n"
    yaml.unsafe_load(text)
    assert mark.exists()  # the attack works
    mark.unlink()
    with pytest.raises(InputError, match="neither YAML nor JSON"):
        parse(["--stage", "pretrain", "--config", file_of(tmp_path, text), *NEEDED])
    assert not mark.exists()
