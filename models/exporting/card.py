"""A model's card: what it was trained on, what it scores, and what that does not say; by the run's files."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from loaders.dataset.labels import Label
from models.prediction.making import Making
from models.prediction.results import MODALITIES
from models.training.provenance import BUILDS, SETTINGS

_SCORES = {
    "micro_f1": "micro-F1",
    "macro_f1": "macro-F1",
    "uar": "UAR",
    "ccc": "CCC",
    "pearson": "r",
    "rmse": "RMSE",
}
_SETTINGS = ("seed", "batch_size", "epochs", "max_steps", "learning_rate", "gaze_dropout")
_FEW = 25  # speakers, under which intervals are to be read with care


def card(
    name: str,
    run: Mapping[str, Any],
    results: Mapping[str, Any],
    labels: Sequence[Label],
    making: Making,
    files: Mapping[str, str],
) -> str:
    """README.md of an exported model, in Markdown with the head that the Hugging Face Hub reads.

    Args:
        name: of the model.
        run: its run.json.
        results: what it scored; nothing where it has not been scored.
        labels: its targets.
        making: how clips are made for it.
        files: what lies beside, by name, with what it is.
    """
    return "\n".join(_lines(name, run, results, labels, making, files)) + "\n"


def _lines(
    name: str,
    run: Mapping[str, Any],
    results: Mapping[str, Any],
    labels: Sequence[Label],
    making: Making,
    files: Mapping[str, str],
) -> Iterator[str]:
    yield from ("---", "library_name: filmstrip", "tags:", "- audio-visual", "- talking-face", "- onnx", "---", "")
    yield from (f"# {name}", "")
    said = [f"{one.name} ({', '.join(one.classes)})" if one.classes else f"{one.name}, a number" for one in labels]
    yield f"Predicts {'; '.join(said)} from a clip of a talking face: from its sound, its picture, and both."
    clip = making.settings.clip
    yield from ("", "## What it takes", "")
    yield (
        f"Clips of {clip.seconds:g} s: {len(making.chosen)} of {clip.frames} frames of {clip.size}×{clip.size} pixels, "
        f"{clip.fps:g} a second (crop: {making.settings.crop}), sound at {clip.sample_rate} Hz, mono."
    )
    yield from ("", "| file | what |", "|---|---|", *(f"| `{file}` | {what} |" for file, what in files.items()))
    yield from ("", "## What it was trained on", "")
    builds = run.get(BUILDS) or []
    for build in builds:
        yield f"- {build['corpus']}: {build['clips']} clips of {build['speakers']} speakers"
    if not builds:
        yield "- the run does not say"
    if run.get("init"):
        yield "- its towers began from a run that learnt whether sound and picture belong together"
    settings = run.get(SETTINGS) or {}
    shown = {name: settings[name] for name in _SETTINGS if name in settings}
    yield f"- settings: `{json.dumps(shown)}`"
    yield from ("", "## What it scores", "")
    targets = results.get("targets") or {}
    if not targets:
        yield "It has not been scored."
    else:
        yield "By utterance, with intervals of 95 % over speakers."
        yield from ("", "| target | from | score | value | interval |", "|---|---|---|---|---|")
        for target, scores in targets.items():
            for modality in MODALITIES:
                yield from _rows(target, modality, scores[modality])
        yield ""
        for target, scores in targets.items():
            beat = ""
            if "majority" in scores:
                beat = f"; the most frequent class alone has a micro-F1 of {scores['majority']:.3f}"
            yield f"- {target}: {scores['utterances']} utterances of the split {scores['split']}{beat}"
    yield from ("", "## Limits", "")
    yield from _limits(labels, builds, targets)


def _rows(target: str, modality: str, scores: Mapping[str, Any]) -> Iterator[str]:
    for key, says in _SCORES.items():
        if scores.get(key) is not None:
            interval = (scores.get("intervals") or {}).get(key)
            told = "–" if interval is None or None in interval else f"{interval[0]:.3f} … {interval[1]:.3f}"
            yield f"| {target} | {modality} | {says} | {scores[key]:.3f} | {told} |"


def _limits(labels: Sequence[Label], builds: Sequence[Mapping[str, Any]], targets: Mapping[str, Any]) -> Iterator[str]:
    corpora = ", ".join(dict.fromkeys(build["corpus"] for build in builds)) or "what it was trained on"
    yield f"- The scores are of people recorded as in {corpora}; of others they say nothing."
    yield "- What is predicted is what annotators state of a clip, not what a person feels."
    for target, scores in targets.items():
        if scores.get("speakers", _FEW) < _FEW:
            yield f"- {target}: scored on {scores['speakers']} speakers, too few for intervals to be relied on."
        recalls = scores["joint"].get("recall_by_class")
        if recalls:
            known = {name: value for name, value in recalls.items() if value is not None}
            if known:
                worst = min(known, key=known.__getitem__)
                yield f"- {target}: of {worst}, from both modalities, {known[worst]:.0%} are recognised."
        error = scores["joint"].get("calibration_error")
        if error is not None:
            yield f"- {target}: joint probabilities are off by {error:.3f} on average (expected calibration error)."
    for label in labels:
        if label.classes is None and label.low is not None and label.high is not None:
            yield f"- {label.name}: answers may lie outside of {label.low:g} … {label.high:g}, where the labels are."
    yield "- No licence is stated here: add one, as the training data's allows."
