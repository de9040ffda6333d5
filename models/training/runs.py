"""A run is a folder:

    RUN/
        run.json                what the run is: all it was trained with and on, and what changed when it was resumed
        checkpoints/00000500/   all that resuming takes, see `models.training.checkpoint`
        model.safetensors       the trained network, with the front end's gaze statistics and numbers' moments
        results.json            what it scored, with intervals over speakers
        predictions.parquet     what it answered about each utterance; pairs.parquet: about each pair
        confusion.png           which class it took for which
        metrics.jsonl           curves, a line every --log-every steps, see `models.training.journal`
        curves.png              the same as a picture, when it has ended
        tensorboard/            the same again, with --tracker tensorboard

``train.py`` writes it; `load_targets` and `load_correspondence` read the trained network back. Every file and every
checkpoint appears when it is whole; one training at a time works there (`models.training.runlock`). Nothing in a run is
a program, and reading it runs none.
"""

from __future__ import annotations

import errno
import hashlib
import json
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

from accelerate import Accelerator
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import nn

from loaders.errors import InputError, first_line
from loaders.storage.atomic import write_atomically
from models.frontend.front_end import FrontEnd
from models.objectives.registry import from_json as from_described
from models.systems.correspondence import AVENet, L3Net
from models.systems.presets import correspondence_net, model_config_from_json, target_net
from models.systems.targets import TargetNet
from models.training.checkpoint import cannot_write, together
from models.training.confusion_picture import CONFUSION
from models.training.labels import TARGETS, from_json
from models.training.predictions import PAIRS, PREDICTIONS
from models.training.provenance import CHANGES, Change, as_json, malformed
from models.training.runlock import LOCK, locked
from models.training.scores import results_table
from models.training.wholefile import write_tensors

RUN, MODEL, RESULTS, CHECKPOINTS = "run.json", "model.safetensors", "results.json", "checkpoints"
_OF_MODEL = (RESULTS, PREDICTIONS, PAIRS, CONFUSION)  # what its weights scored and answered
# By a process that was killed as it began.
_LEFT_BEHIND = re.compile(rf"{re.escape(LOCK)}|\.{re.escape(RUN)}\.\d+(\.[0-9a-f]+)?")
_NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS)
_FRONT_END, _NETWORK = "front_end.", "network."


def load_correspondence(folder: Path | str) -> tuple[FrontEnd, L3Net | AVENet]:
    """The front end and the network of a finished pre-training, on the CPU, for `models.answers.predict_match`.

    Raises:
        InputError: there is no such run, it is not finished, or it is of another stage.
    """
    folder = Path(folder)
    run = _read_network(folder, "pretrain", of_pairs=True)
    sizes = model_config_from_json(run["sizes"])
    network = correspondence_net(sizes, run["model"], gaze=run["gaze"])
    if run.get("objective") is not None:
        network.objective = from_described(run["objective"]).objective(network.temperature)
    return load_model(folder, FrontEnd(sizes.front_end), network), network


def load_targets(folder: Path | str) -> tuple[FrontEnd, TargetNet]:
    """The front end and the network of a finished fine-tuning, on the CPU, for `models.answers.predict_targets`.

    The network's `targets` are the labels that it predicts, with their classes.

    Raises:
        InputError: there is no such run, it is not finished, or it is of another stage.
    """
    folder = Path(folder)
    run = _read_network(folder, "finetune", of_pairs=False)
    sizes = model_config_from_json(run["sizes"])
    network = target_net(sizes, from_json(run.get(TARGETS), folder), gaze=run["gaze"])
    return load_model(folder, FrontEnd(sizes.front_end), network), network


def read_run(folder: Path) -> dict[str, Any]:
    """What a run is: ``stage``, ``gaze``, ``sizes``, and more by stage.

    Raises:
        InputError: there is none, or it is not one.
    """
    try:
        run = json.loads((folder / RUN).read_text())
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(f"{folder}: no run there ({RUN} is missing or broken): give the --output of a run") from error
    if not isinstance(run, dict) or not isinstance(run.get("stage"), str) or not isinstance(run.get("sizes"), dict):
        raise InputError(f"{folder}: {RUN} is not that of a run: give the --output of a run")
    named = run["stage"] != "pretrain" or isinstance(run.get("model"), str)
    named = named and isinstance(run.get("objective"), dict | None)
    if not named or type(run.get("gaze")) is not bool or not isinstance(run.get("init"), dict | None):
        raise InputError(f"{folder}: {RUN} does not say what its network is: train it again")
    wrong = malformed(run)
    if wrong is not None:
        raise InputError(f"{folder / RUN}: its {wrong} is not as a training writes it: bring back the file as it was")
    return run


