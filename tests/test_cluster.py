"""The scripts of docs/cluster.md, run with stand-ins for SLURM's commands, and what it says of requests to a store."""

import math
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from accelerate.commands.launch import launch_command_parser
from accelerate.utils.launch import prepare_multi_gpu_env

import train
from loaders import ClipLoader
from loaders.dataset.manifest import read_manifest
from loaders.storage import cache
from models.training.checkpoint import checkpoints
from models.training.config import PretrainConfig
from sharding import build
from sharding.settings import BuildSettings
from tests.programs import ROOT, as_module, write_programs
from tests.s3 import s3_server

PAGE = ROOT / "docs" / "cluster.md"
SCRIPTS = dict(re.findall(r"^`(\w+\.slurm)`.*?^```bash\n(.*?)^```", PAGE.read_text(), re.MULTILINE | re.DOTALL))
PATIENCE = 120.0
# Of sbatch's options those that the scripts have, and what each may be: man sbatch.
DIRECTIVES = {
    "job-name": r"\w+",
    "nodes": r"[1-9]\d*",
    "ntasks-per-node": r"[1-9]\d*",
    "gpus-per-node": r"[1-9]\d*",
    "cpus-per-task": r"[1-9]\d*",
    "time": r"(\d+-)?\d\d:[0-5]\d:[0-5]\d",
    "signal": r"(B:)?(TERM|USR1|USR2|INT)@\d{1,5}",
    "requeue": None,
    "open-mode": r"append|truncate",
    "output": r"(%x|%j|[\w.-])+",
}
# What stands for SLURM's commands: tasks are processes of this machine, and a job is known by its folder.
COMMANDS = {
    "scontrol": """
        if [ "$1" = show ]; then for node in $(seq "$SLURM_NNODES"); do echo localhost; done
        else echo "$@" >> scontrol.said; fi""",
    "scancel": """
        echo "$@" >> scancel.said
        kill -TERM $(cat tasks)""",
    "srun": """
        while [[ $1 == --* ]]; do shift; done
        for task in $(seq 0 $((SLURM_NTASKS - 1))); do
            SLURM_PROCID=$task SLURM_NODEID=$((task / SLURM_NTASKS_PER_NODE)) \\
                SLURM_LOCALID=$((task % SLURM_NTASKS_PER_NODE)) "$@" &
            pids="$pids $!"
        done
        echo $pids > tasks
        for pid in $pids; do
            wait $pid
            code=$?
            [ $code -gt ${status:-0} ] && status=$code
        done
        exit ${status:-0}""",
}
# What stands for a program that tasks run: it writes down how it was called.
TOLD = """
    name=$(basename "$0")
    printf '%s\\n' "$@" > "$name.$SLURM_PROCID.arguments"
    env > "$name.$SLURM_PROCID.environment"
    exit "${STATUS:-0}" """
# A run that is told to stop, as accelerate launch shows it.
STOPPED = """
    trap 'exit 1' TERM
    touch "running.$SLURM_PROCID"
    while true; do sleep 0.02; done"""


class Job:
    """A script in a folder of its own, as SLURM would run it."""

    def __init__(self, folder: Path, nodes: int, tasks: int, programs: dict[str, str]) -> None:
        self.folder = folder
        commands = folder / ".venv" / "bin"
        commands.mkdir(parents=True)
        (commands / "activate").write_text('PATH="$PWD/.venv/bin:$PATH"\n')
        for name, text in (COMMANDS | programs).items():
            (commands / name).write_text(f"#!/bin/bash\n{text}\n")
            (commands / name).chmod(0o755)
        (folder / "train.py").symlink_to(ROOT / "train.py")
        own = {"NNODES": nodes, "NTASKS": nodes * tasks, "NTASKS_PER_NODE": tasks, "CPUS_PER_TASK": 1}
        job = {"JOB_ID": os.getpid(), "JOB_NODELIST": "node[1-2]", "GPUS_ON_NODE": 1}
        self.environment = os.environ | {f"SLURM_{name}": str(value) for name, value in (own | job).items()}
        self.environment |= {"USER": "somebody", "PYTHONPATH": str(ROOT)}

    def start(self, script: str, *options: object, **environment: str) -> "subprocess.Popen[bytes]":
        (self.folder / script).write_text(SCRIPTS[script])
        with (self.folder / "log").open("ab") as log:
            return subprocess.Popen(
                ["bash", script, *map(str, options)],
                cwd=self.folder,
                env=self.environment | environment,
                stdout=log,
                stderr=log,
            )

    def run(self, script: str, *options: object, **environment: str) -> int:
        process = self.start(script, *options, **environment)
        try:
            return process.wait(PATIENCE)
        finally:
            process.kill()

    def arguments(self, program: str, task: int = 0) -> list[str]:
        return self.said(f"{program}.{task}.arguments")

    def said(self, name: str) -> list[str]:
        path = self.folder / name
        return path.read_text().splitlines() if path.exists() else []

    def until(self, *patterns: str) -> None:
        deadline = time.monotonic() + PATIENCE
        while not all(list(self.folder.glob(pattern)) for pattern in patterns):
            assert time.monotonic() < deadline, self.said("log")
            time.sleep(0.01)


