"""How sure a share is."""

import math

Z95 = 1.959964  #: standard deviations to either side of a normal distribution's mean that hold 95 % of it


def wilson(share: float, count: float, z: float = Z95) -> tuple[float, float]:
    """Confidence interval of a probability, (low, high), from the share of successes among independent trials.

    Wilson: Probable Inference, the Law of Succession, and Statistical Inference (JASA, 1927). Unlike the textbook's ±,
    it stays within 0 … 1 and does not shrink to nothing at 0 or at 1.

    Args:
        share: of successes.
        count: of trials, which need not be whole: trials that hang together count for fewer. Of none nothing is known.
        z: the confidence, as deviations of the normal distribution.
    """
    if count == 0:
        return 0.0, 1.0
    centre = share + z * z / (2 * count)
    spread = z * math.sqrt(share * (1 - share) / count + z * z / (4 * count * count))
    scale = 1 + z * z / count
    return max(0.0, (centre - spread) / scale), min(1.0, (centre + spread) / scale)
