"""The systems beside the tables' two networks, and the runs by which they are compared, under the folder of a grid.

Each is pre-trained and fine-tuned, and trained from scratch beside it. What the grid trains anyway is taken from there:
L3-Net and AVE-Net are the same whether they have a system's name or not, and two systems of the same towers are one
network from scratch. In particular the thesis' towers in Abdou et al.'s architecture are its own networks, for the two
differ by towers alone.
"""

from __future__ import annotations

from argparse import ArgumentParser
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.thesis.grid import SAYS, Grid, Network, Work, asked, scoring_of_pairs
from benchmarks.thesis.published import EMOTION, PRIOR
from benchmarks.thesis.recipes import Arm
from loaders.dataset.dataset import Dataset
from models.objectives.registry import DEFAULT, OfPairs, settings_of
from models.systems.registry import Fusion, system_of
from models.training.config import NetworkConfig, PretrainConfig
from models.training.predictions import PAIRS
from models.training.tasks.task import needs_of

ARMS: tuple[Arm, ...] = ("pretrain", "finetune", "scratch")
FOLDER = "systems"  #: of their runs, in that of the grid
_TUNED: Mapping[Network, str] = {"l3": "gaze-l3", "ave": "gaze-ave"}  # with gaze, and so fine-tuned by default
_OF_PAIRS: Mapping[str, str | int] = {"--negatives": "+", "--evaluation-negatives": "+", "--evaluation-rounds": 1}


@dataclass(frozen=True, slots=True, kw_only=True)
class System:
    """A row of the table: a system of `models.systems.registry`, some of its towers exchanged for others."""

    key: str  #: names the runs' folders
    title: str
    system: str
    towers: Mapping[str, str] = field(default_factory=dict)  #: exchanged, by place
    objective: str | None = None  #: another than the correspondence
    gaze_later: bool = False  #: pre-trained without gaze, fine-tuned with a fresh gaze tower, as the grid's may be
    published: Mapping[str, Mapping[str, float]] = field(default_factory=dict)  #: micro-F1 by arm and channel

    @property
    def all_towers(self) -> dict[str, str]:
        """Those that it is pre-trained with, by place."""
        return {**system_of(self.system).towers, **self.towers}

    @property
    def from_scratch(self) -> tuple[frozenset[tuple[str, str]], Fusion]:
        """What is equal where two are one network from scratch."""
        later = {"gaze": "gaze-mlp"} if self.gaze_later else {}
        return frozenset({**self.all_towers, **later}.items()), system_of(self.system).fusion

    @property
    def tells_pairs(self) -> bool:
        """Whether its objective is given pairs, and so sets a threshold for them."""
        return isinstance(settings_of(self.objective or DEFAULT)().objective(1.0), OfPairs)

    @property
    def looks_at_gaze(self) -> bool:
        """Whether it does once it is fine-tuned."""
        return self.gaze_later or system_of(self.system).looks_at_gaze

    @property
    def knows_faces(self) -> bool:
        """Whether its video tower is VGG-Face's, whose weights are random without a file."""
        return self.all_towers["video"] == "vgg-face-gru"

    def variant(self, arm: Arm) -> str | None:
        """Which of a recipe's files for an arm is its own, where the recipe has it."""
        if arm == "pretrain" and self.objective is not None:
            return self.objective
        gaze = self.looks_at_gaze if arm != "pretrain" else system_of(self.system).looks_at_gaze
        if self.knows_faces and arm != "finetune":
            beside = "" if self.all_towers["audio"] == "egemaps-mlp" else f"-{self.all_towers['audio']}"
            return f"vgg-face{beside}" if gaze else f"vgg-face{beside}-no-gaze"
        return "gaze" if gaze else "no-gaze"

    def options(self) -> Iterator[str]:
        """Of train.py, wherever its network is made anew."""
        yield from ("--system", self.system)
        for place, tower in self.towers.items():
            yield from (f"--{place}-tower", tower)


