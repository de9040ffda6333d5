"""How much each class counts in a loss, where some are rare."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, get_args

ClassWeighting = Literal["inverse", "inverse_sqrt", "effective"]

#: Of the effective number of samples: the chance that a further sample is something new falls by this each time.
_BETA = 0.999


def class_weights(counts: Sequence[int], weighting: ClassWeighting) -> tuple[float, ...]:
    """Weights of classes for a cross entropy, with a mean of 1 over the samples that they are for.

    - inverse: 1 / n (with the scale, N / (K·n), scikit-learn's "balanced");
    - inverse_sqrt: 1 / √n;
    - effective: (1 − β) / (1 − βⁿ), β = 0.999 (Cui et al., "Class-Balanced Loss Based on Effective Number of Samples",
      CVPR 2019, formula 2): about inverse to n below 1 / (1 − β) samples, and alike above.

    Args:
        counts: samples of each class; one of none has the weight 0.
        weighting: which.

    Raises:
        ValueError: there is no such weighting.
    """
    if weighting == "inverse":
        raw = [1 / count if count else 0.0 for count in counts]
    elif weighting == "inverse_sqrt":
        raw = [count**-0.5 if count else 0.0 for count in counts]
    elif weighting == "effective":
        raw = [(1 - _BETA) / (1 - _BETA**count) if count else 0.0 for count in counts]
    else:
        raise ValueError(f"classes are weighted {weighting!r}, not one of {', '.join(get_args(ClassWeighting))}")
    total = sum(weight * count for weight, count in zip(raw, counts, strict=True))
    return tuple(weight * sum(counts) / total if total else 0.0 for weight in raw)
