"""Any corpus by a table: what its columns say, what they may not say, and the files that its cells name."""

import json
import os
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from loaders.dataset.manifest import CATALOG, read_manifest
from loaders.errors import InputError
from sharding.corpora.leaks import settle_leaks
from sharding.corpora.split import hashed_split
from sharding.corpora.table import TableSources, read_table
from sharding.packing.building import build
from sharding.settings import BuildSettings
from sharding.sources.store import Store
from sharding.utterance import Corpus
from sharding.verify import verify
from tests.films import write_film
from tests.pipes import pipe, without_waiting
from tests.s3 import s3_server

Rows = Sequence[Mapping[str, Any]]


def touch(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()


def write(folder: Path, rows: Rows, kind: str = "csv", *, files: bool = True) -> Path:
    """A table, and an empty file for each plain path in it."""
    path = folder / f"list.{kind}"
    folder.mkdir(parents=True, exist_ok=True)
    names = list(dict.fromkeys(name for row in rows for name in row))
    if kind in ("csv", "tsv"):
        mark = "," if kind == "csv" else "\t"
        cells = [["" if row.get(name) is None else str(row[name]) for name in names] for row in rows]
        path.write_text("\n".join(mark.join(line) for line in [names, *cells]) + "\n")
    elif kind == "jsonl":
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    else:
        pq.write_table(pa.Table.from_pylist([{name: row.get(name) for name in names} for row in rows]), path)
    for row in rows:
        if files and row.get("video") and "*" not in row["video"]:
            touch(folder, row["video"])
    return path


def read(table: Path, **options: Any) -> Corpus:
    return read_table(TableSources(table=table, **options))


ROWS: Rows = [
    {"video": "a/1.mp4", "speaker": "ann", "felt": "sad", "level": 0.5, "split": "train"},
    {"video": "a/2.mp4", "speaker": "ann", "felt": None, "level": 1.0, "split": "train"},
    {"video": "b/1.mp4", "speaker": "bob", "felt": "glad", "level": None, "split": "dev"},
    {"video": None, "speaker": "bob", "felt": "glad", "level": 0.1, "split": "dev"},
]


@pytest.mark.parametrize("kind", ["csv", "tsv", "jsonl", "parquet"])
def test_every_kind_of_table_says_the_same(tmp_path: Path, kind: str) -> None:
    corpus = read(write(tmp_path, ROWS, kind), labels=("felt",), numbers=("level",))
    assert (corpus.name, corpus.apart) == ("list", "speaker")
    assert [(*u.name, u.split, dict(u.labels)) for u in corpus.utterances] == [
        ("ann", "a/1", "1", "train", {"felt": "sad", "level": 0.5}),
        ("ann", "a/2", "2", "train", {"level": 1.0}),
        ("bob", "b/1", "1", "dev", {"felt": "glad"}),
    ]
    assert corpus.utterances[0].video_path == tmp_path / "a/1.mp4"
    assert [(label.name, label.classes, label.low, label.high) for label in corpus.labels] == [
        ("felt", ("glad", "sad"), None, None),
        ("level", None, 0.5, 1.0),
    ]
    assert f"list.{kind}: 1 rows name no video and were dropped" in corpus.notes
    assert f"list.{kind}: 1 of 3 state no felt" in corpus.notes
    assert corpus.absent == frozenset()


@pytest.mark.parametrize("mark", [",", ";", "\t"])
@pytest.mark.parametrize("said", [True, False])
@pytest.mark.parametrize("bom", ["\ufeff", ""])
def test_a_csv_is_read_by_what_parts_its_columns(tmp_path: Path, mark: str, said: bool, bom: str) -> None:
    touch(tmp_path, "1.mp4", "2.mp4")
    lines = [["video", "felt", "level", "said"], ["1.mp4", "sad", "0.5", '"one\ntwo"'], ["2.mp4", "a b", "-1", ""]]
    text = "".join(mark.join(line) + "\r\n" for line in lines)
    (tmp_path / "list.csv").write_text(bom + (f"sep={mark}\r\n" if said else "") + text, newline="")
    corpus = read(tmp_path / "list.csv", labels=("felt",), numbers=("level",))
    assert [dict(u.labels) for u in corpus.utterances] == [{"felt": "sad", "level": 0.5}, {"felt": "a b", "level": -1}]


@pytest.mark.parametrize("said", ["0,71", "-,5", "1.234,5", "1,234"])
def test_a_decimal_comma_is_refused_with_the_mend(tmp_path: Path, said: str) -> None:
    (tmp_path / "list.csv").write_text(f"video;level\n1.mp4;{said}\n")
    with pytest.raises(InputError, match=rf"level is '{said}', which is no number: decimals stand after a point"):
        read(tmp_path / "list.csv", numbers=("level",))


def test_what_a_table_says_of_labels_is_told_unless_options_say_it(tmp_path: Path) -> None:
    felt = ("Happy", "happy", "N/A", "sad")
    rows = [{"video": f"{n}.mp4", "felt": word, "level": n / 10} for n, word in enumerate(felt)]
    notes = read(write(tmp_path, rows), labels=("felt",), numbers=("level",)).notes
    for told in (
        "list.csv: felt has 4 classes: 'Happy', 'N/A', 'happy', 'sad' (or --classes)",
        "list.csv: 'Happy' and 'happy' are classes of their own: write them alike where they are one felt",
        "list.csv: level is from 0 to 0.3 (or --ranges)",
    ):
        assert told in notes
    options = {"classes": ("felt=sad,Happy,happy,N/A",), "ranges": ("level=-1,1",)}
    notes = read(write(tmp_path, rows), labels=("felt",), numbers=("level",), **options).notes
    assert not any("felt" in note or "level" in note for note in notes)


def test_a_column_without_a_name_that_is_not_used_is_seen(tmp_path: Path) -> None:
    touch(tmp_path, "1.mp4")
    (tmp_path / "list.csv").write_text(",video\n0,1.mp4\n")
    assert any("columns not used: '' (" in note for note in read(tmp_path / "list.csv").notes)


def test_files_that_are_there_by_nearly_the_same_name_are_named(tmp_path: Path) -> None:
    touch(tmp_path, "films/1.mp4")
    for name, told in (
        (r"films\1.mp4", r"films\\1\.mp4: its table says \\ for /: write /"),
        ("films/1", r"films/1: .*films/1\.mp4 is: give names with their suffix"),
        ("films/2", "films/2: --root names what paths are relative to"),
    ):
        with pytest.raises(InputError, match=told):
            read(write(tmp_path, [{"video": name}], files=False))


def test_columns_of_other_names_and_columns_that_are_passed_by(tmp_path: Path) -> None:
    rows = [{"path": "x.mp4", "spk": "s", "Felt Most": 3, "start": "yesterday", "more": 1}]
    touch(tmp_path, "x.mp4")
    columns = ("video=path", "speaker=spk", "felt=Felt Most", "start=")
    corpus = read(write(tmp_path, rows), columns=columns, labels=("felt",), classes=("felt=1,2,3",), name="mine")
    (one,) = corpus.utterances
    assert (corpus.name, one.corpus, one.speaker, one.start, dict(one.labels)) == (
        "mine",
        "mine",
        "s",
        None,
        {"felt": "3"},
    )
    assert corpus.labels[0].classes == ("1", "2", "3")
    assert any("columns not used: start, more" in note for note in corpus.notes)


@pytest.mark.parametrize(
    ("row", "options", "told"),
    [
        (
            {"felt": "cross"},
            {"classes": ("felt=sad,glad",)},
            r"list\.csv, line 3: felt is 'cross': use one of sad, glad",
        ),
        ({"level": "much"}, {}, r"list\.csv, line 3: level is 'much', which is no number: mend it, or leave it empty"),
        ({"start": "1:02"}, {}, r"line 3: start is '1:02', which is no number: give seconds, such as 62\.5"),
        ({"level": "inf"}, {}, r"line 3: level is 'inf', which is no number"),
        ({"level": "1e300"}, {}, r"line 3: level is '1e300', which is no number"),
        ({"level": 2}, {"ranges": ("level=-1,1",)}, r"line 3: level is 2: use -1 to 1, or leave it empty"),
        ({"start": -1}, {}, r"line 3: start is -1: use seconds from 0 on"),
        ({"start": 2, "end": 1.5}, {}, r"line 3: end is 1\.5: use seconds after the start, 2"),
        ({"split": "../x"}, {}, r"line 3: split is '\.\./x': use a word"),
        ({"split": None}, {}, r"line 3: split is empty: use a word"),
        ({"video": "a/[z-a]*.mp4"}, {}, r"line 3: 'a/\[z-a\]\*\.mp4' is no pattern of paths"),
        ({"video": "a/1.mp4"}, {}, r"line 3: is the utterance s/a/1/1 of line 2 too: a column video_id or utterance"),
    ],
)
def test_what_cannot_be_is_an_error_that_names_the_place(
    tmp_path: Path, row: dict[str, Any], options: dict[str, Any], told: str
) -> None:
    usual = {
        "video": "a/1.mp4",
        "speaker": "s",
        "split": "train",
        "felt": "sad",
        "level": 0,
        "start": None,
        "end": None,
    }
    table = write(tmp_path, [usual, {**usual, "video": "a/2.mp4", **row}])
    with pytest.raises(InputError, match=told):
        read(table, labels=("felt",), numbers=("level",), **options)


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (
            {"labels": ("mood",)},
            "no column 'mood' for mood: it has felt, level, speaker, split, video: --columns mood=…",
        ),
        ({"labels": ("speaker",)}, "'speaker', which cannot be a column beside"),
        ({"columns": ("speaker=who",)}, "no column 'who' for speaker"),
        ({"columns": ("nobody=felt",)}, "--columns nobody=felt: use NAME=…, with one of these names: video, "),
        ({"columns": ("speaker",)}, "--columns speaker: use NAME="),
        ({"labels": ("felt",), "columns": ("felt=",)}, "--columns felt=: passes by the column of the label felt"),
        ({"classes": ("felt=a",)}, "--classes felt=a: use NAME=…, with one of these names: none is given"),
        ({"labels": ("felt",), "classes": ("felt=sad,glad,sad",)}, "'felt' of the classes 'sad', 'glad', 'sad'"),
        ({"numbers": ("level",), "ranges": ("level=1",)}, "--ranges level=1: use LOW,HIGH"),
        ({"numbers": ("level",), "labels": ("level",)}, "'level', which cannot be a column beside"),
        ({"test_fraction": 0.5}, "--test-fraction 0.5: the column 'split' says the split"),
        ({"columns": ("split=",), "test_fraction": 0.5, "validation_fraction": 0.5}, "leave nothing for train"),
        ({"columns": ("speaker=",), "split_by": "speaker"}, "--split-by speaker: no column names speakers"),
        ({"columns": ("video=",)}, "no column 'video'"),
        ({"root": Path("nowhere")}, "--root nowhere: no such folder"),
    ],
)
def test_options_that_are_none_are_refused(tmp_path: Path, options: dict[str, Any], told: str) -> None:
    with pytest.raises(InputError, match=told):
        read(write(tmp_path, ROWS), **options)


