"""What a network scores on a split, as it stands in results.json, and the table that shows it."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from accelerate.utils import gather_object
from numpy.typing import NDArray
from rich.table import Table
from rich.text import Text

from loaders import ClipLoader
from loaders.dataset.catalog import Catalog
from loaders.dataset.catalog import utterances as of_catalog
from loaders.errors import printable
from models.frontend.front_end import FrontEnd
from models.systems.correspondence import AVENet, L3Net
from models.systems.targets import TargetNet
from models.training.agreement import agreement
from models.training.calibration import calibration_error
from models.training.evaluation import (
    MODALITIES,
    MatchPredictions,
    TargetPredictions,
    by_utterance,
    join_matches,
    join_predictions,
    match_predictions,
    target_predictions,
)
from models.training.intervals import interval
from models.training.measures import Measure, of_classes, of_numbers, of_pairs
from models.training.metrics import accuracy, class_scores, confusion, macro_f1, majority_share, mean_recall, micro_f1
from models.training.predictions import write_predictions
from models.training.retrieval import RECALL_AT, WAYS, Gallery, drawn, score_retrieval


def answer_pairs(
    accelerator: Accelerator,
    front_end: FrontEnd,
    network: L3Net | AVENet,
    loader: ClipLoader,
    *,
    rounds: int,
    gallery: list[Gallery] | None = None,
) -> list[MatchPredictions]:
    """What is answered about the pairs of the loader's next ``rounds`` epochs, each over all ranks.

    ``gallery`` is filled by the first of them with what a rank has of it.
    """
    front_end.to(accelerator.device)
    network.to(accelerator.device)
    # accelerate puts a network's `forward` under autocast alone, and a gallery is made by its parts.
    with accelerator.autocast():
        parts = [
            match_predictions(front_end, network, loader, accelerator.device, None if number else gallery)
            for number in range(rounds)
        ]
    return [join_matches(of_ranks) for of_ranks in zip(*gather_object([parts]), strict=True)]


def score_pairs(
    rounds: Sequence[MatchPredictions], catalogs: Sequence[Catalog], *, intervals: bool = True
) -> dict[str, Any]:
    """Accuracy on the pairs of several rounds, one at least, of these datasets; also without its interval."""
    pairs, speaker = join_matches(rounds), speakers(catalogs)
    units = np.stack([speaker[pairs.clip], speaker[pairs.audio_clip]], axis=1)
    match = torch.from_numpy(pairs.match)
    counts = confusion((torch.from_numpy(pairs.probability) > 0.5).long(), match, 2)
    value = accuracy(counts)
    ends: dict[str, float] = {}
    if intervals:
        sure = interval(of_pairs(), pairs.probability, pairs.match, units)
        # Of an odd number of pairs one more matches, or one fewer, than do not.
        ends = {"accuracy_low": min(sure.low, value), "accuracy_high": max(sure.high, value)}
    return {
        "split": catalogs[0].split,
        "speakers": len(np.unique(units)),
        "pairs": len(pairs.match),
        "accuracy": value,
        **ends,
        "calibration_error": calibration_error(np.stack([1 - pairs.probability, pairs.probability], 1), pairs.match),
        "confusion": counts.tolist(),
    }


def score_gallery(
    network: L3Net | AVENet, of_rank: Sequence[Gallery], catalogs: Sequence[Catalog], *, intervals: bool = True
) -> dict[str, Any] | None:
    """Retrieval among what all ranks have of a gallery, with intervals or without; None where that is nothing."""
    gallery = drawn(gather_object(list(of_rank)))
    if gallery is None:
        return None
    split = catalogs[0].split
    return score_retrieval(gallery, network, videos(catalogs), speakers(catalogs), split, intervals=intervals)


def score_targets(
    accelerator: Accelerator,
    front_end: FrontEnd,
    network: TargetNet,
    loader: ClipLoader,
    *,
    keep: Path | None = None,
    intervals: bool = True,
) -> dict[str, Any]:
    """Scores of each target by each modality, over the utterances of an epoch that state it, over all ranks.

    ``keep`` is the file for what was answered about each utterance; ``intervals``: of the scores, too.
    """
    front_end.to(accelerator.device)
    network.to(accelerator.device)
    with accelerator.autocast():
        of_rank = target_predictions(front_end, network, loader, accelerator.device)
    predictions = join_predictions(gather_object([of_rank]))
    predictions = by_utterance(predictions, utterances(loader.catalogs)[predictions.clip])
    if keep is not None and accelerator.is_main_process:
        write_predictions(keep, predictions, network.targets, loader.catalogs)
    split, means, speaker = loader.catalogs[0].split, network.means, speakers(loader.catalogs)[predictions.clip]
    results: dict[str, Any] = {}
    for target in network.targets:
        said = predictions.targets[target.name]
        if target.classes is not None:
            scores = _of_classes(said, target.classes, speaker, intervals=intervals)
        else:
            found = _of_numbers(said, means[target.name], speaker, intervals=intervals)
            scores = {"low": target.low, "high": target.high, **found}
        results[target.name] = {"split": split, **scores}
    return results


def _of_classes(
    predictions: TargetPredictions, classes: Sequence[str], speaker: NDArray[np.int64], *, intervals: bool
) -> dict[str, Any]:
    stated = torch.from_numpy(predictions.stated)
    there = predictions.stated >= 0
    results: dict[str, Any] = {
        "utterances": int(there.sum()),
        "speakers": len(np.unique(speaker[there])),
        "classes": list(classes),
    }
    for modality in MODALITIES:
        said = predictions.by[modality]
        counts = confusion(torch.from_numpy(said), stated, len(classes))
        rows = class_scores(counts, classes)
        measures = of_classes(len(classes)) if intervals else {}
        results[modality] = {
            "micro_f1": micro_f1(counts),
            "macro_f1": macro_f1(counts),
            "uar": mean_recall(counts),
            **_intervals(measures, said, predictions.stated, speaker),
            "f1_by_class": {score.name: score.f1 for score in rows},
            "recall_by_class": {score.name: score.recall for score in rows},
            "calibration_error": calibration_error(said, predictions.stated),
            "confusion": counts.tolist(),
        }
        results["majority"] = majority_share(counts)
    return results


def _of_numbers(
    predictions: TargetPredictions, mean: float, speaker: NDArray[np.int64], *, intervals: bool
) -> dict[str, Any]:
    """Beside what the training split's mean scores, said of every utterance."""
    stated = predictions.stated
    always = agreement(np.full(len(stated), mean), stated)
    there = np.isfinite(stated)
    return {
        "utterances": int(there.sum()),
        "speakers": len(np.unique(speaker[there])),
        "mean": {"value": mean, "ccc": always.ccc, "rmse": always.rmse},
        **{
            modality: {
                **asdict(agreement(predictions.by[modality], stated)),
                **_intervals(of_numbers() if intervals else {}, predictions.by[modality], stated, speaker),
            }
            for modality in MODALITIES
        },
    }


