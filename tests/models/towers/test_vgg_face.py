"""VGG-16 as published in its sizes, narrower ones for the rest."""

from __future__ import annotations

import logging
import os
import pickle
import struct
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from loaders.errors import InputError
from models.towers.torch7 import read_torch7
from models.towers.vgg_face import VggFaceConfig, begin_from

SMALL = VggFaceConfig().with_width(2)


def frames(clips: int = 3, count: int = 4) -> torch.Tensor:
    return torch.randn(clips, 3, count, 32, 32, generator=torch.Generator().manual_seed(0))


def test_full_size_is_vgg_16_up_to_its_seventh_layer() -> None:
    with torch.device("meta"):
        net = VggFaceConfig().tower()
    of_frames = [p for name, p in net.named_parameters() if not name.startswith("gru")]
    # 138,357,544 of VGG-16, less its eighth layer's 4096 · 1000 + 1000.
    assert sum(p.numel() for p in of_frames) == 138_357_544 - 4_097_000
    assert net.gru.input_size == 4096
    assert net.gru.num_layers == 1


def test_frames_are_encoded_alone_and_their_order_by_the_gru() -> None:
    torch.manual_seed(0)
    net, video = SMALL.tower().eval(), frames()
    assert net(video).shape == (3, 128)
    each = torch.stack([net.of_frames(video[:, :, at]) for at in range(4)], 1)
    torch.testing.assert_close(net(video), net.gru(each)[1][-1])
    assert not torch.allclose(net(video), net(video.flip(2)))


def test_a_frame_of_vgg_faces_mean_colour_is_zero_to_it() -> None:
    """Whatever the first layers' weights: with no biases, nothing comes out."""
    net = SMALL.tower()
    mean = torch.tensor([129.1863, 104.7624, 93.5940]) / 255
    frame = ((mean - 0.45) / 0.225)[:, None, None].expand(1, 3, 32, 32)
    torch.testing.assert_close(net.of_frames(frame), torch.zeros(1, SMALL.features), atol=1e-3, rtol=0)


def test_early_fusion_encodes_gaze_with_every_frame() -> None:
    torch.manual_seed(0)
    early = SMALL.with_gaze()
    assert (SMALL.streams, early.streams) == (("video",), ("video", "gaze"))
    net, gaze = early.tower().eval(), torch.randn(3, 103)
    assert not torch.allclose(net(frames(), gaze), net(frames(), -gaze))
    net(frames(), gaze).square().sum().backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in net.parameters())


# -- published weights


