"""What a training shows of itself: lines of its curves, a bar, and in the end what bounded its speed."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from typing import Any

import torch
from accelerate import Accelerator
from rich.console import Console
from torch import Tensor

from loaders import ClipLoader
from loaders.progress import progress as bar_or_lines
from loaders.stats import LoaderStats
from models.training.journal import Journal
from models.training.scores import plain


class Curves:
    """Means over the steps between two lines of the curves; the device is asked only once a line."""

    def __init__(self, accelerator: Accelerator) -> None:
        self._accelerator = accelerator
        self._sums: dict[str, Tensor] = {}
        self._steps = 0
        self._last = torch.zeros(())

    def add(self, values: Mapping[str, Tensor]) -> None:
        """Count the scalars of a step."""
        for name, value in values.items():
            value = value.detach().float()
            self._sums[name] = self._sums[name] + value if name in self._sums else value
        self._steps += 1

    @property
    def loss(self) -> Tensor:
        """Its mean since the last line, or up to it right after it: not finite where one of the steps' was not."""
        return self._sums["loss"] / self._steps if self._steps else self._last

    def state_dict(self) -> dict[str, Any]:
        """What was counted since the last line, for a checkpoint between two lines."""
        return {"steps": self._steps, "sums": {name: float(value) for name, value in self._sums.items()}}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on counting: the next line then is that of a run that was not interrupted."""
        device = self._accelerator.device
        self._steps = state["steps"]
        self._sums = {name: torch.tensor(value, device=device) for name, value in state["sums"].items()}

    def log(self, step: int, rate: float, loader: ClipLoader, journal: Journal | None) -> dict[str, float]:
        """Write a line to the trackers, and to the journal where this process has one; returns it, begins the next.

        Called by every rank: a line has means over all of them.
        """
        sums = torch.stack([value.double() for value in self._sums.values()])
        means = self._accelerator.reduce(sums, reduction="mean") / self._steps
        line = dict(zip(self._sums, means.tolist(), strict=True))
        self._last = self.loss
        self._sums, self._steps = {}, 0
        stats = loader.stats()
        of_loader = {f"loader/{name}": v for name, v in asdict(stats).items() if not isinstance(v, str)}
        of_loader |= {
            "loader/clips_per_second": stats.clips_per_second,
            "loader/data_wait_share": stats.data_wait_share,
        }
        curves = {f"train/{name}": value for name, value in line.items()} | {"train/learning_rate": rate}
        self._accelerator.log(curves | of_loader, step=step)
        if journal is not None:
            journal.write(
                {
                    "step": step,
                    "epoch": loader.epoch,
                    "loss": line["loss"],
                    "parts": {name: value for name, value in line.items() if name != "loss"},
                    "learning_rate": rate,
                    "clips_per_second": stats.clips_per_second,
                    "data_wait_share": stats.data_wait_share,
                }
            )
        return line


def told(line: Mapping[str, float], stats: LoaderStats) -> dict[str, float | str]:
    """What a bar shows of a line of the curves, and of the loader: numbers, and texts that have their unit."""
    return {**line, "clips/s": stats.clips_per_second, "data wait": f"{100 * stats.data_wait_share:.2f} %"}


@contextmanager
def progress(
    accelerator: Accelerator, stage: str, done: int, total: int
) -> Iterator[Callable[[int, Mapping[str, Any]], None]]:
    """A bar on the main process, or lines in its log; the yielded function moves it."""
    shown = accelerator.is_main_process
    with bar_or_lines(stage, total, "steps", console=console(), done=done, shown=shown) as bar:

        def show(step: int, line: Mapping[str, Any]) -> None:
            bar.move(step, ", ".join(f"{name} {_short(value)}" for name, value in line.items()))

        yield show


def _short(value: float | str) -> str:
    return value if isinstance(value, str) else f"{value:.3g}"


def say(accelerator: Accelerator, text: str) -> None:
    """A line on the main process's standard output."""
    if accelerator.is_main_process:
        console().print(plain(text), soft_wrap=True)  # paths stay in one piece


def warn(accelerator: Accelerator, text: str) -> None:
    """A line on the main process's standard error."""
    if accelerator.is_main_process:
        print(f"warning: {plain(text)}", file=sys.stderr)


def say_what_bounds(loader: ClipLoader) -> None:
    """How fast it went, and who waited for whom."""
    stats = loader.stats()
    bound = "data" if stats.data_wait_share > 0.01 else "the model"
    console().print(
        f"{stats.clips} clips in {stats.seconds:.0f} s, {stats.clips_per_second:.0f} clips/s; waited for data "
        f"{100 * stats.data_wait_share:.2f} % of the time: bound by {bound}; {stats.bad_clips} bad clips"
    )
    if stats.decoder:
        console().print(f"{decoded_by(stats.decoder)}: {stats.decoder_reason}")


def decoded_by(decoder: str) -> str:
    """How the end of a run begins to tell what decoded, and why."""
    what = {"gpu": "by nvJPEG on the GPU", "cpu": "by DALI on the CPU", "turbo": "by libjpeg-turbo on the CPU"}
    return f"filmstrips were decoded {what[decoder]}"


def console() -> Console:
    """Standard output; as wide as a table needs where nobody says how wide it is."""
    return Console(width=None if sys.stdout.isatty() else 128)
