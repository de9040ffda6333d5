"""A video tower that knows faces: VGG-16 for each frame, and a GRU over the frames (Parkhi et al., 2015; Abdou et al.,
2022).

VGG-16 up to its seventh layer is VGG-Face's, 4096 features a frame; the GRU's size is not published and a
choice of ours.
"""

from __future__ import annotations

import logging
import pickle
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from loaders.dataset.manifest import GAZE_STATISTICS
from loaders.errors import InputError, first_line
from models.towers.registry import tower
from models.towers.torch7 import read_torch7
from models.towers.tower import Tower, TowerConfig

_log = logging.getLogger(__name__)

#: Convolutions of each stage, and their channels as multiples of the first's.
_STAGES = ((2, 1), (2, 2), (3, 4), (3, 8), (3, 8))
_SIDE = 7  #: of what the fully connected layers take, in positions: of frames of 224
#: What VGG-Face has taken away from red, green and blue, 0 … 255.
_MEAN = (129.1863, 104.7624, 93.5940)
_SPREAD = 64.0  #: about what they deviate from it: by so much, random weights of the first layer are smaller


@tower("vgg-face-gru", place="video")
@dataclass(frozen=True, slots=True, kw_only=True)
class VggFaceConfig(TowerConfig):
    """Sizes; those of VGG-16 are published, the embedding's is not."""

    #: Channels of the first stage: 64 in VGG-16.
    width: int = 64
    #: Of a frame, what the two fully connected layers yield: 4096 in VGG-16.
    features: int = 4096
    #: Of the GRU, whose last state is the embedding.
    embedding: int = 128
    #: Gaze statistics that are joined with each frame's features before the GRU encodes both; 0: none (late fusion).
    gaze: int = 0
    #: How the front end has normalised frames in 0 … 1: `FrontEndConfig.video_mean` and `video_std`.
    frame_mean: float = 0.45
    frame_std: float = 0.225

    @property
    def streams(self) -> tuple[str, ...]:
        """See `Tower.streams`."""
        return ("video", "gaze") if self.gaze else ("video",)

    def tower(self) -> VggFaceTower:
        """See `TowerConfig.tower`."""
        return VggFaceTower(self)

    def with_width(self, width: int) -> VggFaceConfig:
        """All of it narrower in proportion, see `TowerConfig.with_width`."""
        return replace(self, width=width, features=64 * width)

    def with_gaze(self) -> VggFaceConfig:
        """See `TowerConfig.with_gaze`."""
        return replace(self, gaze=GAZE_STATISTICS)


class VggFaceTower(Tower):
    """(B, 3, T, height, width) frames, and gaze statistics (B, gaze) if it is to encode them → (B, embedding)."""

    memory_format = torch.channels_last
    mean: Tensor

    def __init__(self, config: VggFaceConfig) -> None:
        super().__init__()
        channels = [3, *(config.width * multiple for count, multiple in _STAGES for _ in range(count))]
        self.convolutions = nn.ModuleList(
            nn.Conv2d(before, after, 3, padding=1) for before, after in pairwise(channels)
        )
        self.fc6 = nn.Linear(channels[-1] * _SIDE * _SIDE, config.features)
        self.fc7 = nn.Linear(config.features, config.features)
        for layer in (*self.convolutions, self.fc6, self.fc7):  # of so many layers without norms, torch's own fade out
            nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
            nn.init.zeros_(layer.bias)
        with torch.no_grad():
            self.convolutions[0].get_parameter("weight").div_(_SPREAD)
        # A constant, but a buffer: made anew on a GPU, it would cost a copy that the host waits for.
        self.register_buffer("mean", torch.tensor(_MEAN)[:, None, None], persistent=False)
        self.gru = nn.GRU(config.features + config.gaze, config.embedding, batch_first=True)
        self.embedding_dim = config.embedding
        self._from = config.frame_mean, config.frame_std
        self._takes_gaze = config.gaze > 0

    def forward(self, video: Tensor, gaze: Tensor | None = None) -> Tensor:
        """See the class."""
        clips, _, frames, _, _ = video.shape
        features = self.of_frames(video.transpose(1, 2).flatten(0, 1)).view(clips, frames, -1)
        if self._takes_gaze:
            if gaze is None:
                raise ValueError("this tower encodes gaze with its frames, and was given none.")
            features = torch.cat([features, gaze.to(features.dtype)[:, None].expand(-1, frames, -1)], 2)
        _, last = self.gru(features)
        embedding: Tensor = last[-1]
        return embedding

    def of_frames(self, frames: Tensor) -> Tensor:
        """VGG-Face's features of frames as the front end yields them: (N, 3, height, width) → (N, features)."""
        mean, std = self._from
        x = (frames * std + mean) * 255 - self.mean
        x = x.contiguous(memory_format=torch.channels_last)
        convolutions = iter(self.convolutions)
        for count, _ in _STAGES:
            for _ in range(count):
                x = F.relu(next(convolutions)(x))
            x = F.max_pool2d(x, [min(2, side) for side in x.shape[2:]], ceil_mode=True)
        x = F.adaptive_avg_pool2d(x, _SIDE).flatten(1)  # of frames of 224 it is what it was
        return F.relu(self.fc7(F.relu(self.fc6(x))))

    def layers(self) -> list[nn.Conv2d | nn.Linear]:
        """Those of VGG-Face that have weights, in their order: thirteen convolutions, two fully connected."""
        return [layer for layer in (*self.convolutions, self.fc6, self.fc7) if isinstance(layer, nn.Conv2d | nn.Linear)]


