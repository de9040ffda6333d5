"""The tables as Markdown, for a terminal of 80 columns, and the picture of the differences."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.table import Table

from benchmarks.figures import save, style
from benchmarks.thesis.grid import NETWORKS, SAYS
from benchmarks.thesis.published import EMOTION, PAIRS, PAIRS_CHANCE, PRIOR, SOURCE
from benchmarks.thesis.scores import Apart, EmotionScores, Mean, PairScores, SystemScores
from models.training.evaluation import MODALITIES

PRETRAINED, SCRATCH = "pre-trained", "from scratch"
BASELINE = "OMG baseline"  #: whose figures are published alone
NONE = "–"  #: there is none


def markdown(
    pairs: PairScores,
    emotion: EmotionScores,
    seeds: int,
    says: Sequence[str],
    systems: Sequence[SystemScores] = (),
    system_seeds: int = 0,
) -> str:
    """Tables 4.1 to 4.3, ours beside the published figures, and that of all systems where they were trained.

    Args:
        pairs, emotion: what the runs score.
        seeds: how many.
        says: sentences about the data and the recipe.
        systems: what these score; none, where they were not asked for.
        system_seeds: how many of theirs.
    """
    of = (
        f"intervals (95 %) are over speakers and seeds; means over {seeds} seeds"
        if seeds > 1
        else "intervals (95 %) are over speakers and say nothing of other seeds: there is one"
    )
    parts = [
        "# The thesis' tables",
        "",
        " ".join([*says, f"Figures are percent; {of}. Published: {SOURCE}, on VoxCeleb and OMG."]),
        "",
        "## Table 4.1: accuracy on pairs",
        "",
        *pairs_markdown(pairs),
        "",
        "## Table 4.2: micro-F1 after fine-tuning",
        "",
        *emotion_markdown(emotion),
        "",
        "## Table 4.3: beside prior systems, micro-F1",
        "",
        *_table(["system", "audio", "visual", "source"], _prior_rows(emotion)),
        "",
    ]
    if systems:
        parts += ["## All systems", "", *systems_markdown(systems, system_seeds, emotion.majority), ""]
    return "\n".join(parts)


def pairs_markdown(pairs: PairScores) -> list[str]:
    """Table 4.1, and what is to be said with it."""
    accuracy = [[SAYS[network], _told(pairs.of[network]), f"{PAIRS[network]:.2f}"] for network in NETWORKS]
    return [
        *_table(["network", "ours", "published"], [*accuracy, ["chance", "50.0", f"{PAIRS_CHANCE:.2f}"]]),
        "",
        f"{pairs.pairs:,} pairs of {pairs.speakers} unseen speakers, negatives: {pairs.negatives}. "
        f"L3-Net minus AVE-Net: {_signed(pairs.apart)}.",
    ]


def emotion_markdown(emotion: EmotionScores) -> list[str]:
    """Table 4.2, and what is to be said with it."""
    head = ["network", "channel", PRETRAINED, SCRATCH, "difference", "published: pre-trained", SCRATCH, "difference"]
    return [
        *_table(head, [*_emotion_rows(emotion), ["majority", "any", *2 * [f"{emotion.majority:.1f}"], *4 * [NONE]]]),
        "",
        f"{emotion.utterances:,} utterances of {emotion.speakers} unseen speakers. Differences are paired: the same "
        "utterances, those of a speaker together. From scratch both networks are one and the same; the published "
        "figures are of two trainings.",
    ]


def brief_markdown(emotion: EmotionScores) -> list[str]:
    """Table 4.2 in short: both arms and their differences, without the published figures."""
    rows = [row[:5] for row in _emotion_rows(emotion)]
    return _table(["network", "channel", PRETRAINED, SCRATCH, "difference"], rows)


def seeds_markdown(emotion: EmotionScores, network: str) -> list[str]:
    """The least and the greatest score of the seeds of one network, and from scratch."""
    rows = [
        [modality, *(_range(arm[modality].seeds) for arm in (emotion.pretrained[network], emotion.scratch))]
        for modality in MODALITIES
    ]
    return _table(["micro-F1, emotion from", PRETRAINED, SCRATCH], rows)


def terminal(pairs: PairScores, emotion: EmotionScores) -> Table:
    """Table 4.2 with the pairs' accuracy and the majority. 80 columns hold it."""
    table = Table(caption_justify="left")
    for column in ("", PRETRAINED, SCRATCH, "difference (95 %)", "thesis"):  # 80 columns hold no longer word
        table.add_column(column, no_wrap=True)
    for network in NETWORKS:
        for modality in MODALITIES:
            table.add_row(
                f"{SAYS[network]} {modality}",
                f"{emotion.pretrained[network][modality].value:.1f}",
                f"{emotion.scratch[modality].value:.1f}",
                _signed(emotion.apart[network][modality]),
                published_difference(network, modality),
            )
        table.add_section()
    table.add_row("majority", *2 * [f"{emotion.majority:.1f}"], "", NONE)
    accuracy = ", ".join(
        f"{SAYS[network]} {pairs.of[network].value:.1f} (published {PAIRS[network]:.1f})" for network in NETWORKS
    )
    table.caption = (
        f"micro-F1 %, {emotion.utterances} utterances, {emotion.speakers} speakers\npairs, %: {accuracy}, chance 50"
    )
    return table