@pytest.fixture
def job(tmp_path: Path) -> Callable[..., Job]:
    def make(nodes: int = 2, tasks: int = 1, **programs: str) -> Job:
        return Job(tmp_path, nodes, tasks, programs)

    return make


def test_the_page_has_three_scripts() -> None:
    assert list(SCRIPTS) == ["train.slurm", "launch.slurm", "build.slurm"]


@pytest.mark.parametrize("script", SCRIPTS)
def test_a_script_is_one_and_says_what_it_needs(script: str) -> None:
    """bash can read it, and every line for sbatch stands before the first command, where alone it counts."""
    text = SCRIPTS[script]
    subprocess.run(["bash", "-n"], input=text, text=True, check=True)
    first, *lines = text.splitlines()
    assert first == "#!/bin/bash"
    head, _, body = "\n".join(lines).partition("\n\n")
    assert "#SBATCH" not in body
    found = {}
    for line in head.splitlines():
        match = re.fullmatch(r"#SBATCH --([\w-]+)(?:=(\S+))?", line)
        assert match is not None, line
        form = DIRECTIVES[match[1]]
        assert (match[2] is None) if form is None else re.fullmatch(form, match[2] or ""), line
        assert match[1] not in found, line
        found[match[1]] = match[2]
    assert {"nodes", "ntasks-per-node", "time", "output"} <= found.keys()
    if "signal" in found:  # a job that goes on is one that SLURM may begin again, with its log
        assert "requeue" in found
        assert found["open-mode"] == "append"


def as_the_page_says(arguments: list[str]) -> PretrainConfig:
    """What train.py makes of a command line: what both scripts say of a run."""
    config, given = train.parse(arguments)
    assert isinstance(config, PretrainConfig)
    assert config.data.data == ("s3://bucket/vox",)
    assert (config.data.node_groups, config.data.shard_window) == (2, 8)
    assert config.loader.cache == Path("/scratch/somebody/filmstrip")
    assert (config.run.output, config.run.resume) == (Path("runs/l3"), True)
    assert {"cache_gb", "checkpoint_every", "batch_size"} <= given
    return config


def test_train_slurm_starts_a_rank_a_task(job: Callable[..., Job]) -> None:
    """With what torchrun would say, and options that train.py knows; a finished run ends the job."""
    made = job(tasks=2, python=TOLD)
    assert made.run("train.slurm", "--seed", "3") == 0
    assert made.said("scontrol.said") == []
    program, *arguments = made.arguments("python")
    assert program == "train.py"
    assert as_the_page_says(arguments).data.seed == 3
    for task in range(4):
        assert made.arguments("python", task) == [program, *arguments]
        told = dict(line.partition("=")[::2] for line in made.said(f"python.{task}.environment"))
        ranks = {name: told[name] for name in ("RANK", "LOCAL_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE", "MASTER_ADDR")}
        assert ranks == {
            "RANK": str(task),
            "LOCAL_RANK": str(task % 2),
            "WORLD_SIZE": "4",
            "LOCAL_WORLD_SIZE": "2",
            "MASTER_ADDR": "localhost",
        }
        assert 1024 < int(told["MASTER_PORT"]) < 65536


@pytest.mark.parametrize(("status", "queued"), [(143, True), (0, False), (1, False), (2, False), (75, False)])
def test_train_slurm_queues_up_again_after_143_alone(job: Callable[..., Job], status: int, queued: bool) -> None:
    made = job(python=TOLD)
    ended = made.run("train.slurm", STATUS=str(status))
    assert made.said("scontrol.said") == ([f"requeue {os.getpid()}"] if queued else [])
    assert ended == (0 if queued else status)