def _intervals(
    measures: Mapping[str, Measure], said: NDArray[Any], stated: NDArray[Any], speaker: NDArray[np.int64]
) -> dict[str, dict[str, list[float]]]:
    """Of each score the ends of its interval, as they stand in results; of none, nothing."""
    found = {name: interval(measure, said, stated, speaker) for name, measure in measures.items()}
    return {"intervals": {name: [sure.low, sure.high] for name, sure in found.items()}} if found else {}


def speakers(catalogs: Sequence[Catalog]) -> NDArray[np.int64]:
    """A number for each clip, counted through the datasets: equal numbers, equal speakers."""
    return _counted_through([catalog.speaker for catalog in catalogs])


def videos(catalogs: Sequence[Catalog]) -> NDArray[np.int64]:
    """A number for each clip, counted through the datasets: equal numbers, equal videos."""
    return _counted_through([catalog.video for catalog in catalogs])


def utterances(catalogs: Sequence[Catalog]) -> NDArray[np.int64]:
    """A number for each clip, counted through the datasets: equal numbers, equal utterances."""
    return _counted_through([of_catalog(catalog) for catalog in catalogs])


def _counted_through(of_datasets: Iterable[NDArray[np.integer[Any]]]) -> NDArray[np.int64]:
    """Numbers of each dataset's own, so that none is two datasets'."""
    numbers: list[NDArray[np.int64]] = []
    first = 0
    for of_clip in of_datasets:
        numbers.append(of_clip.astype(np.int64) + first)
        first += int(of_clip.max(initial=-1)) + 1
    return np.concatenate(numbers)


def first_of_utterances(catalogs: Sequence[Catalog]) -> NDArray[np.int64]:
    """The row of one clip of each utterance, counted through the datasets."""
    return np.unique(utterances(catalogs), return_index=True)[1].astype(np.int64)


