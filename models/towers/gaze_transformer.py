"""A transformer over gaze signals frame by frame, in place of an MLP over their statistics.

The thesis names it as future work (section 5) and gives no sizes: all of them are choices of ours.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from loaders.errors import InputError
from models.towers.registry import tower
from models.towers.standardise import Standardise
from models.towers.tower import Masked, Tower, TowerConfig

#: Of the signals' columns, those that change their sign in a mirror: the horizontal angle, and its difference.
_HORIZONTAL = (0, 2)


@tower("gaze-transformer", place="gaze")
@dataclass(frozen=True, slots=True, kw_only=True)
class GazeTransformerConfig(TowerConfig):
    """Sizes; the embedding's is that of the MLP that it stands for."""

    signals: int = 12
    width: int = 64
    layers: int = 2
    heads: int = 4
    embedding: int = 128
    dropout: float = 0.0

    @property
    def streams(self) -> tuple[str, ...]:
        """See `Tower.streams`."""
        return ("gaze_frames",)

    def member_shapes(self, seconds: float) -> Mapping[str, tuple[int, ...]]:
        """See `TowerConfig.member_shapes`; of a film of 25 frames a second."""
        return {"gaze_frames": (round(25 * seconds), self.signals + 1)}

    def tower(self) -> GazeTransformer:
        """See `TowerConfig.tower`."""
        return GazeTransformer(self)


class GazeTransformer(Tower):
    """`gaze_frames`, (B, rows, signals + 1), → (B, embedding): encoder layers over the rows, and one that reads them.

    The last column of a row says whether the tracker succeeded; rows where it did not, rows beyond a clip's last, and
    those of a clip without gaze take no part. A row that is always there, and whose values are learnt, gathers the
    others, so a clip without any has an embedding too. Positions are those of Attention Is All You Need (2017), section
    3.5; layers have their norm first.
    """

    compilable = False

    def __init__(self, config: GazeTransformerConfig) -> None:
        super().__init__()
        if config.width % config.heads or config.width % 2:
            raise InputError(f"a width of {config.width} is not to be divided by {config.heads} heads, or not even.")
        self.standardise = Standardise(config.signals)
        self.embed = nn.Linear(config.signals, config.width)
        self.gathering = nn.Parameter(0.02 * torch.randn(config.width))
        self.encoder = nn.ModuleList(
            nn.TransformerEncoderLayer(
                config.width,
                config.heads,
                dim_feedforward=4 * config.width,
                dropout=config.dropout,
                activation="gelu",
                batch_first=True,
                norm_first=True,
            )
            for _ in range(config.layers)
        )
        self.norm = nn.LayerNorm(config.width)
        self.out = nn.Linear(config.width, config.embedding)
        self.embedding_dim = config.embedding
        self._signals = config.signals

    def forward(self, gaze: Masked) -> Tensor:
        """See the class."""
        rows, mask, mirrored = gaze
        if rows.ndim != 3 or rows.shape[2] != self._signals + 1:
            raise InputError(
                f"the dataset's gaze_frames are {tuple(rows.shape[1:])}, and the tower takes rows of "
                f"{self._signals + 1}: build it again with --member gaze_frames"
            )
        seen = (rows[:, :, -1] > 0) & (mask if mask.ndim == 2 else mask[:, None])
        x: Tensor = self.embed(self.standardise(_in_a_mirror(rows[:, :, :-1], mirrored), seen))
        x = x + positions(x.shape[1], x.shape[2], x.device)
        x = torch.cat([self.gathering.expand(len(x), 1, -1).to(x.dtype), x], 1)
        ignored = torch.cat([torch.zeros_like(seen[:, :1]), ~seen], 1)
        for layer in self.encoder:
            x = layer(x, src_key_padding_mask=ignored)
        embedding: Tensor = self.out(self.norm(x[:, 0]))
        return embedding


def _in_a_mirror(signals: Tensor, mirrored: Tensor | None) -> Tensor:
    """(B, rows, signals), with the other sign of what is horizontal where the clip's frames were mirrored."""
    if mirrored is None:
        return signals
    columns = torch.arange(signals.shape[2], device=signals.device)
    horizontal = (columns == _HORIZONTAL[0]) | (columns == _HORIZONTAL[1])
    return torch.where(mirrored[:, None, None] & horizontal, -signals, signals)


def positions(rows: int, width: int, device: torch.device) -> Tensor:
    """(rows, width): sines, and then cosines, of geometrically spaced frequencies."""
    at = torch.arange(rows, device=device, dtype=torch.float32)[:, None]
    frequency = torch.exp(torch.arange(0, width, 2, device=device, dtype=torch.float32) * (-math.log(10000.0) / width))
    return torch.cat([torch.sin(at * frequency), torch.cos(at * frequency)], 1)