def systems_markdown(systems: Sequence[SystemScores], seeds: int, majority: float) -> list[str]:
    """The table of all systems, each pre-trained and from scratch, and what is to be said with it.

    Args:
        systems: what they score.
        seeds: how many of each.
        majority: percent: always the most frequent class.
    """
    head = ["system", "", "pairs", "recall@10", *MODALITIES, *(f"published: {channel}" for channel in MODALITIES)]
    baseline = PRIOR[BASELINE]
    rows = [
        *(row for of in systems for row in _system_rows(of)),
        ["majority", *3 * [""], *3 * [f"{majority:.1f}"], *3 * [""]],
        [BASELINE, *6 * [""], *(f"{value:.1f}" for value in baseline), ""],
    ]
    return [*_table(head, rows), "", _system_notes(systems, seeds)]


def systems_terminal(systems: Sequence[SystemScores], majority: float) -> Table:
    """The table of all systems in short. 80 columns hold it."""
    table = Table(title="micro-F1 %, 95 % over speakers", title_justify="left", caption_justify="left")
    for column in ("", *MODALITIES):
        table.add_column(column, no_wrap=True)
    for of in systems:
        table.add_row(of.key, f"no {', '.join(of.lacking)}" if of.lacking else "", "", "")
        for says, by in ((PRETRAINED, of.pretrained), (SCRATCH, of.scratch)):
            if by is not None:
                table.add_row(f"  {says}", *(_short(by[m]) for m in MODALITIES))
        if of.apart is not None:
            table.add_row("  difference", *(_short(of.apart[m], "+") for m in MODALITIES))
        table.add_section()
    table.add_row("majority", *3 * [f"{majority:.1f}"])
    table.add_row("OMG, published", *(f"{value:.1f}" for value in PRIOR[BASELINE]), "")
    return table


def picture(emotion: EmotionScores, path: Path) -> None:
    """Draw pre-trained minus from scratch, with intervals, and the published differences beside them."""
    style()
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(figsize=(8, 3.2))
    rows = [(network, modality) for network in NETWORKS for modality in MODALITIES]
    for place, (network, modality) in enumerate(rows):
        found = emotion.apart[network][modality]
        first = place == 0
        ends = [found.low, found.high] if math.isfinite(found.low) else [found.value] * 2
        axes.plot(ends, [place, place], color="C0", solid_capstyle="butt")
        axes.plot(found.value, place, "o", color="C0", label="ours, 95 % over speakers and seeds" if first else None)
        known = _published(network, modality)
        if known is not None:
            axes.plot(known, place, "D", color="C1", fillstyle="none", label="published" if first else None)
    axes.axvline(0, color="black", linewidth=0.8)
    axes.set_yticks(range(len(rows)), [f"{SAYS[network]}, {modality}" for network, modality in rows])
    axes.invert_yaxis()
    axes.set_xlabel("micro-F1, pre-trained minus from scratch, percentage points")
    axes.legend(loc="upper center", bbox_to_anchor=(0.5, 1.18), ncols=2)
    save(figure, path)


def published_difference(network: str, modality: str) -> str:
    """Pre-trained minus from scratch."""
    known = _published(network, modality)
    return NONE if known is None else f"{known:+.2f}"


def _published(network: str, modality: str) -> float | None:
    arms = [EMOTION[network][arm].get(modality) for arm in (PRETRAINED, SCRATCH)]
    return None if arms[0] is None or arms[1] is None else arms[0] - arms[1]


def _emotion_rows(emotion: EmotionScores) -> list[list[str]]:
    rows = []
    for network in NETWORKS:
        for modality in MODALITIES:
            published = [EMOTION[network][arm].get(modality) for arm in (PRETRAINED, SCRATCH)]
            rows.append(
                [
                    SAYS[network],
                    modality,
                    _told(emotion.pretrained[network][modality]),
                    _told(emotion.scratch[modality]),
                    _signed(emotion.apart[network][modality]),
                    *(NONE if value is None else f"{value:.2f}" for value in published),
                    published_difference(network, modality),
                ]
            )
    return rows


def _system_rows(of: SystemScores) -> list[list[str]]:
    if of.pretrained is None or of.scratch is None or of.apart is None:
        return [[of.title, f"not trained: no {', '.join(of.lacking)}", *5 * [""], *_published_of(of, SCRATCH)]]
    recall = NONE if not of.recall else " / ".join(f"{value:.1f}" for value in of.recall.values())
    pairs = NONE if of.pairs is None else _told(of.pairs)
    title = f"{of.title} (random weights)" if of.random_faces else of.title
    return [
        [
            title,
            PRETRAINED,
            pairs,
            recall,
            *(_told(of.pretrained[m]) for m in MODALITIES),
            *_published_of(of, PRETRAINED),
        ],
        ["", SCRATCH, "", "", *(_told(of.scratch[m]) for m in MODALITIES), *_published_of(of, SCRATCH)],
        ["", "difference", "", "", *(_signed(of.apart[m]) for m in MODALITIES), *3 * [""]],
    ]


