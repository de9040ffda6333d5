"""docs/coming.md: every call of its tables runs, those of other loaders where they are installed and with --full.

A program a loader has the page's calls word for word, with something in the place of each ellipsis.
"""

import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest
import s3fs

from tests.datasets import Contents, make_dataset
from tests.programs import ROOT
from tests.s3 import S3, s3_server

PAGE = ROOT / "docs" / "coming.md"
CONTENTS = Contents(speakers={"train": 16, "test": 3}, shards={"train": 8, "test": 2})
PATIENCE = 120.0  # seconds

OURS = """
from loaders import ClipLoader

path, seen = "data/vox", []
for loader in (
    ClipLoader("data/vox", "train"),
    ClipLoader("data/vox", "train", batch_size=32, threads=8, negatives=None, max_bad_fraction=0.01),
    ClipLoader("s3://bucket/vox", cache="/scratch", batch_size=32),
    ClipLoader("s3://bucket/vox", cache="/scratch", cache_bytes=500 << 30, rank=1, world_size=4, node_groups=4),
    ClipLoader(path, batch_size=32, shard_window=8),
):
    with loader:
        for batch in loader:
            assert len(batch) == 32 and batch.match.any()
            state = loader.state_dict()
        seen.append([len(loader), state])
assert loader.epoch == 1
"""

WEBDATASET = """
from webdataset import RandomMix, WebDataset, WebLoader, split_by_node, split_by_worker

buffer, n = 100, 10
clips = WebDataset(urls, shardshuffle=8).shuffle(1000).decode("rgb8").to_tuple("__key__", "filmstrip.jpg", "clip.msg")
seen["clips"] = sorted(key for key, strip, told in clips if strip.dtype == "uint8" and told["speaker"])
loader = WebLoader(clips.batched(32), batch_size=None, num_workers=8)
seen["batched"] = sorted(key for keys, strips, told in loader for key in keys)
dealt = dict(nodesplitter=split_by_node, workersplitter=split_by_worker)
first = WebDataset(urls, resampled=True, **dealt).shuffle(buffer).map(lambda clip: clip["__key__"]).with_epoch(n)
seen["n"] = len(list(first))
other = WebDataset(urls, shardshuffle=8, cache_dir="/scratch", cache_size=10**9).map(lambda clip: clip["__key__"])
seen["mixed"] = sorted(RandomMix([other], longest=True))
"""

MOSAIC = """
import torch
from benchmarks.peers.mosaic import streaming  # where torchvision is built for another torch than there is
from streaming import MDSWriter, Stream, StreamingDataset, StreamingDataLoader

with MDSWriter(out="s3://bucket/mds", columns={"key": "str"}) as out:
    for key in keys:
        out.write({"key": key})
clips = StreamingDataset(remote="s3://bucket/mds", local="/scratch", shuffle=True, batch_size=32)
seen["clips"] = sorted(clip["key"] for clip in clips)

class Clips(StreamingDataset):
    def __getitem__(self, at):
        return super().__getitem__(at)["key"]

streams = [Stream(proportion=1.0, remote="s3://bucket/mds", local="/scratch/1")]
sizes = dict(shuffle=True, shuffle_block_size=1000, num_canonical_nodes=4, cache_limit="500gb")
clips = Clips(streams=streams, batch_size=32, **sizes)
assert clips.cache_limit == 500 << 30
loader = StreamingDataLoader(clips, batch_size=32)
batches = iter(loader)
first = next(batches)
state = loader.state_dict()
seen["whole"] = sorted({*first, *(key for batch in batches for key in batch)})  # some twice, for equal shares
assert 0 < state["sample_in_epoch"] < len(keys)
"""

ENERGON = """
from megatron.energon import Cooker, DefaultTaskEncoder, WorkerConfig, basic_sample_keys, stateless
from megatron.energon import get_savable_loader, get_train_dataset, TextSample
from megatron.energon.cli.main import main

sys.argv = "energon prepare --non-interactive --split-parts train:train/ --sample-type CrudeWebdataset".split() + [path]
main(standalone_mode=False)

@stateless
def cook(clip):
    return TextSample(**basic_sample_keys(clip), text=clip["clip.msg"]["speaker"])

class Clips(DefaultTaskEncoder):
    cookers = [Cooker(cook)]

where = WorkerConfig(rank=0, world_size=1, num_workers=0)
dataset = get_train_dataset(
    path,
    task_encoder=Clips(),
    worker_config=where,
    batch_size=32,
    shuffle_buffer_size=100,
    max_samples_per_sequence=100,
)
found = set()
for batch in get_savable_loader(dataset):  # it goes on without an end
    found |= {key.rsplit("/", 1)[-1] for key in batch.__key__}
    if len(found) == len(keys):
        break
seen["clips"] = sorted(found)
state = get_savable_loader(dataset).save_state_rank()
"""

