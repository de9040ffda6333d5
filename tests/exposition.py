"""Prometheus' text format read by its grammar: prometheus.io/docs/instrumenting/exposition_formats, version 0.0.4."""

from __future__ import annotations

import math
import re

NAME = r"[a-zA-Z_:][a-zA-Z0-9_:]*"
LABEL = r'[a-zA-Z_][a-zA-Z0-9_]*="(?:[^"\\\n]|\\["\\n])*"'
SAMPLE = re.compile(rf"({NAME})(?:\{{((?:{LABEL})(?:,{LABEL})*)\}})? ([+-]?(?:[0-9.]+(?:e[+-]?[0-9]+)?|Inf|NaN))")
UNESCAPED = {"\\\\": "\\", r"\"": '"', r"\n": "\n"}

Series = tuple[str, tuple[tuple[str, str], ...]]


def parsed(text: str) -> dict[Series, float]:
    """The samples by name and labels. Fails where the text is not by the grammar, or by the conventions for names."""
    assert text == "" or text.endswith("\n")
    found: dict[Series, float] = {}
    family, kind, seen = "", "", set[str]()
    lines = iter(text.split("\n")[:-1])  # nothing else ends a line
    for line in lines:
        if (head := re.fullmatch(rf"# HELP ({NAME}) (?:[^\\\n]|\\[\\n])*", line)) is not None:
            family = head[1]
            assert family not in seen, f"{family} is in two places"
            seen.add(family)
            typed = re.fullmatch(rf"# TYPE {family} (counter|gauge)", next(lines))
            assert typed is not None, line
            kind = typed[1]
            assert (kind == "counter") == family.endswith("_total"), line
            continue
        sample = SAMPLE.fullmatch(line)
        assert sample is not None, line
        assert sample[1] == family, f"{line} is not under its HELP and TYPE"
        pairs = re.findall(r'(\w+)="((?:[^"\\]|\\.)*)"', sample[2] or "")
        labels = tuple((name, re.sub(r"\\.", lambda match: UNESCAPED[match[0]], value)) for name, value in pairs)
        assert (family, labels) not in found, f"{line} is there twice"
        value = float(sample[3])
        assert kind == "gauge" or (value >= 0 and not math.isnan(value)), line
        found[family, labels] = value
    return found