@pytest.mark.parametrize(
    ("name", "content", "told"),
    [
        ("list.xlsx", b"", "of this suffix is not read: give .csv"),
        ("list.csv", b"", "no column 'video', but none"),
        ("list.csv", b"video\n", "no row names a video: fill the column 'video'"),
        ("list.csv", b"video,video\na,b\n", "two columns are called 'video'"),
        ("list.csv", b"video\na,b\n", "line 2: 2 cells in 1 columns: mend the row"),
        ("list.csv", b'video\n"a\nb\nc\n', "line 2: its quotation mark is never closed: mend the row"),
        ("list.csv", b'video,speaker\n"a\nb",c\n"d\ne",f,g\n', "line 4: 3 cells in 2 columns: mend the row"),
        ("list.csv", b"video\n\xff\n", "cannot be read as a table: 'utf-8' codec .*: save it as UTF-8"),
        ("list.jsonl", b'{"video": "a"}\n{\n', "line 2: no JSON"),
        ("list.jsonl", b"[1]\n", "line 1: no object"),
        ("list.jsonl", b'{"video": ["a"]}\n', r"line 1: video is \['a'\], neither text nor a number"),
        ("list.jsonl", rb'{"video": "a\u0000"}', "line 1: video is .*, with a zero byte"),
        ("list.jsonl", rb'{"video": "\ud800.mp4"}', "line 1: video is .*, which is no Unicode text"),
        ("list.jsonl", rb'{"video": "a", "speaker": "\udcff"}', "line 1: speaker is .*, which is no Unicode text"),
        ("list.parquet", b"no table", "cannot be read as a table"),
    ],
)
def test_what_is_no_table_is_refused_by_name(tmp_path: Path, name: str, content: bytes, told: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError, match=told) as raised:
        read(tmp_path / name)
    assert name in str(raised.value)
    with pytest.raises(InputError, match="No such file"):
        read(tmp_path / "gone.csv")


