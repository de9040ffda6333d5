"""Where a dataset is made: what a build asks of a folder and of an object store alike."""

from collections.abc import Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Protocol

from loaders.dataset.manifest import Manifest
from sharding.packing.existing import ExistingDataset
from sharding.packing.plan import ShardJob


class Output(Protocol):
    """A place for a dataset, by its address."""

    @property
    def name(self) -> str:
        """By which messages call it."""
        ...

    def finished(self) -> AbstractContextManager[ExistingDataset | None]:
        """The finished dataset that is there, if any; its tables can be read within the block.

        Raises:
            InputError: it is not as its dataset.json says, or a store fails.
        """
        ...

    def clear_up(self) -> bool:
        """Remove what a build that was killed has left beside its finished dataset; whether there was any.

        Raises:
            InputError: another build is at work there, or what is left there is not a build's.
        """
        ...

    def held(self, *, extend: bool) -> AbstractContextManager["HeldOutput"]:
        """Hold it for this build alone.

        Args:
            extend: a finished dataset is there, and gets more.

        Raises:
            InputError: another build is at work there, something else than a dataset is there, or it cannot be
                written.
        """
        ...


class HeldOutput(Protocol):
    """An output that one build has for itself.

    The build asks in this order: `existing`, `keeping_lengths`, `missing`, `assemble`, `publish`; and goes on, after it
    was killed, from whatever `missing` finds.
    """

    @property
    def folder(self) -> Path:
        """On this machine, with a work folder: what shards are planned for."""
        ...

    @property
    def disk(self) -> Path:
        """By which messages call what holds the folder, where that fails."""
        ...

    def existing(self) -> ExistingDataset | None:
        """The finished dataset that is there already, if any; an exchange that was broken off is brought to its end.

        Raises:
            InputError: it is not as its dataset.json says.
        """
        ...

    def untouched_unless_begun(self) -> AbstractContextManager[None]:
        """What is refused within the block leaves nothing behind, unless a build has left its shards there before."""
        ...

    def keeping_lengths(self) -> AbstractContextManager[None]:
        """Within the block the lengths of sources that are known are in the folder; those that are added stay."""
        ...

    def missing(self, jobs: Sequence[ShardJob], existing: ExistingDataset | None) -> list[ShardJob]:
        """The jobs that are still to be done, as they are to be done; what the plan no longer holds is removed.

        Args:
            jobs: the plan.
            existing: the dataset that is extended, if one is.

        Raises:
            InputError: something that is not a build's lies where a shard would.
        """
        ...

    def remove_half_written(self, jobs: Sequence[ShardJob]) -> None:
        """Remove what workers that were ended have left half-written of these jobs."""
        ...

    def assemble(self, jobs: Sequence[ShardJob], built: Sequence[ShardJob], existing: ExistingDataset | None) -> Path:
        """The folder where catalogs and dataset.json are to be written; every job has its receipt in `folder`.

        Args:
            jobs: all of the plan; all are done.
            built: those of them that were done just now.
            existing: the dataset that is extended, if one is.

        Raises:
            InputError: a shard or its receipt is not there, or the existing dataset's cannot be put beside them.
        """
        ...

    def publish(self, manifest: Manifest, existing: ExistingDataset | None) -> None:
        """Make the dataset visible, whose catalogs and dataset.json are written, and clear up.

        Raises:
            InputError: a shard is not there as it was made, another build has taken over, or the dataset that is
                extended became another meanwhile.
        """
        ...

    def clear_up(self) -> None:
        """Remove what the build worked with."""
        ...

    def undo(self) -> None:
        """Remove all that the build has made, of which nothing came."""
        ...
