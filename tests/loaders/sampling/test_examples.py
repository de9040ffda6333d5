"""An example is a function of (seed, epoch, position), and a substitute is one of the same answer."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from loaders.dataset.catalog import Catalog, open_catalog
from loaders.errors import InputError
from loaders.sampling.examples import Examples, Sampler
from loaders.sampling.mixture import DatasetSize, MixedOrder
from loaders.sampling.negatives import KINDS
from tests.datasets import Contents, make_dataset

FRAMES = 16
FIELDS = ("clip", "audio_clip", "match", "frames", "seed")


@pytest.fixture(scope="module")
def catalog(dataset: Path) -> Catalog:
    return open_catalog(dataset, "train", [])


def sampler(catalog: Catalog, **changes: Any) -> Sampler:
    negatives: Mapping[str, float] = {"other_video": 3.0, "shifted": 1.0}
    return Sampler(catalog, **{"seed": 5, "training": True, "frames": 11, "negatives": negatives, **changes})


def columns(examples: Examples) -> list[list[Any]]:
    return [getattr(examples, name).tolist() for name in FIELDS]


def positions_of(catalog: Catalog) -> NDArray[np.int64]:
    return np.arange(len(catalog))


@given(st.data())
@settings(max_examples=50)
def test_an_example_does_not_depend_on_what_it_is_drawn_with(catalog: Catalog, data: st.DataObject) -> None:
    epoch, attempt = data.draw(st.integers(0, 1000)), data.draw(st.integers(0, 3))
    some = np.array(data.draw(st.lists(st.integers(0, len(catalog) - 1), max_size=20)), np.int64)
    whole = sampler(catalog).examples(epoch, positions_of(catalog), attempt)
    again = sampler(catalog).examples(epoch, some, attempt)
    assert columns(again) == [[column[position] for position in some] for column in columns(whole)]


@pytest.mark.parametrize("changes", [{"seed": 6}, {"epoch": 4}])
def test_every_draw_changes_with_seed_and_epoch(catalog: Catalog, changes: dict[str, int]) -> None:
    seed, epoch = changes.get("seed", 5), changes.get("epoch", 3)
    one = sampler(catalog).examples(3, positions_of(catalog))
    other = sampler(catalog, seed=seed).examples(epoch, positions_of(catalog))
    for name, column, changed in zip(FIELDS, columns(one), columns(other), strict=True):
        assert column != changed, name


def test_an_epoch_holds_every_clip_once_and_matches_half(catalog: Catalog) -> None:
    examples = sampler(catalog).examples(3, positions_of(catalog))
    assert sorted(examples.clip.tolist()) == list(range(len(catalog)))
    assert examples.match.sum() == len(catalog) // 2
    assert (examples.clip == examples.audio_clip).tolist() == examples.match.tolist()


@pytest.mark.parametrize("window", [None, 1])
@pytest.mark.parametrize("kind", KINDS)
def test_a_negative_is_what_its_kind_says_where_speakers_share_names_of_videos(
    namesakes: Path, kind: str, window: int | None
) -> None:
    catalog = open_catalog(namesakes, "train", [])
    size = DatasetSize(catalog.shard_clips)
    order = MixedOrder([size], seed=5, shuffle=True, global_batch=1, window=window)
    drawing = sampler(catalog, negatives={kind: 1.0, "other_video": 1e-9}, order=order)
    named = catalog.table(["speaker", "video", "utterance", "start"]).to_pylist()
    seen = set()
    for epoch in range(20):
        examples = drawing.examples(epoch, positions_of(catalog))
        for row, audio_row in zip(examples.clip[~examples.match], examples.audio_clip[~examples.match], strict=True):
            clip, audio = named[row], named[audio_row]
            of_speaker, of_name = clip["speaker"] == audio["speaker"], clip["video"] == audio["video"]
            seen.add((of_speaker, of_name))
            if of_speaker and of_name:
                assert kind == "shifted"
                assert clip["utterance"] != audio["utterance"] or clip["start"] != audio["start"]
    expected = {
        "other_video": {(False, False), (False, True), (True, False)},  # another's video of the same name is another
        "other_speaker": {(False, False), (False, True)},
        "same_speaker": {(True, False)},
        "shifted": {(True, True)},
    }[kind]
    assert expected <= seen


def test_without_negatives_every_clip_has_its_own_audio(catalog: Catalog) -> None:
    examples = sampler(catalog, negatives=None).examples(0, positions_of(catalog))
    assert examples.match.all()
    assert examples.match.dtype == np.bool_
    assert examples.audio_clip.tolist() == examples.clip.tolist()


@pytest.mark.parametrize("frames", [1, 5, FRAMES - 1, FRAMES])
def test_windows_begin_anywhere_in_training_and_in_the_middle_otherwise(catalog: Catalog, frames: int) -> None:
    drawn = [sampler(catalog, frames=frames).examples(epoch, positions_of(catalog)).frames[:, 0] for epoch in range(20)]
    counts = np.bincount(np.concatenate(drawn))
    assert len(counts) == FRAMES - frames + 1
    assert counts.min() > 0.5 * counts.mean()
    fixed = sampler(catalog, frames=frames, training=False).examples(7, positions_of(catalog))
    assert set(fixed.frames[:, 0].tolist()) == {(FRAMES - frames) // 2}


def test_evaluation_is_in_catalog_order_and_the_same_in_every_epoch(catalog: Catalog) -> None:
    fixed = sampler(catalog, training=False, negatives=None)
    assert fixed.examples(0, positions_of(catalog)).clip.tolist() == list(range(len(catalog)))
    assert fixed.examples(9, positions_of(catalog)).clip.tolist() == list(range(len(catalog)))


@pytest.mark.parametrize("training", [True, False])
def test_a_substitute_has_the_same_answer_window_and_seed_and_another_clip(catalog: Catalog, training: bool) -> None:
    source = sampler(catalog, training=training)
    first, *substitutes = [source.examples(2, positions_of(catalog), attempt) for attempt in range(4)]
    for substitute in substitutes:
        for name in ("match", "frames", "seed"):
            assert getattr(substitute, name).tolist() == getattr(first, name).tolist()
        same_clip, audio = substitute.clip == substitute.audio_clip, substitute.audio_clip
        assert same_clip.tolist() == substitute.match.tolist()
        assert (audio < len(catalog)).all()
    drawn = {tuple(examples.clip.tolist()) for examples in (first, *substitutes)}
    assert len(drawn) == 4


def test_replacing_one_example_leaves_the_others(catalog: Catalog) -> None:
    source = sampler(catalog)
    examples = source.examples(0, np.arange(8))
    before = columns(examples)
    replaced = examples.replaced(3, source.examples(0, np.array([3]), attempt=1))
    assert columns(examples) == before
    for new, old, substitute in zip(
        columns(replaced), before, columns(source.examples(0, np.arange(8), attempt=1)), strict=True
    ):
        assert new == [*old[:3], substitute[3], *old[4:]]


def test_augmentation_seeds_do_not_repeat(catalog: Catalog) -> None:
    seeds = np.concatenate([sampler(catalog).examples(epoch, positions_of(catalog)).seed for epoch in range(50)])
    assert seeds.dtype == np.int64
    assert len(np.unique(seeds)) == len(seeds)


def test_a_kind_that_no_clip_offers_is_refused_and_one_that_few_offer_is_counted(
    catalog: Catalog, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    contents = Contents(speakers={"train": 9}, shards={"train": 1}, videos=1, utterances=1, clips=1)
    make_dataset(tmp_path / "one-clip-a-speaker", contents)
    lonely = open_catalog(tmp_path / "one-clip-a-speaker", "train", [])
    mixed = {"other_video": 0.5, "same_speaker": 0.5}
    for negatives in (mixed, {0: {"other_video": 1.0}, 3: mixed}):
        with pytest.raises(InputError, match="none of 9 clips has a candidate of kind same_speaker"):
            sampler(lonely, negatives=negatives)
    # Of two datasets one may offer it: then it is said how many clips take the others.
    order = MixedOrder(
        [DatasetSize(each.shard_clips) for each in (catalog, lonely)], seed=5, shuffle=True, global_batch=1
    )
    Sampler([catalog, lonely], seed=5, training=True, frames=11, negatives=mixed, order=order)
    assert f"9 of {len(catalog) + 9} clips have no candidate of kind same_speaker" in caplog.text
