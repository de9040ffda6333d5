"""Do these frames and this audio come from one video? The two networks that are pre-trained on that question.

Both are compositions over three towers, and both do without the gaze tower: then they are the networks of Look, Listen
and Learn (L3-Net) and Objects that Sound (AVE-Net). Further towers add embeddings. Logits are (B, 2); index 1 says
match. Towers take what the front end yields by the streams' names, see `models.systems.streams`.

What is seen and what is heard are encoded apart (``encode``), and then compared: row by row (``match``), or everything
seen with everything heard (``scores``), which is how sounds are found for pictures.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from loaders.errors import InputError
from models.systems.streams import Needs, encode, needs_of_network
from models.towers.tower import Stream, Tower


@dataclass(frozen=True, slots=True, kw_only=True)
class L3Config:
    """The layers over the concatenated embeddings."""

    #: Width of the layer between them and the two logits: 128 in Look, Listen and Learn.
    hidden: int = 128


class L3Net(nn.Module):
    """Embeddings side by side → linear, ReLU, linear → 2 (thesis, Figure 3.6; without gaze: Look, Listen and Learn)."""

    #: By what a score is divided in a softmax over many, where nobody says: log odds become as large as they need to.
    temperature = 1.0

    def __init__(
        self,
        video: Tower,
        audio: Tower,
        gaze: Tower | None = None,
        config: L3Config | None = None,
        *,
        further: Mapping[str, Tower] | None = None,
    ) -> None:
        """``further``: towers beside the three, by their places' names."""
        super().__init__()
        self.video, self.audio, self.gaze = video, audio, gaze
        self.further = nn.ModuleDict(further or {})
        hidden = (config or L3Config()).hidden
        width = sum(tower.embedding_dim for tower in _places(self).values())
        self.classifier = nn.Sequential(nn.Linear(width, hidden), nn.ReLU(), nn.Linear(hidden, 2))
        #: What it is trained by, where that has weights of its own to be kept, see `models.objectives.registry`.
        self.objective: nn.Module | None = None

    @property
    def needs(self) -> Needs:
        """What of a clip it looks at."""
        return needs_of_network(self)

    def forward(
        self, video: Stream | None = None, audio: Stream | None = None, gaze: Stream | None = None, **members: Stream
    ) -> Tensor:
        """What the front end yields → logits (B, 2). What no tower takes is not looked at."""
        return self.match(*self.encode(video, audio, gaze, **members))

    def encode(
        self, video: Stream | None = None, audio: Stream | None = None, gaze: Stream | None = None, **members: Stream
    ) -> tuple[Tensor, Tensor]:
        """What the front end yields → embeddings of what is seen, (B, n), and of what is heard, (B, m)."""
        streams = {"video": video, "audio": audio, "gaze": gaze, **members}
        return _apart({place: encode(place, tower, streams) for place, tower in _places(self).items()}, self._heard)

    def match(self, seen: Tensor, heard: Tensor) -> Tensor:
        """Logits (B, 2) of `encode`'s embeddings, row by row."""
        parts = _by_place(seen, heard, self._widths, self._heard)
        logits: Tensor = self.classifier(torch.cat(list(parts.values()), dim=1))
        return logits

    def scores(self, seen: Tensor, heard: Tensor) -> Tensor:
        """Log odds of a match of everything seen, (N, n), with everything heard, (M, m): (N, M), float32.

        The first layer is linear, so it is computed once for each row; what follows is N · M heads.
        """
        first, _, last = self.classifier
        assert isinstance(first, nn.Linear)
        assert isinstance(last, nn.Linear)
        with torch.autocast(seen.device.type, enabled=False):
            weights = dict(
                zip(self._widths, torch.split(first.weight, list(self._widths.values()), dim=1), strict=True)
            )
            by_side = [
                torch.cat([weight for place, weight in weights.items() if (place in self._heard) == is_heard], dim=1)
                for is_heard in (False, True)
            ]
            of_seen = F.linear(seen.float(), by_side[0], first.bias)
            of_heard = F.linear(heard.float(), by_side[1])
            hidden = F.relu(of_seen[:, None] + of_heard[None])
            return hidden @ (last.weight[1] - last.weight[0]) + (last.bias[1] - last.bias[0])

    @property
    def _widths(self) -> dict[str, int]:
        return {place: tower.embedding_dim for place, tower in _places(self).items()}

    @property
    def _heard(self) -> frozenset[str]:
        return _heard(self)


