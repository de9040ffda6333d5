"""What the towers of runs know: effective rank of their embeddings, and linear probes of the dataset's labels.

    python benchmarks/representation.py RUN… --data DATASET [--fresh] [--labels 50 100] [--json FILE]

The effective rank of the clips' embeddings says in how many directions they spread: 1 where all lie on a line, as many
as there are dimensions where they spread alike in each. A linear probe (`benchmarks.probe`) says how much of a label a
linear model reads off them: it is fitted to the utterances of the split "train" (or to so many of them) and scored on
those of another, by micro-F1 for classes and by CCC for numbers, with an interval over speakers. An utterance's
embedding is the mean of its clips'. ``--fresh`` shows the same of towers that have learnt nothing: fresh weights, and
batch norms that have seen the first batches of the split "train".
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path
from typing import Annotated, Any

if __name__ == "__main__":  # not benchmarks/: its loaders.py and train.py would hide the packages of these names
    sys.path[0] = str(Path(__file__).resolve().parents[1])

import numpy as np
import torch
import tyro
from accelerate import Accelerator
from numpy.typing import NDArray
from rich.table import Table
from torch import Tensor, nn

from benchmarks.probe import class_probe, number_probe
from benchmarks.record import Record, console, machine, read_settings, write_record
from loaders import Batch, ClipLoader
from loaders.dataset.catalog import Catalog
from loaders.dataset.dataset import Dataset
from loaders.dataset.labels import Label
from loaders.errors import InputError, printable, reported
from loaders.progress import Bar, progress
from models.frontend.front_end import FrontEnd, given_by
from models.systems.correspondence import AVENet, L3Net, unit
from models.systems.presets import correspondence_net, model_config_from_json, target_net
from models.systems.streams import AUDIO, GAZE, VIDEO, encode
from models.systems.targets import TargetNet
from models.towers.tower import Tower
from models.training import runs
from models.training.config import DataConfig, LoaderConfig
from models.training.data import scoring_loader
from models.training.intervals import interval
from models.training.labels import chosen
from models.training.measures import of_classes, of_numbers
from models.training.scores import utterances

Floats = NDArray[np.float64]
Network = L3Net | AVENet | TargetNet

TRAINED, FRESH = "trained", "fresh"
_TRAIN = "train"
_CALIBRATION = 16  # batches that fresh batch norms see


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What is looked into."""

    runs: Annotated[tuple[Path, ...], tyro.conf.Positional]
    """Finished runs, pre-trained or fine-tuned."""
    data: tuple[str, ...]
    """The dataset, or several with clips of one shape."""
    fresh: bool = False
    """Show the same of fresh towers beside it."""
    targets: tuple[str, ...] | None = None
    """The labels to probe; by default all that the dataset has."""
    labels: tuple[int, ...] = ()
    """Fit probes to so many of the labelled training utterances; by default to all of them."""
    evaluation_split: str | None = None
    """The split to score; "test" or "validation", whichever the dataset has."""
    window: int | None = None
    """Consecutive frames of a clip, as the runs were trained with."""
    batch_size: int = 32
    """Clips at a time."""
    seed: int = 0
    """Of fresh weights, of the utterances that are chosen, of folds and intervals."""
    json: Path | None = None
    """Where the record is written."""


def main() -> None:
    """The command line."""
    settings = read_settings(Settings, __doc__)
    with reported():
        before = machine()
        record = measure(settings)
        for name, found in record.facts["runs"].items():
            console.print(table(name, found))
        if settings.json is not None:
            write_record(settings.json, record, before)


def effective_rank(embeddings: Floats) -> float:
    """exp(−Σ p·ln p) of p = σ / Σσ, σ the singular values of the embeddings less their mean (Roy & Vetterli: The
    Effective Rank, EUSIPCO 2007); 0 where they are all the same.

    Args:
        embeddings: (N, d).
    """
    values = np.linalg.svd(embeddings - embeddings.mean(0), compute_uv=False)
    if values[0] <= 1e-9 * np.abs(embeddings).max(initial=0):
        return 0.0
    share = values / values.sum()
    share = share[share > 0]
    return float(np.exp(-(share * np.log(share)).sum()))