def read_results(folder: Path) -> dict[str, Any]:
    """What a run scored; nothing where it has not been scored.

    Raises:
        InputError: the file is broken.
    """
    path = folder / RESULTS
    if not path.is_file():
        return {}
    try:
        results = json.loads(path.read_text())
        if not isinstance(results, dict):
            raise TypeError(f"it is a {type(results).__name__}")
        results_table(results, title="")  # whether it has what is shown
    except (OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise InputError(f"{path}: not what a run scored ({error}): remove it, then --resume the run") from error
    return results


@contextmanager
def held(folder: Path, accelerator: Accelerator, *, resume: bool) -> Iterator[None]:
    """Make the folder of a run, or find the one to resume, and keep others from it. Called by every process.

    Within it, a disk without room is an InputError too.

    Raises:
        InputError: the folder holds something else, cannot be written, or another process is training there.
    """

    def require_free() -> None:
        if (folder / RUN).exists():
            if not resume:
                raise InputError(f"{folder}: holds a run already: give another --output, or --resume it")
        elif folder.exists() and not (
            folder.is_dir() and all(_LEFT_BEHIND.fullmatch(path.name) for path in folder.iterdir())
        ):
            raise InputError(f"{folder}: holds other files: give an --output that is empty or not there")

    with ExitStack() as holding:

        def take() -> None:
            if accelerator.is_main_process:
                try:
                    folder.mkdir(parents=True, exist_ok=True)
                    holding.enter_context(locked(folder))
                except OSError as error:
                    raise InputError(f"{folder}: {error.strerror}: give an --output that can be written") from error
                require_free()  # another may have begun there in the meantime

        together(accelerator, folder, require_free)
        together(accelerator, folder, take)
        try:
            yield
        except OSError as error:
            if error.errno not in _NO_ROOM:
                raise
            raise cannot_write(folder, error) from error


def describe_run(
    folder: Path, run: Mapping[str, Any], accelerator: Accelerator, changes: Sequence[Change] = (), step: int = 0
) -> None:
    """Write what a run is, and see that there is a place for checkpoints. Called by every process.

    Args:
        folder: of the run, which exists.
        run: its description from here on.
        accelerator: for the ranks.
        changes, step: what differs from what the run was until now, and the steps it had then behind it.
    """

    def write() -> None:
        if accelerator.is_main_process:
            history = read_run(folder).get(CHANGES) or [] if (folder / RUN).exists() else []
            history = history + [{"step": step, **asdict(change)} for change in changes]
            _write(folder / RUN, {**as_json(run), CHANGES: history})
            (folder / CHECKPOINTS).mkdir(exist_ok=True)

    together(accelerator, folder, write)


def note_in_run(folder: Path, found: Mapping[str, Any]) -> None:
    """Add to what run.json says, which is written anew whenever the run is resumed."""
    _write(folder / RUN, {**read_run(folder), **_with_nulls(found)})


def model_sha256(folder: Path) -> str:
    """SHA-256 of a finished run's weights: by that they are known, wherever they lie.

    Raises:
        InputError: the run is not finished.
    """
    return hashlib.sha256(_model_bytes(folder)).hexdigest()


def save_model(folder: Path, front_end: FrontEnd, network: nn.Module) -> None:
    """Write what `load_correspondence` or `load_targets` reads.

    What other weights scored and answered there, as of a run that has gone on for longer, goes away before.
    """
    tensors = {
        f"{prefix}{name}": tensor.detach().cpu().contiguous()
        for prefix, module in ((_FRONT_END, front_end), (_NETWORK, network))
        for name, tensor in module.state_dict().items()
    }
    path = folder / MODEL
    if not (path.is_file() and path.read_bytes() == save(tensors)):
        for name in _OF_MODEL:
            (folder / name).unlink(missing_ok=True)
    write_tensors(path, tensors)


def save_results(folder: Path, results: Mapping[str, Any]) -> None:
    """Write what a run scored; see `write_results`."""
    write_results(folder / RESULTS, results)


def write_results(path: Path, results: Mapping[str, Any]) -> None:
    """Write scores: null for a score of nothing, which is NaN until then and which JSON has not."""
    _write(path, _with_nulls(results))


def _read_network(folder: Path, stage: str, *, of_pairs: bool) -> dict[str, Any]:
    """The run of that stage, or of another whose network is of the same kind."""
    run = read_run(folder)
    if run["stage"] != stage and isinstance(run.get("model"), str) != of_pairs:
        raise InputError(f"{folder}: a run of stage {run['stage']}: give one of stage {stage}")
    return run


def load_model(folder: Path, front_end: FrontEnd, network: nn.Module) -> FrontEnd:
    """Give a front end and a network of a run's sizes the weights and statistics that it was trained to.

    Returns:
        The front end.

    Raises:
        InputError: the run is not finished, or its network is another.
    """
    data = _model_bytes(folder)
    try:
        tensors = load(data)
        for prefix, module in ((_FRONT_END, front_end), (_NETWORK, network)):
            module.load_state_dict({n.removeprefix(prefix): t for n, t in tensors.items() if n.startswith(prefix)})
    except (SafetensorError, RuntimeError) as error:
        why = first_line(error).rstrip(":")
        raise InputError(f"{folder / MODEL}: not this run's network ({why}): restore it, or train it again") from error
    return front_end


def _model_bytes(folder: Path) -> bytes:
    try:
        return (folder / MODEL).read_bytes()
    except FileNotFoundError as error:
        raise InputError(f"{folder}: the run is not finished ({MODEL} is missing): --resume it first") from error
    except OSError as error:
        raise InputError(f"{folder / MODEL}: {error.strerror}: make it readable") from error


def _with_nulls(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {name: _with_nulls(one) for name, one in value.items()}
    if isinstance(value, list):
        return [_with_nulls(one) for one in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _write(path: Path, content: Mapping[str, Any]) -> None:
    write_atomically(path, (json.dumps(content, indent=1, allow_nan=False) + "\n").encode())