def test_launch_slurm_starts_accelerate_on_each_node(job: Callable[..., Job]) -> None:
    """Options that accelerate's own parser knows: of two nodes with a process each, that meet at the first one."""
    made = job(accelerate=TOLD)
    assert made.run("launch.slurm") == 0
    for node in range(2):
        command, *arguments = made.arguments("accelerate", node)
        assert command == "launch"
        parsed = launch_command_parser().parse_args(arguments)
        assert (parsed.training_script, parsed.multi_gpu, parsed.mixed_precision) == ("train.py", True, "bf16")
        parsed.main_process_port += os.getpid() % 100  # another's of this machine may be in use
        prepare_multi_gpu_env(parsed)
        assert (parsed.nnodes, parsed.nproc_per_node, parsed.node_rank) == ("2", "1", node)
        assert parsed.rdzv_endpoint == f"localhost:{parsed.main_process_port}"
        assert parsed.training_script_args == arguments[-len(parsed.training_script_args) :]
    as_the_page_says(parsed.training_script_args)


def test_launch_slurm_passes_a_signal_on_and_queues_up_again(job: Callable[..., Job]) -> None:
    """Although accelerate ends with 1, as it does where nobody has told it to stop."""
    made = job(accelerate=STOPPED)
    process = made.start("launch.slurm")
    made.until("running.0", "running.1", "tasks")
    process.send_signal(signal.SIGTERM)
    assert process.wait(PATIENCE) == 0
    assert made.said("scancel.said") == [f"--signal=TERM {os.getpid()}"]
    assert made.said("scontrol.said") == [f"requeue {os.getpid()}"]


@pytest.mark.parametrize("status", [0, 1])
def test_launch_slurm_ends_as_accelerate_does(job: Callable[..., Job], status: int) -> None:
    made = job(accelerate=TOLD)
    assert made.run("launch.slurm", STATUS=str(status)) == status
    assert made.said("scontrol.said") == []


def test_build_slurm_builds_on_the_cluster_that_it_starts(job: Callable[..., Job]) -> None:
    made = job(ray=TOLD)
    assert made.run("build.slurm", "--extend") == 0
    arguments = made.arguments("ray")
    end = arguments.index("--")
    assert arguments[:2] == ["symmetric-run", "--address"]
    command: Any = build.parse(arguments[end + 3 :])
    assert arguments[end + 1 : end + 3] == ["python", "sharding/build.py"]
    assert (command.running.engine, command.running.address) == ("ray", arguments[2])
    assert (str(command.output), command.extend) == ("s3:/bucket/vox", True)
    assert dict(zip(arguments[3:end:2], arguments[4:end:2], strict=True)) == {"--min-nodes": "2", "--num-cpus": "1"}


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> ModuleType:
    folder = tmp_path_factory.mktemp("programs")
    write_programs(PAGE, folder)
    return as_module(folder / "epoch_requests.py")


