"""Towers take the streams that they name, wherever they stand; what hears and what sees is joined apart."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from models.objectives.targets import target_loss
from models.systems.correspondence import AVENet, L3Net
from models.systems.presets import correspondence_net, needs, target_net
from models.systems.streams import PLAIN, Needs, needs_of_network
from models.systems.targets import TargetNet
from models.towers.egemaps import EgemapsTowerConfig
from models.towers.gaze_transformer import GazeTransformerConfig
from models.towers.tower import Masked, Stream, Tower
from tests.datasets import LABELS
from tests.presets import SMALLEST

BATCH = 6
MEMBERS = replace(
    SMALLEST,
    gaze=GazeTransformerConfig(width=8, layers=1, heads=2),
    further={"functionals": EgemapsTowerConfig(hidden=8, embedding=8)},
)


def streams(seed: int = 0) -> dict[str, Stream]:
    generator = torch.Generator().manual_seed(seed)

    def drawn(*shape: int) -> Tensor:
        return torch.randn(BATCH, *shape, generator=generator)

    there = torch.ones(BATCH, dtype=torch.bool)
    gaze = drawn(5, 13)
    gaze[:, :, -1] = 1
    own = {"video": drawn(3, 2, 16, 16), "audio": drawn(1, 16, 20), "gaze": drawn(103)}
    return {**own, "gaze_frames": Masked(gaze, there), "egemaps": Masked(drawn(88), there)}


NETWORKS = {
    "l3": lambda: correspondence_net(MEMBERS, "l3"),
    "ave": lambda: correspondence_net(MEMBERS, "ave"),
    "targets": lambda: target_net(MEMBERS, LABELS),
}


@pytest.mark.parametrize("name", NETWORKS)
def test_a_network_says_what_it_needs_and_looks_at_that_alone(name: str) -> None:
    torch.manual_seed(0)
    net = NETWORKS[name]().eval()
    expected = ("video", "audio", "gaze_frames", "egemaps")
    assert net.needs == Needs(expected, of_audio=("egemaps",), of_gaze=("gaze_frames",))
    assert net.needs == needs(MEMBERS, gaze=True) == needs_of_network(net)
    assert net.needs.members == ("gaze_frames", "egemaps")

    def said(given: dict[str, Stream]) -> Tensor:
        out = net(**given)
        return out if isinstance(out, Tensor) else out.from_joint["emotion"]

    given = streams()
    plain = said(given)
    torch.testing.assert_close(said({n: stream for n, stream in given.items() if n in expected}), plain)
    for stream in expected:
        assert not torch.equal(said({**given, stream: streams(1)[stream]}), plain), stream
        if name == "targets" and stream in ("video", "audio"):
            continue  # what a modality's first tower takes may be missing: then it has nothing to say
        others = {n: other for n, other in given.items() if n != stream}
        with pytest.raises(ValueError, match=f"takes {stream}, and was given no {stream}"):
            net(**others)


@pytest.mark.parametrize("name", NETWORKS)
def test_gradients_reach_every_tower(name: str) -> None:
    torch.manual_seed(0)
    net: nn.Module = NETWORKS[name]()
    out = net(**streams())
    if isinstance(out, Tensor):
        out.square().sum().backward()
    else:
        numbers = torch.linspace(-1, 1, BATCH)
        stated = {"emotion": torch.tensor([0, 1, 0, 1, 2, 2]), "arousal": numbers, "valence": numbers.square()}
        target_loss(out, stated).total.backward()
    for parameter_name, parameter in net.named_parameters():
        assert parameter.grad is not None, parameter_name
        assert parameter.grad.isfinite().all(), parameter_name


def test_plain_networks_need_what_every_batch_has() -> None:
    for network in ("l3", "ave"):
        assert correspondence_net(SMALLEST, network).needs == PLAIN
        assert correspondence_net(SMALLEST, network, gaze=False).needs.streams == ("video", "audio")


class Given(Tower):
    """The first values of its stream."""

    embedding_dim = 4

    def __init__(self, stream: str, modality: str = "visual") -> None:
        super().__init__()
        self.streams = (stream,)
        self.modality = "audio" if modality == "audio" else "visual"

    def forward(self, stream: Stream) -> Tensor:
        values = stream.values if isinstance(stream, Masked) else stream
        return values.flatten(1)[:, :4]


def test_what_hears_is_joined_into_a_and_what_sees_into_v() -> None:
    """And one modality needs nothing of the other: it is fed nothing of it."""
    further = {"functionals": Given("egemaps", "audio"), "signals": Given("gaze_frames")}
    net = TargetNet(Given("video"), Given("audio"), Given("gaze"), targets=LABELS, further=further).eval()
    given = streams()
    both = net(**given)
    heard = net(audio=given["audio"], egemaps=given["egemaps"])
    seen = net(video=given["video"], gaze=given["gaze"], gaze_frames=given["gaze_frames"])
    assert both.audio.shape == both.visual.shape == (BATCH, 4)
    torch.testing.assert_close(heard.audio, both.audio)
    torch.testing.assert_close(seen.visual, both.visual)
    assert heard.visual is heard.from_joint is seen.audio is seen.from_joint is None
    with pytest.raises(ValueError, match="takes egemaps"):
        net(audio=given["audio"])
    # A changes with what is heard alone.
    other = net(**{**given, "gaze_frames": streams(1)["gaze_frames"]})
    assert torch.equal(other.audio, both.audio)
    assert not torch.allclose(other.visual, both.visual)


def test_functionals_in_the_place_of_sound_need_no_waveform() -> None:
    net = target_net(replace(SMALLEST, audio=EgemapsTowerConfig(hidden=8, embedding=8)), LABELS).eval()
    assert (net.needs.audio, net.needs.of_audio) == (False, ("egemaps",))
    out = net(egemaps=streams()["egemaps"])
    assert out.from_audio is not None
    assert out.from_visual is None


def test_pairs_are_compared_each_with_each_where_there_are_further_towers() -> None:
    net = AVENet(Given("video"), Given("audio"), further={"more": Given("egemaps", "audio")})
    assert net.distances(**streams()).shape == (BATCH, 3)
    l3 = L3Net(Given("video"), Given("audio"), further={"more": Given("egemaps", "audio")})
    assert l3.classifier[0].in_features == 12


def test_towers_are_handed_on_further_ones_too() -> None:
    pretrained = correspondence_net(MEMBERS, "l3")
    tuned = TargetNet.from_correspondence(pretrained, LABELS)
    before, after = pretrained.state_dict(), tuned.state_dict()
    handed_on = [name for name in before if name.startswith(("video.", "audio.", "gaze.", "further."))]
    assert any(name.startswith("further.functionals.") for name in handed_on)
    assert all(torch.equal(before[name], after[name]) for name in handed_on)
    assert tuned.needs == pretrained.needs
