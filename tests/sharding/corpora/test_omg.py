"""OMG-Emotion's tables and files, as published, with their flaws. What the files hold does not matter here."""

from collections import Counter
from pathlib import Path

import pytest

from loaders.errors import InputError
from sharding.corpora.leaks import settle_leaks
from sharding.corpora.omg import EMOTIONS, OmgSources, read_omg
from sharding.utterance import Corpus
from tests.pipes import pipe, without_waiting

HEADER = "link,start,end,video,utterance,arousal,valence,EmotionMaxVote"


def row(video: str, number: int, emotion: object = 4, arousal: str = "0.5", valence: str = "-0.25") -> str:
    link = f"https://www.youtube.com/watch?v={video}"
    return f"{link},1.5,9.25,{video},utterance_{number}.mp4,{arousal},{valence},{emotion}"


def write(folder: Path, train: list[str], validation: list[str], *, missing: tuple[str, ...] = ()) -> Path:
    """The two tables, and an empty file for every row but those of the videos that are missing."""
    for name, rows in (("train", train), ("validation", validation)):
        (folder / f"{name}.csv").write_text("\n".join([HEADER, *rows]) + "\n")
        for line in rows:
            video, utterance = line.split(",")[3:5]
            if video and video not in missing:
                (folder / "files" / video).mkdir(parents=True, exist_ok=True)
                (folder / "files" / video / utterance).touch()
    (folder / "files").mkdir(exist_ok=True)
    return folder


def read(folder: Path, openface: Path | None = None, *, follow_links: bool = False) -> Corpus:
    return read_omg(
        OmgSources(
            source=folder / "files",
            train_csv=folder / "train.csv",
            validation_csv=folder / "validation.csv",
            openface=openface,
            follow_links=follow_links,
        )
    )


def test_rows_become_utterances(tmp_path: Path) -> None:
    corpus = read(write(tmp_path, [row("a1", 1, 6), row("a1", 2, 0)], [row("b2", 1, 3, "", "")]))
    one, two, three = corpus.utterances
    assert (one.split, one.speaker, one.video, one.utterance) == ("train", "a1", "a1", "utterance_1")
    assert one.labels == {"emotion": "surprise", "arousal": 0.5, "valence": -0.25}
    assert one.video_path == tmp_path / "files/a1/utterance_1.mp4"
    assert two.labels["emotion"] == "anger"
    assert (three.split, three.labels) == ("validation", {"emotion": "happy"})
    assert [(label.name, label.classes is None) for label in corpus.labels] == [
        ("emotion", False),
        ("arousal", True),
        ("valence", True),
    ]
    assert one.key == "a1+utterance_1"


def test_blank_rows_are_dropped_with_a_note(tmp_path: Path) -> None:
    corpus = read(write(tmp_path, [row("a1", 1), ",,,,,0.1,0.2,", row("a1", 2), ",,,,,0.3,0.4,"], [row("b2", 1)]))
    assert len(corpus.utterances) == 3
    assert corpus.notes == ("train.csv: 2 of 4 rows name no utterance and were dropped",)


def test_missing_files_are_kept_for_the_build_to_reject_and_counted(tmp_path: Path) -> None:
    corpus = read(write(tmp_path, [row("a1", 1), row("gone", 1), row("gone", 2)], [row("b2", 1)], missing=("gone",)))
    assert len(corpus.utterances) == 4
    assert f"2 of 4 utterances have no file below {tmp_path / 'files'}" in corpus.notes