def systems_of(grid: Grid) -> tuple[System, ...]:
    """All rows. A contrastive objective trains the network of the grid that it is compared with, AVE-Net."""
    with_gaze = _pretrained(grid).looks_at_gaze
    ave = _TUNED["ave"] if with_gaze else "ave"
    prior = {name: {"from scratch": {"audio": a, "visual": v}} for name, (a, v) in PRIOR.items()}
    return (
        System(key="l3", title="L3-Net, no gaze", system="l3"),
        System(key="ave", title="AVE-Net, no gaze", system="ave"),
        System(key="gaze-l3", title="gaze-enhanced L3-Net", system="gaze-l3", published=EMOTION["l3"]),
        System(key="gaze-ave", title="gaze-enhanced AVE-Net", system="gaze-ave", published=EMOTION["ave"]),
        System(
            key="gaze-transformer",
            title="gaze-enhanced L3-Net, a transformer over gaze frame by frame",
            system="gaze-l3",
            towers={"gaze": "gaze-transformer"},
        ),
        System(
            key="vgg-face-gru",
            title="gaze-enhanced L3-Net, video tower VGG-Face + GRU",
            system="gaze-l3",
            towers={"video": "vgg-face-gru"},
        ),
        System(
            key="egemaps",
            title="gaze-enhanced L3-Net, audio tower over eGeMAPS",
            system="gaze-l3",
            towers={"audio": "egemaps-mlp"},
        ),
        System(
            key="infonce",
            title="AVE-Net pre-trained by InfoNCE",
            system=ave,
            objective="infonce",
            gaze_later=not with_gaze,
        ),
        System(
            key="abdou-model-level",
            title="Abdou et al., model-level fusion",
            system="abdou-model-level",
            published=prior["Abdou et al., model-level fusion"],
        ),
        System(
            key="abdou-early",
            title="Abdou et al., early fusion",
            system="abdou-early",
            published=prior["Abdou et al., early fusion"],
        ),
        System(key="emobed", title="EmoBed", system="emobed", published=prior["Han et al. (EmoBed)"]),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Systems:
    """The runs of all of them."""

    grid: Grid
    voxceleb: str  #: the grid's clips, which may have further members here
    omg: str
    seeds: int  #: of the grid's at most, with whose runs they are compared
    members: frozenset[str]  #: that both datasets have
    vgg_face: Path | None = None  #: file of VGG-Face's published weights

    @property
    def rows(self) -> tuple[System, ...]:
        """See `systems_of`."""
        return systems_of(self.grid)

    def lacking(self, row: System) -> tuple[str, ...]:
        """The members that its towers take and the datasets do not have: then it is not trained."""
        towers = {f"{place}_tower": tower for place, tower in row.towers.items()}
        needed = needs_of(NetworkConfig(system=row.system, **towers)).members  # type: ignore[arg-type]
        return tuple(name for name in needed if name not in self.members)

    @property
    def trained(self) -> tuple[System, ...]:
        """The rows that lack nothing."""
        return tuple(row for row in self.rows if not self.lacking(row))

    def run(self, arm: Arm, row: System, seed: int) -> Path:
        """The folder of a run, which may be one of the grid's."""
        network = next((network for network, tuned in _TUNED.items() if row.key in (network, tuned)), None)
        with_gaze = _pretrained(self.grid).looks_at_gaze
        same = network is not None and system_of(row.system).looks_at_gaze == with_gaze
        if arm == "scratch":
            if row.from_scratch == System(key="", title="", system=_TUNED["l3"]).from_scratch:
                return self.grid.run("scratch", seed)
            row = next(known for known in self.rows if known.from_scratch == row.from_scratch)
        elif same and (arm == "pretrain" or row.looks_at_gaze):
            return self.grid.run(arm, seed, network)
        return self.grid.folder / FOLDER / f"{row.key}-{SAYS[arm].replace(' ', '-')}-{seed}"

    def pairs(self, row: System, seed: int) -> Path:
        """What a pre-training answered about the first seed's pairs."""
        run = self.run("pretrain", row, seed)
        return run / PAIRS if seed == 0 else run.with_name(f"{run.name}-{PAIRS}")

    def works(self) -> Iterator[Work]:
        """All that is to be done after the grid's, in an order in which it can be."""
        done = {work.output for work in self.grid.works()}
        for seed in range(self.seeds):
            for row in self.trained:
                for arm in ARMS:
                    work = self._training(arm, row, seed)
                    if work.output in done:
                        continue
                    done.add(work.output)
                    yield work
                    if arm == "pretrain" and seed and row.tells_pairs:
                        name = f"{row.key} pre-trained, seed {seed}, on the pairs of seed 0"
                        yield scoring_of_pairs(work, self.pairs(row, seed), self.voxceleb, name)

    def _training(self, arm: Arm, row: System, seed: int) -> Work:
        return Work(
            name=f"{row.key} {SAYS[arm]}, seed {seed}",
            kind=f"{row.key} {SAYS[arm]}",
            output=self.run(arm, row, seed),
            arguments=self._arguments(arm, row, seed),
            trains=True,
            init=self.run("pretrain", row, seed) if arm == "finetune" else None,
        )

    def _arguments(self, arm: Arm, row: System, seed: int) -> tuple[str, ...]:
        grid = self.grid
        faces = ("--vgg-face", str(self.vgg_face)) if row.knows_faces and self.vgg_face is not None else ()
        made = (*row.options(), *faces)
        if arm == "pretrain":
            given = grid.pretrain_options
            if row.objective is not None:
                made = (*made, "--objective", row.objective)
            if not row.tells_pairs:
                given = _without(given, _OF_PAIRS)
        elif arm == "finetune":
            given = grid.finetune_options
            made = ("--init", str(self.run("pretrain", row, seed)), *(() if row.looks_at_gaze else ("--no-gaze",)))
        else:
            given = (*grid.finetune_options, *grid.scratch_options)
        return (
            *("--stage", "pretrain" if arm == "pretrain" else "finetune"),
            *("--config", str(grid.recipe.file(arm, row.variant(arm)))),
            *("--data", self.voxceleb if arm == "pretrain" else self.omg),
            *given,
            *made,
            *("--seed", str(seed), "--output", str(self.run(arm, row, seed))),
        )


def members_of(datasets: Sequence[str]) -> frozenset[str]:
    """The members that all of them have. Raises InputError where one is no dataset."""
    found = [{member.name for member in Dataset.open(data).manifest.members} for data in datasets]
    return frozenset(set.intersection(*found))


def _pretrained(grid: Grid) -> NetworkConfig:
    """How the grid's networks are pre-trained."""
    config = asked(next(grid.works()).arguments)
    if not isinstance(config, PretrainConfig):
        raise TypeError("a grid begins with a pre-training")
    return config.network


def _without(options: Sequence[str], names: Mapping[str, str | int]) -> tuple[str, ...]:
    """Options of train.py but for these, which an objective that is given no pairs would refuse."""
    parser = ArgumentParser(add_help=False, allow_abbrev=False)
    for name, values in names.items():
        parser.add_argument(name, nargs=values)
    return tuple(parser.parse_known_args(list(options))[1])
