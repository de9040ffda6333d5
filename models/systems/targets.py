"""What labels say of a clip, from audio, from frames and gaze, or from both.

The thesis' network (section 3.4), whose one label is the emotion, for any number of labels.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from loaders.dataset.labels import Label
from models.systems.correspondence import AVENet, L3Net
from models.systems.streams import Needs, encode, needs_of_network, streams_of
from models.towers.tower import Modality, Stream, Tower


@dataclass(frozen=True, slots=True, kw_only=True)
class HeadsConfig:
    """Sizes above the towers. None of them is published: they are choices of ours."""

    #: Width of the layer inside the MLP that joins video and gaze, and inside each head.
    hidden: int = 256
    #: Share of the values that training drops in front of each last layer.
    dropout: float = 0.0
    #: Keep the joint heads' gradient from everything below them. The thesis trains with CE(A) + CE(V) and does not say
    #: how its joint head learns; detached, it leaves the training of all the rest exactly as published.
    detach_joint: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class TargetOutput:
    """What could be said from the modalities that were given; None for the rest.

    ``from_audio``, ``from_visual`` and ``from_joint`` are by the targets' names: logits (B, classes), or numbers (B,)
    float32 in the label's own units.
    """

    audio: Tensor | None  #: the audio embedding A, (B, d)
    visual: Tensor | None  #: the gaze-enhanced visual embedding V, (B, d)
    from_audio: Mapping[str, Tensor] | None
    from_visual: Mapping[str, Tensor] | None
    from_joint: Mapping[str, Tensor] | None
    targets: tuple[Label, ...]  #: of the network
    scale: Mapping[str, Tensor]  #: of each number, () float32: the standard deviation that its training split has


class NumberHead(nn.Module):
    """(B, d) → (B,) float32: mean + std · MLP. The two are of the training split and lie with the weights."""

    mean: Tensor  #: () float32, in the label's units, as is `std`
    std: Tensor

    def __init__(self, width: int, hidden: int, *, dropout: float) -> None:
        super().__init__()
        self.layers = _mlp(width, hidden, 1, dropout=dropout)
        self.register_buffer("mean", torch.zeros(()))
        self.register_buffer("std", torch.ones(()))

    def forward(self, x: Tensor) -> Tensor:
        """See the class."""
        standardised: Tensor = self.layers(x).float().squeeze(1)
        return self.mean + self.std * standardised


class TargetNet(nn.Module):
    """Three towers; an MLP joins video and gaze into V, of the audio embedding A's size; for each target one head,
    which does not know which modality it is given, serves A and V alike, and a further head takes [A, V].

    Args:
        video, audio: towers; V takes the audio tower's embedding size.
        gaze: its tower, or None: then V comes from the frames alone.
        targets: the labels to predict: a classifier for one of classes, a `NumberHead` for a number.
        further: towers beside the three, by their places' names: those that see are joined into V, and where some hear,
            an MLP joins these with the audio tower into A.
    """

    def __init__(
        self,
        video: Tower,
        audio: Tower,
        gaze: Tower | None = None,
        *,
        targets: Sequence[Label],
        config: HeadsConfig | None = None,
        further: Mapping[str, Tower] | None = None,
    ) -> None:
        super().__init__()
        self.config = config or HeadsConfig()
        self.targets = tuple(targets)
        self.video, self.audio, self.gaze = video, audio, gaze
        self.further = nn.ModuleDict(further or {})
        size = audio.embedding_dim
        heard, seen = (
            sum(tower.embedding_dim for tower in self._towers(modality).values()) for modality in ("audio", "visual")
        )
        self.join = _mlp(seen, self.config.hidden, size, dropout=0.0)
        self.join_audio = _mlp(heard, self.config.hidden, size, dropout=0.0) if heard > size else None
        # In lists, not by names: a label may be called as a module's own attribute is. A target's two heads one after
        # the other: the weights of the first target do not depend on how many there are.
        heads = [(self._head(target, size), self._head(target, 2 * size)) for target in self.targets]
        self.heads = nn.ModuleList(shared for shared, _ in heads)
        self.joint_heads = nn.ModuleList(joint for _, joint in heads)

    @classmethod
    def from_correspondence(
        cls,
        network: L3Net | AVENet,
        targets: Sequence[Label],
        config: HeadsConfig | None = None,
        *,
        gaze: Tower | None = None,
    ) -> TargetNet:
        """A network over copies of a pre-trained network's towers; everything above the towers starts anew.

        Args:
            network: whose towers.
            targets, config: see the class.
            gaze: a tower to use where the pre-trained network has none, or instead of the one it has.
        """
        video, audio, own_gaze, further = copy.deepcopy((network.video, network.audio, network.gaze, network.further))
        towers = {place: tower for place, tower in further.items() if isinstance(tower, Tower)}
        return cls(video, audio, own_gaze if gaze is None else gaze, targets=targets, config=config, further=towers)

    @property
    def needs(self) -> Needs:
        """What of a clip it looks at."""
        return needs_of_network(self)

    def standardise(self, moments: Mapping[str, tuple[float, float]]) -> None:
        """Set what a number's heads begin at and reach: mean and standard deviation by the target's name."""
        for target, *heads in zip(self.targets, self.heads, self.joint_heads, strict=True):
            for head in heads:
                if isinstance(head, NumberHead):
                    mean, std = moments[target.name]
                    head.mean.fill_(mean)
                    head.std.fill_(std)

    @property
    def means(self) -> dict[str, float]:
        """Of each number, its mean over the training split."""
        return {
            target.name: float(head.mean)
            for target, head in zip(self.targets, self.heads, strict=True)
            if isinstance(head, NumberHead)
        }

    def forward(
        self, video: Stream | None = None, audio: Stream | None = None, gaze: Stream | None = None, **members: Stream
    ) -> TargetOutput:
        """What the front end yields → embeddings and predictions of the modalities that are there.

        A modality is there where what its first tower takes was given, that of audio or of video; then its other towers
        need theirs.

        Raises:
            ValueError: frames without gaze, for a network that has a gaze tower (the front end yields neutral gaze); or
                without a member that it takes.
        """
        streams = {"video": video, "audio": audio, "gaze": gaze, **members}
        a, v = self._embedding("audio", self.join_audio, streams), self._embedding("visual", self.join, streams)
        both = None
        if a is not None and v is not None:
            both = torch.cat([a, v], dim=1)
            both = both.detach() if self.config.detach_joint else both
        joint = self._said(self.joint_heads, both)  # first: with dropout, a seed's draws are those that they were
        return TargetOutput(
            audio=a,
            visual=v,
            from_audio=self._said(self.heads, a),
            from_visual=self._said(self.heads, v),
            from_joint=joint,
            targets=self.targets,
            scale={
                target.name: head.std
                for target, head in zip(self.targets, self.heads, strict=True)
                if isinstance(head, NumberHead)
            },
        )

    def _said(self, heads: nn.ModuleList, embedding: Tensor | None) -> dict[str, Tensor] | None:
        if embedding is None:
            return None
        return {target.name: head(embedding) for target, head in zip(self.targets, heads, strict=True)}

    def _head(self, target: Label, width: int) -> nn.Module:
        hidden, dropout = self.config.hidden, self.config.dropout
        if target.classes is None:
            return NumberHead(width, hidden, dropout=dropout)
        return _mlp(width, hidden, len(target.classes), dropout=dropout)

    def _towers(self, modality: Modality) -> dict[str, Tower]:
        """The towers that hear, or those that see, by their places."""
        gaze = {} if self.gaze is None else {"gaze": self.gaze}
        own: dict[str, Tower] = {"audio": self.audio} if modality == "audio" else {"video": self.video, **gaze}
        further = {place: tower for place, tower in self.further.items() if isinstance(tower, Tower)}
        return own | {place: tower for place, tower in further.items() if tower.modality == modality}

    def _embedding(
        self, modality: Modality, join: nn.Module | None, streams: Mapping[str, Stream | None]
    ) -> Tensor | None:
        """A or V; None where what the first of its towers takes is not there."""
        towers = self._towers(modality)
        first, tower = next(iter(towers.items()))
        if streams.get(streams_of(first, tower)[0]) is None:
            return None
        embeddings = [encode(place, tower, streams) for place, tower in towers.items()]
        if join is None:
            return embeddings[0]
        joined: Tensor = join(torch.cat(embeddings, dim=1))
        return joined


def _mlp(width: int, hidden: int, out: int, *, dropout: float) -> nn.Sequential:
    return nn.Sequential(nn.Linear(width, hidden), nn.ReLU(), nn.Dropout(dropout), nn.Linear(hidden, out))