@pytest.mark.parametrize("word", ["nan", "NaN", "null", "NULL", "None", "none", "<NA>"])
def test_what_programs_write_for_an_empty_cell_is_nobodys_name(tmp_path: Path, word: str) -> None:
    rows: list[dict[str, object]] = [
        {"video": "a/1.mp4", "speaker": "ann", "video_id": "v1", "start": 1, "split": "train"},
        {"video": "a/2.mp4", "speaker": word, "video_id": word, "start": word, "split": "train"},
        {"video": "a/3.mp4", "speaker": f" {word} ", "video_id": "v3", "start": None, "split": "train"},
        {"video": word, "speaker": "ann", "video_id": "v4", "start": None, "split": "train"},
    ]
    corpus = read(write(tmp_path, rows))
    assert [(u.speaker, u.video, u.start) for u in corpus.utterances] == [
        ("ann", "v1", 1.0),
        ("a/2", "a/2", None),
        ("v3", "v3", None),
    ]
    said = f"list.csv: 2 of 3 name no speaker (2 say {word!r}): each video there has a speaker of its own"
    assert said in corpus.notes
    assert f"list.csv: video_id: 1 say {word!r}: taken for empty cells" in corpus.notes
    assert f"list.csv: start: 1 say {word!r}: taken for empty cells" in corpus.notes
    assert "list.csv: 1 rows name no video and were dropped" in corpus.notes
    rows[1]["split"] = word
    with pytest.raises(InputError, match=rf"line 3: split is {word!r}: use a word"):
        read(write(tmp_path, rows))


