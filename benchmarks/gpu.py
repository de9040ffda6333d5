"""What a GPU could do, and how much of the time it does something."""

import shutil
import subprocess
import threading
from collections.abc import Callable
from types import TracebackType
from typing import Literal

import torch

from loaders.errors import InputError

Precision = Literal["no", "bf16", "fp16"]

#: Dense tensor-core peaks in 10¹² operations a second, by a part of the GPU's name and the precision of the products;
#: "tf32" where float32 is rounded to it. From NVIDIA's data sheets of the H100 (2023), H200 (2024) and A100 (2021), the
#: figures with sparsity halved. The first part that fits counts.
PEAKS: tuple[tuple[str, dict[str, float]], ...] = (
    ("H100 PCIe", {"bf16": 756.0, "fp16": 756.0, "tf32": 378.0, "no": 51.0}),
    ("H100", {"bf16": 989.5, "fp16": 989.5, "tf32": 494.5, "no": 67.0}),
    ("H200", {"bf16": 989.5, "fp16": 989.5, "tf32": 494.5, "no": 67.0}),
    ("A100", {"bf16": 312.0, "fp16": 312.0, "tf32": 156.0, "no": 19.5}),
)

_EVERY = 0.5  # seconds


def require_gpu(device: str) -> None:
    """Raise InputError where ``--device cuda`` is asked for and there is none."""
    if device == "cuda" and not torch.cuda.is_available():
        raise InputError("--device is cuda: there is no GPU here that torch can use: use cpu")


def peak_flops(name: str, precision: str) -> float | None:
    """Operations a second that a GPU of this name does at most; None where its data sheet is not known here."""
    return next((1e12 * peaks[precision] for part, peaks in PEAKS if part in name), None)


def largest(fits: Callable[[int], bool], start: int, most: int) -> int:
    """The largest multiple of ``start`` up to ``most`` that fits, where all below fit too; 0: none does.

    Doubled until it does not fit, then halved in between: ``fits`` is asked some 2·log₂(most / start) times.
    """
    good, bad, trial = 0, most // start + 1, 1
    while good + 1 < bad:
        if fits(trial * start):
            good = trial
        else:
            bad = trial
        trial = 2 * good if 0 < 2 * good < bad else (good + bad) // 2
    return good * start


class Utilisation:
    """Share of the time in which a kernel ran on the GPU, by ``nvidia-smi``, looked at every half second."""

    def __init__(self, index: int) -> None:
        self._index = index
        self._seen: list[float] = []
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True)

    def __enter__(self) -> "Utilisation":
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._ended.set()
        self._thread.join()

    @property
    def percent(self) -> float | None:
        """Mean of what was seen; None where nothing was."""
        return sum(self._seen) / len(self._seen) if self._seen else None

    def _look(self) -> None:
        program = shutil.which("nvidia-smi")
        if program is None:
            return
        query = [program, "--query-gpu=utilization.gpu", "--format=csv,noheader,nounits", "-i", str(self._index)]
        while not self._ended.wait(_EVERY):
            printed = subprocess.run(query, capture_output=True, text=True, check=False).stdout.strip()
            if printed.isdigit():
                self._seen.append(float(printed))
