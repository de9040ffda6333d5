"""A run is a folder:

    RUN/
        run.json                what the run is: its settings and where its towers come from
        checkpoints/00000500/   all that resuming takes: weights, optimiser, random states, the loader's place
        model.safetensors       the trained network, with the front end's gaze statistics
        results.json            what it scored
        tensorboard/            curves

``train.py`` writes it; `load_emotion` and `load_correspondence` read the trained network back. Every file and every
checkpoint appears when it is whole.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from accelerate import Accelerator
from safetensors.torch import load_file, save_file
from torch import nn

from loaders.errors import InputError
from models.correspondence import AVENet, L3Net
from models.emotion import EmotionNet
from models.frontend import FrontEnd
from models.presets import correspondence_net, emotion_net, preset_from_json

RUN, MODEL, RESULTS, CHECKPOINTS = "run.json", "model.safetensors", "results.json", "checkpoints"
_KEPT = 2  # checkpoints
_FRONT_END, _NETWORK = "front_end.", "network."


def load_correspondence(folder: Path | str) -> tuple[FrontEnd, L3Net | AVENet]:
    """The front end and the network of a finished pre-training, on the CPU, for `models.predict.predict_match`.

    Raises:
        InputError: there is no such run, it is not finished, or it is of another stage.
    """
    folder = Path(folder)
    run = _read_stage(folder, "pretrain")
    sizes = preset_from_json(run["sizes"])
    network = correspondence_net(sizes, run["model"], gaze=run["gaze"])
    return _load_model(folder, FrontEnd(sizes.front_end), network), network


def load_emotion(folder: Path | str) -> tuple[FrontEnd, EmotionNet]:
    """The front end and the network of a finished fine-tuning, on the CPU, for `models.predict.predict_emotion`.

    Raises:
        InputError: there is no such run, it is not finished, or it is of another stage.
    """
    folder = Path(folder)
    run = _read_stage(folder, "finetune")
    sizes = preset_from_json(run["sizes"])
    network = emotion_net(sizes, gaze=run["gaze"])
    return _load_model(folder, FrontEnd(sizes.front_end), network), network


def read_run(folder: Path) -> dict[str, Any]:
    """What a run is: ``stage``, ``gaze``, ``sizes``, and more by stage.

    Raises:
        InputError: there is none.
    """
    try:
        run: dict[str, Any] = json.loads((folder / RUN).read_text())
    except (OSError, json.JSONDecodeError) as error:
        raise InputError(f"{folder}: no run there ({RUN} is missing or broken): give the --output of a run") from error
    return run


def read_results(folder: Path) -> dict[str, Any]:
    """What a run scored; nothing where it has not been scored."""
    results = folder / RESULTS
    return json.loads(results.read_text()) if results.is_file() else {}


def open_run(folder: Path, run: Mapping[str, Any], accelerator: Accelerator, *, resume: bool) -> None:
    """Make the folder of a run, or see that the one to resume is of the same run. Called by every process.

    Raises:
        InputError: the folder holds something else, or cannot be written.
    """
    described = json.loads(json.dumps(run))
    if (folder / RUN).exists():
        if not resume:
            raise InputError(f"{folder}: holds a run already: give another --output, or --resume it")
        before = read_run(folder)
        differing = [name for name, value in described.items() if before.get(name) != value]
        if differing:
            raise InputError(f"{folder}: the run to resume has another {', '.join(differing)}: give its settings")
    elif folder.exists() and any(folder.iterdir()):
        raise InputError(f"{folder}: holds other files: give an --output that is empty or not there")
    accelerator.wait_for_everyone()
    if accelerator.is_main_process:
        try:
            (folder / CHECKPOINTS).mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise InputError(f"{folder}: {error.strerror}: give an --output that can be written") from error
        _write(folder / RUN, described)
    accelerator.wait_for_everyone()


def checkpoints(folder: Path) -> list[Path]:
    """The whole checkpoints of a run, oldest first."""
    return sorted(path for path in (folder / CHECKPOINTS).iterdir() if path.name.isdigit())


def save_checkpoint(folder: Path, accelerator: Accelerator, step: int) -> None:
    """Write a checkpoint, and let all but the last two go. Called by every process."""
    final = folder / CHECKPOINTS / f"{step:08d}"
    partial = folder / CHECKPOINTS / f"{step:08d}.partial"
    accelerator.save_state(str(partial))
    accelerator.wait_for_everyone()
    if accelerator.is_main_process:
        shutil.rmtree(final, ignore_errors=True)
        partial.replace(final)
        for old in checkpoints(folder)[:-_KEPT]:
            shutil.rmtree(old)


def save_model(folder: Path, front_end: FrontEnd, network: nn.Module) -> None:
    """Write what `load_correspondence` or `load_emotion` reads."""
    tensors = {
        f"{prefix}{name}": tensor.detach().cpu().contiguous()
        for prefix, module in ((_FRONT_END, front_end), (_NETWORK, network))
        for name, tensor in module.state_dict().items()
    }
    temporary = folder / f".{MODEL}"
    save_file(tensors, temporary)
    temporary.replace(folder / MODEL)


def save_results(folder: Path, results: Mapping[str, Any]) -> None:
    """Write what a run scored."""
    _write(folder / RESULTS, results)


def _read_stage(folder: Path, stage: str) -> dict[str, Any]:
    run = read_run(folder)
    if run["stage"] != stage:
        raise InputError(f"{folder}: a run of stage {run['stage']}: give one of stage {stage}")
    return run


def _load_model(folder: Path, front_end: FrontEnd, network: nn.Module) -> FrontEnd:
    if not (folder / MODEL).is_file():
        raise InputError(f"{folder}: the run is not finished ({MODEL} is missing): --resume it first")
    tensors = load_file(folder / MODEL)
    for prefix, module in ((_FRONT_END, front_end), (_NETWORK, network)):
        module.load_state_dict({n.removeprefix(prefix): t for n, t in tensors.items() if n.startswith(prefix)})
    return front_end


def _write(path: Path, content: Mapping[str, Any]) -> None:
    temporary = path.with_name(f".{path.name}")
    temporary.write_text(json.dumps(content, indent=1) + "\n")
    temporary.replace(path)
