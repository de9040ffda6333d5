"""A checkpoint: all that resuming takes, as numbers. Nothing in it is a program, and reading it runs none.

    00000500/
        manifest.json           the step, size and XXH3 of every other file, and a digest of itself
        model.safetensors       the network's weights and running statistics
        optimizer.safetensors   the optimiser's state, by the names of the parameters
        best.safetensors        where the training is validated: the network's best weights so far
        rank-00000.json         the loader's place, what validations have found, random states, float16's scale, sums
                                for the curves; a file a rank
        rank-00000.safetensors  the random states' arrays

A checkpoint is written beside its place and renamed when it is whole. What is read is what was checked: bytes are
hashed in memory and parsed there.
"""

from __future__ import annotations

import json
import math
import mmap
import random
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import safetensors
import torch
import xxhash
from accelerate import Accelerator
from safetensors.torch import load
from torch import Tensor, nn

from loaders.errors import InputError, first_line
from loaders.storage.atomic import write_atomically
from models.training.wholefile import write_tensors

MANIFEST = "manifest.json"
_MODEL, _OPTIMIZER, _BEST = "model.safetensors", "optimizer.safetensors", "best.safetensors"
_FORMAT, _VERSION = "filmstrip checkpoint", 1
_KEPT = 2  # checkpoints
_PARTIAL, _BROKEN = ".partial", ".broken"
_KEY = ":"  # between a parameter's name and that of a piece of its optimiser state


class BrokenCheckpointError(Exception):
    """A checkpoint is not as it was written; the message says why."""


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """One that was read and is whole."""

    step: int  #: steps behind it
    network: Mapping[str, Tensor]
    optimizer: Mapping[str, Tensor]
    best: Mapping[str, Tensor]  #: weights, of a training that is validated; otherwise none
    arrays: Mapping[str, Tensor]  #: of the random states
    state: Mapping[str, Any]  #: ``loader``, ``validation``, ``random``, ``scaler`` and ``curves``
    same_rank: bool  #: whether state and arrays are this rank's own; another number of ranks has rank 0's


def checkpoints(folder: Path) -> list[Path]:
    """What may be whole of the checkpoints in a folder, oldest first."""
    if not folder.is_dir():  # of a run that was killed as it began
        return []
    return sorted((path for path in folder.iterdir() if path.name.isdecimal()), key=lambda path: int(path.name))


def newest(folder: Path) -> Path | None:
    """The last that was written, whole or not; None where there is none."""
    return next(reversed(checkpoints(folder)), None)


def write_checkpoint(
    folder: Path,
    step: int,
    accelerator: Accelerator,
    network: nn.Module,
    optimizer: torch.optim.Optimizer,
    loader: Mapping[str, Any],
    curves: Mapping[str, Any] | None = None,
    validation: Mapping[str, Any] | None = None,
    best: Mapping[str, Tensor] | None = None,
) -> None:
    """Write a checkpoint, and let all but the last two go. Called by every process.

    Args:
        folder: of the checkpoints.
        step: steps that were taken.
        accelerator: for the ranks, the device, and float16's scale.
        network, optimizer: as they are now; the network without what accelerate puts around it.
        loader: the loader's state.
        curves: what was counted since their last line.
        validation: what the validations have found, as JSON takes it.
        best: the best weights by them.

    Raises:
        InputError: on every process, where one cannot write; nothing half-written is left.
    """
    final, partial = folder / f"{step:08d}", folder / f"{step:08d}{_PARTIAL}"
    main = accelerator.is_main_process

    def begin() -> None:
        if main:
            for left in folder.glob(f"*{_PARTIAL}"):  # of processes that were killed: one at a time trains here
                if left.name.removesuffix(_PARTIAL).isdecimal():
                    shutil.rmtree(left, ignore_errors=True)
            partial.mkdir()

    def write() -> None:
        if main:
            weights = {name: tensor.detach().cpu().contiguous() for name, tensor in network.state_dict().items()}
            write_tensors(partial / _MODEL, weights)
            write_tensors(partial / _OPTIMIZER, _optimizer_state(network, optimizer))
            if best:
                write_tensors(partial / _BEST, dict(best))
        arrays, scalars = _random_state(accelerator.device)
        scaler = None if accelerator.scaler is None else accelerator.scaler.state_dict()
        own = {"loader": loader, "validation": validation, "random": scalars, "scaler": scaler, "curves": curves}
        name = _rank_name(accelerator.process_index)
        write_tensors(partial / f"{name}.safetensors", arrays)
        write_atomically(partial / f"{name}.json", _json(own))

    def finish() -> None:
        if main:
            files = {path.name: _described_on_disk(path) for path in sorted(partial.iterdir())}
            manifest = {"format": _FORMAT, "version": _VERSION, "step": step, "world_size": accelerator.num_processes}
            write_atomically(partial / MANIFEST, sealed(manifest | {"files": files}))
            shutil.rmtree(final, ignore_errors=True)
            partial.replace(final)
            for old in checkpoints(folder)[:-_KEPT]:
                shutil.rmtree(old)

    try:
        for part in (begin, write, finish):
            together(accelerator, folder, part)
    except InputError:
        if main:
            shutil.rmtree(partial, ignore_errors=True)
        raise


