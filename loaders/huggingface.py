"""transformers' Trainer over ClipLoaders. It needs the extra ``interop``; docs/trainers.md has a program.

The Trainer counts steps itself, and resumes by asking its DataLoader to leave out those it has counted. It is given one
whose sampler yields places, (epoch, step), and whose dataset is the loader asked for the batch at a place: what is left
out is never read, and an epoch is the one that the Trainer means.
"""

from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch.utils.data import DataLoader, Dataset, Sampler

from loaders.batch import Batch
from loaders.errors import InputError
from loaders.loader import ClipLoader
from loaders.without_cuda import make_torchaudio_importable

make_torchaudio_importable()

from transformers import Trainer, TrainerCallback  # noqa: E402  (it imports torchaudio)
from transformers.trainer_callback import ExportableState  # noqa: E402

Place = tuple[int, int]  # epoch, step
Fields = dict[str, torch.Tensor | dict[str, torch.Tensor]]


class Places(Sampler[list[Place]]):
    """The places of an epoch's batches in order, each in a list of its own, as a batch sampler yields them."""

    def __init__(self, steps: int) -> None:
        self._steps = steps
        self._epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Which epoch the next loop is over; 0 until it is said."""
        self._epoch = epoch

    def __len__(self) -> int:
        return self._steps

    def __iter__(self) -> Iterator[list[Place]]:
        return ([(self._epoch, step)] for step in range(self._steps))


class Batches(Dataset[Fields]):
    """A loader's batches by their place. One after the other they are read ahead as ever; a leap begins anew there."""

    def __init__(self, loader: ClipLoader) -> None:
        self.loader = loader
        self._rest: Iterator[Batch] = iter(())
        self._next: Place | None = None  # what the rest begins with

    def __len__(self) -> int:
        """Examples an epoch over all ranks, which is what the Trainer asks for; places are not counted through."""
        return self.loader.examples

    def __getitem__(self, place: Place) -> Fields:
        """The batch at (epoch, step), its fields by name."""
        loader = self.loader
        if (loader.epoch, loader.step) != place:
            loader.load_state_dict({**loader.state_dict(), "epoch": place[0], "step": place[1]})
            self._next = None
        if self._next != place or place[1] == 0:  # the rest is of one epoch
            self._rest = iter(loader)
        batch = next(self._rest)
        self._next = loader.epoch, loader.step
        return batch.as_dict()


class ClipDataLoader(DataLoader[Fields]):
    """What the Trainer takes for a DataLoader: a ClipLoader's batches, one process, in their order."""

    def __init__(self, loader: ClipLoader) -> None:
        self.places = Places(len(loader))
        super().__init__(Batches(loader), batch_sampler=self.places, collate_fn=_only)

    def set_epoch(self, epoch: int) -> None:
        """Which epoch the next loop is over. The Trainer says it in training; evaluations are all of epoch 0."""
        self.places.set_epoch(epoch)


class LoaderState(TrainerCallback, ExportableState):
    """Keeps the training loader's state in trainer_state.json, and refuses to resume in another order than it says."""

    def __init__(self) -> None:
        self._loader: ClipLoader | None = None

    def state(self) -> dict[str, Any]:
        """What the Trainer writes as JSON. (It asks once before there is a loader.)"""
        attributes = {} if self._loader is None else {"saved": self._loader.state_dict()}
        return {"args": {}, "attributes": attributes}

    def on_train_begin(self, args: Any, state: Any, control: Any, **others: Any) -> None:
        """Go on from the saved state, where training is resumed.

        Raises:
            InputError: it is of another dataset or of other settings, or the checkpoint has none.
        """
        self._loader = others["train_dataloader"].dataset.loader
        if state.global_step == 0:
            return
        kept = state.stateful_callbacks.get(type(self).__name__)
        if not isinstance(kept, Mapping) or "saved" not in kept["attributes"]:
            raise InputError("the checkpoint has no state of a ClipLoader: resume from one that a ClipTrainer has made")
        self._loader.load_state_dict(kept["attributes"]["saved"])


class ClipTrainer(Trainer):
    """A Trainer whose ``train_dataset`` and ``eval_dataset`` are ClipLoaders, made after its TrainingArguments.

    The model is called with a batch's fields by name, see `loaders.batch.Batch`. Arguments that say something else than
    the loader are refused: ``per_device_train_batch_size`` and ``per_device_eval_batch_size`` are the loaders'.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        """As of `transformers.Trainer`.

        Raises:
            InputError: a dataset is no ClipLoader, the arguments contradict it, or the clips of an evaluation do not
                divide among the ranks.
        """
        super().__init__(*args, **kwargs)
        self.add_callback(LoaderState())
        # Now, and not after an epoch of training.
        if self.train_dataset is not None:
            self.get_train_dataloader()
        evaluated = self.eval_dataset if isinstance(self.eval_dataset, dict) else {"": self.eval_dataset}
        for loader in evaluated.values():
            if loader is not None:
                self.get_eval_dataloader(loader)

    def get_train_dataloader(self) -> ClipDataLoader:
        """The training loader's batches.

        Raises:
            InputError: as of the constructor.
        """
        return self._batches(self.train_dataset, self.args.train_batch_size, "train")

    def get_eval_dataloader(self, eval_dataset: Any = None) -> ClipDataLoader:
        """An evaluation loader's batches, be it given, one of several by its name, or the Trainer's own.

        Raises:
            InputError: as of the constructor.
        """
        if isinstance(eval_dataset, str):
            eval_dataset = self.eval_dataset[eval_dataset]
        return self.get_test_dataloader(self.eval_dataset if eval_dataset is None else eval_dataset)

    def get_test_dataloader(self, test_dataset: Any) -> ClipDataLoader:
        """A loader's batches for predicting.

        Raises:
            InputError: as of the constructor.
        """
        batches = self._batches(test_dataset, self.args.eval_batch_size, "eval")
        clips, ranks = test_dataset.examples, self.args.world_size
        if clips % ranks:
            raise InputError(
                f"the Trainer gathers as many scores from every rank, and {clips} clips do not divide among {ranks}: "
                "evaluate on one"
            )
        return batches

    def _batches(self, loader: Any, batch_size: int, which: str) -> ClipDataLoader:
        if not isinstance(loader, ClipLoader):
            raise InputError(f"{which}_dataset is a {type(loader).__name__}: give a ClipLoader")
        if loader.batch_size != batch_size:
            raise InputError(
                f"batches of {batch_size} by per_device_{which}_batch_size, and of {loader.batch_size} by the "
                "ClipLoader: give both the same"
            )
        for name in ("dataloader_num_workers", "dataloader_drop_last", "auto_find_batch_size"):
            if getattr(self.args, name):
                raise InputError(f"{name} is {getattr(self.args, name)}, and the ClipLoader decides that: leave it out")
        return ClipDataLoader(loader)


def _only(batches: list[Fields]) -> Fields:
    (batch,) = batches
    return batch
