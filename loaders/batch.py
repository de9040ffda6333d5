"""What the loader yields."""

import logging
from collections.abc import Callable, KeysView, Mapping
from dataclasses import dataclass, field, fields
from functools import cache
from typing import Any, overload

import torch

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Batch:
    """B examples as tensors.

    The frames, the gaze, the targets and the members are those of ``clip``; the audio, and the members that were made
    from it (`loaders.ClipLoader`: ``of_audio``), are ``audio_clip``'s: the same moment where ``match`` is 1.
    """

    video: torch.Tensor  #: (B, T, H, W, 3) uint8, RGB; or (B, T, 3·H/2, W), see `loaders.decode.planes`; or (B, 0)
    audio: torch.Tensor  #: (B, samples) float32, waveform in -1 … 1; or (B, 0)
    gaze: torch.Tensor  #: (B, 103) float32, raw; zeros where there is none
    gaze_valid: torch.Tensor  #: (B,) bool
    match: torch.Tensor  #: (B,) int64; 1: audio and frames are of one video
    clip: torch.Tensor  #: (B,) int64, catalog row of the frames
    audio_clip: torch.Tensor  #: (B,) int64, catalog row of the audio
    seed: torch.Tensor  #: (B,) int64, for the front end's augmentation
    targets: Mapping[str, torch.Tensor] = field(default_factory=dict)
    """Of each label that was asked for: (B,) int64, places in `loaders.dataset.labels.Label.classes`, -1 where nothing
    is stated; or (B,) float32, NaN there."""
    members: Mapping[str, torch.Tensor] = field(default_factory=dict)
    """Of each member that was asked for: (B, *shape), of the shape and the type of number that dataset.json declares;
    zeros where there is none, and after the rows of one that has fewer."""
    masks: Mapping[str, torch.Tensor] = field(default_factory=dict)
    """Of each of `members`, where there is one: (B,) bool; or (B, rows) of one whose number of rows varies."""

    def __len__(self) -> int:
        return len(self.clip)

    @overload
    def __getitem__(self, rows: slice, /) -> "Batch": ...

    @overload
    def __getitem__(self, name: str, /) -> Any: ...

    def __getitem__(self, key: slice | str, /) -> Any:
        """Some of the examples, ``batch[:4]``, not copied; or a field by its name, as ``batch["video"]``.

        Raises:
            KeyError: there is no such field.
            TypeError: neither a slice nor a name.
        """
        if isinstance(key, slice):
            return self._each(lambda tensor: tensor[key])
        if not isinstance(key, str):
            raise TypeError(f"batch[{key!r}]: a batch is indexed by the name of a field, or by a slice of examples")
        if key in self:
            return getattr(self, key)
        within = [name for name in ("targets", "members") if key in getattr(self, name)]
        mend = f"it is batch[{within[0]!r}][{key!r}]" if within else f"there are {', '.join(self.keys())}"
        raise KeyError(f"a batch has no field {key!r}: {mend}")

    def __contains__(self, name: object) -> bool:
        """Whether a field has this name."""
        return name in self.keys()

    def keys(self) -> KeysView[str]:
        """The fields' names: with `__getitem__` what ``model(**batch)`` and ``dict(batch)`` take."""
        return dict(self._fields()).keys()

    def as_dict(self) -> dict[str, torch.Tensor | dict[str, torch.Tensor]]:
        """The fields by their names, not copied: what takes keyword arguments or a mapping can have them so.

        ``targets``, ``members`` and ``masks`` are dictionaries in it.
        """
        return {name: value if isinstance(value, torch.Tensor) else dict(value) for name, value in self._fields()}

    def to(self, device: torch.device | str, *, non_blocking: bool = False) -> "Batch":
        """The batch on another device. ``non_blocking`` overlaps the copy only from pinned memory."""
        return self._each(lambda tensor: tensor.to(device, non_blocking=non_blocking))

    def pin_memory(self) -> "Batch":
        """The batch in page-locked host memory, from which a GPU copies without stopping the host.

        Where there is nothing to pin it is this very batch, and a line of the log says why: it lies on a GPU already,
        as those of ``ClipLoader(device="cuda:0")`` do, or torch can use no GPU here.
        """
        if self.clip.device.type != "cpu":
            return self._as_it_is(f"it lies on {self.clip.device} already")
        if not torch.accelerator.is_available():
            return self._as_it_is("torch can use no GPU here")
        return self._each(torch.Tensor.pin_memory)

    def _as_it_is(self, why: str) -> "Batch":
        _say_unpinned(why)
        return self

    def _fields(self) -> list[tuple[str, torch.Tensor | Mapping[str, torch.Tensor]]]:
        return [(field.name, getattr(self, field.name)) for field in fields(self)]

    def _each(self, change: Callable[[torch.Tensor], torch.Tensor]) -> "Batch":
        """The batch with every tensor changed."""
        changed: dict[str, Any] = {}
        for name, value in self._fields():
            if isinstance(value, torch.Tensor):
                changed[name] = change(value)
            else:
                changed[name] = {key: change(tensor) for key, tensor in value.items()}
        return Batch(**changed)


@cache
def _say_unpinned(why: str) -> None:
    """Once a process: a DataLoader that was told to pin asks for each batch."""
    _log.info("a batch is not pinned: %s; pin_memory has no effect", why)
