"""Prediction from what the loader yields: probabilities, one modality at a time, and nothing left changed."""

from __future__ import annotations

import torch
from torch import Tensor

from models.frontend.front_end import FrontEnd
from models.predict import predict_emotion, predict_match
from models.systems.presets import correspondence_net, emotion_net
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
    front_end, net = FrontEnd(SMALLEST.front_end), emotion_net(SMALLEST)
    given = batch()
    both = predict_emotion(front_end, net, **given)
    heard = predict_emotion(front_end, net, audio=given["audio"])
    seen = predict_emotion(front_end, net, **{k: v for k, v in given.items() if k != "audio"})
    for probabilities in (both.audio, both.visual, both.joint):
        assert probabilities is not None
        torch.testing.assert_close(probabilities.sum(1), torch.ones(3))
    torch.testing.assert_close(heard.audio, both.audio)
    torch.testing.assert_close(seen.visual, both.visual)
    assert heard.visual is heard.joint is seen.audio is seen.joint is None


def test_frames_without_gaze_are_frames_with_gaze_that_is_not_valid() -> None:
    front_end, net = FrontEnd(SMALLEST.front_end), emotion_net(SMALLEST)
    given = batch()
    without = predict_emotion(front_end, net, video=given["video"])
    invalid = predict_emotion(
        front_end, net, video=given["video"], gaze=given["gaze"], gaze_valid=torch.zeros(3, dtype=torch.bool)
    )
    torch.testing.assert_close(without.visual, invalid.visual)


def test_match_probability() -> None:
    front_end, net = FrontEnd(SMALLEST.front_end), correspondence_net(SMALLEST, "ave")
    probability = predict_match(front_end, net, **batch())
    assert probability.shape == (3,)
    assert ((probability >= 0) & (probability <= 1)).all()


def test_prediction_leaves_modes_and_weights_as_they_were() -> None:
    front_end, net = FrontEnd(SMALLEST.front_end), emotion_net(SMALLEST)
    net.train()
    net.audio.eval()  # a frozen tower
    before = {k: v.clone() for k, v in net.state_dict().items()}
    first = predict_emotion(front_end, net, **batch())
    second = predict_emotion(front_end, net, **batch())
    torch.testing.assert_close(first.joint, second.joint, rtol=0, atol=0)
    assert net.training
    assert not net.audio.training
    assert net.video.training
    assert all(torch.equal(v, before[k]) for k, v in net.state_dict().items())
