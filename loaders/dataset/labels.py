"""What a corpus states of its utterances, and a network may predict: its labels, as dataset.json declares them."""

import math
import re
from collections.abc import Container
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Label:
    """One of some classes, or a number.

    Its column of the catalog has its name: the class' name, or the number; null where nothing is stated.
    """

    name: str
    classes: tuple[str, ...] | None = None  #: a network knows a class by its place here; None: the label is a number
    low: float | None = None  #: of the numbers, as the corpus declares or has them; None: it has classes
    high: float | None = None

    def problem(self, reserved: Container[str]) -> str | None:
        """Why no dataset can have such a label beside the ``reserved`` columns of its catalog; None where it can."""
        if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", self.name) or self.name in reserved:
            return f"a label called {self.name!r}, which cannot be a column beside the catalog's others"
        if self.classes is not None:
            known = self.classes
            if not known or len(set(known)) < len(known) or not all(known) or (self.low, self.high) != (None, None):
                return f"the label {self.name!r} of the classes {', '.join(map(repr, known)) or 'none'}"
        elif self.low is None or self.high is None or not -math.inf < self.low <= self.high < math.inf:
            return f"the label {self.name!r} of numbers from {self.low} to {self.high}"
        return None
