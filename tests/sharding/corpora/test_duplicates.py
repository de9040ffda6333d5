"""Sources that are there twice: found by their ends, settled byte for byte, and nothing else is lost."""

import random
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pytest

from loaders.dataset.catalog import schema
from loaders.errors import InputError
from sharding.corpora.duplicates import Alike, alike, reject_duplicates, sources_of
from sharding.packing.plan import require_distinct
from sharding.sources.fingerprint import fingerprint
from sharding.utterance import BoxesFile, Corpus, Utterance

LARGE = 300_000  # bytes: more than the fingerprint reads


def utterance(path: Path, split: str = "train", **more: object) -> Utterance:
    names = {"corpus": "c", "split": split, "speaker": "s", "video": "v", "utterance": path.stem}
    return Utterance(**names, video_path=path, **more)  # type: ignore[arg-type]


def films(folder: Path, **contents: bytes) -> dict[str, Path]:
    folder.mkdir(exist_ok=True)
    for name, content in contents.items():
        (folder / name).write_bytes(content)
    return {name: folder / name for name in contents}


def settled(utterances: Sequence[Utterance]) -> Corpus:
    read: list[None] = []
    corpus = reject_duplicates(Corpus(name="c", utterances=tuple(utterances)), 2, lambda: read.append(None))
    assert len(read) == len(utterances)
    return corpus


def out(corpus: Corpus) -> list[str]:
    assert {rejection.reason for rejection in corpus.rejected} <= {"duplicate"}
    return [rejection.utterance for rejection in corpus.rejected]


def test_test_keeps_its_copy_and_validation_before_train(tmp_path: Path) -> None:
    made = films(tmp_path, a=b"1", b=b"1", c=b"1", d=b"2", e=b"2", f=b"3")
    splits = ("train", "test", "validation", "train", "validation", "train")
    corpus = settled([utterance(path, split) for path, split in zip(made.values(), splits, strict=True)])
    assert out(corpus) == ["a", "c", "d"]
    assert [u.utterance for u in corpus.utterances] == ["b", "e", "f"]
    assert corpus.rejected[0].detail == "byte for byte the sources of test: s/v/b"


def test_of_one_split_the_first_stays(tmp_path: Path) -> None:
    made = films(tmp_path, a=b"1", b=b"1")
    (tmp_path / "link").symlink_to(made["a"])
    assert out(settled([utterance(made["b"]), utterance(made["a"]), utterance(tmp_path / "link")])) == ["a", "link"]


def test_what_is_only_alike_stays(tmp_path: Path) -> None:
    """The ends and the size are the same, a byte in the middle is not."""
    content = random.Random(0).randbytes(LARGE)
    other = content[: LARGE // 2] + bytes([content[LARGE // 2] ^ 1]) + content[LARGE // 2 + 1 :]
    one, two, three = (utterance(path) for path in films(tmp_path, a=content, b=other, c=content).values())
    assert fingerprint(one) == fingerprint(two)
    assert out(settled([one, two, three])) == ["c"]


@pytest.mark.parametrize("name", ["audio_path", "gaze_path"])
def test_every_file_counts(tmp_path: Path, name: str) -> None:
    made = films(tmp_path, a=b"1", b=b"1", x=b"x", y=b"y", z=b"x")
    one, two = utterance(made["a"], **{name: made["x"]}), utterance(made["b"], **{name: made["y"]})
    assert out(settled([one, two, utterance(made["b"])])) == []
    assert out(settled([one, replace(two, **{name: made["z"]})])) == ["b"]  # type: ignore[arg-type]


def test_the_utterances_of_one_video_are_no_copies(tmp_path: Path) -> None:
    made = films(tmp_path, film=b"1", x=b"0 25", y=b"25 50")
    one = utterance(made["film"], boxes=BoxesFile(path=made["x"]))
    others = [replace(one, utterance="2", boxes=BoxesFile(path=made["y"])),
              replace(one, utterance="3", boxes=BoxesFile(path=made["x"], margin=1.3))]  # fmt: skip
    assert out(settled([one, *others])) == []
    assert out(settled([one, replace(one, utterance="4")])) == ["4"]


def test_what_is_missing_or_empty_is_for_the_build_to_tell(tmp_path: Path) -> None:
    made = films(tmp_path, a=b"", b=b"", c=b"1", d=b"1")
    gone = tmp_path / "gone"
    utterances = [utterance(path) for path in (gone, tmp_path / "gone2", made["a"], made["b"])]
    utterances += [utterance(path, audio_path=gone) for path in (made["c"], made["d"])]
    assert out(settled(utterances)) == []


def test_what_is_listed_twice_is_not_lost_but_refused_by_the_plan(tmp_path: Path) -> None:
    one = utterance(films(tmp_path, a=b"1")["a"])
    corpus = settled([one, replace(one)])
    assert len(corpus.utterances) == 2
    with pytest.raises(InputError, match="the same utterance"):
        require_distinct(corpus.utterances)


def test_nothing_is_lost_and_settling_twice_changes_nothing(tmp_path: Path) -> None:
    draw = random.Random(1)
    contents = {f"u{number:02d}": bytes([draw.randrange(12)]) for number in range(40)}
    paths = films(tmp_path, **contents).values()
    before = [utterance(path, draw.choice(("train", "validation", "test"))) for path in paths]
    after = settled(before)
    assert sorted([*out(after), *(u.utterance for u in after.utterances)]) == sorted(contents)
    assert {contents[u.utterance] for u in after.utterances} == set(contents.values())
    assert len(after.utterances) == len(set(contents.values()))
    assert settled(after.utterances).rejected == ()


# A dataset's catalogs -------------------------------------------------------------------------------------------------


def part(*rows: tuple[str, int | None]) -> pa.Table:
    """A catalog's part: (utterance, fingerprint) a clip."""
    columns = schema([], [])
    filled = {"speaker": "s", "video": "v"}
    return pa.Table.from_pylist(
        [{**filled, "utterance": name, "source_xxh3": known} for name, known in rows], schema=columns
    )


def found(splits: dict[str, list[pa.Table]]) -> Alike:
    return alike([sources_of(table, split) for split, tables in splits.items() for table in tables])


def test_a_dataset_without_copies_or_without_clips() -> None:
    assert found({}) == Alike()
    none = found({"train": [part(("1", 5), ("1", 5), ("2", 6)), part(("3", None), ("4", None))]})
    assert none == Alike()
    assert none.warnings() == []


def test_copies_are_counted_across_splits_and_within_one() -> None:
    splits = {
        "train": [part(("1", 5), ("1", 5), ("2", 5)), part(("3", 2**64 - 1), ("4", 7), ("5", 7))],
        "test": [part(("6", 5), ("6", 5), ("7", 8), ("8", 8))],
        "validation": [part(("9", 2**64 - 1))],
    }
    assert found(splits) == Alike(
        across=3,
        first_across=("train: s/v/1", "test: s/v/6"),
        within=2,
        first_within=("test: s/v/8", "test: s/v/7"),
    )


def test_what_crosses_a_split_is_told_first_and_louder() -> None:
    across, within = found({"train": [part(("1", 5), ("2", 5))], "test": [part(("3", 5), ("4", 5))]}).warnings()
    assert across.startswith("WARNING: 2 utterances")
    assert within.startswith("1 utterances")
    assert all("--on-duplicate reject" in line and "\n" not in line for line in (across, within))
