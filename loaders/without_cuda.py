"""What makes torchaudio importable beside a torch without CUDA.

torchaudio 2.11, the newest, comes from PyPI as a build for CUDA alone: its compiled extension links libtorch_cuda, and
raises OSError on import beside a torch that was built without. transformers imports it where it is installed, and
cannot be imported either. What is used of it here, and what transformers imports of it, is written in Python.
"""

from __future__ import annotations

import sys
from types import ModuleType

import torch

_EXTENSION = "torchaudio._extension"


def make_torchaudio_importable() -> None:
    """Before torchaudio is imported: where torch has no CUDA, a stand-in takes the place of its compiled extension.

    It says that there is no extension, which torchaudio knows how to live without. Where torch has CUDA, and where
    torchaudio is imported already and so works, nothing is touched.
    """
    if torch.version.cuda is None:
        sys.modules.setdefault(_EXTENSION, _stand_in())


def _stand_in() -> ModuleType:
    """What torchaudio reads from its extension: that it is absent, and a decorator that asks for it."""
    module = ModuleType(_EXTENSION, "Stand-in: the compiled extension needs CUDA's libraries, and torch has no CUDA.")
    module._IS_TORCHAUDIO_EXT_AVAILABLE = False  # type: ignore[attr-defined]
    module.fail_if_no_align = lambda function: function  # type: ignore[attr-defined]
    return module
