"""Trackers of experiments by their names, as accelerate knows them; beside them a run always has its metrics.jsonl."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Literal

import accelerate.utils
from accelerate import Accelerator
from accelerate.tracking import LOGGER_TYPE_TO_CLASS, TensorBoardTracker

from loaders.errors import InputError

TrackerName = Literal["tensorboard", "wandb", "trackio", "aim", "comet_ml", "mlflow", "clearml", "dvclive", "swanlab"]
PROJECT = "filmstrip"  #: what trackers that sort runs by projects are told

_TENSORBOARD = "tensorboard"
_WRITER = "_AsyncWriterThread"  # TensorBoard's, by the name of its class
_PACKAGES = {"comet_ml": "comet-ml"}  # where pip knows it by another name
#: How a tracker is told the run's name, and where on this machine it may keep files.
_SETTINGS: Mapping[str, Callable[[Path], dict[str, Any]]] = {
    "wandb": lambda run: {"name": run.name, "dir": str(run)},
    "trackio": lambda run: {"name": run.name},
    "mlflow": lambda run: {"run_name": run.name},
    "dvclive": lambda run: {"dir": str(run / "dvclive")},
    "swanlab": lambda run: {"experiment_name": run.name, "logdir": str(run / "swanlab")},
}


def require_trackers(names: Sequence[TrackerName]) -> None:
    """Raise InputError where a tracker is named twice, or its package is not there."""
    for name, times in Counter(names).items():
        if times > 1:
            raise InputError(f"--tracker names {name} twice: once is enough")
        if name not in LOGGER_TYPE_TO_CLASS:
            raise InputError(f"--tracker {name}: this accelerate does not know it: pip install --upgrade accelerate")
        if not getattr(accelerate.utils, f"is_{name}_available")():
            package = _PACKAGES.get(name, name)
            raise InputError(f"--tracker {name}: its package is not installed: pip install {package}, or leave it away")


def start_trackers(
    accelerator: Accelerator, names: Sequence[TrackerName], run: Path, settings: Mapping[str, Any], *, step: int | None
) -> None:
    """Begin to track; `Accelerator.log` then writes to all of them. Called by every process.

    Args:
        accelerator: its trackers.
        names: of `require_trackers`.
        run: its folder.
        settings: of the run, flat, for trackers that show them beside its curves.
        step: of the checkpoint that a resumed run goes on from: TensorBoard drops what is later. None: a new run.
            Elsewhere a resumed run is another one of the same name.
    """
    # Its files lie in RUN/tensorboard; the others' projects are not called so.
    purge = {} if step is None else {"purge_step": step + 1}
    accelerator.log_with = [
        TensorBoardTracker(_TENSORBOARD, str(run), **purge) if name == _TENSORBOARD else name for name in names
    ]
    given = {name: _SETTINGS[name](run) for name in names if name in _SETTINGS}
    accelerator.init_trackers(PROJECT, init_kwargs=given)
    told = {name: value if isinstance(value, str | int | float) else str(value) for name, value in settings.items()}
    for tracker in accelerator.trackers:
        if tracker.name != _TENSORBOARD:  # it would make a folder of a run of its own for them
            tracker.store_init_configuration(told)


@contextmanager
def tracked(accelerator: Accelerator) -> Iterator[None]:
    """At its end, the accelerator's trackers have ended.

    Raises:
        OSError: TensorBoard cannot write. Of the thread that found out, nothing is printed.
    """
    before = threading.excepthook

    def not_twice(failure: threading.ExceptHookArgs) -> None:
        # The next line that is written raises the same error, and so does the end.
        if not (isinstance(failure.exc_value, OSError) and type(failure.thread).__name__ == _WRITER):
            before(failure)

    threading.excepthook = not_twice
    try:
        yield
    except BaseException:
        with suppress(OSError):  # it is on its way already
            _end(accelerator)
        raise
    else:
        _end(accelerator)
    finally:
        threading.excepthook = before


def _end(accelerator: Accelerator) -> None:
    while accelerator.trackers:
        accelerator.trackers.pop().finish()