def test_a_video_of_nobody_that_is_called_as_a_speaker_is_named(tmp_path: Path) -> None:
    rows: list[dict[str, object]] = [{"video": f"{n}.mp4", "speaker": who} for n, who in enumerate(("1", "None", "2"))]
    (said,) = (note for note in read(write(tmp_path, rows)).notes if "called as a speaker" in note)
    assert "1 of these videos are called as a speaker is, the first '1'" in said
    rows[1]["video_id"] = "one"
    assert not any("called as a speaker" in note for note in read(write(tmp_path, rows)).notes)


def test_none_is_a_class_as_any_other(tmp_path: Path) -> None:
    rows = [{"video": f"{n}.mp4", "smile": smile, "level": "None"} for n, smile in enumerate(("none", "broad", "nan"))]
    rows.append({"video": "3.mp4", "smile": "none", "level": "2"})
    corpus = read(write(tmp_path, rows), labels=("smile",), numbers=("level",))
    assert [u.labels.get("smile") for u in corpus.utterances] == ["none", "broad", None, "none"]
    assert [u.labels.get("level") for u in corpus.utterances] == [None, None, None, 2.0]
    assert "list.csv: 3 of 4 state no level" in corpus.notes


def test_empty_cells_null_and_nan_state_nothing(tmp_path: Path) -> None:
    for number, empty in enumerate(("", "nan", "NaN", "null", " ")):
        rows = [
            {"video": "1.mp4", "felt": empty, "level": empty, "speaker": empty},
            {"video": "2.mp4", "felt": "x", "level": 1},
        ]
        corpus = read(write(tmp_path / str(number), rows), labels=("felt",), numbers=("level",))
        assert [dict(u.labels) for u in corpus.utterances] == [{}, {"felt": "x", "level": 1.0}]
    rows = [{"video": "1.mp4", "felt": None, "level": float("nan")}, {"video": "2.mp4", "felt": "x", "level": 1.0}]
    corpus = read(write(tmp_path, rows, "parquet"), labels=("felt",), numbers=("level",))
    assert [dict(u.labels) for u in corpus.utterances] == [{}, {"felt": "x", "level": 1.0}]


