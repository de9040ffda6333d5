"""The runs of the tables, and the commands that make them.

For each seed s both networks are pre-trained, each is fine-tuned from its own pre-training of seed s, and one network
is trained from scratch: L3 and AVE differ in what joins the towers in pre-training, which fine-tuning leaves behind, so
from scratch they are one and the same network, and training it twice would give the same weights.

A pre-training draws the pairs that it is scored on from its own seed. So those of further seeds are scored once more on
the first one's pairs: what is compared has answered the same.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Literal

import train
from benchmarks.thesis.recipes import Arm, Recipe
from models.training.config import PretrainConfig, StageConfig
from models.training.predictions import PAIRS

Network = Literal["l3", "ave"]
NETWORKS: tuple[Network, ...] = ("l3", "ave")
SAYS = {
    "l3": "L3-Net",
    "ave": "AVE-Net",
    "pretrain": "pre-trained",
    "finetune": "fine-tuned",
    "scratch": "from scratch",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """A training, or a scoring of a finished one."""

    name: str
    kind: str  #: works of one kind take about as long
    output: Path  #: the run's folder, or the file that a scoring writes
    arguments: tuple[str, ...]  #: of train.py
    trains: bool
    init: Path | None = None  #: the pre-training that it starts from


@dataclass(frozen=True, slots=True, kw_only=True)
class Grid:
    """All runs of the tables, under a folder."""

    folder: Path
    voxceleb: str
    omg: str
    recipe: Recipe
    seeds: int
    pretrain_options: tuple[str, ...] = ()
    finetune_options: tuple[str, ...] = ()
    scratch_options: tuple[str, ...] = ()

    def run(self, arm: Arm, seed: int, network: Network | None = None) -> Path:
        """The folder of a run; from scratch there is no network to name."""
        return self.folder / "-".join((*([network] if network else []), SAYS[arm].replace(" ", "-"), str(seed)))

    def pairs(self, network: Network, seed: int) -> Path:
        """What a pre-training answered about the first seed's pairs."""
        run = self.run("pretrain", seed, network)
        return run / PAIRS if seed == 0 else run.with_name(f"{run.name}-{PAIRS}")

    def works(self) -> Iterator[Work]:
        """All that is to be done, in an order in which it can be: seed by seed, so that the first tells how it goes."""
        for seed in range(self.seeds):
            for network in NETWORKS:
                pretrained = self.run("pretrain", seed, network)
                model = ("--model", network)
                pretraining = self._training("pretrain", seed, network, (*self.pretrain_options, *model))
                yield pretraining
                if seed:
                    name = f"{SAYS[network]} pre-trained, seed {seed}, on the pairs of seed 0"
                    yield scoring_of_pairs(pretraining, self.pairs(network, seed), self.voxceleb, name)
                init = ("--init", str(pretrained))
                yield self._training("finetune", seed, network, (*self.finetune_options, *init), pretrained)
            yield self._training("scratch", seed, None, (*self.finetune_options, *self.scratch_options))

    def _training(
        self, arm: Arm, seed: int, network: Network | None, options: Sequence[str], init: Path | None = None
    ) -> Work:
        output = self.run(arm, seed, network)
        of = "" if network is None else f"{SAYS[network]} "
        return Work(
            name=f"{of}{SAYS[arm]}, seed {seed}",
            kind=f"{of}{SAYS[arm]}",
            output=output,
            arguments=(
                *("--stage", "pretrain" if arm == "pretrain" else "finetune", "--config", str(self.recipe.file(arm))),
                *("--data", self.voxceleb if arm == "pretrain" else self.omg),
                *options,
                *("--seed", str(seed), "--output", str(output)),
            ),
            trains=True,
            init=init,
        )


@cache
def asked(arguments: tuple[str, ...]) -> StageConfig:
    """The settings that train.py takes from its arguments. Raises what `train.parse` does."""
    return train.parse(arguments)[0]


def scoring_of_pairs(pretraining: Work, output: Path, data: str, name: str) -> Work:
    """The scoring of a pre-training on the pairs of the first seed."""
    return Work(
        name=name,
        kind="scoring",
        output=output,
        arguments=(
            *("--stage", "evaluate", "--checkpoint", str(pretraining.output), "--data", data),
            *("--seed", "0", "--predictions", str(output)),
            *_scored_as(pretraining),
        ),
        trains=False,
    )


def _scored_as(pretraining: Work) -> Iterator[str]:
    """Options of train.py --stage evaluate with which pairs are scored as at the end of a pre-training."""
    config = asked(pretraining.arguments)
    if not isinstance(config, PretrainConfig):
        raise TypeError(f"{pretraining.name}: no pre-training")
    scoring = config.scoring
    yield from ("--evaluation-rounds", str(scoring.evaluation_rounds))
    yield from ("--evaluation-negatives", *scoring.evaluation_negatives)
    yield from ("--batch-size", str(config.data.batch_size))
    if config.data.window is not None:
        yield from ("--window", str(config.data.window))
    if scoring.evaluation_split is not None:
        yield from ("--evaluation-split", scoring.evaluation_split)
