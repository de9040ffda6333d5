"""A run's front end and network as one ONNX graph, and whether that answers what they do."""

from __future__ import annotations

import logging
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass
from io import StringIO
from statistics import median
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from loaders.dataset.labels import Label
from loaders.dataset.manifest import GAZE_STATISTICS
from loaders.errors import InputError, first_line
from models.frontend.front_end import FrontEnd
from models.prediction.predictor import Predictor
from models.prediction.results import MODALITIES
from models.systems.targets import NumberHead, TargetNet
from sharding.members.declared import members_of

MASK = ".mask"  #: what a member's name and this names: where there is some of it
CLOSE = 1e-3  #: the most that a graph's answer may differ by: of a probability, or of a number's standard deviation
_TIMED = 21  # runs, of which the first is left out


@dataclass(frozen=True, slots=True, kw_only=True)
class Checked:
    """What a graph does beside the network that it was made of."""

    difference: float  #: the largest between their answers
    graph_ms: float  #: of one clip on this machine's CPU, by onnxruntime
    torch_ms: float  #: the same by torch


class OneClip(nn.Module):
    """Front end and network, from tensors in the order of `names` to those of `output_names`."""

    def __init__(self, front_end: FrontEnd, network: TargetNet, names: Sequence[str]) -> None:
        super().__init__()
        self.front_end, self.network, self.names = front_end, network, tuple(names)

    def forward(self, *given: Tensor) -> tuple[Tensor, ...]:
        """See the class."""
        by_name = dict(zip(self.names, given, strict=True))
        own = {name: by_name.pop(name) for name in ("video", "audio", "gaze", "gaze_valid") if name in by_name}
        masks = {name.removesuffix(MASK): by_name.pop(name) for name in list(by_name) if name.endswith(MASK)}
        output = self.network(**self.front_end(**own, members=by_name, masks=masks))
        said = (output.from_audio, output.from_visual, output.from_joint)
        answers = [(target, outputs[target.name].float()) for target in self.network.targets for outputs in said]
        return tuple(values if target.classes is None else values.softmax(1) for target, values in answers)


def output_names(labels: Sequence[Label]) -> list[str]:
    """``emotion.audio``, ``emotion.visual``, ``emotion.joint``, and so on for each target."""
    return [f"{label.name}.{modality}" for label in labels for modality in MODALITIES]


def example(predictor: Predictor, seed: int = 0) -> dict[str, Tensor]:
    """What the graph takes, by name, of one clip; drawn, the same for the same seed.

    ``video`` (1, T, size, size, 3) uint8, the frames that are decoded of a clip; ``audio`` (1, samples) float32 in
    -1 … 1; ``gaze`` (1, 103) float32, raw, and ``gaze_valid`` (1,) bool; and members with their masks.
    """
    draw = np.random.default_rng(seed)
    making, needs = predictor.making, predictor.needs
    clip = making.settings.clip
    found: dict[str, NDArray[Any]] = {}
    if needs.video:
        found["video"] = draw.integers(0, 256, (1, len(making.chosen), clip.size, clip.size, 3), np.uint8)
    if needs.audio:
        found["audio"] = draw.normal(0, 0.1, (1, clip.samples)).astype(np.float32)
    if "gaze" in needs.streams:
        deviations = draw.normal(0, 1, (1, GAZE_STATISTICS))
        front_end = predictor.front_end
        mean, std = (np.asarray(values.cpu()) for values in (front_end.gaze_mean, front_end.gaze_std))
        found |= {"gaze": (mean + std * deviations).astype(np.float32), "gaze_valid": np.ones(1, np.bool_)}
    declared = {member.name: member for member in members_of(making.settings)}
    for name in needs.members:
        member = declared[name]
        kind = np.dtype(member.dtype)
        values = draw.normal(0, 1, (1, *member.shape)) if kind.kind == "f" else draw.integers(0, 2, (1, *member.shape))
        found[name] = values.astype(kind)
        found[name + MASK] = np.ones((1, *member.shape[:1]) if member.variable else (1,), np.bool_)
    return {name: torch.from_numpy(array) for name, array in found.items()}