def test_whole_numbers_are_classes_in_their_order_whatever_pandas_made_of_them(tmp_path: Path) -> None:
    rows = [{"video": f"{n}.mp4", "felt": felt} for n, felt in enumerate((10.0, 9.0, None, -1.0))]
    corpus = read(write(tmp_path, rows, "parquet"), labels=("felt",))
    assert corpus.labels[0].classes == ("-1", "9", "10")


def test_without_speakers_every_video_is_its_own_and_the_split_is_by_video(tmp_path: Path) -> None:
    corpus = read(
        write(tmp_path, [{"video": f"{n}.mp4"} for n in range(40)]), test_fraction=0.3, validation_fraction=0.3
    )
    assert corpus.apart == "video"
    assert all(u.speaker == u.video for u in corpus.utterances)
    assert set(Counter(u.split for u in corpus.utterances)) == {"train", "validation", "test"}
    assert all(u.split == hashed_split(u.video, 0.3, 0.3) for u in corpus.utterances)
    assert settle_leaks(corpus, "refuse") == corpus
    assert "list.csv: 40 of 40 name no speaker: each video there has a speaker of its own" in corpus.notes


@settings(max_examples=50)
@given(st.text(max_size=20), st.floats(0, 0.5), st.floats(0, 0.5))
def test_more_validation_takes_nothing_from_test(identity: str, test: float, validation: float) -> None:
    sides = hashed_split(identity, test), hashed_split(identity, test, validation)
    assert sides in {("test", "test"), ("train", "train"), ("train", "validation")}


def test_a_split_column_that_shares_speakers_is_a_leak_unless_the_promise_is_another(tmp_path: Path) -> None:
    rows = [{"video": f"{n}.mp4", "speaker": "s", "split": ("train", "test")[n % 2]} for n in range(4)]
    with pytest.raises(InputError, match="speaker 's' is in the splits"):
        settle_leaks(read(write(tmp_path, rows)), "refuse")
    assert len(settle_leaks(read(write(tmp_path, rows), split_by="video"), "refuse").utterances) == 4


def test_parts_of_one_film_are_utterances_of_their_own(tmp_path: Path) -> None:
    rows = [{"video": "long.mp4", "start": start, "end": end} for start, end in ((None, 2), (2, 4.5), (4.5, None))]
    corpus = read(write(tmp_path, rows))
    assert [(u.utterance, u.start, u.end) for u in corpus.utterances] == [
        ("long@0", None, 2.0),
        ("long@2", 2.0, 4.5),
        ("long@4.5", 4.5, None),
    ]
    assert {u.video for u in corpus.utterances} == {"long"}
    rows = [{"video": "long.mp4", "start": start} for start in (5000.001, 5000.002)]
    assert [u.utterance for u in read(write(tmp_path, rows)).utterances] == ["long@5000.001", "long@5000.002"]


