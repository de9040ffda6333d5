"""What a network needs of its clips: each tower takes the streams that it names, whatever place it has."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Protocol

from torch import Tensor, nn

from models.towers.tower import Modality, Stream, Tower

VIDEO, AUDIO, GAZE = "video", "audio", "gaze"
#: What the front end makes of what is in every batch; all other streams are members of a dataset.
OWN = (VIDEO, AUDIO, GAZE)


class TakesStreams(Protocol):
    """A tower, or its settings."""

    @property
    def streams(self) -> tuple[str, ...]:
        """See `Tower.streams`."""
        ...

    @property
    def modality(self) -> Modality:
        """See `Tower.modality`."""
        ...


@dataclass(frozen=True, slots=True)
class Needs:
    """What is read and decoded for a network, and what is not."""

    streams: tuple[str, ...]  #: all of them, by name
    of_audio: tuple[str, ...]  #: those of the members that are of the sound
    of_gaze: tuple[str, ...]  #: those that are of gaze

    @property
    def video(self) -> bool:
        """Whether frames are decoded."""
        return VIDEO in self.streams

    @property
    def audio(self) -> bool:
        """Whether the waveform is read."""
        return AUDIO in self.streams

    @property
    def members(self) -> tuple[str, ...]:
        """What `loaders.ClipLoader` is asked for by its ``members``."""
        return tuple(name for name in self.streams if name not in OWN)


#: Of a network over frames, sound and gaze statistics.
PLAIN = Needs(OWN, (), (GAZE,))


def needs_of(towers: Mapping[str, TakesStreams]) -> Needs:
    """What towers need, or towers of such settings, by their places."""
    found: dict[str, Modality] = {}
    for place, tower in towers.items():
        for name in streams_of(place, tower):
            found.setdefault(name, tower.modality)
    heard = tuple(name for name, modality in found.items() if modality == "audio" and name not in OWN)
    gaze = streams_of(GAZE, towers[GAZE]) if GAZE in towers else (GAZE,) if GAZE in found else ()
    return Needs(tuple(found), heard, gaze)


def needs_of_network(network: nn.Module) -> Needs:
    """What a network's towers need: those that are its own attributes, and those in its ``further``."""
    return needs_of(dict(_towers(network)))


def streams_of(place: str, tower: TakesStreams) -> tuple[str, ...]:
    """What a tower takes that has this place: by default what is called so."""
    return tower.streams or (place,)


def encode(place: str, tower: Tower, streams: Mapping[str, Stream | None]) -> Tensor:
    """What the tower in a place yields of a batch's streams, (B, `embedding_dim`).

    Raises:
        ValueError: what it takes was not given.
    """
    taken: list[Stream] = []
    for name in streams_of(place, tower):
        stream = streams.get(name)
        if stream is None:
            raise ValueError(f"this network's {place} tower takes {name}, and was given no {name}.")
        taken.append(stream)
    embedding: Tensor = tower(*taken)
    return embedding


def _towers(network: nn.Module) -> Iterator[tuple[str, Tower]]:
    further = getattr(network, "further", None)
    for module in (network, *((further,) if isinstance(further, nn.Module) else ())):
        for name, child in module.named_children():
            if isinstance(child, Tower):
                yield name, child
