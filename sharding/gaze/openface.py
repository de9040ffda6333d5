"""OpenFace 2's ``FeatureExtraction``, run on an utterance's crops, where it is installed.

Baltrušaitis, Zadeh, Lim and Morency, "OpenFace 2.0: Facial Behavior Analysis Toolkit" (2018).
"""

import os
import shutil
import subprocess
import sys
import tempfile
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from numpy.typing import NDArray

from loaders.errors import InputError
from sharding.engines import supervise
from sharding.gaze.statistics import GazeError, GazeTable, read_table

SIZE = 224  #: height and width of the crops it sees, pixels: VoxCeleb's own
MOST_FPS = 30.0  #: of the crops it sees
_PATIENCE = 60.0  # seconds that it may take, and as many again for every second of video
_MILLI = 1000
_SUPERVISE = Path(supervise.__file__)


def require_openface(binary: str) -> None:
    """Raises InputError where there is no such program."""
    if shutil.which(binary) is None:
        raise InputError(
            f"--openface-bin {binary}: no such program: install OpenFace 2, or give FeatureExtraction's path"
        )


def run_openface(binary: str, frames: NDArray[np.uint8], fps: float) -> GazeTable:
    """The table of a video of these frames (N, H, W, 3) uint8 RGB.

    Raises:
        GazeError: "gaze_openface" where the program fails, takes a minute and more for a second of video, or writes no
            table; and what `read_table` says of the table.
    """
    with tempfile.TemporaryDirectory(prefix="openface-") as folder:
        video = Path(folder, "crops.mp4")
        _write_video(video, frames, fps)
        command = [binary, "-f", str(video), "-out_dir", folder, "-of", "crops", "-gaze", "-aus", "-q"]
        try:
            status, said = _supervised(command, _PATIENCE * (1 + len(frames) / fps))
        except subprocess.TimeoutExpired as error:
            raise GazeError("gaze_openface", f"OpenFace did not end within {error.timeout:.0f} s") from error
        except OSError as error:
            raise GazeError("gaze_openface", f"{binary}: {error.strerror}") from error
        if status != 0:
            raise GazeError("gaze_openface", f"OpenFace ended with status {status}, saying: {said[:120]}")
        table = Path(folder, "crops.csv")
        if not table.is_file():
            raise GazeError("gaze_openface", "OpenFace wrote no table")
        return read_table(table)


def _supervised(command: list[str], patience: float) -> tuple[int, str]:
    """A command's exit status and the last line it said. It ends when this process does, however that ends.

    Raises:
        TimeoutExpired: it took longer than ``patience``, in seconds, and was ended.
    """
    supervisor = [sys.executable, "-I", "-S", str(_SUPERVISE), *command]
    asked, asking = os.pipe()
    try:
        process = subprocess.Popen(
            supervisor, stdin=asked, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, errors="replace"
        )
    except BaseException:
        os.close(asking)
        raise
    finally:
        os.close(asked)
    with process:
        try:
            out, errors = process.communicate(timeout=patience)
        finally:
            os.close(asking)  # which ends what has not ended
    return process.returncode, (errors.strip() or out.strip() or "nothing").splitlines()[-1]


def _write_video(path: Path, frames: NDArray[np.uint8], fps: float) -> None:
    """H.264 without visible loss, on one thread: what OpenFace measures must not depend on the number of cores."""
    rate = Fraction(round(fps * _MILLI), _MILLI)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=rate, options={"crf": "10", "preset": "veryfast"})
        stream.height, stream.width, stream.pix_fmt = frames.shape[1], frames.shape[2], "yuv420p"
        stream.codec_context.thread_count = 1
        for image in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        container.mux(stream.encode(None))
