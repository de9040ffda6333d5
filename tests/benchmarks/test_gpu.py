"""What is said of a GPU that is not here."""

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.gpu import Utilisation, largest, peak_flops


@given(st.integers(0, 2000), st.integers(1, 40), st.integers(1, 3000))
def test_the_largest_that_fits_is_found_in_few_trials(room: int, start: int, most: int) -> None:
    tried = []

    def fits(size: int) -> bool:
        tried.append(size)
        assert size % start == 0
        assert 0 < size <= most
        return size <= room

    assert largest(fits, start, most) == min(room, most) // start * start
    assert len(tried) == len(set(tried)) <= 2 * max(1, most // start).bit_length()


def test_peaks_are_those_of_the_data_sheets_by_name() -> None:
    assert peak_flops("NVIDIA H100 80GB HBM3", "bf16") == 989.5e12
    assert peak_flops("NVIDIA H100 PCIe", "tf32") == 378e12
    assert peak_flops("NVIDIA GeForce GTX 1080", "no") is None


def test_utilisation_is_the_mean_of_what_nvidia_smi_prints(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = tmp_path / "nvidia-smi"
    program.write_text("#!/bin/sh\necho 40 >> $0.seen; wc -l < $0.seen\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setattr("benchmarks.gpu._EVERY", 0.02)
    with Utilisation(0) as busy:
        while busy.percent is None or busy.percent < 2:
            pass
    monkeypatch.setenv("PATH", "")
    with Utilisation(0) as unseen:
        pass
    assert unseen.percent is None