def test_a_file_whose_name_is_no_unicode_is_named_as_python_writes_it(tmp_path: Path) -> None:
    video = tmp_path / os.fsdecode(b"\xff.mp4")
    video.touch()
    (tmp_path / "list.jsonl").write_text(json.dumps({"video": video.name}))
    (one,) = read(tmp_path / "list.jsonl").utterances
    assert (one.video_path, one.video) == (video, r"\xff")


def test_a_pattern_is_every_video_that_it_matches(tmp_path: Path) -> None:
    touch(tmp_path, "a/1.mp4", "a/b/2.webm", "a/b/3.mp4", "a/.hidden/4.mp4", "a/@eaDir/5.mp4", "a/notes.txt", "c/6.mp4")
    touch(tmp_path, "a/[x].mp4")
    for pattern, names in (
        ("a/*.mp4", ["a/1", "a/[x]"]),
        ("a/**/*.mp4", ["a/1", "a/[x]", "a/b/3"]),
        ("**", ["a/1", "a/[x]", "a/b/2", "a/b/3", "c/6"]),
        ("a/b/[23].*", ["a/b/2", "a/b/3"]),
        ("a/b/[!2].*", ["a/b/3"]),
        ("[ac]/?.mp4", ["a/1", "c/6"]),
        ("a/[x].mp4", ["a/[x]"]),  # there is such a file
    ):
        corpus = read(write(tmp_path, [{"video": pattern, "felt": "sad"}], files=False), labels=("felt",))
        assert sorted(u.video for u in corpus.utterances) == names, pattern
        assert all(dict(u.labels) == {"felt": "sad"} for u in corpus.utterances)
    table = write(tmp_path, [{"video": "a/1.mp4"}, {"video": "z/*.mp4"}], files=False)
    assert read(table).absent == {tmp_path / "z/*.mp4"}
    with pytest.raises(InputError, match=r"line 2: audio and gaze are one file's"):
        read(write(tmp_path, [{"video": "a/*.mp4", "audio": "a.wav"}], files=False))


def test_missing_files_are_kept_and_counted_and_all_missing_is_an_error(tmp_path: Path) -> None:
    table = write(tmp_path, [{"video": "1.mp4", "audio": "1.wav", "gaze": "1.csv"}, {"video": "2.mp4"}])
    (tmp_path / "2.mp4").unlink()
    corpus = read(table)
    assert corpus.absent == {tmp_path / name for name in ("2.mp4", "1.wav", "1.csv")}
    for kind in ("video", "audio", "gaze"):
        assert f"list.csv: of 2 utterances 1 have no file where {kind} says" in corpus.notes
    (tmp_path / "1.mp4").unlink()
    with pytest.raises(InputError, match=r"none of its 2 videos can be used, the first is not there, .*1\.mp4: --root"):
        read(table)


