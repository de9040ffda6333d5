"""Two ranks read a dataset: ``torchrun --nproc_per_node 2 read.py URL CACHE RESULT [--patience SECONDS]``.

Two epochs of "train", in windows of two shards, through a cache that holds little more than two windows; then "test",
once. RESULT gets what every rank has read, in its order, and what its loader of "train" counted; RESULT.begun says that
the first batch is there.
"""

import argparse
import json
import logging
import time
from dataclasses import asdict
from pathlib import Path

import torch.distributed as dist

from loaders import ClipLoader, InputError

CACHE_BYTES = 5_000_000


def read(url: str, cache: Path, patience: float, begun: Path) -> dict:
    settings = {"batch_size": 4, "cache": cache, "cache_bytes": CACHE_BYTES, "cache_patience": patience}
    found: dict = {}
    with ClipLoader(url, "train", shard_window=2, **settings) as loader:
        found["epochs"] = []
        for _ in range(2):
            epoch = []
            for batch in loader:
                epoch += batch.clip.tolist()
                begun.touch()
                time.sleep(0.2)  # a step of a network
            found["epochs"].append(epoch)
        found["train"] = asdict(loader.stats())
    with ClipLoader(url, "test", **settings) as loader:
        found["whole"] = [clip for batch in loader for clip in batch.clip.tolist()]
    return found


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("url")
    parser.add_argument("cache", type=Path)
    parser.add_argument("result", type=Path)
    parser.add_argument("--patience", type=float, default=60)
    options = parser.parse_args()
    logging.basicConfig(format="%(message)s")
    dist.init_process_group("gloo")
    try:
        found = read(options.url, options.cache, options.patience, Path(f"{options.result}.begun"))
    except InputError as error:
        raise SystemExit(f"rank {dist.get_rank()}: error: {error}") from error
    ranks: list = [None] * dist.get_world_size()
    dist.all_gather_object(ranks, found)
    if dist.get_rank() == 0:
        options.result.write_text(json.dumps(ranks))
    dist.destroy_process_group()
