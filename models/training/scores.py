"""What a network scores on a split, as it stands in results.json, and the table that shows it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
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
from loaders.dataset.manifest import EMOTIONS
from loaders.errors import printable
from models.frontend.front_end import FrontEnd
from models.systems.correspondence import AVENet, L3Net
from models.systems.emotion import EmotionNet
from models.training.evaluation import by_utterance, emotion_predictions, join_predictions, match_confusion
from models.training.metrics import class_scores, confusion, macro_f1, majority_share, micro_f1, share_right

MODALITIES = ("audio", "visual", "joint")


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


def score_emotion(
    accelerator: Accelerator, front_end: FrontEnd, network: EmotionNet, loader: ClipLoader
) -> dict[str, Any]:
    """Scores of each modality over the labelled utterances of an epoch, over all ranks."""
    front_end.to(accelerator.device)
    network.to(accelerator.device)
    of_rank = emotion_predictions(front_end, network, loader, accelerator.device)
    predictions = join_predictions(gather_object([of_rank]))
    predictions = by_utterance(predictions, utterances(loader.catalogs)[predictions.clip])
    targets = torch.from_numpy(predictions.emotion)
    results: dict[str, Any] = {"split": loader.catalogs[0].split, "utterances": int((targets >= 0).sum())}
    for modality in MODALITIES:
        counts = confusion(torch.from_numpy(getattr(predictions, modality)), targets, len(EMOTIONS))
        results[modality] = {
            "micro_f1": micro_f1(counts),
            "macro_f1": macro_f1(counts),
            "f1_by_emotion": {score.name: score.f1 for score in class_scores(counts, EMOTIONS)},
            "confusion": counts.tolist(),
        }
        results["majority"] = majority_share(counts)
    return results


def utterances(catalogs: Sequence[Catalog]) -> NDArray[np.int64]:
    """A number for each clip, counted through the datasets: equal numbers, equal utterances."""
    numbers: list[NDArray[np.int64]] = []
    first = 0
    for catalog in catalogs:
        of_clip = of_catalog(catalog).astype(np.int64)
        numbers.append(of_clip + first)
        first += int(of_clip.max(initial=-1)) + 1
    return np.concatenate(numbers)


def results_table(results: Mapping[str, Any], *, title: str) -> Table:
    """Scores beside what they have to beat."""
    table = Table(title=plain(title))
    for column in ("what", "score %", "95 %", "macro-F1 %", "to beat %", "on"):
        table.add_column(column, justify="left" if column in ("what", "on") else "right", no_wrap=True)
    if "pretraining" in results:
        pairs = results["pretraining"]
        table.add_row(
            "pre-training accuracy",
            _percent(pairs["accuracy"]),
            f"{_percent(pairs['accuracy_low'])} – {_percent(pairs['accuracy_high'])}",
            "",
            "50.0 chance",
            plain(f"{pairs['pairs']} pairs, {pairs['speakers']} speakers of {pairs['split']}"),
        )
    if "emotion" in results:
        emotion = results["emotion"]
        for modality in MODALITIES:
            scores = emotion[modality]
            table.add_row(
                f"emotion from {modality}, micro-F1",
                _percent(scores["micro_f1"]),
                "",
                _percent(scores["macro_f1"]),
                f"{_percent(emotion['majority'])} majority",
                plain(f"{emotion['utterances']} utterances of {emotion['split']}"),
            )
    return table


def plain(text: str) -> Text:
    """A text as it is: names come from files and command lines, and may hold markup or a terminal's escapes."""
    return Text(printable(text))


def _percent(share: float) -> str:
    return f"{100 * share:.1f}"
