"""What a build counts: sums over its shards and the plan, by split and by reason."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from loaders.exposition import as_text
from sharding.packing.figures import BuildFigures
from sharding.packing.plan import ShardJob
from sharding.packing.shard import ShardResult
from sharding.settings import BuildSettings
from sharding.utterance import Rejection, Utterance
from tests.exposition import Series, parsed

REASONS = st.dictionaries(st.sampled_from(["too_short", 'a "b"\n']), st.integers(1, 9))
RESULTS = st.builds(
    ShardResult,
    split=st.sampled_from(["train", "test"]),
    utterances=st.integers(0, 99),
    clips=st.integers(0, 99),
    bytes=st.integers(0, 1 << 40),
    reasons=REASONS,
    left_out=REASONS,
    seconds=st.dictionaries(st.sampled_from(["decode", "write"]), st.floats(0, 1e6)),
)


@given(st.lists(RESULTS, max_size=6))
def test_figures_are_sums_and_never_decrease(results: list[ShardResult]) -> None:
    figures, before = BuildFigures(), dict[Series, float]()
    figures.begin()
    for result in results:
        figures.add(result)
        now = parsed(as_text(figures.metrics({"corpus": "own"})))
        assert all(now[key] >= value for key, value in before.items() if key[0].endswith("_total"))
        before = now
    for split in {result.split for result in results}:
        of_split = [result for result in results if result.split == split]
        key = (("corpus", "own"), ("split", split))
        assert before["filmstrip_build_clips_total", key] == sum(result.clips for result in of_split)
        assert before["filmstrip_build_bytes_total", key] == sum(result.bytes for result in of_split)
    reasons: Counter[str] = sum((Counter(result.reasons) for result in results), Counter())
    told = {dict(of)["reason"]: value for (name, of), value in before.items() if "rejected" in name}
    assert told == reasons
    assert sum(reasons.values()) == sum(result.rejected for result in results)


def test_what_the_corpus_rejects_counts_before_a_shard_is_built() -> None:
    utterance = Utterance(corpus="own", split="train", speaker="s", video="v", utterance="u", video_path=Path("u.mp4"))
    job = ShardJob(
        output=Path("out"),
        split="train",
        number=0,
        utterances=(utterance,) * 3,
        settings=BuildSettings(),
        labels=(),
        digest="",
    )
    figures = BuildFigures()
    figures.plan([job], [Rejection.of(utterance, "leak", "")])
    found = parsed(as_text(figures.metrics({})))
    assert found["filmstrip_build_planned_utterances", ()] == 3
    assert found["filmstrip_build_rejected_utterances_total", (("reason", "leak"),)] == 1
