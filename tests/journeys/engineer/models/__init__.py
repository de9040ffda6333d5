"""The engineer's own networks, in a package of the same name as ours."""

import torch
from torch import nn


class Match(nn.Module):
    """Whether a sound belongs to a picture: (B, T, H, W, 3) uint8 and (B, samples) float32 to (B,) log odds."""

    def __init__(self, width: int = 16) -> None:
        super().__init__()
        self.sight = nn.Sequential(nn.Conv3d(3, width, 5, stride=(2, 4, 4)), nn.ReLU(), nn.AdaptiveAvgPool3d(1))
        self.hearing = nn.Sequential(nn.Conv1d(1, width, 400, stride=160), nn.ReLU(), nn.AdaptiveAvgPool1d(1))
        self.score = nn.Linear(2 * width, 1)

    def forward(self, video: torch.Tensor, audio: torch.Tensor) -> torch.Tensor:
        seen = self.sight(video.permute(0, 4, 1, 2, 3).float() / 255).flatten(1)
        heard = self.hearing(audio[:, None]).flatten(1)
        return self.score(torch.cat([seen, heard], dim=1)).squeeze(1)