@dataclass(frozen=True, slots=True)
class Embedded:
    """The clips of a split."""

    clips: Mapping[str, Mapping[str, Floats]]  #: by network and tower, (N, d) each
    utterance: NDArray[np.int64]  #: (N,)
    speaker: NDArray[np.int64]  #: (N,)
    targets: Mapping[str, NDArray[Any]]  #: by label: (N,) codes, −1 where none is stated, or numbers, NaN there

    def labelled(self, label: Label) -> NDArray[np.int64]:
        """The first clips of the utterances that state a label."""
        stated = self.targets[label.name]
        there = stated >= 0 if label.classes is not None else np.isfinite(stated)
        _, first = np.unique(self.utterance, return_index=True)
        return first[there[first]].astype(np.int64)

    def of_utterances(self, network: str, tower: str, first: NDArray[np.int64]) -> Floats:
        """Means over the clips of utterances, each named by one of its clips: (len(first), d)."""
        clips = self.clips[network][tower]
        _, place, count = np.unique(self.utterance, return_inverse=True, return_counts=True)
        total = np.zeros((len(count), clips.shape[1]))
        np.add.at(total, place, clips)
        means: Floats = (total / count[:, None])[place[first]]
        return means


def measure(settings: Settings) -> Record:
    """Embed both splits with every run, and look into what comes of it."""
    for number in settings.labels:
        if number < 2:
            raise InputError(f"--labels is {number}: use 2 or more utterances")
    datasets = [Dataset.open(data) for data in settings.data]
    targets = _targets(settings, datasets)
    accelerator = Accelerator()
    found = {str(run): _of_run(run, settings, datasets, targets, accelerator) for run in settings.runs}
    return Record(
        benchmark="representation",
        settings={**asdict(settings), "runs": [str(run) for run in settings.runs]},
        rounds={},
        ratios={},
        facts={"runs": found},
    )


def table(name: str, found: Mapping[str, Any]) -> Table:
    """A run's figures, fresh towers' beside them where there are some. 80 columns hold it."""
    has_fresh = FRESH in found["rank"]
    shown = Table(title=printable(name), caption_justify="left")
    shown.add_column("embedding", overflow="fold")
    for column in ("measure", TRAINED, *([FRESH] if has_fresh else []), "to beat"):
        shown.add_column(column, overflow="fold")
    sides = (TRAINED, FRESH) if has_fresh else (TRAINED,)
    for tower, of in found["dimensions"].items():
        ranks = [f"{found['rank'][side][tower]:.1f} of {of}" for side in sides]
        shown.add_row(tower, "rank", *ranks, "")
    for probe in found["probes"]:
        shown.add_section()
        unit_of = " %" if probe["score"] == "micro_f1" else ""
        what = f"{printable(probe['target'])}{unit_of}, {probe['utterances']} labels"
        for tower in found["dimensions"]:
            cells = [_cell(probe[side][tower], probe["score"]) for side in sides]
            to_beat = f"{100 * probe['majority']:.1f}" if "majority" in probe else "0"
            shown.add_row(tower, what, *cells, to_beat)
    on = found["evaluated_on"]
    shown.caption = f"{on['clips']} clips of {on['speakers']} speakers of {on['split']}; 95 % over speakers"
    return shown


def _cell(probe: Mapping[str, float | None], score: str) -> str:
    def told(name: str) -> str:
        figure = probe[name]
        if figure is None:  # of numbers that do not vary, or of one speaker
            return "–"
        return f"{100 * figure:.1f}" if score == "micro_f1" else f"{figure:.2f}"

    return f"{told('value')} ({told('low')} … {told('high')})"


def _targets(settings: Settings, datasets: Sequence[Dataset]) -> tuple[Label, ...]:
    names = settings.targets
    if names is None:
        names = tuple(label.name for label in datasets[0].manifest.labels)
    return chosen(names, datasets) if names else ()


