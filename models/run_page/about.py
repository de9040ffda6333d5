"""What a run's folder says of it, as a page shows it: settings, curves, scores, waiting, where it comes from.

Everything is read through the modules that wrote it, and given to the page as JSON.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import MISSING, fields, is_dataclass
from pathlib import Path
from typing import Any, get_type_hints

from models.training.evaluation import MODALITIES
from models.training.journal import METRICS, read_metrics
from models.training.labels import TARGETS, from_json
from models.training.options import spelt
from models.training.picture import series
from models.training.provenance import BUILDS, CHANGES, CONFIG, EXECUTION
from models.training.retrieval import RECALL_AT, WAYS
from models.training.runs import MODEL, model_sha256, read_results, read_run
from models.training.tasks.registry import stages
from models.training.validation import SELECTED

MOST_POINTS = 500  #: of a curve: more than a screen has columns for

_WAITING = 0.01  # share of the time from which on a run is bound by data, as its end says
_SCORES = (("micro_f1", "micro-F1"), ("macro_f1", "macro-F1"), ("uar", "UAR"))
_VALIDATION = "validation: "


def about_run(folder: Path) -> dict[str, Any]:
    """What a page shows of a run, finished or not.

    Raises:
        InputError: no run is there, or a file of it is broken.
    """
    run, results = read_run(folder), read_results(folder)
    lines = read_metrics(folder) if (folder / METRICS).is_file() else []
    return {
        "name": folder.resolve().name,
        "stage": run["stage"],
        "targets": [target.name for target in from_json(run[TARGETS], folder)] if run.get(TARGETS) else [],
        "finished": (folder / MODEL).is_file(),
        "scored": bool(results),
        "steps": max((line["step"] for line in lines), default=0),
        "settings": settings_that_differ(run),
        "curves": curves(lines),
        "scores": scores(results),
        "on": scored_on(results),
        "confusions": confusions(results),
        "waiting": waiting(lines),
        "provenance": provenance(folder, run),
    }


def settings_that_differ(run: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The options of a run that are not what they are by default: how they are spelt, both values; and those that had
    to be given. Of a stage that this version does not know, all."""
    config = stages().get(run["stage"])
    defaults = {} if config is None else _defaults(config)
    found = []
    for name, value in _options(run.get(CONFIG) or {}).items():
        default = defaults.get(name, MISSING)
        if value != default:
            required = default is MISSING
            found.append({"option": spelt(name), "value": value, "default": None if required else default})
            found[-1]["required"] = required
    return found


def _options(groups: Mapping[str, Any]) -> dict[str, Any]:
    """Of settings in their groups: the options by name. Only a group is a mapping."""
    found: dict[str, Any] = {}
    for name, value in groups.items():
        found |= _options(value) if isinstance(value, Mapping) else {name: value}
    return found


def _defaults(config: type) -> dict[str, Any]:
    """As they are in run.json; an option without one is not there."""
    found: dict[str, Any] = {}
    hints = get_type_hints(config)
    for each in fields(config):
        if is_dataclass(hints[each.name]):
            found |= _defaults(hints[each.name])
        elif each.default is not MISSING:
            found[each.name] = json.loads(json.dumps(each.default, default=str))
    return found


