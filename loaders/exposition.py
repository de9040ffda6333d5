"""Figures for whoever watches: Prometheus' text format, as the node exporter's textfile collector takes it, and JSON.

Format and naming are Prometheus': https://prometheus.io/docs/instrumenting/exposition_formats/ (text, 0.0.4) and
https://prometheus.io/docs/practices/naming/: counters end in ``_total`` and never decrease while a process lives, units
are seconds and bytes. What is made here is text alone; `loaders.metrics_file` keeps a file of it.
"""

import json
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from loaders.stats import LoaderStats

Kind = Literal["counter", "gauge"]

PREFIX = "filmstrip_"  #: of all names
_NAME = re.compile(r"[a-zA-Z_:][a-zA-Z0-9_:]*")
_LABEL = re.compile(r"(?!__)[a-zA-Z_][a-zA-Z0-9_]*")


@dataclass(frozen=True, slots=True, kw_only=True)
class Metric:
    """A number, and what it is of."""

    name: str  #: whole, as filmstrip_loader_clips_total
    kind: Kind
    says: str  #: in a sentence, the same for all labels
    value: float
    labels: Mapping[str, str] = field(default_factory=dict)


#: Of `LoaderStats`: the field, what it is called after filmstrip_loader_, its kind, what it says.
_OF_LOADER: tuple[tuple[str, str, Kind, str], ...] = (
    ("clips", "clips_total", "counter", "Examples yielded."),
    ("bytes", "bytes_total", "counter", "Bytes of clips read and checked."),
    ("first_batch", "first_batch_seconds", "gauge", "From asking for the first batch to having it."),
    ("seconds", "seconds_total", "counter", "Time since the first batch was there."),
    ("data_wait", "data_wait_seconds_total", "counter", "Time of these that the consumer waited for a batch."),
    ("clips_per_second", "clips_per_second", "gauge", "Examples yielded a second since the first batch."),
    ("data_wait_share", "data_wait_ratio", "gauge", "Share of the time since the first batch spent waiting for data."),
    ("decoded_depth", "decoded_batches", "gauge", "Decoded batches at hand when one was asked for, mean."),
    ("read_depth", "read_batches", "gauge", "Read batches at hand when the decoder asked, mean."),
    ("read_seconds", "read_seconds_total", "counter", "All reading threads' time in drawing, reading, checking."),
    ("check_seconds", "check_seconds_total", "counter", "Of the reading time, reading and checking."),
    ("read_blocked", "read_blocked_seconds_total", "counter", "Time that read batches waited for room."),
    ("decode_seconds", "decode_seconds_total", "counter", "The decoding thread's time in the decoder."),
    ("decode_blocked", "decode_blocked_seconds_total", "counter", "Time that decoded batches waited for room."),
    ("cache_hits", "cache_hits_total", "counter", "Times that a remote shard was on the disk already."),
    ("fetched_shards", "fetched_shards_total", "counter", "Remote shards fetched."),
    ("fetched_bytes", "fetched_bytes_total", "counter", "Bytes of remote shards fetched."),
    ("fetch_retries", "fetch_retries_total", "counter", "Attempts to fetch that failed and were made again."),
    ("fetch_wait", "fetch_wait_seconds_total", "counter", "Time that reading threads waited for remote shards."),
    ("damaged_shards", "damaged_shards_total", "counter", "Cached shards thrown away as damaged, and fetched again."),
    ("bad_clips", "bad_clips_total", "counter", "Different clips left out: their bytes were not those written."),
    ("substitutions", "substitutions_total", "counter", "Examples that took the place of bad ones."),
    ("searched", "searched_filmstrips_total", "counter", "Filmstrips whose frames had to be searched for."),
)
_TRIALS = (("cpu_trial", "cpu"), ("gpu_trial", "gpu"))


def loader_metrics(stats: LoaderStats, labels: Mapping[str, str] | None = None) -> list[Metric]:
    """What a loader counts: ``loader_metrics(loader.stats(), {"rank": "0", "split": "train"})``."""
    of = dict(labels or {})
    found = [
        Metric(name=f"{PREFIX}loader_{name}", kind=kind, says=says, value=getattr(stats, attribute), labels=of)
        for attribute, name, kind, says in _OF_LOADER
    ]
    name, says = f"{PREFIX}loader_trial_clips_per_second", "What a decoder did when the two were tried; 0: not tried."
    for attribute, decoder in _TRIALS:
        value = getattr(stats, attribute)
        found.append(Metric(name=name, kind="gauge", says=says, value=value, labels={**of, "decoder": decoder}))
    if stats.decoder:
        name, says = f"{PREFIX}loader_decoder_info", "What decodes filmstrips."
        found.append(Metric(name=name, kind="gauge", says=says, value=1, labels={**of, "decoder": stats.decoder}))
    return found


def as_text(metrics: Iterable[Metric]) -> str:
    """The metrics in Prometheus' text format: HELP, TYPE and all samples of a name together.

    Raises:
        ValueError: a name is none by the format, one name has two kinds or texts, or a number is there twice.
    """
    families: dict[str, list[Metric]] = {}
    for metric in metrics:
        families.setdefault(metric.name, []).append(metric)
    return "".join(line for name, family in families.items() for line in _family(name, family))


def as_json_lines(metrics: Sequence[Metric], time: float) -> str:
    """The metrics as JSON lines: for each set of labels an object with ``time``, the labels, and the numbers by name.

    Args:
        metrics: what there is now; not a number and infinity become null, which JSON has.
        time: seconds since 1970.
    """
    lines: dict[tuple[tuple[str, str], ...], dict[str, Any]] = {}
    for metric in metrics:
        of = lines.setdefault(tuple(sorted(metric.labels.items())), {"time": time, **metric.labels})
        of[metric.name] = metric.value if math.isfinite(metric.value) else None
    return "".join(json.dumps(line, allow_nan=False) + "\n" for line in lines.values())


def _family(name: str, family: Sequence[Metric]) -> Iterable[str]:
    kind, says = family[0].kind, family[0].says
    if _NAME.fullmatch(name) is None or (kind == "counter") != name.endswith("_total"):
        raise ValueError(f"{name}: not what a {kind} is called")
    yield f"# HELP {name} {_escaped(says)}\n"
    yield f"# TYPE {name} {kind}\n"
    seen = set()
    for metric in family:
        if (metric.kind, metric.says) != (kind, says):
            raise ValueError(f"{name}: has two kinds, or two texts")
        labels = _labels(metric.labels)
        if labels in seen:
            raise ValueError(f"{name}{labels}: is there twice")
        seen.add(labels)
        yield f"{name}{labels} {_value(metric.value)}\n"


def _labels(labels: Mapping[str, str]) -> str:
    for name in labels:
        if _LABEL.fullmatch(name) is None:
            raise ValueError(f"{name}: not what a label is called")
    inside = ",".join(f'{name}="{_escaped(value, quoted=True)}"' for name, value in sorted(labels.items()))
    return f"{{{inside}}}" if inside else ""


def _escaped(text: str, *, quoted: bool = False) -> str:
    text = text.replace("\\", r"\\").replace("\n", r"\n")
    return text.replace('"', r"\"") if quoted else text


def _value(value: float) -> str:
    """To the last bit, as Go reads it."""
    if isinstance(value, int):
        return str(value)
    if math.isfinite(value):
        return repr(float(value))
    return "NaN" if math.isnan(value) else "+Inf" if value > 0 else "-Inf"