def results_table(results: Mapping[str, Any], *, title: str) -> Table:
    """Scores beside what they have to beat, and below on how much of what. 80 columns hold it."""
    table = Table(title=plain(title), caption_justify="left")
    table.add_column("what", overflow="fold")  # the one with names: however long, they are shown whole
    for column in ("score (95 % over speakers)", "to beat"):
        table.add_column(column, no_wrap=True)
    on = []
    several = results.get("pretraining_by_negatives", {})
    for pairs in several.values() or ([results["pretraining"]] if "pretraining" in results else []):
        interval = _interval((pairs["accuracy_low"], pairs["accuracy_high"]), _percent)
        what = f"pre-training accuracy, {pairs['negatives']}" if several else "pre-training accuracy"
        table.add_row(plain(what), f"{_percent(pairs['accuracy'])} %{interval}", "50.0 % chance")
        against = f", negatives {pairs['negatives']}" if "negatives" in pairs else ""  # runs of before do not say
        on.append(f"pre-training: {pairs['pairs']} pairs, {pairs['speakers']} speakers of {pairs['split']}{against}")
    if "retrieval" in results:
        found = results["retrieval"]
        for way in WAYS:
            of_way, known = found[way], found[way].get("intervals", {})
            names = [(f"recall@{k}", f"recall_at_{k}") for k in RECALL_AT] + [(f"nDCG@{found['depth']}", "ndcg")]
            lines = [f"{says} {_percent(of_way[name])} %{_interval(known.get(name), _percent)}" for says, name in names]
            by_chance = [f"{_percent(of_way['chance'][name])} % chance" for _, name in names]
            table.add_row(plain(way.replace("_to_", " → ")), "\n".join(lines), "\n".join(by_chance))
        ranks = ", ".join(f"{_told(found[way]['median_rank'], 'g')} ({way.replace('_to_', ' → ')})" for way in WAYS)
        on.append(f"retrieval: {found['clips']} clips, {found['speakers']} speakers of {found['split']};")
        on.append(f"median ranks {ranks}")
    for name, scores in results.get("targets", {}).items():
        for modality in MODALITIES:
            table.add_row(plain(f"{name} from {modality}"), *("\n".join(cells) for cells in _cells(scores, modality)))
        of = f", {scores['speakers']} speakers" if "speakers" in scores else ""
        on.append(f"{name}: {scores['utterances']} utterances{of} of {scores['split']}")
    table.caption = plain("\n".join(on)) if on else None
    return table


def _cells(scores: Mapping[str, Any], modality: str) -> tuple[list[str], list[str]]:
    """The lines of a target by a modality: its scores, and what each has to beat."""
    found = scores[modality]
    known = found.get("intervals", {})  # runs of before have none, and no UAR
    if "classes" in scores:
        shares = [("micro-F1", "micro_f1"), ("macro-F1", "macro_f1"), ("UAR", "uar")]
        lines = [
            f"{says} {_percent(found[name])} %{_interval(known.get(name), _percent)}"
            for says, name in shares
            if name in found or name != "uar"
        ]
        recalls = found.get("recall_by_class", {}).values()
        stated = sum(recall is not None and math.isfinite(recall) for recall in recalls) or len(scores["classes"])
        to_beat = [f"{_percent(scores['majority'])} % majority", "", f"{_percent(1 / stated)} % chance"]
        return lines, to_beat[: len(lines)]
    numbers = [("CCC", "ccc", ".3f"), ("r", "pearson", ".3f"), ("RMSE", "rmse", ".3g")]
    lines = [
        f"{says} {_told(found[name], form)}{_interval(known.get(name), partial(_told, form=form))}"
        for says, name, form in numbers
    ]
    return lines, ["", "", f"RMSE {_told(scores['mean']['rmse'], '.3g')} mean"]


def _interval(ends: Sequence[float | None] | None, told: Callable[[float | None], str]) -> str:
    """As it stands behind a score."""
    return "" if ends is None else f" ({told(ends[0])} – {told(ends[1])})"


def plain(text: str) -> Text:
    """A text as it is: names come from files and command lines, and may hold markup or a terminal's escapes."""
    return Text(printable(text))


def _percent(share: float | None) -> str:
    return _told(None if share is None else 100 * share, ".1f")


def _told(value: float | None, form: str) -> str:
    """A number; a dash for one of nothing, which results.json has as null."""
    return "–" if value is None or not math.isfinite(value) else format(value, form)
