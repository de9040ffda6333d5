"""What a network scores on a split, as it stands in results.json, and the table that shows it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict
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
from models.training.evaluation import (
    MODALITIES,
    TargetPredictions,
    by_utterance,
    join_predictions,
    match_confusion,
    target_predictions,
)
from models.training.metrics import class_scores, confusion, macro_f1, majority_share, micro_f1, share_right


def score_match(
    accelerator: Accelerator, front_end: FrontEnd, network: L3Net | AVENet, loader: ClipLoader, *, rounds: int
) -> dict[str, Any]:
    """Accuracy on the pairs of ``rounds`` epochs, over all ranks."""
    front_end.to(accelerator.device)
    network.to(accelerator.device)
    counts = torch.zeros((2, 2), dtype=torch.int64, device=accelerator.device)
    for _ in range(rounds):
        counts += match_confusion(front_end, network, loader, accelerator.device)
    counts = accelerator.reduce(counts)
    share = share_right(counts.cpu())
    split = loader.catalogs[0].split
    return {
        "split": split,
        "speakers": sum(catalog.manifest.splits[split].speakers for catalog in loader.catalogs),
        "pairs": share.total,
        "accuracy": share.value,
        "accuracy_low": share.low,
        "accuracy_high": share.high,
        "confusion": counts.tolist(),
    }


def score_targets(
    accelerator: Accelerator, front_end: FrontEnd, network: TargetNet, loader: ClipLoader
) -> dict[str, Any]:
    """Scores of each target by each modality, over the utterances of an epoch that state it, over all ranks."""
    front_end.to(accelerator.device)
    network.to(accelerator.device)
    of_rank = target_predictions(front_end, network, loader, accelerator.device)
    predictions = join_predictions(gather_object([of_rank]))
    predictions = by_utterance(predictions, utterances(loader.catalogs)[predictions.clip])
    split, means = loader.catalogs[0].split, network.means
    results: dict[str, Any] = {}
    for target in network.targets:
        said = predictions.targets[target.name]
        if target.classes is not None:
            scores = _of_classes(said, target.classes)
        else:
            scores = {"low": target.low, "high": target.high, **_of_numbers(said, means[target.name])}
        results[target.name] = {"split": split, **scores}
    return results


def _of_classes(predictions: TargetPredictions, classes: Sequence[str]) -> dict[str, Any]:
    stated = torch.from_numpy(predictions.stated)
    results: dict[str, Any] = {"utterances": int((stated >= 0).sum()), "classes": list(classes)}
    for modality in MODALITIES:
        counts = confusion(torch.from_numpy(predictions.by[modality]), stated, len(classes))
        results[modality] = {
            "micro_f1": micro_f1(counts),
            "macro_f1": macro_f1(counts),
            "f1_by_class": {score.name: score.f1 for score in class_scores(counts, classes)},
            "confusion": counts.tolist(),
        }
        results["majority"] = majority_share(counts)
    return results


def _of_numbers(predictions: TargetPredictions, mean: float) -> dict[str, Any]:
    """Beside what the training split's mean scores, said of every utterance."""
    stated = predictions.stated
    always = agreement(np.full(len(stated), mean), stated)
    return {
        "utterances": int(np.isfinite(stated).sum()),
        "mean": {"value": mean, "ccc": always.ccc, "rmse": always.rmse},
        **{modality: asdict(agreement(predictions.by[modality], stated)) for modality in MODALITIES},
    }


def utterances(catalogs: Sequence[Catalog]) -> NDArray[np.int64]:
    """A number for each clip, counted through the datasets: equal numbers, equal utterances."""
    numbers: list[NDArray[np.int64]] = []
    first = 0
    for catalog in catalogs:
        of_clip = of_catalog(catalog).astype(np.int64)
        numbers.append(of_clip + first)
        first += int(of_clip.max(initial=-1)) + 1
    return np.concatenate(numbers)


def first_of_utterances(catalogs: Sequence[Catalog]) -> NDArray[np.int64]:
    """The row of one clip of each utterance, counted through the datasets."""
    return np.unique(utterances(catalogs), return_index=True)[1].astype(np.int64)


def results_table(results: Mapping[str, Any], *, title: str) -> Table:
    """Scores beside what they have to beat, and below on how much of what. 80 columns hold it."""
    table = Table(title=plain(title), caption_justify="left")
    table.add_column("what", overflow="fold")  # the one with names: however long, they are shown whole
    for column in ("score", "to beat"):
        table.add_column(column, no_wrap=True)
    on = []
    several = results.get("pretraining_by_negatives", {})
    for pairs in several.values() or ([results["pretraining"]] if "pretraining" in results else []):
        interval = f"{_percent(pairs['accuracy_low'])} – {_percent(pairs['accuracy_high'])}"
        what = f"pre-training accuracy, {pairs['negatives']}" if several else "pre-training accuracy"
        table.add_row(plain(what), f"{_percent(pairs['accuracy'])} % ({interval})", "50.0 % chance")
        against = f", negatives {pairs['negatives']}" if "negatives" in pairs else ""  # runs of before do not say
        on.append(f"pre-training: {pairs['pairs']} pairs, {pairs['speakers']} speakers of {pairs['split']}{against}")
    for name, scores in results.get("targets", {}).items():
        for modality in MODALITIES:
            score, to_beat = _score_of(scores, modality)
            table.add_row(plain(f"{name} from {modality}"), score, to_beat)
        on.append(f"{name}: {scores['utterances']} utterances of {scores['split']}")
    table.caption = plain("\n".join(on)) if on else None
    return table


def _score_of(scores: Mapping[str, Any], modality: str) -> tuple[str, str]:
    """The cells of a target by a modality: its score, and what it has to beat."""
    of_modality = scores[modality]
    if "classes" in scores:
        micro, macro = _percent(of_modality["micro_f1"]), _percent(of_modality["macro_f1"])
        return f"micro-F1 {micro} %, macro-F1 {macro} %", f"{_percent(scores['majority'])} % majority"
    ccc, pearson, rmse = (of_modality[name] for name in ("ccc", "pearson", "rmse"))
    score = f"CCC {_told(ccc, '.3f')}, r {_told(pearson, '.3f')}, RMSE {_told(rmse, '.3g')}"
    return score, f"RMSE {_told(scores['mean']['rmse'], '.3g')} mean"


def plain(text: str) -> Text:
    """A text as it is: names come from files and command lines, and may hold markup or a terminal's escapes."""
    return Text(printable(text))


def _percent(share: float | None) -> str:
    return _told(None if share is None else 100 * share, ".1f")


def _told(value: float | None, form: str) -> str:
    """A number; a dash for one of nothing, which results.json has as null."""
    return "–" if value is None or math.isnan(value) else format(value, form)