def curves(lines: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """A plot for each thing that is trained or validated: its title, and of each curve steps and values.

    What is validated stands in the plot of the same thing in training, where there is one. Of a long curve every so
    many points are kept, the last one always.
    """
    plots: dict[str, dict[str, Any]] = {}
    for title, (steps, values) in series(lines).items():
        of_validation = title.startswith(_VALIDATION)
        plot = plots.setdefault(title.removeprefix(_VALIDATION), {"lines": []})
        kept = _kept(len(steps))
        plot["lines"].append(
            {
                "name": "validation" if of_validation else "training",
                "steps": [steps[place] for place in kept],
                "values": [_number(values[place]) for place in kept],
            }
        )
    found = [{"title": title, **plot} for title, plot in plots.items()]
    for plot in found:
        plot["lines"].sort(key=lambda line: line["name"])
    return sorted(found, key=lambda plot: plot["lines"][0]["name"])  # what is trained first


def _kept(count: int) -> list[int]:
    every = math.ceil(count / MOST_POINTS) or 1
    return sorted({*range(0, count, every), *([count - 1] if count else [])})


def scores(results: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The scores of results.json, as its table has them: what, value, the ends of its interval, what it has to beat.

    ``share``: whether it is a share, from 0 to 1; other scores are shown as they are.
    """
    found: list[dict[str, Any]] = []

    def add(what: str, of: str, value: float | None, ends: Any, beat: float | None, why: str, *, share: bool) -> None:
        low, high = ends or (None, None)
        found.append(
            {
                "what": what,
                "of": of,
                "value": None if value is None else _number(value),
                "low": low,
                "high": high,
                "beat": beat,
                "why": why,
                "share": share,
            }
        )

    several = results.get("pretraining_by_negatives") or {}
    for pairs in several.values() or ([results["pretraining"]] if "pretraining" in results else []):
        of = f"pairs, negatives {pairs['negatives']}" if "negatives" in pairs else "pairs"
        ends = (pairs.get("accuracy_low"), pairs.get("accuracy_high"))
        add("accuracy", of, pairs["accuracy"], ends, 0.5, "chance", share=True)
    for way in WAYS if "retrieval" in results else ():
        of_way, depth = results["retrieval"][way], results["retrieval"]["depth"]
        names = [(f"recall@{k}", f"recall_at_{k}") for k in RECALL_AT] + [(f"nDCG@{depth}", "ndcg")]
        for says, name in names:
            ends, chance = of_way.get("intervals", {}).get(name), of_way["chance"][name]
            add(says, way.replace("_to_", " → "), of_way[name], ends, chance, "chance", share=True)
    for name, of_target in results.get("targets", {}).items():
        for modality in MODALITIES:
            said, of = of_target[modality], f"{name} from {modality}"
            known = said.get("intervals", {})
            if "classes" in of_target:
                recalls = said.get("recall_by_class", {}).values()
                stated = sum(recall is not None for recall in recalls) or len(of_target["classes"])
                beats = {"micro_f1": (of_target["majority"], "majority"), "uar": (1 / stated, "chance")}
                for score, says in _SCORES:
                    if score in said:
                        beat, why = beats.get(score, (None, ""))
                        add(says, of, said[score], known.get(score), beat, why, share=True)
            else:
                add("CCC", of, said["ccc"], known.get("ccc"), None, "", share=False)
                add("r", of, said["pearson"], known.get("pearson"), None, "", share=False)
                mean = of_target["mean"]["rmse"]
                add("RMSE", of, said["rmse"], known.get("rmse"), mean, "always the mean", share=False)
    return found


def scored_on(results: Mapping[str, Any]) -> list[str]:
    """On how much of what, a line each."""
    found = []
    if "pretraining" in results:
        pairs = results["pretraining"]
        found.append(f"{pairs['pairs']} pairs, {pairs['speakers']} speakers of {pairs['split']}")
    if "retrieval" in results:
        clips = results["retrieval"]
        found.append(f"retrieval: {clips['clips']} clips, {clips['speakers']} speakers of {clips['split']}")
    for name, of in results.get("targets", {}).items():
        by = f", {of['speakers']} speakers" if "speakers" in of else ""
        found.append(f"{name}: {of['utterances']} utterances{by} of {of['split']}")
    return found


def confusions(results: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The matrices of results.json, rows what is stated: of each target with classes by each modality, of pairs."""
    found = []
    for name, of in results.get("targets", {}).items():
        if "classes" in of:
            by = [
                {
                    "name": modality,
                    "counts": of[modality]["confusion"],
                    "recalls": list(of[modality].get("recall_by_class", {}).values()),
                }
                for modality in MODALITIES
            ]
            found.append({"target": name, "classes": of["classes"], "by": by})
    if "confusion" in results.get("pretraining", {}):
        counts = results["pretraining"]["confusion"]
        recalls = [row[place] / sum(row) if sum(row) else None for place, row in enumerate(counts)]
        by = [{"name": "pairs", "counts": counts, "recalls": recalls}]
        found.append({"target": "together", "classes": ["apart", "together"], "by": by})
    return found


def waiting(lines: Sequence[Mapping[str, Any]]) -> dict[str, Any] | None:
    """Who waited for whom in the end: clips a second, share of the time that the training waited for data."""
    with_rates = [line for line in lines if line.get("data_wait_share") is not None]
    if not with_rates:
        return None
    last = with_rates[-1]
    bound = "data" if last["data_wait_share"] > _WAITING else "the model"
    return {"clips_per_second": last["clips_per_second"], "share": last["data_wait_share"], "bound": bound}


def provenance(folder: Path, run: Mapping[str, Any]) -> list[dict[str, Any]]:
    """What the run comes from, in groups of names and values: datasets, origin of the towers, machine, changes."""
    groups: list[dict[str, Any]] = []
    for number, build in enumerate(run.get(BUILDS) or [], 1):
        of = {name: build[name] for name in ("corpus", "clips", "speakers") if name in build}
        title = "dataset" if len(run[BUILDS]) == 1 else f"dataset {number}"
        groups.append({"title": title, "rows": _rows({**of, **build.get("settings", {})})})
    weights = {"model.safetensors": model_sha256(folder)} if (folder / MODEL).is_file() else {}
    if run.get("init"):
        weights |= {f"pre-trained {name}": value for name, value in run["init"].items() if not isinstance(value, dict)}
    if run.get(SELECTED):
        weights |= {f"selected {name}": value for name, value in run[SELECTED].items()}
    if weights:
        groups.append({"title": "weights", "rows": _rows(weights)})
    if run.get(EXECUTION):
        groups.append({"title": "machine and versions", "rows": _rows(run[EXECUTION])})
    changed = [
        (f"step {change.get('step')}: {change.get('option')}", [change.get("before"), change.get("after")])
        for change in run.get(CHANGES) or []
    ]
    if changed:
        rows = [[name, f"{_told(before)} → {_told(after)}"] for name, (before, after) in changed]
        groups.append({"title": "changes when it was resumed", "rows": rows})
    return groups


def _rows(values: Mapping[str, Any]) -> list[list[str]]:
    return [[name, _told(value)] for name, value in values.items()]


def _told(value: Any) -> str:
    return value if isinstance(value, str) else "none" if value is None else json.dumps(value)


def _number(value: float) -> float | None:
    """Short enough for the page; None, which JSON knows, for what is no number."""
    return float(f"{value:.5g}") if math.isfinite(value) else None
