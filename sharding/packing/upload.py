"""How a shard gets from the worker that builds it to an object store."""

import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from sharding.packing.buildlock import require_held
from sharding.packing.writer import WORK_FOLDER, receipt_name
from sharding.sources.store import Store


@dataclass(frozen=True, slots=True, kw_only=True)
class Upload:
    """Where a shard goes when it is built. It travels with the shard's job."""

    store: Store
    scratch: Path  #: of this build, on whatever machine
    token: str  #: of the lock under which the build is made

    @contextmanager
    def workplace(self, split: str, stem: str) -> Iterator[Path]:
        """An empty folder to build a shard in, gone afterwards.

        Raises:
            InputError: another build has taken over.
        """
        require_held(self.store, self.token)
        folder = self.scratch / f"{split}-{stem}"
        shutil.rmtree(folder, ignore_errors=True)  # of a worker that died
        (folder / WORK_FOLDER).mkdir(parents=True)
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    def send(self, folder: Path, split: str, stem: str) -> float:
        """Upload the files of a shard, its receipt last; seconds that it took."""
        began = time.perf_counter()
        require_held(self.store, self.token)
        names = (f"{split}/{stem}.tar", f"{split}/{stem}.idx", receipt_name(split, stem))
        there = [name for name in names if (folder / name).exists()]  # of a shard without a clip only the receipt
        # The shard as it was while its sources were others goes first: no receipt vouches for files not its own.
        self.store.remove([names[-1], *(name for name in names if name not in there)])
        for name in there:
            self.store.put(folder / name, name)
        return time.perf_counter() - began
