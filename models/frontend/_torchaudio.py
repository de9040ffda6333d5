"""The one place that imports torchaudio.

torchaudio 2.11's compiled extension links CUDA's libraries and fails to load (OSError) beside a torch that was built
without CUDA, although every transform used here is written in Python alone. Where torch has no CUDA, a stand-in takes
the extension's place before torchaudio looks for it: it says that there is no extension, which torchaudio knows how to
live without. Where torch has CUDA nothing is touched.
"""

from __future__ import annotations

import sys
from types import ModuleType

import torch

_EXTENSION = "torchaudio._extension"


def _extension_stand_in() -> ModuleType:
    """What torchaudio reads from its extension: that it is absent, and a decorator that asks for it."""
    module = ModuleType(_EXTENSION, "Stand-in: the compiled extension needs CUDA's libraries, and torch has no CUDA.")
    module._IS_TORCHAUDIO_EXT_AVAILABLE = False  # type: ignore[attr-defined]
    module.fail_if_no_align = lambda function: function  # type: ignore[attr-defined]
    return module


if torch.version.cuda is None:
    # setdefault: a torchaudio that is already imported, and so works, keeps what it has.
    sys.modules.setdefault(_EXTENSION, _extension_stand_in())

from torchaudio.transforms import MelSpectrogram  # noqa: E402  (the stand-in has to be there first)

__all__ = ["MelSpectrogram"]
