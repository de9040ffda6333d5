"""OpenCV, where it is installed: what runs the networks that find faces and eyes."""

from __future__ import annotations

import importlib
import importlib.util
from typing import Any

from loaders.errors import InputError


def opencv(missing: str) -> Any:
    """The module ``cv2``, set to one thread: utterances run in parallel processes, whose threads would only contend.

    Args:
        missing: the line for a person where there is none.

    Raises:
        InputError: it is not installed, or cannot be loaded.
    """
    if importlib.util.find_spec("cv2") is None:
        raise InputError(missing)
    try:
        cv2 = importlib.import_module("cv2")
    except ImportError as error:
        # Other packages bring opencv-python in place of ours, which links the libraries of a desktop (libxcb, libGL,
        # libglib); bare images do not have them.
        raise InputError(
            f"OpenCV cannot be loaded ({error}); where there is no desktop: "
            "pip install --force-reinstall --no-deps opencv-python-headless"
        ) from error
    cv2.setNumThreads(1)
    return cv2
