"""torchaudio can be imported beside a torch without CUDA, and is left alone beside one with it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).resolve().parents[3]


def run(code: str) -> str:
    """What a fresh interpreter prints: what is in sys.modules here must not decide."""
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_a_mel_spectrogram_can_be_computed() -> None:
    code = (
        "import torch; from models.frontend._torchaudio import MelSpectrogram as M;"
        "print(tuple(M(16000, n_fft=512, n_mels=20)(torch.randn(2, 4000)).shape))"
    )
    assert run(code) == "(2, 20, 16)"


@pytest.mark.skipif(torch.version.cuda is not None, reason="torch has CUDA here, so torchaudio's own extension is used")
def test_the_stand_in_is_used_without_cuda() -> None:
    code = (
        "import models.frontend._torchaudio, torchaudio, torchaudio.functional, sys;"
        "extension = sys.modules['torchaudio._extension'];"
        "print(extension._IS_TORCHAUDIO_EXT_AVAILABLE, extension.fail_if_no_align(len) is len)"
    )
    assert run(code) == "False True"


def test_no_stand_in_where_torch_has_cuda() -> None:
    # torchaudio is kept from importing at all: only what is in its extension's place is looked at.
    code = """
import sys, torch
torch.version.cuda = "13.0"
sys.modules["torchaudio"] = None
try:
    import models.frontend._torchaudio
except ImportError:
    print("torchaudio._extension" in sys.modules)
"""
    assert run(code) == "False"


def test_a_torchaudio_that_was_imported_before_keeps_its_extension() -> None:
    code = """
import sys, types
own = types.ModuleType("torchaudio._extension")
own._IS_TORCHAUDIO_EXT_AVAILABLE, own.fail_if_no_align = False, lambda function: function
sys.modules["torchaudio._extension"] = own
import models.frontend._torchaudio
print(sys.modules["torchaudio._extension"] is own)
"""
    assert run(code) == "True"