def together(accelerator: Accelerator, folder: Path, work: Callable[[], None]) -> None:
    """Do something on every process; where it fails on one, all of them stop, and none waits for it.

    Raises:
        InputError: a file in ``folder`` cannot be written here or elsewhere, or ``work`` raised it.
    """
    failure: InputError | None = None
    try:
        work()
    except InputError as error:
        failure = error
    except OSError as error:
        failure = cannot_write(folder, error)
    everywhere = _any(accelerator, failure is not None)
    if failure is not None:
        raise failure
    if everywhere:
        raise InputError(f"{folder}: another process of this training stopped: see what it said")


def cannot_write(folder: Path, error: OSError) -> InputError:
    """What to tell of a file of a run that could not be written."""
    place = error.filename or folder
    return InputError(f"{place}: {error.strerror or error}: make room or give another --output, then --resume the run")


def newest_checkpoint(folder: Path, accelerator: Accelerator, say: Callable[[str], None]) -> Checkpoint | None:
    """The newest checkpoint that is whole; None where there is none at all. Called by every process.

    Args:
        folder: of the checkpoints.
        accelerator: for the ranks.
        say: is told of each broken one that is passed over for one before; it is put aside, so that nothing counts on
            it.

    Raises:
        InputError: there are some, and none is whole.
    """
    found = checkpoints(folder)
    accelerator.wait_for_everyone()  # none is put aside before all have looked
    broken: list[str] = []
    for path in reversed(found):
        checkpoint, fault = None, ""
        try:
            checkpoint = read_checkpoint(path, accelerator.process_index)
        except BrokenCheckpointError as error:
            fault = str(error)
        if not _any(accelerator, checkpoint is None):
            if broken and accelerator.is_main_process:
                _put_aside(folder, newer_than=int(path.name))
            return checkpoint
        fault = fault or "another process of this training cannot read it"
        broken.append(f"{path.name}: {fault}")
        if path != found[0]:
            say(f"the checkpoint {path} is broken ({fault}): going back to the one before")
    if broken:
        raise InputError(f"{folder}: no checkpoint is whole ({'; '.join(broken)}): train again, with another --output")
    return None


def _put_aside(folder: Path, *, newer_than: int) -> None:
    """Rename the checkpoints after a step, all of them broken, so that none is among what is written next."""
    for path in checkpoints(folder):
        if int(path.name) > newer_than:
            aside = path.with_name(path.name + _BROKEN)
            shutil.rmtree(aside, ignore_errors=True)  # the same step's, of an earlier time
            path.replace(aside)


