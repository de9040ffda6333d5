"""DALI, which is an extra: a GPU decodes through it, and FLAC is decoded by it; filmstrips and WAV on a CPU need none.

It is imported when the first graph is made, in a second, and not before: half a gigabyte that a CPU can do without.
"""

import importlib
import importlib.util
from collections.abc import Callable
from types import ModuleType
from typing import Any

import torch

from loaders.errors import InputError, first_line


def is_installed() -> bool:
    """Whether there is a DALI; nothing of it is loaded."""
    try:
        return importlib.util.find_spec("nvidia.dali") is not None
    except ModuleNotFoundError:  # nor any other package of nvidia's
        return False


def mend() -> str:
    """What installs it: the extra of the CUDA that torch was built for, the newer where it was built for none."""
    extra = "cuda12" if (torch.version.cuda or "").startswith("12.") else "cuda13"
    return f"pip install '.[{extra}]'"


def load() -> ModuleType:
    """The module ``nvidia.dali``.

    Raises:
        InputError: it is not installed, or cannot be loaded.
    """
    if not is_installed():
        raise InputError(f"DALI is not installed: {mend()}")
    try:
        dali = importlib.import_module("nvidia.dali")
    except (ImportError, OSError) as error:  # such as libraries of another CUDA
        raise InputError(f"DALI cannot be loaded ({first_line(error)}): {mend()}") from error
    return dali


def graph(outputs: Callable[..., Any], *arguments: Any, **options: Any) -> Any:
    """A pipeline with these options, of the graph that a function of these arguments describes.

    Raises:
        InputError: as of `load`.
    """
    return load().pipeline_def(outputs)(*arguments, **options)
