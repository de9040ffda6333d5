"""Seven emotions from audio, from frames and gaze, or from both (thesis, section 3.4)."""

from __future__ import annotations

import copy
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from loaders.dataset.manifest import EMOTIONS
from models.systems.correspondence import AVENet, L3Net
from models.towers.tower import Tower


@dataclass(frozen=True, slots=True, kw_only=True)
class EmotionConfig:
    """Sizes above the towers. None of them is published: they are choices of ours."""

    #: Width of the layer inside the MLP that joins video and gaze, inside the classifier and inside the joint head.
    hidden: int = 256
    #: Share of the values that training drops in front of each last layer.
    dropout: float = 0.0
    #: Keep the joint head's gradient from everything below it. The thesis trains with CE(A) + CE(V) and does not say
    #: how its joint head learns; detached, it leaves the training of all the rest exactly as published.
    detach_joint: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class EmotionOutput:
    """What could be said from the modalities that were given; None for the rest. Logits are (B, 7)."""

    audio: Tensor | None  #: the audio embedding A, (B, d)
    visual: Tensor | None  #: the gaze-enhanced visual embedding V, (B, d)
    logits_audio: Tensor | None
    logits_visual: Tensor | None
    logits_joint: Tensor | None


class EmotionNet(nn.Module):
    """Three towers; an MLP joins video and gaze into V, of the audio embedding A's size; one classifier, which does not
    know which modality it is given, serves A and V alike; a further head takes [A, V].

    Args:
        video, audio: towers; V takes the audio tower's embedding size.
        gaze: its tower, or None: then V comes from the frames alone.
    """

    def __init__(
        self, video: Tower, audio: Tower, gaze: Tower | None = None, config: EmotionConfig | None = None
    ) -> None:
        super().__init__()
        self.config = config or EmotionConfig()
        self.video, self.audio, self.gaze = video, audio, gaze
        size, hidden, dropout = audio.embedding_dim, self.config.hidden, self.config.dropout
        visual = video.embedding_dim + (0 if gaze is None else gaze.embedding_dim)
        self.join = _mlp(visual, hidden, size, dropout=0.0)
        self.classifier = _mlp(size, hidden, len(EMOTIONS), dropout=dropout)
        self.joint_head = _mlp(2 * size, hidden, len(EMOTIONS), dropout=dropout)

    @classmethod
    def from_correspondence(
        cls, network: L3Net | AVENet, config: EmotionConfig | None = None, *, gaze: Tower | None = None
    ) -> EmotionNet:
        """A network over copies of a pre-trained network's towers; everything above the towers starts anew.

        Args:
            gaze: a tower to use where the pre-trained network has none, or instead of the one it has.
        """
        video, audio, own_gaze = copy.deepcopy((network.video, network.audio, network.gaze))
        return cls(video, audio, own_gaze if gaze is None else gaze, config)

    def forward(
        self, video: Tensor | None = None, audio: Tensor | None = None, gaze: Tensor | None = None
    ) -> EmotionOutput:
        """What the front end yields → embeddings and logits of the modalities that are there.

        Raises:
            ValueError: frames without gaze, for a network that has a gaze tower (the front end yields neutral gaze).
        """
        a = None if audio is None else self.audio(audio)
        v = None if video is None else self._visual(video, gaze)
        joint = None
        if a is not None and v is not None:
            both = torch.cat([a, v], dim=1)
            joint = self.joint_head(both.detach() if self.config.detach_joint else both)
        return EmotionOutput(
            audio=a,
            visual=v,
            logits_audio=None if a is None else self.classifier(a),
            logits_visual=None if v is None else self.classifier(v),
            logits_joint=joint,
        )

    def _visual(self, video: Tensor, gaze: Tensor | None) -> Tensor:
        embedding: Tensor = self.video(video)
        if self.gaze is not None:
            if gaze is None:
                raise ValueError("this network has a gaze tower and was given frames without gaze.")
            embedding = torch.cat([embedding, self.gaze(gaze)], dim=1)
        visual: Tensor = self.join(embedding)
        return visual


def _mlp(width: int, hidden: int, out: int, *, dropout: float) -> nn.Sequential:
    return nn.Sequential(nn.Linear(width, hidden), nn.ReLU(), nn.Dropout(dropout), nn.Linear(hidden, out))
