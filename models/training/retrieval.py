"""How well a network finds the sounds of pictures and the pictures of sounds, by the score of every one with every one.

Each clip of a gallery is a query, and all of the gallery's clips are ranked for it, its own among them. Relevant are
the clips of its video. Scores are the share of the queries with something relevant among the first 1, 5 and 10 (recall
at k), and nDCG of the first 30, as in Objects that Sound (Arandjelović and Zisserman, ECCV 2018, section 3.1), where
relevance was graded by labels; it is Järvelin and Kekäläinen's (Cumulated gain-based evaluation of IR techniques, ACM
TOIS, 2002) with gains of 0 and 1, discounted by log₂(rank + 1).

The gallery is of the pairs that match in the first scoring of the split, which the seed draws: half of its clips, of
each two neighbours one. Of more than `GALLERY` of them, so many are drawn, by the row alone. So it costs no second
pass, whatever the network, and is the same for all networks with one seed. Scores depend on how large it is: they come
with it, and with what chance would score on it.

Intervals are over the queries' speakers, with the gallery as it is. A median has none: the jackknife does not know its
error (Efron: The Jackknife, the Bootstrap and Other Resampling Plans, 1982, section 3.4).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from loaders.sampling import randomness
from models.systems.correspondence import AVENet, L3Net
from models.training.intervals import interval
from models.training.measures import mean_share

GALLERY = 1000  #: clips at most
RECALL_AT = (1, 5, 10)
DEPTH = 30  #: of nDCG
#: From what is asked by to what is looked for, as results.json has it.
WAYS = ("audio_to_video", "video_to_audio")
_ROWS = 64  #: of the gallery whose scores are computed at once

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Gallery:
    """What a network makes of N clips, see `L3Net.encode`."""

    clip: NDArray[np.int64]  #: (N,) catalog rows
    seen: NDArray[np.float32]  #: (N, n)
    heard: NDArray[np.float32]  #: (N, m)


def drawn(parts: Iterable[Gallery], limit: int = GALLERY) -> Gallery | None:
    """Of several parts so many clips, in an order of their own that says nothing of them; None: of no parts.

    Which, and in which order, depends on the rows alone: neither on how they are dealt out to parts, nor on the seed.
    Among equal scores the order decides, as chance would.
    """
    found = [part for part in parts if len(part.clip)]
    if not found:
        return None
    clip = np.concatenate([part.clip for part in found])
    chosen = np.argsort(randomness.bits(randomness.key("gallery"), clip), kind="stable")[:limit]
    return Gallery(
        clip=clip[chosen],
        seen=np.concatenate([part.seen for part in found])[chosen],
        heard=np.concatenate([part.heard for part in found])[chosen],
    )


def score_retrieval(
    gallery: Gallery,
    network: L3Net | AVENet,
    video: NDArray[np.int64],
    speaker: NDArray[np.int64],
    split: str,
    *,
    intervals: bool = True,
) -> dict[str, Any]:
    """What stands in results.json under ``retrieval``.

    Args:
        gallery: of this network.
        network: where it computes.
        video, speaker: of every catalog row a number, equal ones for one video, or speaker.
        split: for the record.
        intervals: of the scores, too.
    """
    scores = all_scores(network, gallery)
    of_video, of_speaker = video[gallery.clip], speaker[gallery.clip]
    relevant = of_video[:, None] == of_video[None, :]
    results: dict[str, Any] = {
        "split": split,
        "clips": len(gallery.clip),
        "videos": len(np.unique(of_video)),
        "speakers": len(np.unique(of_speaker)),
        "depth": DEPTH,
    }
    by_chance = {name: float(values.mean()) for name, values in chance(relevant).items()}
    stated = np.zeros(len(gallery.clip), np.int64)
    for way, of_queries in zip(WAYS, (scores.T, scores), strict=True):
        ranked = rank(of_queries, relevant)
        values = {f"recall_at_{k}": (first(ranked) <= k).astype(np.float64) for k in RECALL_AT}
        values["ndcg"] = ndcg(ranked, DEPTH)
        results[way] = {
            **{name: float(of_query.mean()) for name, of_query in values.items()},
            "median_rank": float(np.median(first(ranked))),
            "chance": by_chance,
        }
        if intervals:
            sure = {name: interval(mean_share(), of_query, stated, of_speaker) for name, of_query in values.items()}
            results[way]["intervals"] = {name: [each.low, each.high] for name, each in sure.items()}
    return results


def all_scores(network: L3Net | AVENet, gallery: Gallery) -> NDArray[np.float32]:
    """Log odds of a match of what is seen of clip i with the sound of clip j, (N, N)."""
    device = next(network.parameters()).device
    seen, heard = (torch.from_numpy(each).to(device) for each in (gallery.seen, gallery.heard))
    with torch.no_grad():
        rows = [network.scores(some, heard).cpu() for some in torch.split(seen, _ROWS)]
    scores: NDArray[np.float32] = torch.cat(rows).numpy()
    return scores


def rank(scores: NDArray[np.floating[Any]], relevant: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Which places of each query's ranking are relevant: (queries, N), the best first.

    Of equal scores the earlier clip comes first; what is no number comes last.
    """
    order = np.argsort(-scores, axis=1, kind="stable")
    ranked: NDArray[np.bool_] = np.take_along_axis(relevant, order, axis=1)
    return ranked


def first(ranked: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Of each query the place of the first that is relevant, from 1."""
    place: NDArray[np.int64] = ranked.argmax(1).astype(np.int64) + 1
    return place


def ndcg(ranked: NDArray[np.bool_], depth: int) -> Floats:
    """Of each query, which has something relevant, the normalised discounted cumulative gain of the first places."""
    discount = _discounts(ranked.shape[1], depth)
    best = np.cumsum(discount)[np.minimum(ranked.sum(1), len(discount)) - 1]
    gain: Floats = (ranked[:, : len(discount)] * discount).sum(1) / best
    return gain


def chance(relevant: NDArray[np.bool_]) -> dict[str, Floats]:
    """What each query scores on average where clips are ranked at random."""
    of_query, clips = relevant.sum(1), relevant.shape[1]
    found: dict[str, Floats] = {}
    for k in RECALL_AT:
        drawn = np.arange(min(k, clips))
        missed = np.clip((clips - of_query[:, None] - drawn) / (clips - drawn), 0, None).prod(1)
        found[f"recall_at_{k}"] = 1 - missed
    discount = _discounts(clips, DEPTH)
    best = np.cumsum(discount)[np.minimum(of_query, len(discount)) - 1]
    found["ndcg"] = of_query / clips * discount.sum() / best
    return found


def _discounts(clips: int, depth: int) -> Floats:
    discount: Floats = 1 / np.log2(np.arange(2, min(clips, depth) + 2))
    return discount
