"""FFmpeg's libraries for peers that want them from the system, where there are none: those that PyAV's wheel brings.

``LD_LIBRARY_PATH=FOLDER`` after ``python -m benchmarks.peers.ffmpeg --folder FOLDER``, which fills it with links: each
library under the name that it has in its wheel, for the others of the wheel ask for that, and FFmpeg's also under the
plain name (libavcodec.so.62) that programs are linked to. NVIDIA's video decoder too, which SPDL asks for without a
version, though drivers only bring it with one.
"""

import re
import subprocess
from dataclasses import dataclass
from pathlib import Path

import av

from loaders.arguments import cli
from loaders.errors import InputError, reported

_FFMPEG = re.compile(r"(lib(?:av|sw)[a-z]+)-[0-9a-f]+(\.so\.\d+)\.")
_DECODER = re.compile(r"=> (\S*/libnvcuvid\.so\.1)$", re.MULTILINE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Where to."""

    folder: Path
    """The links; made where it is not there."""


def link_libraries(folder: Path) -> list[str]:
    """Fill a folder with links; returns FFmpeg's plain names.

    Raises:
        InputError: PyAV brings no libraries here, as where it was built of its sources.
    """
    brought = Path(av.__file__).parents[1] / "av.libs"
    libraries = sorted(brought.glob("*.so*"))
    names = {match[1] + match[2]: path for path in libraries if (match := _FFMPEG.match(path.name))}
    if not names:
        raise InputError(f"{brought}: no FFmpeg there: PyAV brings it in its wheels alone")
    folder.mkdir(parents=True, exist_ok=True)
    links = {path.name: path for path in libraries} | names
    if (decoder := _DECODER.search(_known_libraries())) is not None:
        links["libnvcuvid.so"] = Path(decoder[1])
    for name, path in links.items():
        (folder / name).unlink(missing_ok=True)
        (folder / name).symlink_to(path)
    return sorted(names)


def _known_libraries() -> str:
    try:
        return subprocess.run(["ldconfig", "-p"], capture_output=True, text=True, check=False).stdout
    except OSError:  # not in the path of a plain user
        return ""


if __name__ == "__main__":
    settings = cli(Settings, description=__doc__)
    with reported():
        print(", ".join(link_libraries(settings.folder)))