def onnx_of(predictor: Predictor) -> bytes:
    """The graph as an ONNX file, for one clip at a time.

    Raises:
        InputError: a package of the extra ``export`` is missing, or torch cannot export the network.
    """
    _require_packages()
    given = example(predictor)
    whole = _whole(predictor, given)
    try:
        with torch.no_grad(), _quiet():
            program = torch.onnx.export(
                whole,
                tuple(given.values()),
                dynamo=True,
                input_names=list(given),
                output_names=output_names(predictor.labels),
                verbose=False,
            )
    except torch.onnx.errors.OnnxExporterError as error:
        raise InputError(
            f"torch cannot export this network to ONNX ({first_line(error)}): use its safetensors"
        ) from error
    assert program is not None
    return bytes(program.model_proto.SerializeToString())


def check(graph: bytes, predictor: Predictor) -> Checked:
    """Run a graph by onnxruntime, beside torch, on clips that are drawn; and once more with gaze that is not valid."""
    run = session(graph)
    clips = [example(predictor, seed) for seed in (1, 2)]
    if "gaze_valid" in clips[1]:
        clips[1]["gaze_valid"] = torch.zeros(1, dtype=torch.bool)
    whole = _whole(predictor, clips[0])
    scales = _scales(predictor)
    differences = []
    with torch.no_grad():
        for clip in clips:
            expected = whole(*clip.values())
            found = run({name: tensor.numpy() for name, tensor in clip.items()})
            differences += [
                float(np.abs(found[name] - tensor.numpy()).max()) / scales[name]
                for name, tensor in zip(found, expected, strict=True)
            ]
        arrays = {name: tensor.numpy() for name, tensor in clips[0].items()}
        return Checked(
            difference=max(differences),
            graph_ms=_milliseconds(lambda: run(arrays)),
            torch_ms=_milliseconds(lambda: whole(*clips[0].values())),
        )


def session(graph: bytes) -> Callable[[Mapping[str, NDArray[Any]]], dict[str, NDArray[np.float32]]]:
    """A function from the graph's inputs to its outputs, both by name, on the CPU."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    runtime = onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
    names = [output.name for output in runtime.get_outputs()]
    return lambda given: dict(zip(names, runtime.run(names, dict(given)), strict=True))


def _whole(predictor: Predictor, given: Mapping[str, Tensor]) -> OneClip:
    whole = OneClip(predictor.front_end, predictor.network, list(given))
    return whole.eval()


def _scales(predictor: Predictor) -> dict[str, float]:
    """Of each output, what a difference is in units of."""
    spreads = {label.name: 1.0 for label in predictor.labels}
    for label, head in zip(predictor.labels, predictor.network.heads, strict=True):
        if isinstance(head, NumberHead):
            spreads[label.name] = float(head.std)
    return {name: max(spreads[name.rpartition(".")[0]], 1e-6) for name in output_names(predictor.labels)}


def _milliseconds(call: Callable[[], object]) -> float:
    """Of one call, the median."""
    took = []
    for _ in range(_TIMED):
        began = time.perf_counter()
        call()
        took.append(1000 * (time.perf_counter() - began))
    return median(took[1:])


def _require_packages() -> None:
    for name in ("onnx", "onnxscript", "onnxruntime"):
        try:
            __import__(name)
        except ImportError as error:
            raise InputError(f"an ONNX graph needs {name}: pip install '.[export]'") from error


@contextmanager
def _quiet() -> Iterator[None]:
    """Without the exporter's own words about packages and steps."""
    loggers = [logging.getLogger(name) for name in ("torch.onnx", "onnxscript", "onnx_ir")]
    before = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings(), redirect_stdout(StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, before, strict=True):
            logger.setLevel(level)