class Writer:
    """Torch 7's binary format, as its File.lua writes it; tables and objects are numbered."""

    def __init__(self) -> None:
        self.data, self.index = b"", 0

    def value(self, value: Any) -> None:
        if isinstance(value, float | int):
            self.data += struct.pack("<id", 1, value)
        elif isinstance(value, str):
            self.data += struct.pack("<i", 2) + self._text(value)
        elif isinstance(value, np.ndarray):
            self._tensor(value)
        elif "__class__" in value:
            self._object(value["__class__"])
            self.value({name: one for name, one in value.items() if name != "__class__"})
        else:
            self.index += 1
            self.data += struct.pack("<iii", 3, self.index, len(value))
            for key, one in value.items():
                self.value(key)
                self.value(one)

    def _tensor(self, array: np.ndarray[Any, Any]) -> None:
        """Beginning at the third number of its storage."""
        self._object("torch.FloatTensor")
        strides = [stride // array.itemsize for stride in array.strides]
        self.data += struct.pack(f"<i{2 * array.ndim}qq", array.ndim, *array.shape, *strides, 3)
        self._object("torch.FloatStorage")
        self.data += struct.pack("<q2f", array.size + 2, 9, 9) + array.tobytes()

    def _object(self, name: str) -> None:
        self.index += 1
        self.data += struct.pack("<ii", 4, self.index) + self._text("V 1") + self._text(name)

    @staticmethod
    def _text(text: str) -> bytes:
        return struct.pack("<i", len(text)) + text.encode()


def published(tmp_path: Path, weights: Mapping[str, torch.Tensor], kind: str) -> Path:
    """A file of the weights and biases, those of the first layer for frames of red first in one form, blue in other."""
    names = [name.removesuffix(".weight") for name in weights if name.endswith(".weight")]
    path = tmp_path / f"vgg_face.{kind}"
    if kind == "pth":
        torch.save(dict(weights), path)
        return path
    modules: dict[int, Any] = {}
    for name in names:
        weight, bias = (weights[f"{name}.{part}"].numpy() for part in ("weight", "bias"))
        if not modules:
            weight = np.ascontiguousarray(weight[:, ::-1])
        if weight.ndim == 4:  # as nn.SpatialConvolutionMM has it
            weight = weight.reshape(len(weight), -1)
        modules[len(modules) + 1] = {"__class__": "nn.Layer", "weight": weight, "bias": bias, "kW": 3}
        modules[len(modules) + 1] = {"__class__": "nn.ReLU", "inplace": 1}
    writer = Writer()
    writer.value({"__class__": "nn.Sequential", "modules": modules, "train": 0, "name": "vgg"})
    path.write_bytes(writer.data)
    return path


def drawn(width: int = 2) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(3)
    layers = dict(VggFaceConfig().with_width(width).tower().named_parameters())
    of_vgg = {name: value for name, value in layers.items() if not name.startswith("gru")}
    weights = {name: torch.randn(value.shape, generator=generator) for name, value in of_vgg.items()}
    return {**weights, "fc8.weight": torch.randn(5, 128), "fc8.bias": torch.randn(5)}


@pytest.mark.parametrize("kind", ["pth", "t7"])
def test_published_weights_are_taken_over(tmp_path: Path, kind: str) -> None:
    weights, net = drawn(), SMALL.tower()
    begin_from(net, published(tmp_path, weights, kind))
    for name, value in net.named_parameters():
        assert name.startswith("gru") or torch.equal(value, weights[name]), name


def test_other_files_are_refused_and_random_weights_are_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    net = SMALL.tower()
    with caplog.at_level(logging.WARNING):
        begin_from(net, None)
    assert "random: it knows no faces; --vgg-face FILE" in caplog.text
    file = published(tmp_path, drawn(4), "t7")
    with pytest.raises(InputError, match="layer 1 has 108 weights, and the tower's 54"):
        begin_from(net, file)
    file.write_bytes(file.read_bytes()[:3000])
    with pytest.raises(InputError, match=r"no file of Torch 7 \(it ends too early\)"):
        read_torch7(file)
    for name, content, why in (
        ("a.pth", b"no", "no weights of PyTorch"),
        ("b.t7", b"\x09\0\0\0", "no file of Torch 7"),
    ):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(InputError, match=why):
            begin_from(net, tmp_path / name)
    few = {name: value for name, value in drawn().items() if name.startswith("convolutions.1")}
    with pytest.raises(InputError, match="has 4 layers with weights"):
        begin_from(net, published(tmp_path, few, "pth"))
    with pytest.raises(InputError, match="No such file"):
        begin_from(net, tmp_path / "none.pth")
    begin_from(torch.nn.Linear(1, 1), None)  # a network without such a tower


class Evil:
    """Runs a command when it is unpickled."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[Callable[[str], int], tuple[str]]:
        return os.system, (f"touch {self.mark}",)


def test_a_file_of_weights_runs_no_code(tmp_path: Path) -> None:
    """Neither as PyTorch's nor as Torch 7's, neither in torch's archive nor as a bare pickle."""
    mark = tmp_path / "ran"
    pickle.loads(pickle.dumps(Evil(mark)))
    assert mark.exists()  # the attack works
    mark.unlink()
    for name in ("archive.pth", "bare.pth", "bare.t7"):
        if name == "archive.pth":
            torch.save({"conv.weight": Evil(mark)}, tmp_path / name)
        else:
            (tmp_path / name).write_bytes(pickle.dumps(Evil(mark), protocol=2))
        with pytest.raises(InputError, match=name):
            begin_from(SMALL.tower(), tmp_path / name)
        assert not mark.exists()