def begin_from(network: nn.Module, file: Path | None) -> None:
    """Give the tower of a network VGG-Face's published weights; a warning where there are none to give.

    Args:
        network: one without such a tower is left alone.
        file: of Torch 7 (``VGG_FACE.t7``, whose frames have blue first), or PyTorch's (``.pth``, red first): a mapping
            of names to tensors, in the order of the layers, with weights and biases. What they have beyond the seventh
            layer is left out.

    Raises:
        InputError: it cannot be read, or is of other layers.
    """
    for known in (module for module in network.modules() if isinstance(module, VggFaceTower)):
        if file is None:
            _log.warning("the weights of VGG-Face are random: it knows no faces; --vgg-face FILE gives published ones")
            continue
        is_torch7 = file.suffix == ".t7"
        found = list(_of_torch7(read_torch7(file)) if is_torch7 else _of_pytorch(file))
        layers = known.layers()
        if len(found) < len(layers):
            raise InputError(f"--vgg-face {file}: has {len(found)} layers with weights, VGG-Face has 16: give its file")
        for number, (layer, (weight, bias)) in enumerate(zip(layers, found, strict=False), 1):
            if weight.numel() != layer.weight.numel() or layer.bias is None or bias.shape != layer.bias.shape:
                raise InputError(
                    f"--vgg-face {file}: layer {number} has {weight.numel()} weights, and the tower's "
                    f"{layer.weight.numel()}: VGG-Face's own sizes are those of --preset full"
                )
            weight = weight.reshape(layer.weight.shape).float()
            if is_torch7 and number == 1:
                weight = weight.flip(1)
            with torch.no_grad():
                layer.weight.copy_(weight)
                layer.bias.copy_(bias.float())


def _of_torch7(module: Any) -> Iterator[tuple[Tensor, Tensor]]:
    if not isinstance(module, dict):
        return
    if isinstance(module.get("modules"), dict):
        for number in sorted(module["modules"]):
            yield from _of_torch7(module["modules"][number])
    elif module.get("weight") is not None and module.get("bias") is not None:
        yield torch.from_numpy(module["weight"]), torch.from_numpy(module["bias"])


def _of_pytorch(file: Path) -> Iterator[tuple[Tensor, Tensor]]:
    try:
        data = torch.load(file, map_location="cpu", weights_only=True)
    except OSError as error:
        raise InputError(
            f"--vgg-face {file}: {error.strerror or first_line(error)}: give a file that can be read"
        ) from error
    except (RuntimeError, EOFError, ValueError, pickle.UnpicklingError) as error:
        raise InputError(f"--vgg-face {file}: no weights of PyTorch ({first_line(error)})") from error
    if not isinstance(data, Mapping):
        raise InputError(f"--vgg-face {file}: holds no weights by name: give the file as it was published")
    for name, weight in data.items():
        bias = data.get(f"{name.removesuffix('weight')}bias") if str(name).endswith("weight") else None
        if isinstance(weight, Tensor) and isinstance(bias, Tensor):
            yield weight, bias