def _of_run(
    run: Path, settings: Settings, datasets: Sequence[Dataset], targets: Sequence[Label], accelerator: Accelerator
) -> dict[str, Any]:
    """The figures of a run."""
    front_end, networks = _networks(run, settings)
    if not settings.fresh:
        del networks[FRESH]
    for module in (front_end, *networks.values()):
        module.to(accelerator.device)
    data = DataConfig(data=settings.data, batch_size=settings.batch_size, window=settings.window)

    def loader(split: str | None) -> ClipLoader:
        return scoring_loader(
            datasets,
            data,
            LoaderConfig(),
            accelerator,
            split,
            paired=False,
            targets=[target.name for target in targets],
            frames=front_end.config.frames,
            needs=networks[TRAINED].needs,
        )

    with loader(settings.evaluation_split) as unseen:
        split = unseen.catalogs[0].split
        if split == _TRAIN:
            raise InputError(f"--evaluation-split {split}: probes are fitted to it, give another")
        if FRESH in networks:
            with loader(_TRAIN) as known:
                _calibrate(front_end, networks[FRESH], known)
        evaluated = _embed(f"{run.name}: {split}", front_end, networks, unseen)
    found: dict[str, Any] = {
        "evaluated_on": {
            "split": split,
            "clips": len(evaluated.utterance),
            "speakers": len(np.unique(evaluated.speaker)),
        },
        "dimensions": {tower: of.shape[1] for tower, of in evaluated.clips[TRAINED].items()},
        "rank": {
            side: {tower: effective_rank(of) for tower, of in towers.items()}
            for side, towers in evaluated.clips.items()
        },
        "probes": [],
    }
    if targets:
        with loader(_TRAIN) as known:
            trained_on = _embed(f"{run.name}: {_TRAIN}", front_end, networks, known)
        work = list(_to_fit(settings, trained_on, targets))
        count = len(work) * len(found["dimensions"]) * len(networks)
        with progress(f"{run.name}: probes", count, "probes", console=console) as bar:
            for label, chosen_utterances in work:
                probed = _probed(label, chosen_utterances, trained_on, evaluated, settings.seed, bar)
                found["probes"].append(probed)
    return found


def _to_fit(
    settings: Settings, trained_on: Embedded, targets: Sequence[Label]
) -> Iterator[tuple[Label, NDArray[np.int64]]]:
    """Each label with the utterances to fit probes to. Fewer ones are among more ones."""
    for label in targets:
        first = trained_on.labelled(label)
        if len(first) == 0:
            raise InputError(f"no utterance of the split {_TRAIN!r} states {label.name}: leave it out of --targets")
        order = np.random.default_rng(settings.seed).permutation(len(first))
        for count in settings.labels or (len(first),):
            if count > len(first):
                raise InputError(f"--labels {count}: of {label.name} the split {_TRAIN!r} has {len(first)}: use fewer")
            yield label, first[order[:count]]


def _probed(
    label: Label, first: NDArray[np.int64], trained_on: Embedded, evaluated: Embedded, seed: int, bar: Bar
) -> dict[str, Any]:
    """Probes of one label off every embedding."""
    scored = evaluated.labelled(label)
    if len(scored) == 0:
        raise InputError(f"no utterance that is scored states {label.name}: leave it out of --targets")
    known, stated = trained_on.targets[label.name][first], evaluated.targets[label.name][scored]
    speakers, of_scored = trained_on.speaker[first], evaluated.speaker[scored]
    found: dict[str, Any] = {"target": label.name, "utterances": len(first), "scored": len(scored)}
    if label.classes is None:
        found |= {"score": "ccc"}
    else:
        found |= {"score": "micro_f1", "majority": float(np.bincount(stated).max() / len(stated))}
    for side, towers in trained_on.clips.items():
        found[side] = {}
        for tower in towers:
            bar.move(bar.done, f"{label.name} from {tower}, {side}")
            features = trained_on.of_utterances(side, tower, first)
            unseen = evaluated.of_utterances(side, tower, scored)
            if label.classes is None:
                probe = number_probe(features, known, speakers, seed=seed)
                measure, said = of_numbers()["ccc"], probe.numbers(unseen)
            else:
                probe = class_probe(features, known, len(label.classes), speakers, seed=seed)
                measure, said = of_classes(len(label.classes))["micro_f1"], probe.outputs(unseen)
            sure = interval(measure, said, stated, of_scored)
            figures = {"value": sure.value, "low": sure.low, "high": sure.high}
            finite = {name: figure if np.isfinite(figure) else None for name, figure in figures.items()}
            found[side][tower] = {**finite, "strength": probe.strength}
            bar.advance()
    return found


def _networks(run: Path, settings: Settings) -> tuple[FrontEnd, dict[str, Network]]:
    """The front end of a run, its network, and one of its sizes with fresh weights."""
    described = runs.read_run(run)
    sizes = model_config_from_json(described["sizes"])
    trained: Network
    fresh: Network
    if isinstance(described.get("model"), str):
        front_end, trained = runs.load_correspondence(run)
        torch.manual_seed(settings.seed)
        fresh = correspondence_net(sizes, described["model"], gaze=described["gaze"])
    else:
        front_end, trained = runs.load_targets(run)
        torch.manual_seed(settings.seed)
        fresh = target_net(sizes, trained.targets, gaze=described["gaze"])
    return front_end.eval(), {TRAINED: trained.eval(), FRESH: fresh.eval()}