def read_checkpoint(path: Path, rank: int) -> Checkpoint:
    """A checkpoint's contents for one rank.

    Raises:
        BrokenCheckpointError: a file is missing, or not to the byte what was written.
    """
    text = _bytes(path / MANIFEST)
    manifest = _parse(text, MANIFEST)
    if sealed({name: value for name, value in manifest.items() if name != "digest"}) != text:
        raise BrokenCheckpointError(f"{MANIFEST} is not as it was written")
    files = manifest.get("files")
    if manifest.get("format") != _FORMAT or not isinstance(files, dict):
        raise BrokenCheckpointError(f"{MANIFEST} is not a checkpoint's")
    if manifest.get("version") != _VERSION:
        raise BrokenCheckpointError(
            f"{MANIFEST} is of version {manifest.get('version')}: use the program that wrote it"
        )
    step = manifest.get("step")
    if type(step) is not int or path.name != f"{step:08d}":
        raise BrokenCheckpointError(f"{MANIFEST} is of step {step}")

    def checked(name: str) -> bytes:
        data = _bytes(path / name)
        if _described(data) != files.get(name):
            raise BrokenCheckpointError(f"{name} is not as it was written")
        return data

    same_rank = f"{_rank_name(rank)}.json" in files
    own = _rank_name(rank if same_rank else 0)
    state = _parse(checked(f"{own}.json"), f"{own}.json")
    network, optimizer, arrays = (_tensors(checked(name), name) for name in (_MODEL, _OPTIMIZER, f"{own}.safetensors"))
    best = _tensors(checked(_BEST), _BEST) if _BEST in files else {}
    return Checkpoint(step, network, optimizer, best, arrays, state, same_rank)


def sealed(manifest: Mapping[str, Any]) -> bytes:
    """A manifest's text, with a digest of what it says."""
    return _json({**manifest, "digest": xxhash.xxh3_128_hexdigest(_json(manifest))})


def restore(
    checkpoint: Checkpoint, accelerator: Accelerator, network: nn.Module, optimizer: torch.optim.Optimizer
) -> None:
    """Bring network, optimiser and random states to where they were. Rates and the like stay as they were set up.

    Raises:
        InputError: the checkpoint is of another network.
    """
    try:
        network.load_state_dict(dict(checkpoint.network))
        _restore_optimizer(checkpoint.optimizer, network, optimizer)
        if accelerator.scaler is not None and checkpoint.state["scaler"] is not None:
            accelerator.scaler.load_state_dict(checkpoint.state["scaler"])
        if checkpoint.same_rank:
            _restore_random_state(checkpoint.arrays, checkpoint.state["random"], accelerator.device)
    except (RuntimeError, KeyError, ValueError, TypeError, IndexError) as error:
        raise InputError(
            f"the checkpoint of step {checkpoint.step} does not fit this run ({first_line(error)}): train again"
        ) from error


def not_finite(
    network: nn.Module,
    optimizer: torch.optim.Optimizer,
    *others: nn.Module,
    scaler: torch.amp.GradScaler | None = None,
) -> list[str]:
    """Names of the network's tensors that hold a NaN or an infinity, or whose optimiser state does; and of others'.

    Also float16's scale, where it has fallen to zero: no step is taken any more, and the loss stays as it is.
    """
    tensors = {name: t for name, t in network.state_dict().items() if t.is_floating_point()}
    for other in others:
        of_other = {f"{type(other).__name__}.{name}": t for name, t in other.state_dict().items()}
        tensors |= {name: t for name, t in of_other.items() if t.is_floating_point()}
    for name, parameter in network.named_parameters():
        for key, t in optimizer.state.get(parameter, {}).items():
            if isinstance(t, Tensor) and t.is_floating_point():
                tensors[f"{name}{_KEY}{key}"] = t
    if scaler is not None and scaler.is_enabled():
        scale = scaler.get_scale()
        tensors["the scale of float16's gradients"] = torch.tensor(scale if scale > 0 else math.inf)
    tensors = {name: t.detach() for name, t in tensors.items() if t.numel()}
    if not tensors:
        return []
    # The least and the greatest value take one pass, and are NaN where any is. The device is asked once.
    device = next(iter(tensors.values())).device
    extremes = [torch.stack(torch.aminmax(t)).float().to(device) for t in tensors.values()]
    finite = torch.stack(extremes).isfinite().all(1).tolist()
    return [name for name, whole in zip(tensors, finite, strict=True) if not whole]


# -- optimiser


