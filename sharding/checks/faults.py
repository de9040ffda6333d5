"""What can be wrong with a dataset, said so that it can be found and mended."""

from dataclasses import dataclass
from typing import Literal

Kind = Literal[
    "manifest",  # dataset.json
    "missing",  # a file that dataset.json names
    "extra",  # a file that it does not name
    "damaged",  # a file that does not have its SHA-256
    "tar",  # the structure of a shard
    "catalog",  # a catalog that says otherwise than the shards or dataset.json
    "index",  # an .idx that says otherwise than its shard
    "member",  # bytes that do not have their checksum
    "content",  # bytes that do not hold what dataset.json declares
    "rejected",  # rejected.parquet says otherwise than dataset.json
    "duplicate",  # a key that occurs twice
    "leak",  # something in two splits that ought to be in one
]

DROP = "--repair drops the shard; to have its clips again, build the dataset again"
REWRITE = "--repair writes it again"
REMAKE = "--repair makes it again from the shards"


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """One thing that is wrong."""

    kind: Kind
    path: str  #: of the file, within the dataset
    where: str = ""  #: in the file: a clip's key, a member's name, a byte, a line
    what: str
    mend: str

    def __str__(self) -> str:
        return f"{self.path}{f' ({self.where})' if self.where else ''}: {self.what}: {self.mend}"


class FaultList:
    """Collects faults up to a limit and counts the rest: the first few tell that a file is garbage throughout."""

    def __init__(self, limit: int = 50) -> None:
        self._limit = limit
        self.faults: list[Fault] = []
        self.more = 0  #: faults beyond the limit

    def add(self, kind: Kind, path: str, what: str, mend: str, *, where: str = "") -> None:
        """Add one."""
        if len(self.faults) < self._limit:
            self.faults.append(Fault(kind=kind, path=path, where=where, what=what, mend=mend))
        else:
            self.more += 1

    def __len__(self) -> int:
        return len(self.faults) + self.more

    def extend(self, other: "FaultList") -> None:
        """Add another list's."""
        room = max(self._limit - len(self.faults), 0)
        self.faults += other.faults[:room]
        self.more += other.more + len(other.faults[room:])
