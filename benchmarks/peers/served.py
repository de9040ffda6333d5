"""What every side is asked for, and what it must hand out: the same for ours and for every peer."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, NamedTuple, get_args

import torch

Device = Literal["cpu", "cuda"]
Form = Literal["source", "h264", "mjpeg", "filmstrip"]
FORMS: tuple[Form, ...] = get_args(Form)

#: How a reader of the results page is told what a form is.
DESCRIBED: Mapping[Form, str] = {
    "source": "the utterance's own mp4, with the second at which the clip starts",
    "h264": "the clip's frames alone as H.264 in an mp4, one key frame, and the clip's WAV",
    "mjpeg": "the clip's frames alone as Motion JPEG in an mp4, and the clip's WAV",
    "filmstrip": "the shards that sharding/build.py writes",
}

# What a form's samples consist of in its tars: <key>.<suffix>.
SUFFIXES: Mapping[Form, tuple[str, ...]] = {
    "source": ("mp4", "start.json"),
    "h264": ("mp4", "wav"),
    "mjpeg": ("mp4", "wav"),
    "filmstrip": ("filmstrip.jpg", "audio.wav"),
}


class Served(NamedTuple):
    """A batch. Frames may lie in either order of dimensions: nobody is made to transpose."""

    frames: torch.Tensor | Sequence[torch.Tensor]  #: (B, T, H, W, 3) or (B, T, 3, H, W) uint8, RGB; or B of its clips;
    #: of ours also (B, T, 3·H/2, W), see `loaders.decode.planes`
    audio: torch.Tensor | None  #: (B, samples) float32 in -1 … 1
    keys: Sequence[str]  #: of the frames' clips
    audio_keys: Sequence[str]  #: of the audio's clips


@dataclass(frozen=True)
class Prepared:
    """A folder of prepared forms: the same clips in each, under the same keys."""

    folder: Path

    @cached_property
    def facts(self) -> dict[str, Any]:
        """``clips``, ``frames``, ``size``, ``fps``, ``samples``, ``sample_rate``, ``bytes`` a clip by form, and
        ``originals``: of each key, the number of the clip that it is a copy of."""
        facts: dict[str, Any] = json.loads((self.folder / "prepared.json").read_text())
        return facts

    @property
    def forms(self) -> list[Form]:
        """Those that there are."""
        return [form for form in FORMS if form in self.facts["bytes"]]

    @property
    def dataset(self) -> Path:
        """Ours."""
        return self.folder / "dataset"

    def tars(self, form: Form) -> list[Path]:
        """WebDataset shards of a form; of filmstrips they are ours."""
        folder = self.dataset / "train" if form == "filmstrip" else self.folder / "tars" / form
        return sorted(folder.glob("*.tar"))

    def of_peer(self, peer: str, form: Form) -> Path:
        """A peer's own format of a form."""
        return self.folder / peer / form

    def reference(self, original: int) -> tuple[bytes, bytes]:
        """Filmstrip and WAV of an original clip."""
        stem = self.folder / "reference" / f"{original:06d}"
        return stem.with_suffix(".jpg").read_bytes(), stem.with_suffix(".wav").read_bytes()


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """What a side is to serve."""

    prepared: Prepared
    form: Form
    batch_size: int
    workers: int  #: processes or threads, as the peer counts them: the cores of this machine
    audio: bool  #: with sound, or frames alone
    seconds: float  #: how long it will be measured
    device: Device  #: where batches are to lie
    part: int  #: number of the round: for what can only take a part of the clips
