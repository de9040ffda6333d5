"""DALI is an extra: without it a CPU builds, loads and trains, and who needs it is told what to install."""

import dataclasses
import logging
from pathlib import Path

import pytest
import torch

from loaders import ClipLoader, InputError
from loaders.decode import dali
from loaders.decode.placement import _say_once, without_dali
from sharding.settings import BuildSettings
from tests import forked
from tests.batches import digests
from tests.datasets import make_dataset

WHOLE_WAY = """
import sys

class Refusing:
    def find_spec(self, name, path=None, target=None):
        if f"{name}.".startswith("nvidia.dali."):
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

assert not [name for name in sys.modules if name.startswith("nvidia.dali")]  # train.py is imported already
sys.meta_path.insert(0, Refusing())

from pathlib import Path
import train
from loaders import ClipLoader, InputError
from tests import forked
from tests.batches import digests
from tests.datasets import make_dataset

folder = Path(sys.argv[1])
make_dataset(folder / "made")
with ClipLoader(folder / "made", batch_size=8, seed=3, threads=1) as loader:
    print(*digests(loader))
try:
    ClipLoader(folder / "made", cpu_decoder="dali")
except InputError as error:
    print(error)
sys.argv = ["train.py", "--stage", "pretrain", "--data", str(folder / "made"), "--output", str(folder / "run"),
            "--preset", "tiny", "--width", "4", "--frame-size", "16", "--batch-size", "8", "--max-steps", "2",
            "--no-picture"]
train.main()
"""


def test_without_dali_a_cpu_builds_loads_and_trains(dataset: Path, tmp_path: Path) -> None:
    process = forked.execute(WHOLE_WAY, tmp_path)
    said, error = process.communicate(timeout=120)
    assert process.returncode == 0, error
    made, refused = said.splitlines()[:2]
    with ClipLoader(dataset, batch_size=8, seed=3, threads=1) as loader:
        assert made.split() == digests(loader)
    assert refused == f"cpu_decoder is 'dali', which needs DALI, and that is not installed: {dali.mend()}"
    assert list((tmp_path / "run").glob("checkpoints/*/model.safetensors"))


@pytest.fixture
def no_dali(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dali, "is_installed", lambda: False)
    _say_once.cache_clear()


@pytest.mark.usefixtures("no_dali")
def test_what_dali_alone_decodes_is_refused_with_the_mend(dataset: Path, tmp_path: Path) -> None:
    flac = tmp_path / "flac"
    make_dataset(flac, settings=BuildSettings(size=32, audio_format="flac"))
    for folder, asked, why in (
        (dataset, {"cpu_decoder": "dali"}, "cpu_decoder is 'dali'"),
        (flac, {}, "the audio is flac"),
        (flac, {"video": False}, "the audio is flac"),
    ):
        with pytest.raises(InputError) as refused:
            ClipLoader(folder, **asked)  # type: ignore[arg-type]
        assert str(refused.value) == f"{why}, which needs DALI, and that is not installed: {dali.mend()}"
    with ClipLoader(flac, batch_size=8, audio=False) as silent, ClipLoader(dataset, batch_size=8, video=False) as dark:
        assert next(iter(silent)).audio.numel() == 0
        assert next(iter(dark)).video.numel() == 0
    with pytest.raises(InputError, match="DALI is not installed: pip install"):
        dali.load()


@pytest.mark.parametrize(("cuda", "extra"), [(None, "cuda13"), ("12.8", "cuda12"), ("13.0", "cuda13")])
def test_the_mend_is_the_extra_of_torchs_cuda(cuda: str | None, extra: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.version, "cuda", cuda)
    assert dali.mend() == f"pip install '.[{extra}]'"


def test_a_gpus_batches_without_dali(caplog: pytest.LogCaptureFixture) -> None:
    _say_once.cache_clear()
    with pytest.raises(InputError, match=r"placement is 'gpu'.*not installed: MEND, or use placement cpu"):
        without_dali("gpu", None, "MEND")
    with pytest.raises(InputError, match=r"the audio is flac, which needs DALI.*: MEND"):
        without_dali("auto", "the audio is flac", "MEND")
    with caplog.at_level(logging.WARNING):
        choices = [without_dali("auto", None, "MEND"), without_dali("cpu", None, "MEND")]
    assert [choice.decoder for choice in choices] == ["turbo", "turbo"]
    (said,) = caplog.messages
    assert "MEND" in said


@pytest.mark.usefixtures("no_dali")
def test_a_gpus_batches_are_copied_there_without_dali(dataset: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With a device that holds no data in the GPU's place."""
    for name, found in (("is_available", True), ("device_count", 1), ("current_device", 0)):
        monkeypatch.setattr(torch.cuda, name, lambda found=found: found)
    with pytest.raises(InputError) as refused:
        ClipLoader(dataset, device="cuda", placement="gpu")
    assert f"not installed: {dali.mend()}" in str(refused.value)
    with ClipLoader(dataset, device="cuda", batch_size=8) as loader:
        assert loader.stats().decoder == "turbo"
        assert dali.mend() in loader.stats().decoder_reason
        loader.load_state_dict(loader.state_dict() | {"decoder": "gpu"})
        assert loader.stats().decoder == "turbo"
        loader._settings = dataclasses.replace(loader._settings, device=torch.device("meta"))
        loader._reader._page_locked = False
        monkeypatch.setattr("loaders.loader.to_device", lambda columns, _: list(map(torch.from_numpy, columns)))
        batch = next(iter(loader))
    assert {tensor.device.type for tensor in (batch.video, batch.audio)} == {"meta"}
    assert len(batch.video) == len(batch.audio) == 8