PEERS = {"WebDataset": WEBDATASET, "Mosaic Streaming": MOSAIC, "Megatron-Energon": ENERGON}
MODULES = {"WebDataset": "webdataset", "Mosaic Streaming": "streaming", "Megatron-Energon": "megatron"}


def table(heading: str) -> list[dict[str, str]]:
    """The rows of the table below a heading, by the heads of its columns."""
    section = PAGE.read_text().split(f"## {heading}\n")[1].split("\n## ")[0]
    lines = [line[1:-1].split("|") for line in section.splitlines() if line.startswith("|")]
    head, _, *rows = [[cell.strip() for cell in cells] for cells in lines]
    return [dict(zip(head, row, strict=True)) for row in rows]


def code(cell: str) -> list[str]:
    return re.findall(r"`([^`]+)`", cell)


def unmet(pieces: list[str], program: str, files: list[str]) -> list[str]:
    """Those that neither stand in a program, in however many lines, nor end the name of a file."""
    line = re.sub(r",? \)", ")", " ".join(program.split())).replace("( ", "(")

    def is_met(piece: str) -> bool:
        pattern = re.escape(piece).replace("…", ".{1,90}?")
        return re.search(pattern, line) is not None or any(name.endswith(piece.removeprefix("key")) for name in files)

    return [piece for piece in pieces if not is_met(piece)]


def library_of(call: str) -> str:
    """The loader that has such a call, of the rows of "Calls"."""
    found = [name for name, program in PEERS.items() if not unmet(code(call), program, [])]
    assert len(found) == 1, f"{call}: is in the programs of {found}"
    return found[0]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One that has ``data/vox``."""
    folder = tmp_path_factory.mktemp("coming")
    make_dataset(folder / "data" / "vox", CONTENTS)
    return folder


@pytest.fixture(scope="module")
def keys(folder: Path) -> list[str]:
    """Of the training split's clips."""
    found = set()
    for tar in (folder / "data" / "vox" / "train").glob("*.tar"):
        with tarfile.open(tar) as archive:
            found |= {name.partition(".")[0] for name in archive.getnames()}
    assert len(found) >= 128  # four ranks' batches of 32
    return sorted(found)


@pytest.fixture(scope="module")
def server() -> Iterator[S3]:
    with s3_server() as s3:
        yield s3


def test_each_row_is_in_a_program_of_its_own_loader() -> None:
    rows = table("Calls")
    assert len(rows) >= 9
    assert {library_of(row["you wrote"]) for row in rows} == set(PEERS)
    assert {head for row in table("Words") for head in row} == {"here", *PEERS}


def test_what_is_written_here_runs(folder: Path, server: S3, keys: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    s3fs.S3FileSystem().put(str(folder / "data" / "vox"), "bucket/vox", recursive=True)
    monkeypatch.chdir(folder)
    names: dict[str, object] = {}
    exec(compile(OURS.replace('"/scratch"', repr(str(folder / "cache"))), "ours", "exec"), names)
    batches = tuple(number for number, _ in names["seen"])  # type: ignore[attr-defined]
    assert batches == (len(keys) // 32,) * 3 + (len(keys) // 128, len(keys) // 32)
    with tarfile.open(next(folder.glob("data/vox/train/*.tar"))) as archive:
        files = [*archive.getnames(), *map(str, folder.glob("data/vox/**/*"))]
    shown = [row["write"] for row in table("Calls")] + [row["here"] for row in table("Words")]
    assert unmet(code(" ".join(shown)), OURS, files) == []


@pytest.mark.parametrize("library", PEERS)
def test_what_you_wrote_runs(
    library: str, folder: Path, server: S3, keys: list[str], full: bool, tmp_path: Path
) -> None:
    if not full:
        pytest.skip("--full runs other loaders")
    if importlib.util.find_spec(MODULES[library]) is None:
        pytest.skip(f"{library} is not installed: make bench-setup")
    data = shutil.copytree(folder / "data" / "vox", tmp_path / "vox")
    head = f"import json, sys\nseen, keys, path = {{}}, {keys!r}, {str(data)!r}\n"
    head += f"urls = {sorted(map(str, data.glob('train/*.tar')))!r}\n"
    program = tmp_path / "program.py"
    (tmp_path / "scratch").mkdir()
    text = head + PEERS[library].replace('"/scratch', f'"{tmp_path / "scratch"}')
    program.write_text(f"{text}\nprint(json.dumps(seen))\n")
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "S3_ENDPOINT_URL": server.endpoint}
    done = subprocess.run(
        [sys.executable, program], env=environment, capture_output=True, text=True, timeout=PATIENCE, check=False
    )
    assert done.returncode == 0, done.stderr
    seen = json.loads(done.stdout.splitlines()[-1])
    for name, found in seen.items():
        if isinstance(found, list):
            assert found == keys, name
    assert seen.get("n", 10) == 10
    files = [str(path) for path in tmp_path.rglob("*")] + s3fs.S3FileSystem().find("bucket")
    assert unmet([piece for row in table("Words") for piece in code(row.get(library, ""))], PEERS[library], files) == []