@dataclass(frozen=True, slots=True, kw_only=True)
class AVEConfig:
    """What is compared, and how."""

    #: Length of the vectors that are compared.
    embedding: int = 128
    #: The thesis' text says mean square error, its figure and Objects that Sound Euclidean distance.
    distance: Literal["euclidean", "mse"] = "euclidean"
    #: Give gaze a projection like audio's and video's. In the thesis the gaze tower's own 128 values are compared.
    project_gaze: bool = False


class AVENet(nn.Module):
    """Distances between unit vectors, one a pair of modalities → linear → 2 (thesis, Figure 3.5; without gaze: Objects
    that Sound, Figure 2).

    Audio and video, and what further towers yield, each pass linear, ReLU, linear to 128 values; all vectors are scaled
    to length 1.
    """

    #: See `L3Net.temperature`. √2 times CLIP's first one, 0.07 (Radford et al., 2021): where vectors are unrelated, and
    #: weights as at the start, these log odds change by √2 times as much as a cosine.
    temperature = 0.1

    def __init__(
        self,
        video: Tower,
        audio: Tower,
        gaze: Tower | None = None,
        config: AVEConfig | None = None,
        *,
        further: Mapping[str, Tower] | None = None,
    ) -> None:
        """``further``: towers beside the three, by their places' names."""
        super().__init__()
        self.config = config or AVEConfig()
        size = self.config.embedding
        self.video, self.audio, self.gaze = video, audio, gaze
        self.project_video = _projection(video.embedding_dim, size)
        self.project_audio = _projection(audio.embedding_dim, size)
        self.project_gaze: nn.Module | None = None
        if gaze is not None:
            if self.config.project_gaze:
                self.project_gaze = _projection(gaze.embedding_dim, size)
            elif gaze.embedding_dim != size:
                raise InputError(
                    f"the gaze tower yields {gaze.embedding_dim} values and {size} are compared: "
                    "make them equal or set project_gaze."
                )
        self.further = nn.ModuleDict(further or {})
        self.project_further = nn.ModuleDict(
            {place: _projection(tower.embedding_dim, size) for place, tower in (further or {}).items()}
        )
        vectors = len(_places(self))
        self.classifier = nn.Linear(vectors * (vectors - 1) // 2, 2)
        self._favour_small_distances()
        #: See `L3Net.objective`.
        self.objective: nn.Module | None = None

    def _favour_small_distances(self) -> None:
        """Start with logits ± Σ (√2 − d), or ± Σ (2 − d²) for the mean square error.

        Left to chance, half of all starts would have a large distance mean match, and the network would learn the
        mirror image: embeddings that differ when they belong together. √2 is how far apart unrelated unit vectors are,
        so the start is undecided about towers that have learnt nothing. (Where it was sure of "no match", at 1, it
        took two to five times as many steps to learn anything in trials of ours.)
        """
        squared = self.config.distance == "mse"
        # d² is the mean square error times the size.
        weight = float(self.config.embedding) if squared else 1.0
        undecided = 2.0 if squared else math.sqrt(2.0)
        pairs = self.classifier.in_features
        with torch.no_grad():
            self.classifier.weight.copy_(torch.tensor([[weight], [-weight]]).expand(2, pairs))
            self.classifier.bias.copy_(torch.tensor([-undecided, undecided]) * pairs)

    @property
    def needs(self) -> Needs:
        """What of a clip it looks at."""
        return needs_of_network(self)

    def embed(
        self, video: Stream | None = None, audio: Stream | None = None, gaze: Stream | None = None, **members: Stream
    ) -> tuple[Tensor, ...]:
        """What the front end yields → unit vectors (B, 128) of audio, of video, of gaze with a gaze tower, and of what
        further towers yield."""
        return tuple(self._vectors(video, audio, gaze, **members).values())

    def _vectors(
        self, video: Stream | None = None, audio: Stream | None = None, gaze: Stream | None = None, **members: Stream
    ) -> dict[str, Tensor]:
        """`embed`'s, by the places of the towers that they come from."""
        streams = {"video": video, "audio": audio, "gaze": gaze, **members}
        vectors: dict[str, Tensor] = {
            "audio": self.project_audio(encode("audio", self.audio, streams)),
            "video": self.project_video(encode("video", self.video, streams)),
        }
        if self.gaze is not None:
            gaze_vector = encode("gaze", self.gaze, streams)
            vectors["gaze"] = gaze_vector if self.project_gaze is None else self.project_gaze(gaze_vector)
        for place, tower in _further(self).items():
            vectors[place] = self.project_further[place](encode(place, tower, streams))
        return {place: unit(vector) for place, vector in vectors.items()}

    def distances(
        self, video: Stream | None = None, audio: Stream | None = None, gaze: Stream | None = None, **members: Stream
    ) -> Tensor:
        """Distances (B, pairs): audio–video, audio–gaze, video–gaze, and so on."""
        return self._distances(self.embed(video, audio, gaze, **members))

    def _distances(self, vectors: Sequence[Tensor]) -> Tensor:
        measure = euclidean if self.config.distance == "euclidean" else _mean_square
        return torch.stack([measure(a, b) for a, b in combinations(vectors, 2)], dim=1)

    def forward(
        self, video: Stream | None = None, audio: Stream | None = None, gaze: Stream | None = None, **members: Stream
    ) -> Tensor:
        """What the front end yields → logits (B, 2), float32. What no tower takes is not looked at."""
        return self._logits(self.distances(video, audio, gaze, **members))

    def encode(
        self, video: Stream | None = None, audio: Stream | None = None, gaze: Stream | None = None, **members: Stream
    ) -> tuple[Tensor, Tensor]:
        """What the front end yields → unit vectors side by side, of what is seen, (B, n), and of what is heard,
        (B, m)."""
        return _apart(self._vectors(video, audio, gaze, **members), self._heard)

    def match(self, seen: Tensor, heard: Tensor) -> Tensor:
        """Logits (B, 2) of `encode`'s vectors, row by row."""
        parts = _by_place(seen, heard, dict.fromkeys(self._order, self.config.embedding), self._heard)
        return self._logits(self._distances(list(parts.values())))

    def scores(self, seen: Tensor, heard: Tensor) -> Tensor:
        """Log odds of a match of everything seen, (N, n), with everything heard, (M, m): (N, M), float32.

        Ranked by it, what is nearest comes first as long as the classifier's weights say so.
        """
        with torch.autocast(seen.device.type, enabled=False):
            size = self.config.embedding
            vectors = _by_place(seen.float(), heard.float(), dict.fromkeys(self._order, size), self._heard)
            weight, bias = self.classifier.weight, self.classifier.bias
            total = (bias[1] - bias[0]).expand(len(seen), len(heard))
            for place, ((one, a), (other, b)) in enumerate(combinations(vectors.items(), 2)):
                if (one in self._heard) == (other in self._heard):
                    apart = euclidean(a, b).square() if self.config.distance == "mse" else euclidean(a, b)
                    distance = apart[None] if one in self._heard else apart[:, None]
                else:
                    of_seen, of_heard = (b, a) if one in self._heard else (a, b)
                    # Without a product of matrices, which would lose small distances among large squares.
                    distance = torch.cdist(of_seen, of_heard, compute_mode="donot_use_mm_for_euclid_dist")
                    distance = distance.square() if self.config.distance == "mse" else distance.clamp(min=1e-6)
                if self.config.distance == "mse":
                    distance = distance / size
                total = total + (weight[1, place] - weight[0, place]) * distance
            return total

    @property
    def _order(self) -> tuple[str, ...]:
        further = tuple(_further(self))
        return ("audio", "video", *(() if self.gaze is None else ("gaze",)), *further)

    @property
    def _heard(self) -> frozenset[str]:
        return _heard(self)

    def _logits(self, distances: Tensor) -> Tensor:
        # In float32 whatever surrounds it: the whole answer hangs on differences between a few small numbers.
        with torch.autocast(distances.device.type, enabled=False):
            logits: Tensor = self.classifier(distances)
        return logits


class Encoder(nn.Module):
    """A network as its ``encode``: what is called where all that is seen is compared with all that is heard."""

    def __init__(self, network: L3Net | AVENet) -> None:
        super().__init__()
        self.network = network

    def forward(
        self, video: Stream | None = None, audio: Stream | None = None, gaze: Stream | None = None, **members: Stream
    ) -> tuple[Tensor, Tensor]:
        """See `L3Net.encode`."""
        return self.network.encode(video, audio, gaze, **members)


def unit(x: Tensor) -> Tensor:
    """Each row of `x`, (B, d), scaled to length 1, in float32.

    A gaze tower yields zeros as long as no row of a batch has had gaze. They stay zeros, which are equally far from
    everything, and the small addend keeps their gradient finite.
    """
    x = x.float()
    return x * torch.rsqrt(x.square().sum(1, keepdim=True) + 1e-6)


def euclidean(a: Tensor, b: Tensor) -> Tensor:
    """Distance of each row of `a` from the same row of `b`, (B, d) each → (B,), in float32.

    The square root's slope is infinite at 0. Under a millionth the distance counts as constant: its gradient is 0.
    """
    return (a.float() - b.float()).square().sum(1).clamp(min=1e-12).sqrt()


def _mean_square(a: Tensor, b: Tensor) -> Tensor:
    return (a.float() - b.float()).square().mean(1)


def _projection(width: int, size: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(width, size), nn.ReLU(), nn.Linear(size, size))


def _further(network: L3Net | AVENet) -> dict[str, Tower]:
    return {place: tower for place, tower in network.further.items() if isinstance(tower, Tower)}


def _places(network: L3Net | AVENet) -> dict[str, Tower]:
    """The towers by their places, in the order of what they yield."""
    gaze = {} if network.gaze is None else {"gaze": network.gaze}
    return {"video": network.video, "audio": network.audio, **gaze, **_further(network)}


def _heard(network: L3Net | AVENet) -> frozenset[str]:
    """The places of the towers that hear."""
    return frozenset(
        place for place, tower in _places(network).items() if place == "audio" or tower.modality == "audio"
    )


def _apart(vectors: Mapping[str, Tensor], heard: frozenset[str]) -> tuple[Tensor, Tensor]:
    """What is seen and what is heard, each side by side in the order of the places."""
    seen = [vector for place, vector in vectors.items() if place not in heard]
    return torch.cat(seen, dim=1), torch.cat([vector for place, vector in vectors.items() if place in heard], dim=1)


def _by_place(seen: Tensor, heard: Tensor, widths: Mapping[str, int], is_heard: frozenset[str]) -> dict[str, Tensor]:
    """The inverse of `_apart`: by place, in the order of ``widths``."""
    of_seen = iter(torch.split(seen, [width for place, width in widths.items() if place not in is_heard], dim=1))
    of_heard = iter(torch.split(heard, [width for place, width in widths.items() if place in is_heard], dim=1))
    return {place: next(of_heard if place in is_heard else of_seen) for place in widths}