def _published_of(of: SystemScores, arm: str) -> list[str]:
    figures = of.published.get(arm, {})
    return [f"{figures[m]:.1f}" if m in figures else "" for m in MODALITIES]


def _system_notes(systems: Sequence[SystemScores], seeds: int) -> str:
    says = [
        "Micro-F1 in percent, each system pre-trained and fine-tuned, and from scratch, on the same utterances; "
        f"differences are paired. {'One seed' if seeds == 1 else f'{seeds} seeds'} each: intervals (95 %) are over "
        f"speakers{'' if seeds == 1 else ' and seeds'}{', and say nothing of other seeds' if seeds == 1 else ''}.",
        "Pairs: accuracy of the pre-training, of which chance is 50; a contrastive one sets no threshold.",
    ]
    found = next((of for of in systems if of.gallery is not None), None)
    if found is not None:
        says.append(
            f"Recall@10: pictures found by sounds / sounds found by pictures, among {found.gallery} clips, of which "
            f"chance is {found.by_chance:.1f}."
        )
    says.append(
        "Two systems with the same towers are one network from scratch; the thesis' towers in Abdou et al.'s "
        "architecture are its own networks, for the two differ by towers alone."
    )
    if any(of.random_faces for of in systems):
        says.append(
            "**The weights of VGG-Face are random wherever it stands here (no --vgg-face FILE was given): these rows "
            "say nothing of VGG-Face as published.**"
        )
    says += [f"{of.about}." for of in systems if "chosen by us" in of.about]
    for of in systems:
        if of.lacking:
            members = " and ".join(of.lacking)
            says.append(
                f"{of.title} was not trained: the datasets have no {members}. Build them with "
                f"{' '.join(f'--member {name}' for name in of.lacking)}."
            )
    says.append(f"Published figures: {SOURCE}, on OMG.")
    return " ".join(says)


def tables_of_record(facts: Mapping[str, Any]) -> tuple[PairScores, EmotionScores]:
    """Tables 4.1 and 4.2 as a record has them."""
    pairs, emotion = facts["pairs"], facts["emotion"]
    return (
        PairScores(**{**pairs, "of": _means(pairs["of"], Mean), "apart": Apart(**_ends(pairs["apart"]))}),
        EmotionScores(
            **{
                **emotion,
                "pretrained": {network: _means(by, Mean) for network, by in emotion["pretrained"].items()},
                "scratch": _means(emotion["scratch"], Mean),
                "apart": {network: _means(by, Apart) for network, by in emotion["apart"].items()},
            }
        ),
    )


def _ends(of: Mapping[str, Any]) -> dict[str, Any]:
    return {name: math.nan if value is None else value for name, value in of.items()}


def _means(by: Mapping[str, Any] | None, kind: type[Mean] | type[Apart]) -> Any:
    return None if by is None else {m: kind(**_ends(of)) for m, of in by.items()}


def systems_of_record(facts: Sequence[Mapping[str, Any]]) -> tuple[SystemScores, ...]:
    """The rows as a record has them."""
    return tuple(
        SystemScores(
            **{
                **row,
                "lacking": tuple(row["lacking"]),
                "pairs": None if row["pairs"] is None else Mean(**_ends(row["pairs"])),
                "pretrained": _means(row["pretrained"], Mean),
                "scratch": _means(row["scratch"], Mean),
                "apart": _means(row["apart"], Apart),
            }
        )
        for row in facts
    )


def _prior_rows(emotion: EmotionScores) -> list[list[str]]:
    channels = ("audio", "visual")
    ours = [
        [f"{SAYS[network]}, {PRETRAINED}", *(_told(emotion.pretrained[network][m]) for m in channels), "ours"]
        for network in NETWORKS
    ]
    thesis = [f"{EMOTION['l3'][PRETRAINED][m]:.2f}" for m in channels]
    return [
        *ours,
        ["majority", *2 * [f"{emotion.majority:.1f}"], "ours"],
        [f"{SAYS['l3']}, {PRETRAINED}", *thesis, "published"],
        *([name, f"{audio:.1f}", f"{visual:.1f}", "published"] for name, (audio, visual) in PRIOR.items()),
    ]


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    return [f"| {' | '.join(cells)} |" for cells in (head, ["---"] * len(head), *rows)]


def _range(scores: Sequence[float]) -> str:
    return f"{min(scores):.1f} … {max(scores):.1f}"


def _told(mean: Mean) -> str:
    return f"{mean.value:.1f} ({_end(mean.low)} … {_end(mean.high)})"


def _signed(apart: Apart) -> str:
    return f"{apart.value:+.1f} ({_end(apart.low, '+')} … {_end(apart.high, '+')})"


def _short(of: Mean | Apart, sign: str = "") -> str:
    low, high = (format(end, f"{sign}.0f") if math.isfinite(end) else NONE for end in (of.low, of.high))
    return f"{of.value:{sign}.1f} ({low}…{high})"


def _end(value: float, sign: str = "") -> str:
    return format(value, f"{sign}.1f") if math.isfinite(value) else NONE
