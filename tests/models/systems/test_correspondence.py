"""L3-Net and AVE-Net: what they look at, how AVE-Net starts, and gradients that reach everything."""

from __future__ import annotations

from typing import Literal

import pytest
import torch
from torch import Tensor, nn

from loaders.errors import InputError
from models.objectives.correspondence import correspondence_loss
from models.systems.correspondence import AVEConfig, AVENet, L3Net, euclidean, unit
from models.systems.presets import FULL, ModelConfig, correspondence_net
from models.towers.audio import AudioTowerConfig
from models.towers.gaze import GazeTowerConfig
from models.towers.tower import Tower
from models.towers.video import VideoTowerConfig

SMALL = ModelConfig(video=VideoTowerConfig(width=4), audio=AudioTowerConfig(width=4))
Network = Literal["l3", "ave"]
NETWORKS: tuple[Network, ...] = ("l3", "ave")


class Given(Tower):
    """A tower that yields what it is given."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.embedding_dim = size

    def forward(self, x: Tensor) -> Tensor:
        return x


def inputs(batch: int = 6) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    return (
        torch.randn(batch, 3, 2, 24, 24, generator=generator),
        torch.randn(batch, 1, 24, 40, generator=generator),
        torch.randn(batch, 103, generator=generator),
    )


@pytest.mark.parametrize("network", NETWORKS)
@pytest.mark.parametrize("gaze", [True, False])
def test_gradients_reach_every_parameter(network: Network, gaze: bool) -> None:
    torch.manual_seed(0)
    net = correspondence_net(SMALL, network, gaze=gaze)
    video, audio, gaze_values = inputs()
    logits = net(video, audio, gaze_values if gaze else None)
    assert logits.shape == (6, 2)
    correspondence_loss(logits, torch.tensor([0, 1, 0, 1, 1, 0])).backward()
    for name, parameter in net.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name
        assert parameter.grad.abs().sum() > 0, name


@pytest.mark.parametrize("network", NETWORKS)
def test_bfloat16_autocast(network: Network) -> None:
    net = correspondence_net(SMALL, network)
    with torch.autocast("cpu", torch.bfloat16):
        logits = net(*inputs())
        loss = correspondence_loss(logits, torch.tensor([0, 1, 0, 1, 1, 0]))
    assert loss.dtype == torch.float32
    loss.backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in net.parameters())
    if network == "ave":
        assert logits.dtype == torch.float32


@pytest.mark.parametrize("network", NETWORKS)
def test_without_a_gaze_tower_gaze_is_not_looked_at(network: Network) -> None:
    net = correspondence_net(SMALL, network, gaze=False).eval()
    video, audio, gaze = inputs()
    torch.testing.assert_close(net(video, audio, gaze), net(video, audio))


@pytest.mark.parametrize("network", NETWORKS)
def test_a_gaze_tower_needs_gaze(network: Network) -> None:
    net = correspondence_net(SMALL, network)
    with pytest.raises(ValueError, match="no gaze"):
        net(*inputs()[:2])


def test_full_size_parameters() -> None:
    """Counted from the description: towers of 512, 512 and 128, and the layers over them."""
    towers = 14_054_208 + 4_686_144 + (103 * 128 + 128 * 128 + 4 * 128)
    projection = 512 * 128 + 128 + 128 * 128 + 128
    counts = {k: sum(p.numel() for p in correspondence_net(FULL, k).parameters()) for k in NETWORKS}
    assert counts["l3"] == towers + (1152 * 128 + 128) + (128 * 2 + 2)
    assert counts["ave"] == towers + 2 * projection + (3 * 2 + 2)


@pytest.mark.parametrize("distance", ["euclidean", "mse"])
@pytest.mark.parametrize("gaze", [True, False])
def test_ave_starts_by_saying_match_where_distances_are_small(distance: str, gaze: bool) -> None:
    config = AVEConfig(embedding=8, distance="mse" if distance == "mse" else "euclidean")
    net = AVENet(Given(8), Given(8), Given(8) if gaze else None, config)
    net.project_video = net.project_audio = nn.Sequential()

    def says_match(audio: float, gaze: float) -> float:
        """Probability of a match for vectors in a plane, that far (in degrees) from the video's."""
        degrees = torch.tensor([0.0, audio, gaze]).deg2rad()
        plane = torch.stack([degrees.cos(), degrees.sin(), *torch.zeros(6, 3)], dim=1)
        logits: Tensor = net(*plane[:, None])
        return float(logits.detach().softmax(1)[0, 1])

    assert says_match(0, 0) > 0.9
    assert says_match(120, 240) < 0.35  # as far apart as three can be
    # Farther is never more of a match.
    falling = [says_match(angle, 0) for angle in (0, 30, 60, 90, 120, 150, 180)]
    assert falling == sorted(falling, reverse=True)
    assert len(set(falling)) == len(falling)


@pytest.mark.parametrize("distance", ["euclidean", "mse"])
def test_ave_distances_are_of_unit_vectors(distance: str) -> None:
    config = AVEConfig(embedding=128, distance="mse" if distance == "mse" else "euclidean")
    net = AVENet(Given(16), Given(16), Given(128), config)
    video, audio, gaze = torch.randn(5, 16), torch.randn(5, 16), torch.randn(5, 128)
    vectors = net.embed(video, audio, gaze)
    for vector in vectors:
        torch.testing.assert_close(vector.norm(dim=1), torch.ones(5), rtol=1e-3, atol=0)
    a, v, g = vectors
    expected = torch.stack([(a - v).norm(dim=1), (a - g).norm(dim=1), (v - g).norm(dim=1)], dim=1)
    if distance == "mse":
        expected = expected.square() / 128
    torch.testing.assert_close(net.distances(video, audio, gaze), expected)


