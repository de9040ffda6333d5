"""Feeds audio-visual encoders: catalog → order → pairs → storage → DALI or libjpeg-turbo → batches.

The public names are imported when they are first used: `sharding` reads the dataset's description from this package
in many processes, and none of them needs torch.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from loaders.batch import Batch
    from loaders.dataset.dataset import Dataset
    from loaders.errors import InputError
    from loaders.loader import ClipLoader
    from loaders.stats import LoaderStats

__all__ = ["Batch", "ClipLoader", "Dataset", "InputError", "LoaderStats"]

_HOMES = {
    "Batch": "batch",
    "ClipLoader": "loader",
    "Dataset": "dataset.dataset",
    "InputError": "errors",
    "LoaderStats": "stats",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"loaders.{_HOMES[name]}"), name)