def test_the_published_shape(tmp_path: Path) -> None:
    """2,444 rows, of which two are blank, and 617, with the published counts of emotions."""
    emotions = [e for e, n in enumerate((293, 113, 60, 713, 891, 346, 26)) for _ in range(n)]
    train = [row(f"t{i % 231:03d}", i, emotion) for i, emotion in enumerate(emotions)]
    train[100:100] = train[2000:2000] = [",,,,,0.5,0.5,"]
    emotions = [e for e, n in enumerate((61, 48, 18, 207, 196, 79, 8)) for _ in range(n)]
    validation = [row(f"v{i % 60:02d}", i, emotion) for i, emotion in enumerate(emotions)]
    corpus = read(write(tmp_path, train, validation))
    assert (len(train), len(validation)) == (2444, 617)
    splits = [utterance.split for utterance in corpus.utterances]
    assert (splits.count("train"), splits.count("validation")) == (2442, 617)
    assert len({u.video for u in corpus.utterances}) == 231 + 60
    counts = Counter(u.labels["emotion"] for u in corpus.utterances if u.split == "train")
    assert [counts[name] for name in EMOTIONS] == [293, 113, 60, 713, 891, 346, 26]
    assert settle_leaks(corpus, "refuse") == corpus


def test_a_video_in_both_tables_is_a_leak(tmp_path: Path) -> None:
    corpus = read(write(tmp_path, [row("a1", 1), row("a2", 1)], [row("a1", 2)]))
    with pytest.raises(InputError, match="video 'a1' is in the splits train and validation"):
        settle_leaks(corpus, "refuse")
    settled = settle_leaks(corpus, "reject")
    assert [(r.split, r.video, r.reason) for r in settled.rejected] == [("train", "a1", "leak")]


def test_tables_by_path_and_flat(tmp_path: Path) -> None:
    write(tmp_path, [row("a1", 1), row("a1", 2), row("a1", 3)], [row("b2", 1)])
    (tmp_path / "csv/a1").mkdir(parents=True)
    (tmp_path / "csv/a1/utterance_1.csv").touch()
    (tmp_path / "csv/a1_utterance_2.csv").touch()
    one, two, three, _ = (u.gaze_path for u in read(tmp_path, tmp_path / "csv").utterances)
    assert (one, two, three) == (tmp_path / "csv/a1/utterance_1.csv", tmp_path / "csv/a1_utterance_2.csv", None)


def test_tables_of_another_corpus_are_refused(tmp_path: Path) -> None:
    write(tmp_path, [row("a1", 1)], [row("b2", 1)])
    (tmp_path / "csv").mkdir()
    (tmp_path / "csv/utterance_1.csv").touch()
    told = rf"--openface {tmp_path / 'csv'}: none of 2 .* <video>/<utterance>\.csv or <video>_<utterance>\.csv"
    with pytest.raises(InputError, match=told):
        read(tmp_path, tmp_path / "csv")


def test_a_link_out_of_the_source_is_rejected(tmp_path: Path) -> None:
    write(tmp_path, [row("a1", 1), row("a1", 2)], [row("b2", 1)])
    (tmp_path / "elsewhere.mp4").touch()
    (tmp_path / "files/a1/utterance_2.mp4").unlink()
    (tmp_path / "files/a1/utterance_2.mp4").symlink_to(tmp_path / "elsewhere.mp4")
    corpus = read(tmp_path)
    assert len(corpus.utterances) == 2
    assert [(r.utterance, r.reason) for r in corpus.rejected] == [("utterance_2", "outside_source")]
    assert any("--follow-links" in note for note in corpus.notes)
    followed = read(tmp_path, follow_links=True)
    assert len(followed.utterances) == 3
    assert (followed.rejected, followed.notes) == ((), ())


def test_tables_all_of_whose_files_are_links_out_of_the_source(tmp_path: Path) -> None:
    write(tmp_path, [row("a1", 1)], [row("b2", 1)])
    (tmp_path / "files").rename(tmp_path / "elsewhere")
    (tmp_path / "files").mkdir()
    for video in ("a1", "b2"):
        (tmp_path / "files" / video).symlink_to(tmp_path / "elsewhere" / video)
    with pytest.raises(InputError, match="2 are links that lead out of it: --follow-links"):
        read(tmp_path)
    assert len(read(tmp_path, follow_links=True).utterances) == 2