@pytest.mark.parametrize("distance", ["euclidean", "mse"])
def test_ave_starts_undecided_about_unrelated_vectors(distance: str) -> None:
    config = AVEConfig(embedding=8, distance="mse" if distance == "mse" else "euclidean")
    net = AVENet(Given(8), Given(8), Given(8), config)
    net.project_video = net.project_audio = nn.Sequential()
    logits = net(*(torch.eye(8)[k : k + 1] for k in range(3)))
    torch.testing.assert_close(logits, torch.zeros(1, 2), rtol=0, atol=1e-4)


def test_distance_at_zero_has_finite_gradient() -> None:
    a = torch.randn(4, 8, requires_grad=True)
    euclidean(a, a.detach().clone()).sum().backward()
    assert a.grad is not None
    assert a.grad.isfinite().all()
    b = torch.zeros(4, 8, requires_grad=True)
    (unit(b) * torch.randn(4, 8)).sum().backward()
    assert b.grad is not None
    assert b.grad.abs().max() < 1e5


def test_ave_survives_batches_without_any_gaze() -> None:
    torch.manual_seed(0)
    net = correspondence_net(SMALL, "ave")
    video, audio, gaze = inputs()
    loss = correspondence_loss(net(video, audio, torch.zeros_like(gaze)), torch.tensor([0, 1, 0, 1, 1, 0]))
    loss.backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in net.parameters())
    assert max(float(p.grad.abs().max()) for p in net.parameters() if p.grad is not None) < 1e4


def test_ave_refuses_a_gaze_tower_of_another_size_unless_it_is_projected() -> None:
    preset = ModelConfig(
        video=VideoTowerConfig(width=2), audio=AudioTowerConfig(width=2), gaze=GazeTowerConfig(hidden=8, embedding=16)
    )
    with pytest.raises(InputError, match="project_gaze"):
        correspondence_net(preset, "ave")
    net = AVENet(Given(4), Given(4), Given(16), AVEConfig(project_gaze=True))
    assert net(torch.randn(3, 4), torch.randn(3, 4), torch.randn(3, 16)).shape == (3, 2)


@pytest.mark.parametrize("network", NETWORKS)
def test_a_correspondence_can_be_learnt(network: Network) -> None:
    """Two towers that see the same hidden direction, or not, tell the pairs apart after a few steps."""
    torch.manual_seed(0)
    generator = torch.Generator().manual_seed(2)
    net = L3Net(Given(8), Given(8)) if network == "l3" else AVENet(Given(8), Given(8))
    optimiser = torch.optim.Adam(net.parameters(), lr=1e-2)

    def pairs(n: int) -> tuple[Tensor, Tensor, Tensor]:
        match = torch.arange(n) % 2
        kind = torch.randint(0, 4, (n,), generator=generator)
        other = (kind + torch.where(match == 1, 0, torch.randint(1, 4, (n,), generator=generator))) % 4
        noise = 0.1 * torch.randn(2, n, 8, generator=generator)
        return torch.eye(8)[kind] + noise[0], torch.eye(8)[other + 4] + noise[1], match

    for _ in range(120):
        video, audio, match = pairs(64)
        optimiser.zero_grad()
        correspondence_loss(net(video, audio), match).backward()
        optimiser.step()
    video, audio, match = pairs(400)
    assert (net(video, audio).argmax(1) == match).float().mean() > 0.9


@pytest.mark.parametrize("gaze", [True, False])
@pytest.mark.parametrize("distance", ["euclidean", "mse"])
@pytest.mark.parametrize("further", [None, "visual", "audio"])
@pytest.mark.parametrize("kind", NETWORKS)
def test_scores_of_all_with_all_are_the_log_odds_of_each_pair(
    kind: Network, further: Literal["visual", "audio"] | None, distance: Literal["euclidean", "mse"], gaze: bool
) -> None:
    """Computed at once for everything seen and everything heard; by the plain way, a pair at a time."""
    torch.manual_seed(0)
    more: dict[str, Tower] = {}
    if further is not None:
        more["more"] = Given(5)
        more["more"].modality = further
    towers = (Given(6), Given(7), Given(128) if gaze else None)
    net: L3Net | AVENet
    if kind == "l3":
        net = L3Net(*towers, further=more)
    else:
        net = AVENet(*towers, AVEConfig(distance=distance), further=more)
        with torch.no_grad():
            net.classifier.weight.add_(torch.randn_like(net.classifier.weight))
    sizes = {"video": 6, "audio": 7, **({"gaze": 128} if gaze else {}), **({"more": 5} if more else {})}
    given = {name: torch.randn(4, size) for name, size in sizes.items()}
    if gaze:
        given["gaze"][1] = 0  # as of a clip without
    is_heard = {"audio"} | ({"more"} if further == "audio" else set())
    seen, heard = net.encode(**given)
    assert torch.equal(net.match(seen, heard), net(**given))
    scores = net.scores(seen, heard[:3])
    assert scores.shape == (4, 3)
    for i in range(4):
        for j in range(3):
            pair = {name: values[j if name in is_heard else i, None] for name, values in given.items()}
            logits = net(**pair)
            torch.testing.assert_close(scores[i, j], logits[0, 1] - logits[0, 0], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("kind", NETWORKS)
def test_gradients_of_scores_reach_every_parameter(kind: Network) -> None:
    """Or data-parallel training would wait for it."""
    torch.manual_seed(0)
    net = correspondence_net(SMALL, kind)
    scores = net.scores(*net.encode(*inputs()))
    scores.square().sum().backward()
    assert all(parameter.grad is not None and parameter.grad.isfinite().all() for parameter in net.parameters())