def test_an_epoch_costs_what_the_formula_says(
    program: ModuleType, dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Counted by the store: the first epoch, one from the cache, and those of a cache that has not room for all."""
    s3fs = pytest.importorskip("s3fs", reason="the extra s3 is not installed")
    block = 400_000  # of these small shards there are several blocks, too
    monkeypatch.setattr(cache, "BLOCK", block)
    monkeypatch.setattr(program, "BLOCK", block)
    shards = [shard.bytes for shard in read_manifest(dataset).splits["train"].shards]
    assert min(shards) > block
    first, later = program.epoch_requests(shards)
    assert (first, later) == (sum(math.ceil(size / block) for size in shards), 0)
    largest = max(shards)
    with s3_server() as s3:
        s3fs.S3FileSystem().put(str(dataset), "bucket/vox", recursive=True)

        def gets(folder: str, **settings: Any) -> list[int]:
            """Requests for parts of shards, and for other things, of two epochs each."""
            with ClipLoader("s3://bucket/vox", batch_size=4, cache=tmp_path / folder, **settings) as loader:
                opened = [path for method, path in s3.requests if method == "GET"]
                assert [path.rpartition("/")[2] for path in opened[-2:]] == ["dataset.json", "clips.parquet"]
                counts = []
                for _ in range(2):
                    before = len(s3.requests)
                    assert sum(1 for _ in loader) == len(loader)
                    asked = s3.requests[before:]
                    assert all(method == "GET" and path.endswith(".tar") for method, path in asked)
                    counts.append(len(asked))
                return counts

        assert gets("whole") == [first, later]
        assert program.epoch_requests(shards, cache=3 * largest) == (first, first)
        small = gets("small", shard_window=1, cache_bytes=3 * largest)
        # What is fetched ahead counts into the epoch before.
        assert small[0] >= first - math.ceil(largest / block)
        assert sum(small) <= 2 * first + 2 * math.ceil(largest / block)
        assert sum(small) > first, "a cache for all of them would not be small"


def test_node_groups_share_what_nodes_alone_pay_each(program: ModuleType) -> None:
    shards = [256_000_000] * 12
    assert program.epoch_requests(shards, nodes=4) == (12 * 31, 0)
    assert program.epoch_requests(shards, nodes=4, shared=False) == (4 * 12 * 31, 0)
    assert program.epoch_requests(shards, nodes=4, cache=800e6) == (12 * 31, 0)
    assert program.epoch_requests(shards, nodes=4, cache=800e6, shared=False) == (4 * 12 * 31, 4 * 12 * 31)


def test_the_page_says_what_a_default_shard_costs() -> None:
    size = BuildSettings().shard_mb
    (requests,) = re.findall(rf"⌈\*b\* / 8,388,608⌉ requests, (\d+) for one of {size} MB", PAGE.read_text())
    assert int(requests) == math.ceil(size * 1e6 / cache.BLOCK)
    assert cache.BLOCK == 8_388_608


def test_the_program_prints_a_datasets(program: ModuleType, dataset: Path, capfd: pytest.CaptureFixture[str]) -> None:
    subprocess.run(
        [sys.executable, str(program.__file__), str(dataset), "2"],
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        check=True,
    )
    assert "train, with --node-groups: 4 shards" in capfd.readouterr().out


SMALL = ("--preset", "tiny", "--width", "4", "--frame-size", "16", "--batch-size", "4", "--mixed-precision", "no")
SHORT = ("--shard-window", "1", "--log-every", "2", "--tracker", "--no-picture", "--epochs", "1000")


@pytest.mark.parametrize(("script", "command"), [("train.slurm", "python"), ("launch.slurm", "accelerate")])
def test_a_job_is_stopped_and_goes_on(
    job: Callable[..., Job], dataset: Path, tmp_path: Path, full: bool, script: str, command: str
) -> None:
    """Two ranks that read from S3: told to stop, queued up again, and trained to the end."""
    if not full:
        pytest.skip("two ranks, started twice: --full runs them")
    s3fs = pytest.importorskip("s3fs", reason="the extra s3 is not installed")
    where = Path(sys.executable).parent
    made = job(**{command: f'exec "{where / command}" "$@"'})
    run = tmp_path / "runs" / "l3"
    options = (*SMALL, *SHORT, "--cache", tmp_path / "cache", "--max-steps")
    with s3_server() as s3:
        s3fs.S3FileSystem().put(str(dataset), "bucket/vox", recursive=True)
        environment = {**s3.environment, "ACCELERATE_USE_CPU": "true", "OMP_NUM_THREADS": "1"}
        process = made.start(script, *options, "100000", **environment)
        made.until("runs/l3/metrics.jsonl")
        while not (run / "metrics.jsonl").read_text():
            time.sleep(0.01)
        if script == "launch.slurm":
            process.send_signal(signal.SIGTERM)
        else:  # SLURM tells the tasks
            subprocess.run([tmp_path / ".venv" / "bin" / "scancel"], cwd=tmp_path, check=True)
        assert process.wait(PATIENCE) == 0, made.said("log")
        assert made.said("scontrol.said") == [f"requeue {os.getpid()}"]
        [saved] = checkpoints(run / "checkpoints")
        (tmp_path / "scontrol.said").unlink()
        assert made.run(script, *options, int(saved.name) + 2, **environment) == 0, made.said("log")
    assert made.said("scontrol.said") == []
    log = "\n".join(made.said("log"))
    assert "no run there yet, from the beginning" in log
    assert f"resuming from runs/l3/checkpoints/{saved.name}" in log
    assert (run / "results.json").exists()
