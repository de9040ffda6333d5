"""How all plots look: readable at the 800 pixels of a README's width, and told apart without colours."""

from pathlib import Path
from typing import Any


def style() -> None:
    """Set matplotlib up; draws without a screen."""
    import matplotlib as mpl

    mpl.use("Agg")
    mpl.rcParams.update(
        {
            "font.size": 10,
            "axes.grid": True,
            "grid.alpha": 0.3,
            "axes.spines.top": False,
            "axes.spines.right": False,
            "legend.frameon": False,
            "legend.fontsize": 9,
            "lines.linewidth": 1.6,
            "lines.markersize": 5,
        }
    )


def save(figure: Any, path: Path) -> None:
    """Write a figure of 8 inches' width as 800 pixels, and let it go."""
    from matplotlib import pyplot as plt

    figure.tight_layout()
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=100)
    plt.close(figure)
