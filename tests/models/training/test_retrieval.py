"""Retrieval scores are what plain loops say, depend on nothing but the gallery, and chance is chance."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from accelerate import Accelerator
from hypothesis import given, settings
from hypothesis import strategies as st

from loaders import ClipLoader
from models.frontend.front_end import FrontEnd
from models.systems.presets import correspondence_net
from models.training.evaluation import match_predictions
from models.training.retrieval import RECALL_AT, Gallery, all_scores, chance, drawn, first, ndcg, rank
from models.training.scores import speakers, videos
from models.training.tasks.correspondence import Correspondence
from tests.presets import SMALLEST


def by_loops(scores: list[float], relevant: list[bool], depth: int) -> tuple[int, float]:
    """Of one query the place of the first that is relevant, and nDCG."""
    order = sorted(range(len(scores)), key=lambda place: -scores[place])
    hits = [relevant[place] for place in order]
    gain = sum(1 / math.log2(place + 2) for place, hit in enumerate(hits[:depth]) if hit)
    best = sum(1 / math.log2(place + 2) for place in range(min(depth, sum(relevant))))
    return hits.index(True) + 1, gain / best


@given(seed=st.integers(0, 1 << 30), clips=st.integers(1, 12), depth=st.integers(1, 14))
@settings(max_examples=30, deadline=None)
def test_ranks_and_ndcg_are_those_of_plain_loops(seed: int, clips: int, depth: int) -> None:
    draw = np.random.default_rng(seed)
    scores = draw.integers(0, 4, (clips, clips)).astype(np.float32)  # some of them equal
    video = draw.integers(0, 4, clips)
    relevant = video[:, None] == video[None]
    ranked = rank(scores, relevant)
    found = list(zip(first(ranked), ndcg(ranked, depth), strict=True))
    expected = [by_loops(list(map(float, scores[i])), list(map(bool, relevant[i])), depth) for i in range(clips)]
    assert [place for place, _ in found] == [place for place, _ in expected]
    assert [gain for _, gain in found] == pytest.approx([gain for _, gain in expected])


def test_chance_is_what_random_rankings_score() -> None:
    draw = np.random.default_rng(0)
    video = np.array([0] * 3 + [1] * 2 + list(range(2, 34)))
    relevant = video[:, None] == video[None]
    rounds = [rank(draw.normal(size=relevant.shape), relevant) for _ in range(400)]
    expected = chance(relevant)
    for k in RECALL_AT:
        shares = np.mean([first(ranked) <= k for ranked in rounds], axis=0)
        assert shares.mean() == pytest.approx(expected[f"recall_at_{k}"].mean(), abs=0.01)
        assert shares[:3].mean() == pytest.approx(expected[f"recall_at_{k}"][:3].mean(), abs=0.04)
    assert np.mean([ndcg(ranked, 30) for ranked in rounds]) == pytest.approx(expected["ndcg"].mean(), abs=0.005)
    assert chance(np.ones((2, 2), bool))["recall_at_5"].tolist() == [1, 1]


def test_a_gallery_is_the_same_however_it_was_gathered() -> None:
    clip = np.random.default_rng(0).permutation(50)
    whole = Gallery(clip=clip, seen=clip[:, None].astype(np.float32), heard=-clip[:, None].astype(np.float32))
    one = drawn([whole], 20)
    assert one is not None
    assert len(set(one.clip.tolist())) == 20
    pieces = [drawn([Gallery(clip=c, seen=s, heard=h)], 20) for c, s, h in
              zip(*(np.array_split(each, 7) for each in (clip, whole.seen, whole.heard)), strict=True)]  # fmt: skip
    other = drawn([piece for piece in pieces[::-1] if piece is not None], 20)
    assert other is not None
    for name in ("clip", "seen", "heard"):
        assert np.array_equal(getattr(one, name), getattr(other, name))
    assert one.seen[:, 0].tolist() == one.clip.tolist()
    assert drawn([]) is None


@pytest.mark.parametrize("name", ["l3", "ave"])
def test_what_is_scored_is_the_matching_pairs_of_the_split(dataset: Path, name: str) -> None:
    torch.manual_seed(0)
    network, front_end = correspondence_net(SMALLEST, name), FrontEnd(SMALLEST.front_end)  # type: ignore[arg-type]
    with ClipLoader(dataset, "test", batch_size=4) as loader:
        gallery: list[Gallery] = []
        kept = match_predictions(front_end, network, loader, torch.device("cpu"), gallery)
        plain = match_predictions(front_end, network, _again(loader), torch.device("cpu"))
        (of_all,) = gallery
        assert sorted(of_all.clip) == sorted(kept.clip[kept.match == 1])
        assert np.array_equal(kept.probability, plain.probability)  # by whichever way
        # The scores of clips with their own sound are the answers about them.
        answer = dict(zip(plain.clip[plain.match == 1], plain.probability[plain.match == 1], strict=True))
        own = 1 / (1 + np.exp(-np.diagonal(all_scores(network, of_all)).astype(np.float64)))
        assert own == pytest.approx([answer[clip] for clip in of_all.clip], abs=1e-5)
        task = Correspondence(rounds=2)
        found = task.score(Accelerator(), front_end, network, _again(loader))["retrieval"]
        catalogs = loader.catalogs
    scores = all_scores(network, of_all)
    video, speaker = videos(catalogs)[of_all.clip], speakers(catalogs)[of_all.clip]
    assert (found["clips"], found["videos"], found["speakers"]) == (len(video), len(set(video)), len(set(speaker)))
    for way, of_queries in (("audio_to_video", scores.T), ("video_to_audio", scores)):
        each = [
            by_loops(list(map(float, row)), [bool(other == own) for other in video], 30)
            for row, own in zip(of_queries, video, strict=True)
        ]
        for k in RECALL_AT:
            share = sum(place <= k for place, _ in each) / len(each)
            assert found[way][f"recall_at_{k}"] == pytest.approx(share)
            low, high = found[way]["intervals"][f"recall_at_{k}"]
            assert low <= share <= high
        assert found[way]["ndcg"] == pytest.approx(sum(gain for _, gain in each) / len(each))
        assert found[way]["median_rank"] == np.median([place for place, _ in each])


def _again(loader: ClipLoader) -> ClipLoader:
    loader.load_state_dict(loader.state_dict() | {"epoch": 0, "step": 0})
    return loader
