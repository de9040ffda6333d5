"""The limit: libjpeg-turbo decoding the same filmstrips from memory, one process a core, and nothing else.

`tjbench` (Debian's libjpeg-turbo-progs) reads one file and decodes it over and over into the same memory. Each core has
its share of the strips and gives every one of them the same time; its rate is that of decoding them one after another.
That the strip and its pixels stay in the processor's cache makes this more than any loader can reach.

Beside it, `simplejpeg_rate`: the same library called from Python, each process decoding different strips in turn into
one buffer. What tjbench gains by decoding the same bits over and over, which the processor learns to foresee, is not in
it.
"""

import re
import shutil
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from benchmarks.peers.served import Prepared
from loaders.errors import InputError

_MOST = 32  # strips that a round takes: others in the next round
_WARM_UP = 0.05  # seconds a strip
_RATE = re.compile(r"^RGB\s.*?\s([\d.]+)\s*$", re.MULTILINE)


def tjbench_rate(prepared: Prepared, cores: int, seconds: float, part: int) -> float:
    """Clips a second of all cores.

    Raises:
        InputError: there is no tjbench, or it does not print what it should.
    """
    strips = strips_of(prepared, part)
    shares = [strips[core::cores] for core in range(cores)]
    with ThreadPoolExecutor(cores) as pool:  # each thread waits for its own process
        return sum(pool.map(lambda share: _tjbench(share, seconds, prepared), shares))


def strips_of(prepared: Prepared, part: int) -> list[Path]:
    """The filmstrips that a round takes."""
    strips = sorted((prepared.folder / "reference").glob("*.jpg"))
    first = part * _MOST % len(strips)
    return (strips[first:] + strips[:first])[:_MOST]


def parse_tjbench(text: str) -> float:
    """Million pixels a second, of the output of ``tjbench -quiet``.

    Raises:
        InputError: there is no such figure.
    """
    found = _RATE.search(text)
    if found is None:
        raise InputError(f"tjbench printed no rate but {text[-200:]!r}: install Debian's libjpeg-turbo-progs")
    return float(found[1])


def _tjbench(strips: list[Path], seconds: float, prepared: Prepared) -> float:
    program = shutil.which("tjbench")
    if program is None:
        raise InputError("tjbench is not installed: apt-get install libjpeg-turbo-progs")
    facts = prepared.facts
    pixels = facts["frames"] * facts["size"] ** 2
    options = ["-rgb", "-quiet", "-nowrite", "-warmup", str(_WARM_UP), "-benchtime", f"{seconds / len(strips):.3f}"]
    needed = 0.0  # seconds to decode each strip once
    for strip in strips:
        done = subprocess.run([program, str(strip), *options], capture_output=True, text=True, check=False)
        needed += pixels / 1e6 / parse_tjbench(done.stdout + done.stderr)
    return len(strips) / needed


def simplejpeg_rate(prepared: Prepared, cores: int, seconds: float, part: int) -> float:
    """Clips a second of all cores."""
    strips = [str(path) for path in strips_of(prepared, part)]
    command = [sys.executable, "-m", "benchmarks.peers.limit", str(seconds), *strips]
    running = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(cores)]
    return sum(float(process.communicate()[0]) for process in running)


def _decode_for(seconds: float, paths: list[str]) -> float:
    import simplejpeg

    strips = [Path(path).read_bytes() for path in paths]
    height, width, _, _ = simplejpeg.decode_jpeg_header(strips[0])
    buffer = bytearray(height * width * 3)
    for strip in strips:
        simplejpeg.decode_jpeg(strip, "RGB", buffer=buffer)
    start, decoded = time.perf_counter(), 0
    while time.perf_counter() < start + seconds:
        simplejpeg.decode_jpeg(strips[decoded % len(strips)], "RGB", buffer=buffer)
        decoded += 1
    return decoded / (time.perf_counter() - start)


if __name__ == "__main__":
    print(_decode_for(float(sys.argv[1]), sys.argv[2:]))