def test_a_table_of_gaze_that_lies_elsewhere_is_not_used(tmp_path: Path) -> None:
    write(tmp_path, [row("a1", 1)], [row("b2", 1)])
    (tmp_path / "csv").mkdir()
    (tmp_path / "elsewhere.csv").touch()
    (tmp_path / "csv/a1_utterance_1.csv").symlink_to(tmp_path / "elsewhere.csv")
    with pytest.raises(InputError, match=r"none of 2 utterances has a table there.*--follow-links"):
        read(tmp_path, tmp_path / "csv")
    (tmp_path / "csv/b2_utterance_1.csv").touch()
    corpus = read(tmp_path, tmp_path / "csv")
    assert [u.gaze_path for u in corpus.utterances] == [None, tmp_path / "csv/b2_utterance_1.csv"]
    assert any("1 tables were left out as outside_source: --follow-links" in note for note in corpus.notes)
    followed = read(tmp_path, tmp_path / "csv", follow_links=True)
    assert [u.gaze_path for u in followed.utterances] == sorted((tmp_path / "csv").iterdir())


def test_files_that_are_none_are_rejected(tmp_path: Path) -> None:
    write(tmp_path, [row("a1", 1), row("a1", 2), row("a1", 3)], [row("b2", 1)])
    path = pipe(tmp_path / "files/a1/utterance_1.mp4")
    (tmp_path / "files/a1/utterance_2.mp4").unlink()
    (tmp_path / "files/a1/utterance_2.mp4").symlink_to("utterance_2.mp4")
    corpus = without_waiting([path], lambda: read(tmp_path))
    assert [u.utterance for u in corpus.utterances] == ["utterance_3", "utterance_1"]
    assert [(r.utterance, r.reason) for r in corpus.rejected] == [
        ("utterance_1", "not_a_file"),
        ("utterance_2", "link_loop"),
    ]
    table = pipe(tmp_path / "train.csv")
    with pytest.raises(InputError, match=r"train\.csv: cannot be read .*a named pipe"):
        without_waiting([table], lambda: read(tmp_path))


@pytest.mark.parametrize(
    ("table", "told"),
    [
        ("", "column video, utterance, arousal, valence, EmotionMaxVote is missing"),
        ("link,start,end,video,utterance,arousal,valence\n", "column EmotionMaxVote is missing"),
        (HEADER + "\n", "no row names an utterance"),
        (HEADER + "\n" + row("a1", 1, 7), "line 2: EmotionMaxVote is 7"),
        (HEADER + "\n" + row("a1", 1, "happy"), "line 2.*happy"),
        (HEADER + "\n" + row("a1", 1, 4, "high"), "line 2.*high"),
        (HEADER + "\n" + row("..", 1), "no plain file name"),
        (HEADER + "\n" + row("/etc", 1), "no plain file name"),
    ],
)
def test_a_table_that_is_none_is_refused_in_one_line(tmp_path: Path, table: str, told: str) -> None:
    write(tmp_path, [row("a1", 1)], [row("b2", 1)])
    (tmp_path / "train.csv").write_text(table)
    with pytest.raises(InputError, match=told) as raised:
        read(tmp_path)
    assert "\n" not in str(raised.value)
    assert "train.csv" in str(raised.value)


def test_folders_and_tables_that_are_not_there(tmp_path: Path) -> None:
    write(tmp_path, [row("a1", 1)], [row("b2", 1)], missing=("a1", "b2"))
    with pytest.raises(InputError, match="none of the 2 utterances"):
        read(tmp_path)
    with pytest.raises(InputError, match="--openface"):
        read(tmp_path, tmp_path / "nothing")
    (tmp_path / "validation.csv").unlink()
    with pytest.raises(InputError, match=r"validation\.csv: cannot be read"):
        read(tmp_path)


def test_spaces_and_a_byte_order_mark_in_the_header(tmp_path: Path) -> None:
    write(tmp_path, [row("a1", 1)], [row("b2", 1)])
    (tmp_path / "train.csv").write_text("\ufeff" + HEADER.replace(",", " , ") + "\n" + row("a1", 1) + "\n")
    assert len(read(tmp_path).utterances) == 2
