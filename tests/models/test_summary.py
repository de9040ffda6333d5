"""Parameters and operations of the networks, against formulas by hand."""

import json
import math
from dataclasses import replace
from pathlib import Path

import pytest

from loaders.dataset.labels import Label
from loaders.errors import InputError
from models import summary
from models.systems.presets import FULL, TINY, ModelConfig, preset_to_json
from models.systems.registry import system_of, systems
from models.towers.gaze_transformer import GazeTransformerConfig
from models.towers.tower import TowerConfig
from models.training.labels import to_json

BY_NAME = {"l3": ("classifier",), "ave": ("project_video", "project_audio", "classifier")}


def tower(channels: int, width: int, size: tuple[int, ...]) -> int:
    """Operations of the eight convolutions: two for each product of a weight and a value under it."""
    total = 0
    for stage in range(4):
        out = width << stage
        for number in (0, 1):
            if stage == number == 0:
                size = (*size[:-2], *(math.ceil(side / 2) for side in size[-2:]))  # the only stride
            if len(size) == 3:
                frames = size[0]
                # How many of the kernel's three slices meet each frame: with one or two, none meets padding alone.
                slices = {1: 1, 2: 2 + 2}.get(frames, 3 * frames)
                total += 2 * 9 * channels * out * slices * size[1] * size[2]
            else:
                total += 2 * 9 * channels * out * size[0] * size[1]
            channels = out
        size = tuple(math.ceil(side / 2) for side in size)
    return total


@pytest.mark.parametrize("frames", [16, 1])
def test_convolutions_count_what_they_compute(frames: int) -> None:
    """Also where the last stages have two frames or one, over which they are convolutions in two dimensions."""
    sizes = replace(FULL, front_end=replace(FULL.front_end, frames=frames))
    system = next(summary.systems(sizes))
    counted = summary.count(system, summary.inputs_of(sizes.front_end, 2.0))
    parts = {part.name: part for part in counted.parts}
    assert parts["video"].forward == tower(3, 64, (frames, 224, 224))
    assert parts["audio"].forward == tower(1, 64, (128, 201))
    assert parts["gaze"].forward == 2 * (103 * 128 + 128 * 128)
    assert parts["classifier"].forward == 2 * ((512 + 512 + 128) * 128 + 128 * 2)
    assert parts["gaze"].parameters == 103 * 128 + 128 * 128 + 4 * 128
    # Backward is forward twice, for weights and for inputs; the first layer's inputs are data.
    first = 2 * 9 * 64 * 64 * 101
    assert parts["audio"].step == 3 * parts["audio"].forward - first
    assert parts["classifier"].step == 3 * parts["classifier"].forward
    assert counted.total.step == sum(part.step for part in counted.parts)


def test_every_system_is_listed_with_gaze_and_without() -> None:
    inputs = summary.inputs_of(TINY.front_end, 2.0)
    counted = [summary.count(system, inputs) for system in summary.systems(TINY)]
    assert {(one.system, one.gaze) for one in counted} == {(s, g) for s in ("l3", "ave", "targets") for g in (1, 0)}
    for one, system in zip(counted, summary.systems(TINY), strict=True):
        assert one.total.parameters == sum(weight.numel() for weight in system.build().parameters())
        assert ("gaze" in [part.name for part in one.parts]) == one.gaze
        parts = {part.name: part for part in one.parts}
        assert 2 * parts["video"].forward < parts["video"].step < 3 * parts["video"].forward
        if one.system == "targets":
            # A and V pass the shared head, [A, V] the joint one, whose gradient ends at its input.
            classes = 7
            shared, joint = (2 * (width * 256 + 256 * classes) for width in (128, 256))
            assert (parts["heads"].forward, parts["heads"].step) == (2 * shared, 6 * shared)
            assert (parts["joint_heads"].forward, parts["joint_heads"].step) == (joint, 3 * joint - 2 * 256 * 256)
        else:
            assert set(parts) - {"video", "audio", "gaze"} == set(BY_NAME[one.system])


