"""Weights and shares as they are given, as Python's own numbers: a state, which holds them, is JSON."""

import math
from typing import Any


def plain(value: Any) -> float:
    """A number of Python, numpy or torch; NaN, which is in no range, for what is none."""
    try:
        return math.fsum([value])  # which takes what float() takes, but no text
    except (TypeError, ValueError, OverflowError, RuntimeError):
        return math.nan
