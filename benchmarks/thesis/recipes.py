"""Recipes of the tables: a folder each of ``benchmarks/recipes``, with a file of train.py's --config for every arm.

``make demo`` takes the demo's from there too. A recipe that is changed is changed there and nowhere else.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

RecipeName = Literal["demo", "thesis"]
Arm = Literal["pretrain", "finetune", "scratch"]

ROOT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """How each arm is trained."""

    name: RecipeName
    chosen: str  #: on what it was chosen: a sentence of the record and of the page

    def file(self, arm: Arm) -> Path:
        """What train.py is given as --config."""
        return ROOT / "benchmarks" / "recipes" / self.name / f"{arm}.yaml"


#: Of the generator. What is reported is of the first; who chooses a recipe does so on the second.
REPORTED_SEED, CHOOSING_SEED = 0, 1

DEMO = Recipe(
    name="demo",
    chosen=f"Both arms' settings come from the same grid, tried on a corpus of the generator's seed {CHOOSING_SEED}; "
    f"the reported one is of seed {REPORTED_SEED}, and nothing was chosen on it.",
)
THESIS = Recipe(
    name="thesis",
    chosen="Of the thesis what it has published; else train.py's defaults, which were chosen without these datasets.",
)
RECIPES = {recipe.name: recipe for recipe in (DEMO, THESIS)}