def _calibrate(front_end: FrontEnd, network: Network, loader: ClipLoader) -> None:
    """Have batch norms take the mean and variance of the first batches; nothing else of the network changes."""
    norms = [module for module in network.modules() if isinstance(module, nn.modules.batchnorm._BatchNorm)]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # the mean over all batches
    network.train()
    for batch in islice(loader, _CALIBRATION):
        if len(batch) > 1:  # of one clip there is no variance
            embeddings_of(front_end, network, batch)
    network.eval()


def _embed(what: str, front_end: FrontEnd, networks: Mapping[str, Network], loader: ClipLoader) -> Embedded:
    """A split in every embedding."""
    clip: list[NDArray[np.int64]] = []
    stated: dict[str, list[NDArray[Any]]] = {}
    parts: dict[str, dict[str, list[NDArray[Any]]]] = {side: {} for side in networks}
    with progress(what, loader.examples, "clips", console=console) as bar:
        for batch in loader:
            clip.append(batch.clip.cpu().numpy())
            for name, values in batch.targets.items():
                stated.setdefault(name, []).append(values.cpu().numpy())
            for side, network in networks.items():
                for tower, vectors in embeddings_of(front_end, network, batch).items():
                    parts[side].setdefault(tower, []).append(vectors.cpu().numpy())
            bar.advance(len(batch))
    rows = np.concatenate(clip)
    return Embedded(
        {
            side: {tower: np.concatenate(found).astype(np.float64) for tower, found in towers.items()}
            for side, towers in parts.items()
        },
        utterances(loader.catalogs)[rows],
        _speakers(loader.catalogs)[rows],
        {name: np.concatenate(values) for name, values in stated.items()},
    )


@torch.no_grad()
def embeddings_of(front_end: FrontEnd, network: Network, batch: Batch) -> dict[str, Tensor]:
    """(B, d) float32 of each tower, and of what AVE compares: the projections, as unit vectors."""
    inputs = front_end(**given_by(batch))
    gaze = {} if network.gaze is None else {GAZE: network.gaze}
    further = {place: tower for place, tower in network.further.items() if isinstance(tower, Tower)}
    towers: dict[str, Tower] = {VIDEO: network.video, AUDIO: network.audio, **gaze, **further}
    found = {place: encode(place, tower, inputs) for place, tower in towers.items()}
    if isinstance(network, AVENet):
        projections = {VIDEO: network.project_video, AUDIO: network.project_audio, GAZE: network.project_gaze}
        for place, projection in (projections | dict(network.project_further.items())).items():
            if projection is not None:
                found[f"{place} projected"] = unit(projection(found[place]))
    return {tower: vectors.float() for tower, vectors in found.items()}


def _speakers(catalogs: Sequence[Catalog]) -> NDArray[np.int64]:
    """A number for the speaker of each clip, counted through the datasets."""
    numbers: list[NDArray[np.int64]] = []
    first = 0
    for catalog in catalogs:
        numbers.append(catalog.speaker.astype(np.int64) + first)
        first += int(catalog.speaker.max(initial=-1)) + 1
    return np.concatenate(numbers)


def markdown(record: Record) -> list[str]:
    """The table of a record with fresh towers: ranks and probes, a row a tower, and what is to be said with it."""
    runs: Mapping[str, Any] = record.facts["runs"]
    targets = [probe["target"] for probe in next(iter(runs.values()))["probes"]]
    arms = ("trained", "fresh")
    head = ["tower", *(f"{what}: {arm}" for what in ("rank", *targets) for arm in arms)]
    lines = [f"| {' | '.join(head)} |", f"|{'---|' * len(head)}"]
    for run, found in runs.items():
        for tower in found["dimensions"]:
            ranks = [f"{found['rank'][arm][tower]:.0f}" for arm in arms]
            probes = [_scored(probe["score"], probe[arm][tower]) for probe in found["probes"] for arm in arms]
            lines.append(f"| {Path(run).name}, {tower} | {' | '.join([*ranks, *probes])} |")
    utterances = sorted({probe["utterances"] for found in runs.values() for probe in found["probes"]})
    return [
        *lines,
        "",
        "Effective rank of the embeddings; linear probes fitted to "
        f"{' and '.join(map(str, utterances))} labelled utterances of the train split, scored on others: micro-F1 in "
        "percent of classes, CCC of numbers, intervals (95 %) over speakers.",
    ]


def _scored(score: str, of: Mapping[str, float]) -> str:
    factor, digits = (1, 2) if score == "ccc" else (100, 1)
    value, low, high = (f"{factor * of[what]:.{digits}f}" for what in ("value", "low", "high"))
    return f"{value} ({low} … {high})"


if __name__ == "__main__":
    main()