@pytest.mark.parametrize("name", sorted(systems()))
def test_every_system_is_counted_by_its_towers(name: str, full: bool) -> None:
    if not full and name not in ("abdou-early", "emobed"):
        pytest.skip("--full counts them all")
    system = system_of(name)
    sizes, both = summary.systems_by_name(TINY, name, 2.0)
    inputs = summary.inputs_of(sizes.front_end, 2.0, both[0].members)
    for one in both:
        counted = summary.count(one, inputs)
        parts = {part.name: part for part in counted.parts}
        assert counted.total.parameters == sum(weight.numel() for weight in one.build().parameters())
        assert ("gaze" in parts) == system.gaze_tower
        assert counted.gaze == system.looks_at_gaze
        if system.towers["audio"] == "egemaps-mlp":
            assert parts["audio"].forward == 2 * (88 * 128 + 128 * 128)
            assert parts["audio"].parameters == 88 * 128 + 128 * 128 + 4 * 128
    if system.towers["video"] == "vgg-face-gru":
        assert parts["video"].forward == vgg(TINY.video.width, frames=2, side=48, gaze=system.fusion == "early")  # type: ignore[attr-defined]


def vgg(width: int, *, frames: int, side: int, gaze: bool) -> int:
    """Operations of VGG-16 up to its seventh layer on each frame, and of a GRU of 128 over them."""
    total, channels = 0, 3
    for count, multiple in ((2, 1), (2, 2), (3, 4), (3, 8), (3, 8)):
        for _ in range(count):
            total += 2 * 9 * channels * width * multiple * side * side
            channels = width * multiple
        side = math.ceil(side / 2)
    features = 64 * width
    total += 2 * (channels * 49 * features + features * features)
    total += 2 * 3 * 128 * (features + (103 if gaze else 0) + 128)
    return frames * total


def run_of(folder: Path, sizes: ModelConfig, **more: object) -> Path:
    folder.mkdir()
    run = {"stage": "finetune", "gaze": False, "sizes": preset_to_json(sizes), "init": None, **more}
    (folder / "run.json").write_text(json.dumps(run))
    return folder


def test_a_run_has_its_own_targets_and_sizes(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    targets = (Label(name="valence", classes=None, low=-1.0, high=1.0),)
    small = replace(TINY, video=TINY.video.with_width(4), audio=TINY.audio.with_width(4))
    folder = run_of(tmp_path / "run", small, targets=to_json(targets))
    summary.main([str(folder), "--json"])
    [found] = json.loads(capsys.readouterr().out)
    [system] = found["systems"]
    assert (system["system"], system["gaze"]) == ("targets", False)
    assert found["inputs"]["video"] == [3, 2, 48, 48]
    heads = next(part for part in system["parts"] if part["name"] == "heads")
    assert heads["parameters"] == 32 * 256 + 256 + 256 + 1
    summary.main([str(folder)])
    shown = capsys.readouterr().out
    assert max(map(len, shown.splitlines())) <= 80
    assert "targets, no gaze" in shown
    with pytest.raises(InputError, match="--preset has no effect"):
        summary.summarise(summary.Summary(run=(folder,), preset=("tiny",)))
    tracked = replace(small, gaze=GazeTransformerConfig(signals=5, width=4))
    sizes, system_of_run = summary.of_run(run_of(tmp_path / "tracked", tracked, targets=to_json(targets), gaze=True))
    assert system_of_run.members == {"gaze_frames": (50, 6)}
    assert (
        summary.count(system_of_run, summary.inputs_of(sizes.front_end, 2.0, system_of_run.members)).total.forward > 0
    )
    monkeypatch.setattr(GazeTransformerConfig, "member_shapes", TowerConfig.member_shapes)
    with pytest.raises(InputError, match="its towers take gaze_frames and do not say how large"):
        summary.of_run(tmp_path / "tracked")
    other = run_of(tmp_path / "other", small, stage="pretrain", model="other")
    with pytest.raises(InputError, match="'other', which is none of this program's"):
        summary.of_run(other)


@pytest.mark.parametrize(
    ("operations", "shown"),
    [(12, "12"), (999, "999"), (1000, "1.00 k"), (59_136, "59.1 k"), (999_900, "1.00 M"), (102_400_000_000, "102 G")],
)
def test_operations_are_shown_to_three_digits(operations: int, shown: str) -> None:
    assert summary.readable(operations) == shown
