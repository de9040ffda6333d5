"""Every system is made, trained and read back; the default one is what it was."""

from __future__ import annotations

import json

import pytest
import torch

from loaders.errors import InputError
from models.systems.presets import FULL, correspondence_net, model_config_from_json, preset_to_json, target_net
from models.systems.registry import System, sizes_of_system, system, system_of, systems, with_towers
from models.towers.egemaps import EgemapsTowerConfig
from models.towers.gaze_transformer import GazeTransformerConfig
from models.towers.registry import names_for, tower, towers
from models.towers.tower import TowerConfig
from models.towers.vgg_face import VggFaceConfig
from tests.datasets import LABELS
from tests.models.systems.test_streams import streams
from tests.presets import SMALLEST

NAMES = sorted(systems())


def test_the_systems_and_towers_there_are() -> None:
    assert NAMES == ["abdou-early", "abdou-model-level", "ave", "emobed", "gaze-ave", "gaze-l3", "l3"]
    assert names_for("video") == ("conv3d", "vgg-face-gru")
    assert names_for("audio") == ("conv2d", "egemaps-mlp")
    assert names_for("gaze") == ("gaze-mlp", "gaze-transformer")


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("exchanged", [{}, {"gaze": "gaze-transformer"}, {"video": "conv3d", "audio": "conv2d"}])
def test_every_system_with_any_tower_is_made_and_read_back(name: str, exchanged: dict[str, str]) -> None:
    table = system_of(name)
    exchanged = {place: tower for place, tower in exchanged.items() if place != "gaze" or table.gaze_tower}
    if table.fusion == "early" and "video" in exchanged:
        with pytest.raises(InputError, match="VideoTowerConfig cannot encode gaze with its frames"):
            sizes_of_system(SMALLEST, table, exchanged)
        return
    sizes = sizes_of_system(SMALLEST, table, exchanged)
    assert model_config_from_json(json.loads(json.dumps(preset_to_json(sizes)))) == sizes
    pairs = correspondence_net(sizes, table.correspondence, gaze=table.looks_at_gaze)
    labels = target_net(sizes, LABELS, gaze=table.looks_at_gaze)
    assert set(pairs.needs.streams) == set(labels.needs.streams)
    assert (pairs.gaze is not None) == table.gaze_tower
    assert (set(pairs.needs.of_gaze) != set()) == table.looks_at_gaze
    given = {stream: value for stream, value in streams().items() if stream in pairs.needs.streams}
    assert pairs(**given).shape == (6, 2)
    assert labels(**given).from_joint["emotion"].shape == (6, 7)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("gaze_tower", [None, "gaze-transformer"])
def test_every_system_answers_from_one_modality_without_the_others_data(name: str, gaze_tower: str | None) -> None:
    """Given nothing of the other, it says what it says with it."""
    table = system_of(name)
    exchanged = {"gaze": gaze_tower} if gaze_tower is not None and table.gaze_tower else {}
    torch.manual_seed(0)
    sizes = sizes_of_system(SMALLEST, table, exchanged)
    network = target_net(sizes, LABELS, gaze=table.looks_at_gaze).eval()
    given = {stream: value for stream, value in streams().items() if stream in network.needs.streams}
    heard = {stream: value for stream, value in given.items() if stream in {"audio", *network.needs.of_audio}}
    seen = {stream: value for stream, value in given.items() if stream not in heard}
    both, by_ear, by_eye = network(**given), network(**heard), network(**seen)
    assert by_ear.from_visual is by_ear.from_joint is by_eye.from_audio is by_eye.from_joint is None
    for label in LABELS:
        torch.testing.assert_close(by_ear.from_audio[label.name], both.from_audio[label.name])
        torch.testing.assert_close(by_eye.from_visual[label.name], both.from_visual[label.name])


@pytest.mark.parametrize(("name", "network", "gaze"), [("gaze-l3", "l3", True), ("ave", "ave", False)])
def test_a_seed_gives_a_system_the_weights_that_its_options_gave(name: str, network: str, gaze: bool) -> None:
    table = system_of(name)
    sizes = sizes_of_system(SMALLEST, table, {})
    assert sizes == SMALLEST
    assert (table.correspondence, table.gaze_tower) == (network, gaze)
    assert preset_to_json(sizes)["video"] == preset_to_json(SMALLEST)["video"]


def test_another_tower_has_the_presets_width_and_one_of_its_kind_its_sizes() -> None:
    changed = with_towers(SMALLEST, {"video": "vgg-face-gru", "audio": "conv2d", "more": "egemaps-mlp"})
    assert changed.video == VggFaceConfig(width=2, features=128)
    assert changed.audio == SMALLEST.audio
    assert changed.further == {"more": EgemapsTowerConfig()}
    assert with_towers(FULL, {"gaze": "gaze-transformer"}).gaze == GazeTransformerConfig()
    with pytest.raises(InputError, match="no tower is called 'convex': choose one of conv2d, conv3d"):
        with_towers(SMALLEST, {"video": "convex"})


def test_names_are_taken_once_and_tables_are_whole() -> None:
    with pytest.raises(ValueError, match="another system is called l3"):
        system("l3", system_of("l3"))
    with pytest.raises(ValueError, match="no tower for audio"):
        system("silent", System(about="", towers={"video": "conv3d"}))
    assert "silent" not in systems()
    with pytest.raises(ValueError, match="another tower is called conv3d"):
        tower("conv3d", place="video")(VggFaceConfig)
    with pytest.raises(ValueError, match="is audio, and for the place 'video'"):
        tower("seen", place="video")(EgemapsTowerConfig)
    assert "seen" not in towers()
    with pytest.raises(InputError, match="no system is called 'l4': choose one of abdou-early"):
        system_of("l4")


def test_settings_of_all_towers_have_defaults_that_json_keeps() -> None:
    for name, found in towers().items():
        made: TowerConfig = found.config()
        sizes = with_towers(SMALLEST, {"more": name})
        assert model_config_from_json(json.loads(json.dumps(preset_to_json(sizes)))) == sizes
        assert made.modality == ("audio" if found.place == "audio" else "visual")
