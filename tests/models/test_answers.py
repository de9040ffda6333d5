"""Prediction from what the loader yields: one modality at a time, and nothing left changed."""

from __future__ import annotations

import torch
from torch import Tensor

from models.answers import predict_match, predict_targets
from models.frontend.front_end import FrontEnd
from models.systems.presets import correspondence_net, target_net
from tests.datasets import EMOTIONS, LABELS
from tests.presets import SMALLEST


def batch(n: int = 3) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(0)
    return {
        "video": torch.randint(0, 256, (n, 2, 20, 20, 3), dtype=torch.uint8, generator=generator),
        "audio": 0.1 * torch.randn(n, 4000, generator=generator),
        "gaze": torch.randn(n, 103, generator=generator),
        "gaze_valid": torch.tensor([True, False, True])[:n],
    }


def test_single_modalities_agree_with_both() -> None:
    front_end, net = FrontEnd(SMALLEST.front_end), target_net(SMALLEST, LABELS)
    given = batch()
    both = predict_targets(front_end, net, **given)
    heard = predict_targets(front_end, net, audio=given["audio"])
    seen = predict_targets(front_end, net, **{k: v for k, v in given.items() if k != "audio"})
    assert {name: said.classes for name, said in both.items()} == {
        "emotion": EMOTIONS,
        "arousal": None,
        "valence": None,
    }
    for name, said in both.items():
        for values in (said.audio, said.visual, said.joint):
            assert values is not None
            if said.classes is None:
                assert values.shape == (3,)
            else:
                assert values.shape == (3, len(said.classes))
                torch.testing.assert_close(values.sum(1), torch.ones(3))
        torch.testing.assert_close(heard[name].audio, said.audio)
        torch.testing.assert_close(seen[name].visual, said.visual)
        assert heard[name].visual is heard[name].joint is seen[name].audio is seen[name].joint is None


def test_numbers_are_in_the_labels_units() -> None:
    front_end, net = FrontEnd(SMALLEST.front_end), target_net(SMALLEST, LABELS)
    plain = predict_targets(front_end, net, audio=batch()["audio"])["arousal"].audio
    net.standardise({"arousal": (100.0, 5.0), "valence": (0.0, 1.0)})
    scaled = predict_targets(front_end, net, audio=batch()["audio"])["arousal"].audio
    assert plain is not None
    torch.testing.assert_close(scaled, 100 + 5 * plain)


def test_frames_without_gaze_are_frames_with_gaze_that_is_not_valid() -> None:
    front_end, net = FrontEnd(SMALLEST.front_end), target_net(SMALLEST, LABELS)
    given = batch()
    without = predict_targets(front_end, net, video=given["video"])
    invalid = predict_targets(
        front_end, net, video=given["video"], gaze=given["gaze"], gaze_valid=torch.zeros(3, dtype=torch.bool)
    )
    torch.testing.assert_close(without["emotion"].visual, invalid["emotion"].visual)


def test_match_probability() -> None:
    front_end, net = FrontEnd(SMALLEST.front_end), correspondence_net(SMALLEST, "ave")
    probability = predict_match(front_end, net, **batch())
    assert probability.shape == (3,)
    assert ((probability >= 0) & (probability <= 1)).all()


def test_prediction_leaves_modes_and_weights_as_they_were() -> None:
    front_end, net = FrontEnd(SMALLEST.front_end), target_net(SMALLEST, LABELS)
    net.train()
    net.audio.eval()  # a frozen tower
    before = {k: v.clone() for k, v in net.state_dict().items()}
    first = predict_targets(front_end, net, **batch())
    second = predict_targets(front_end, net, **batch())
    for name in first:
        torch.testing.assert_close(first[name].joint, second[name].joint, rtol=0, atol=0)
    assert net.training
    assert not net.audio.training
    assert net.video.training
    assert all(torch.equal(v, before[k]) for k, v in net.state_dict().items())
