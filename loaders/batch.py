"""What the loader yields."""

from dataclasses import dataclass, fields

import torch


@dataclass(frozen=True, slots=True)
class Batch:
    """B examples as tensors.

    The frames and the gaze are those of ``clip``, the audio is ``audio_clip``'s: the same moment where ``match`` is 1.
    """

    video: torch.Tensor  #: (B, T, H, W, 3) uint8, RGB; or (B, T, 3·H/2, W), see `loaders.decode.planes`
    audio: torch.Tensor  #: (B, samples) float32, waveform in -1 … 1
    gaze: torch.Tensor  #: (B, 103) float32, raw; zeros where there is none
    gaze_valid: torch.Tensor  #: (B,) bool
    match: torch.Tensor  #: (B,) int64; 1: audio and frames are of one video
    emotion: torch.Tensor  #: (B,) int64, index into `loaders.dataset.manifest.EMOTIONS`; -1 where there is none
    clip: torch.Tensor  #: (B,) int64, catalog row of the frames
    audio_clip: torch.Tensor  #: (B,) int64, catalog row of the audio
    seed: torch.Tensor  #: (B,) int64, for the front end's augmentation

    def __len__(self) -> int:
        return len(self.clip)

    def as_dict(self) -> dict[str, torch.Tensor]:
        """The fields by their names, not copied: what takes keyword arguments or a mapping can have them so."""
        return {field.name: getattr(self, field.name) for field in fields(self)}

    def to(self, device: torch.device | str, *, non_blocking: bool = False) -> "Batch":
        """The batch on another device. ``non_blocking`` overlaps the copy only from pinned memory."""
        return Batch(*(getattr(self, field.name).to(device, non_blocking=non_blocking) for field in fields(self)))

    def pin_memory(self) -> "Batch":
        """The batch in page-locked host memory, from which a GPU copies without stopping the host."""
        return Batch(*(getattr(self, field.name).pin_memory() for field in fields(self)))