def test_links_that_lead_out_and_what_is_no_file_are_rejected(tmp_path: Path) -> None:
    touch(tmp_path, "elsewhere/1.mp4", "elsewhere/1.csv", "root/4.mp4", "other/5.mp4")
    root = tmp_path / "root"
    rows: Rows = [
        {"video": "1.mp4"},
        {"video": "2.mp4"},
        {"video": "4.mp4", "gaze": "1.csv"},
        {"video": str(tmp_path / "other/5.mp4")},
        {"video": "../other/6.mp4"},
        {"video": "links/*.mp4"},
    ]
    table = write(root, rows, files=False)
    (root / "1.mp4").symlink_to(tmp_path / "elsewhere/1.mp4")
    (root / "1.csv").symlink_to(tmp_path / "elsewhere/1.csv")
    (root / "links").mkdir()
    (root / "links/7.mp4").symlink_to(tmp_path / "elsewhere/1.mp4")
    (tmp_path / "other/6.mp4").symlink_to(tmp_path / "elsewhere/1.mp4")
    corpus = without_waiting([pipe(root / "2.mp4")], lambda: read(table))
    assert [u.video_path.name for u in corpus.utterances] == ["4.mp4", "5.mp4"]
    assert corpus.utterances[0].gaze_path is None
    assert sorted((r.reason, Path(r.path).name) for r in corpus.rejected) == [
        ("not_a_file", "2.mp4"),
        ("outside_source", "1.mp4"),
        ("outside_source", "6.mp4"),
        ("outside_source", "7.mp4"),
    ]
    assert any("3 left out as outside_source: --follow-links" in note for note in corpus.notes)
    assert any("1 tables of gaze were left out as outside_source" in note for note in corpus.notes)
    followed = read(table, follow_links=True)
    assert [u.video_path.name for u in followed.utterances] == ["1.mp4", "4.mp4", "5.mp4", "6.mp4", "7.mp4"]


def test_a_table_and_its_films_at_a_url(tmp_path: Path) -> None:
    write_film(tmp_path / "films/1.mp4", 1.2, fps=5)
    write_film(tmp_path / "films/b/2.mp4", 1.2, fps=5)
    rows = [
        {"video": "films/1.mp4", "felt": "sad"},
        {"video": "films/b/*.mp4", "felt": "glad"},
        {"video": "films/no.mp4"},
    ]
    table = write(tmp_path, rows, files=False)
    with s3_server() as s3:
        assert s3
        for path in (table, tmp_path / "films/1.mp4", tmp_path / "films/b/2.mp4"):
            Store(url="s3://bucket/set").put(path, path.relative_to(tmp_path).as_posix())
        corpora = {
            "here": read(table, labels=("felt",), test_fraction=0.0),
            "there": read(Path("s3://bucket/set/list.csv"), labels=("felt",), test_fraction=0.0),
            "films there": read(table, root=Path("s3://bucket/set"), labels=("felt",), test_fraction=0.0),
        }
        assert corpora["there"].absent == {Path("s3://bucket/set/films/no.mp4")}
        shards = set()
        for name, corpus in corpora.items():
            build(corpus, tmp_path / name, BuildSettings(clip_seconds=1, fps=2, size=16), 1)
            manifest = read_manifest(tmp_path / name)
            assert manifest.rejected == {"missing": 1}
            shards.add((manifest.splits["train"].shards[0].sha256, manifest.splits["train"].catalog_sha256))
        assert len(shards) == 1


def test_a_table_becomes_a_dataset_that_verify_finds_whole(tmp_path: Path) -> None:
    """Numbers that no float32 is at the ends of their range."""
    film = write_film(tmp_path / "film.mp4", 1.2, fps=5).read_bytes()
    rows: list[dict[str, Any]] = []
    for number in range(6):
        (tmp_path / f"{number}.mp4").write_bytes(film + bytes(number))
        rows.append(
            {
                "video": f"{number}.mp4",
                "speaker": f"s{number}",
                "split": "train",
                "felt": "abc"[number % 3],
                "level": 0.1 * (number + 1),
            }
        )
    rows[0]["felt"] = rows[5]["level"] = None
    table = write(tmp_path, rows, files=False)
    corpus = read(table, labels=("felt",), numbers=("level",))
    small = BuildSettings(clip_seconds=1, fps=2, size=16)
    build(corpus, tmp_path / "out", small, 1)
    assert verify(tmp_path / "out").is_whole
    assert build(corpus, tmp_path / "out", small, 1).made is None
    catalog = pq.read_table(tmp_path / "out/train" / CATALOG)
    found = {row["speaker"]: (row["felt"], row["level"]) for row in catalog.to_pylist()}
    assert found["s0"] == (None, pytest.approx(0.1))
    assert found["s5"] == ("c", None)
