"""Ray runs the same jobs to the same end, and tries again where a worker dies."""

import hashlib
import math
import os
import secrets
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from loaders.errors import InputError
from sharding.build import Running
from sharding.corpora.voxceleb import VoxcelebSources, read_voxceleb
from sharding.engines.local import LocalEngine, WorkerDiedError
from sharding.engines.ray import RayEngine, require_ray
from sharding.engines.stopping import raise_stopped
from sharding.packing.building import build
from sharding.settings import BuildSettings
from tests.films import shades, write_film

ray = pytest.importorskip("ray", reason="the extra 'ray' is not installed")
ROOT = Path(__file__).parents[3]


def test_without_an_address_a_ray_is_started_for_the_run_alone(tmp_path: Path) -> None:
    """Before the other tests: a Ray that this process is connected to would be used.

    Nothing of it stays in the user's home: a token there would be asked of who connects to the next cluster. A handler
    of SIGTERM that was there is there again.
    """
    assert not ray.is_initialized()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HOME", str(tmp_path))
        before = signal.signal(signal.SIGTERM, raise_stopped)
        try:
            results = RayEngine(workers=1).run(math.sqrt, [4.0])
            assert next(results) == 2.0
            assert signal.getsignal(signal.SIGTERM) is raise_stopped
            assert list(results) == []
        finally:
            signal.signal(signal.SIGTERM, before)
    assert not ray.is_initialized()
    assert list(tmp_path.iterdir()) == []


@pytest.fixture(scope="module")
def cluster() -> Iterator[str]:
    """The address of a Ray of two cores, small and quiet; this process is connected to it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(ROOT))  # for the workers, that they find this module
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        os.environ.setdefault("RAY_AUTH_TOKEN", secrets.token_hex(32))
        ray.init(
            address="local", num_cpus=2, object_store_memory=80 << 20, include_dashboard=False, log_to_driver=False,
            logging_level="error",
        )  # fmt: skip
        try:
            yield ray.get_runtime_context().gcs_address
        finally:
            ray.shutdown()


def digests(folder: Path) -> dict[str, str]:
    files = [path for path in sorted(folder.rglob("*")) if path.is_file()]
    return {path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def die_first(job: tuple[Path, int]) -> int:
    """Kill the process that does the job, so many times; then answer."""
    marks, times = job
    tried = len(list(marks.iterdir()))
    (marks / str(tried)).touch()
    if tried < times:
        os.kill(os.getpid(), signal.SIGKILL)
    return tried


def full(path: Path) -> None:
    raise OSError(28, "No space left on device", str(path))


@pytest.mark.usefixtures("cluster")
def test_every_job_is_done_once() -> None:
    assert sorted(RayEngine().run(math.sqrt, [n * n for n in range(7)])) == list(map(float, range(7)))
    assert list(RayEngine().run(math.sqrt, [])) == []


@pytest.mark.usefixtures("cluster")
def test_what_a_job_raises_is_raised_as_it_is() -> None:
    with pytest.raises(ValueError, match=r"math domain|nonnegative"):
        list(RayEngine().run(math.sqrt, [1.0, -1.0, 4.0]))
    with pytest.raises(OSError, match="No space left") as caught:
        list(RayEngine().run(full, [Path("/a/b")]))
    assert (type(caught.value), caught.value.errno, caught.value.filename) == (OSError, 28, "/a/b")


@pytest.mark.usefixtures("cluster")
def test_a_job_whose_worker_dies_is_tried_again(tmp_path: Path) -> None:
    assert list(RayEngine().run(die_first, [(tmp_path, 2)])) == [2]


@pytest.mark.usefixtures("cluster")
def test_a_job_that_kills_every_worker_is_told(tmp_path: Path) -> None:
    with pytest.raises(WorkerDiedError, match="4 times over the same job"):
        list(RayEngine().run(die_first, [(tmp_path, 99)]))
    assert len(list(tmp_path.iterdir())) == 4


def test_the_same_bytes_as_without_ray(cluster: str, tmp_path: Path) -> None:
    """Once with the process' own Ray, once from the command line, by the cluster's address.

    The cluster wants a token, which Ray has written where it always does.
    """
    for number in range(34):
        write_film(tmp_path / f"mp4/s{number % 5}/v{number}/1.mp4", 0.5, fps=10, picture=shades(16, 16))
    corpus = read_voxceleb(VoxcelebSources(source=tmp_path / "mp4", test_fraction=0.0))
    settings = BuildSettings(size=16, fps=4.0, clip_seconds=0.5)
    manifest = build(corpus, tmp_path / "local", settings, 1).manifest
    assert len(manifest.splits["train"].shards) == 2
    build(corpus, tmp_path / "ray", settings, 1, engine=RayEngine())
    assert digests(tmp_path / "ray") == digests(tmp_path / "local")
    command = [
        *(sys.executable, str(ROOT / "sharding/build.py"), "voxceleb", "--engine", "ray", "--address", cluster),
        *("--source", str(tmp_path / "mp4"), "--output", str(tmp_path / "addressed"), "--test-fraction", "0"),
        *("--size", "16", "--fps", "4", "--clip-seconds", "0.5"),
    ]
    token = tmp_path / "home/.ray/auth_token"
    token.parent.mkdir(parents=True)
    token.write_text(os.environ["RAY_AUTH_TOKEN"])
    environment = {name: value for name, value in os.environ.items() if not name.startswith("RAY_AUTH")}
    environment["HOME"] = str(tmp_path / "home")
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False, cwd=ROOT, env=environment)
    assert done.returncode == 0, done.stderr
    assert digests(tmp_path / "addressed") == digests(tmp_path / "local")


def test_a_shard_that_this_machine_does_not_see_is_told(tmp_path: Path) -> None:
    """As on a cluster whose machines share no file system."""

    class Elsewhere:
        def run(self, function: Any, jobs: Any) -> Iterator[Any]:
            return iter(())

    write_film(tmp_path / "mp4/s/v/1.mp4", 0.5, fps=10, picture=shades(16, 16))
    corpus = read_voxceleb(VoxcelebSources(source=tmp_path / "mp4", test_fraction=0.0))
    with pytest.raises(InputError, match=r"train/000000.tar: was built and is not here: .* share"):
        build(corpus, tmp_path / "out", BuildSettings(size=16), 1, engine=Elsewhere())


def test_an_address_where_nothing_answers_is_told_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    with pytest.raises(InputError, match=r"--address 127.0.0.1:1: no Ray cluster answers .*ray start --head"):
        list(RayEngine(address="127.0.0.1:1").run(math.sqrt, [1.0]))


def test_a_ray_that_is_slow_to_start_is_told_and_may_be_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a machine that is busy: Ray gives up after half a minute, with an exception of no kind."""

    def slow(**_: Any) -> None:
        raise Exception("The current node timed out during startup.")

    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    monkeypatch.setattr(ray, "init", slow)
    with pytest.raises(InputError, match=r"could not be started \(.*timed out .*: run it again, or start one") as told:
        list(RayEngine().run(math.sqrt, [1.0]))
    assert told.value.try_again


def test_without_ray_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(InputError, match=r"pip install '\.\[ray\]'"):
        require_ray()
    with pytest.raises(InputError, match=r"pip install '\.\[ray\]'"):
        Running(engine="ray").make(2)
    assert Running().make(2) == LocalEngine(workers=2)
    with pytest.raises(InputError, match="--address a:1 goes with --engine ray"):
        Running(address="a:1").make(2)