def _optimizer_state(network: nn.Module, optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    return {
        f"{name}{_KEY}{key}": value.detach().cpu().contiguous()
        for name, parameter in network.named_parameters()
        for key, value in optimizer.state.get(parameter, {}).items()
    }


def _restore_optimizer(saved: Mapping[str, Tensor], network: nn.Module, optimizer: torch.optim.Optimizer) -> None:
    parameters = dict(network.named_parameters())
    numbers = {
        id(parameter): number
        for group, described in zip(optimizer.param_groups, optimizer.state_dict()["param_groups"], strict=True)
        for parameter, number in zip(group["params"], described["params"], strict=True)
    }
    state: dict[int, dict[str, Tensor]] = {}
    for full, value in saved.items():
        name, _, key = full.rpartition(_KEY)
        parameter = parameters[name]
        if value.shape == parameter.shape:
            # In the memory layout of the weights, as it was: a fused step goes through both side by side.
            value = torch.empty_like(parameter, dtype=value.dtype, requires_grad=False).copy_(value)
        elif value.numel() != 1:
            raise ValueError(f"the optimiser's {full} is of the shape {tuple(value.shape)}")
        state.setdefault(numbers[id(parameter)], {})[key] = value
    optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})


# -- random states


def _random_state(device: torch.device) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Of torch, numpy and Python: arrays, and the rest."""
    version, words, gauss = random.getstate()
    name, keys, place, has_gauss, cached = np.random.get_state(legacy=True)  # noqa: NPY002 - whoever draws from it
    arrays = {
        "torch": torch.get_rng_state(),
        "numpy": torch.from_numpy(np.asarray(keys).astype(np.int64)),
        "python": torch.tensor(words, dtype=torch.int64),
    }
    if device.type == "cuda":
        arrays["cuda"] = torch.cuda.get_rng_state(device)
    scalars = {
        "python": {"version": version, "gauss": gauss},
        "numpy": {"name": name, "place": int(place), "has_gauss": int(has_gauss), "cached": float(cached)},
    }
    return arrays, scalars


def _restore_random_state(arrays: Mapping[str, Tensor], scalars: Mapping[str, Any], device: torch.device) -> None:
    of_numpy, of_python = scalars["numpy"], scalars["python"]
    if not 0 <= of_numpy["place"] <= 624:  # of MT19937's words: numpy does not look
        raise ValueError(f"numpy's random state is at {of_numpy['place']}")
    keys = arrays["numpy"].numpy().astype(np.uint32)
    legacy = of_numpy["name"], keys, of_numpy["place"], of_numpy["has_gauss"], of_numpy["cached"]
    np.random.set_state(legacy)  # noqa: NPY002
    random.setstate((of_python["version"], tuple(arrays["python"].tolist()), of_python["gauss"]))
    torch.set_rng_state(arrays["torch"])
    if device.type == "cuda" and "cuda" in arrays:
        torch.cuda.set_rng_state(arrays["cuda"], device)


# -- files


def _rank_name(rank: int) -> str:
    return f"rank-{rank:05d}"


def _described(data: bytes) -> dict[str, Any]:
    return {"bytes": len(data), "xxh3_128": xxhash.xxh3_128_hexdigest(data)}


def _described_on_disk(path: Path) -> dict[str, Any]:
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        return {"bytes": len(data), "xxh3_128": xxhash.xxh3_128_hexdigest(data)}


def _json(content: Mapping[str, Any]) -> bytes:
    return (json.dumps(content, indent=1) + "\n").encode()


def _bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise BrokenCheckpointError(f"{path.name}: {error.strerror}") from error


def _parse(data: bytes, name: str) -> dict[str, Any]:
    try:
        parsed = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise BrokenCheckpointError(f"{name} is no JSON ({error})") from error
    if not isinstance(parsed, dict):
        raise BrokenCheckpointError(f"{name} is a {type(parsed).__name__}")
    return parsed


def _tensors(data: bytes, name: str) -> dict[str, Tensor]:
    try:
        tensors: dict[str, Tensor] = load(data)
    except safetensors.SafetensorError as error:
        raise BrokenCheckpointError(f"{name} holds no tensors ({error})") from error
    return tensors


def _any(accelerator: Accelerator, here: bool) -> bool:
    """Whether it holds on any process."""
    count = accelerator.reduce(torch.tensor(float(here), device=accelerator.device))
    return bool(count.item() > 0)
