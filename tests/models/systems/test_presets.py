"""The presets by name, and that the full one has the thesis' sizes."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, replace

import pytest
import torch

from loaders.errors import InputError
from models.systems.presets import (
    FULL,
    PRESETS,
    TINY,
    correspondence_net,
    model_config_from_json,
    preset,
    preset_to_json,
    target_net,
)
from models.systems.targets import HeadsConfig
from models.towers.audio import AudioTowerConfig
from models.towers.tower import Tower, TowerConfig
from tests.datasets import LABELS


def test_full_is_the_thesis() -> None:
    assert (FULL.front_end.frame_size, FULL.video.width, FULL.audio.width) == (224, 64, 64)
    assert (FULL.gaze.features, FULL.gaze.embedding, FULL.ave.embedding) == (103, 128, 128)


def test_presets_by_name() -> None:
    assert preset("full") is FULL
    assert preset("tiny") is TINY
    with pytest.raises(InputError, match=r"'huge'.*full, tiny"):
        preset("huge")
    with pytest.raises(InputError, match="'avee'"):
        correspondence_net(TINY, "avee")  # type: ignore[arg-type]


def test_weights_are_drawn_in_the_order_in_which_runs_had_them() -> None:
    """By which a seed gives the weights that it gave: gaze first for targets, video first for pairs."""
    for network, first in (
        (lambda sizes: target_net(sizes, LABELS), "gaze"),
        (lambda sizes: correspondence_net(sizes, "ave"), "video"),
    ):
        torch.manual_seed(0)
        drawn = network(TINY).get_submodule(first).state_dict()
        torch.manual_seed(0)
        alone = getattr(TINY, first).tower().state_dict()
        assert all(torch.equal(drawn[name], value) for name, value in alone.items())


@dataclass(frozen=True, slots=True, kw_only=True)
class BrightnessConfig(TowerConfig):
    """Of a tower of another kind."""

    scale: float = 1.0

    def tower(self) -> Tower:
        return Brightness(self)


class Brightness(Tower):
    """The mean colour."""

    embedding_dim = 3

    def __init__(self, config: BrightnessConfig) -> None:
        super().__init__()
        self.scale = config.scale

    def forward(self, video: torch.Tensor) -> torch.Tensor:
        return self.scale * video.mean((2, 3, 4))


def test_sizes_come_back_from_json() -> None:
    narrow = replace(TINY, audio=AudioTowerConfig(width=2))
    for sizes in (FULL, TINY, narrow):
        assert preset_to_json(sizes) == asdict(sizes)
        assert model_config_from_json(json.loads(json.dumps(preset_to_json(sizes)))) == sizes
    with pytest.raises(InputError, match="train it again"):
        model_config_from_json(preset_to_json(TINY) | {"smell": {}})


def test_sizes_of_runs_that_called_the_heads_by_their_one_label_are_read() -> None:
    sizes = replace(TINY, heads=HeadsConfig(hidden=8))
    before = preset_to_json(sizes)
    before["emotion"] = before.pop("heads")
    assert model_config_from_json(before) == sizes


def test_a_tower_of_another_kind_comes_back_where_a_preset_has_it(monkeypatch: pytest.MonkeyPatch) -> None:
    sizes = replace(TINY, video=BrightnessConfig(scale=0.5))
    data = json.loads(json.dumps(preset_to_json(sizes)))
    with pytest.raises(InputError, match="BrightnessConfig"):
        model_config_from_json(data)
    monkeypatch.setitem(PRESETS, "bright", replace(TINY, video=BrightnessConfig()))
    assert model_config_from_json(data) == sizes
    assert isinstance(correspondence_net(sizes, "l3").video, Brightness)
