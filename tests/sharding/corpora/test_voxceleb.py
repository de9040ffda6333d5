"""VoxCeleb's trees, as published and as people keep them. What the files hold does not matter here: they are empty."""

import os
from pathlib import Path
from typing import Any

import pytest

from loaders.errors import InputError
from sharding.corpora.leaks import settle_leaks
from sharding.corpora.split import hashed_split
from sharding.corpora.voxceleb import VoxcelebSources, read_voxceleb
from sharding.utterance import Corpus, Utterance
from tests.pipes import pipe, without_waiting


def tree(root: Path, *names: str) -> Path:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()
    return root


def names(corpus: Corpus) -> list[tuple[str, str, str]]:
    return [(u.speaker, u.video, u.utterance) for u in corpus.utterances]


def only(corpus: Corpus) -> Utterance:
    (utterance,) = corpus.utterances
    return utterance


def test_voxceleb2_as_published_with_its_other_files_beside(tmp_path: Path) -> None:
    source = tree(
        tmp_path / "vox2",
        *("dev/mp4/id00012/21Uxsk56VDQ/00001.mp4", "dev/mp4/id00012/21Uxsk56VDQ/00002.mp4"),
        *("dev/aac/id00012/21Uxsk56VDQ/00001.m4a", "dev/txt/id00012/21Uxsk56VDQ/00001.txt"),
        *("test/mp4/id00017/01dfn2spqyE/00001.mp4", "vox2_meta.csv", "readme.mp4"),
    )
    corpus = read_voxceleb(VoxcelebSources(source=source))
    assert names(corpus) == [
        ("id00012", "21Uxsk56VDQ", "00001"),
        ("id00012", "21Uxsk56VDQ", "00002"),
        ("id00017", "01dfn2spqyE", "00001"),
    ]
    assert all(u.audio_path is None and u.gaze_path is None for u in corpus.utterances)
    assert corpus.rejected == ()
    assert any("1 video files lie less than two folders" in note for note in corpus.notes)


def splits(corpus: Corpus) -> dict[str, str]:
    return {u.speaker: u.split for u in corpus.utterances}


@pytest.mark.parametrize(
    ("dev", "test"), [("dev/mp4", "test/mp4"), ("vox2_dev_mp4/dev/mp4", "vox2_test_mp4/mp4"), ("dev", "Test/test_data")]
)
def test_the_published_split_is_that_of_the_folders_where_it_is_asked_for(tmp_path: Path, dev: str, test: str) -> None:
    of_dev, of_test = [f"id{number:05d}" for number in range(20)], ["id90001", "id90002", "latest"]
    files = [f"{dev}/{speaker}/21Uxsk56VDQ{speaker}/00001.mp4" for speaker in of_dev]
    source = tree(tmp_path / "vox2", *files, *(f"{test}/{speaker}/01dfn2{speaker}/00001.mp4" for speaker in of_test))
    published = read_voxceleb(VoxcelebSources(source=source, split="published"))
    assert splits(published) == dict.fromkeys(of_dev, "train") | dict.fromkeys(of_test, "test")
    assert published.apart == "speaker"
    assert settle_leaks(published, "refuse") == published
    assert "as published: 3 in test, 20 in train, 0 in neither" in published.notes
    hashed = read_voxceleb(VoxcelebSources(source=source))
    assert splits(hashed) == {speaker: hashed_split(speaker, 0.2) for speaker in (*of_dev, *of_test)}
    (note,) = (note for note in hashed.notes if "--split published" in note)
    assert "its folders dev and test do not decide the split" in note
    boxes = tree(
        tmp_path / "boxes", *(file.replace(".mp4", ".txt") for file in files), "test/id90001/film0000001/1.txt"
    )
    films = tree(tmp_path / "films", "film0000001.mp4", *(f"21Uxsk56VDQ{speaker}.mp4" for speaker in of_dev))
    whole = read_voxceleb(VoxcelebSources(source=films, boxes=boxes, split="published"))
    assert splits(whole) == dict.fromkeys(of_dev, "train") | {"id90001": "test"}


def test_of_several_files_the_folders_of_the_one_that_is_used_say_the_split(tmp_path: Path) -> None:
    source = tree(tmp_path, "dev/id1/v1/1.mp4", "test/id1/v1/1.ogv", "dev/id2/v2/1.ogv", "test/id2/v2/1.mp4")
    corpus = read_voxceleb(VoxcelebSources(source=source, split="published"))
    assert splits(corpus) == {"id1": "train", "id2": "test"}


def test_where_no_folder_says_it_the_lists_have_the_published_split(tmp_path: Path) -> None:
    source = tree(tmp_path / "all", *(f"mp4/id{number}/v{number}/1.mp4" for number in (1, 2, 3)))
    meta = tmp_path / "vox2_meta.csv"
    meta.write_text("VoxCeleb2 ID ,VGGFace2 ID ,Gender ,Set \nid1 ,n1 ,f ,dev \nid2 ,n2 ,m ,test \n")
    corpus = read_voxceleb(VoxcelebSources(source=source, split="published", meta=(meta,)))
    assert splits(corpus) == {"id1": "train", "id2": "test"}
    assert [label.name for label in corpus.labels] == ["gender"]
    (rejection,) = corpus.rejected
    assert (rejection.speaker, rejection.reason) == ("id3", "unlisted")
    with pytest.raises(InputError, match=r"no folder .* is called dev or test, and no --meta list has a column Set"):
        read_voxceleb(VoxcelebSources(source=source, split="published"))
    assert not any("--split" in note for note in read_voxceleb(VoxcelebSources(source=source)).notes)


def test_a_speaker_in_both_folders_is_a_leak(tmp_path: Path) -> None:
    source = tree(tmp_path, "dev/id1/v1/1.mp4", "test/id1/v2/1.mp4", "dev/id2/v3/1.mp4")
    corpus = read_voxceleb(VoxcelebSources(source=source, split="published"))
    with pytest.raises(InputError, match="speaker 'id1' is in the splits train and test"):
        settle_leaks(corpus, "refuse")


@pytest.mark.parametrize("option", [{"split_by": "video"}, {"test_fraction": 0.1}, {"iden_split": Path("list.txt")}])
def test_what_decides_nothing_beside_the_published_split_is_refused(tmp_path: Path, option: dict[str, Any]) -> None:
    source = tree(tmp_path, "dev/id1/v1/1.mp4")
    (name,) = option
    with pytest.raises(InputError, match=f"--{name.replace('_', '-')} has no effect with --split published"):
        read_voxceleb(VoxcelebSources(source=source, split="published", **option))


@pytest.mark.parametrize("below", [".", "dev", "dev/mp4"])
def test_any_folder_above_the_speakers_will_do(tmp_path: Path, below: str) -> None:
    source = tree(tmp_path, "dev/mp4/id1/v/00001.mp4")
    assert names(read_voxceleb(VoxcelebSources(source=source / below))) == [("id1", "v", "00001")]


def test_two_speakers_videos_of_one_name_are_two_and_youtube_ids_one(tmp_path: Path) -> None:
    actors = tree(tmp_path / "actors", "actor_1/interview/1.mp4", "actor_2/interview/1.mp4")
    corpus = read_voxceleb(VoxcelebSources(source=actors))
    assert corpus.video_names == "speaker"
    assert any("the first interview: each is taken for one of each speaker" in note for note in corpus.notes)
    assert settle_leaks(corpus, "refuse") == corpus
    assert read_voxceleb(VoxcelebSources(source=actors, video_names="corpus")).video_names == "corpus"
    vox = tree(tmp_path / "vox", "id1/21Uxsk56VDQ/1.mp4", "id2/21Uxsk56VDQ/1.mp4")
    assert read_voxceleb(VoxcelebSources(source=vox)).video_names == "corpus"
    films = tree(tmp_path / "films", "interview.mp4")
    boxes = tree(tmp_path / "boxes", "a/interview/1.txt", "b/interview/1.txt")
    assert read_voxceleb(VoxcelebSources(source=films, boxes=boxes)).video_names == "corpus"  # one file, one video


def test_audio_that_lies_apart(tmp_path: Path) -> None:
    source = tree(tmp_path / "mp4", "id1/v/1.mp4", "id1/v/2.mp4", "id1/v/3.avi")
    audio = tree(tmp_path / "wav", "deep/id1/v/1.wav", "deep/id1/v/2.m4a", "deep/id1/v/9.wav")
    corpus = read_voxceleb(VoxcelebSources(source=source, audio=audio))
    one, two, three = (u.audio_path for u in corpus.utterances)
    assert (one, two) == (audio / "deep/id1/v/1.wav", audio / "deep/id1/v/2.m4a")
    assert three is not None
    assert not three.exists()
    assert f"1 utterances have no file below {audio}" in corpus.notes


def test_tables_by_path_and_flat(tmp_path: Path) -> None:
    source = tree(tmp_path / "mp4", "id1/v/1.mp4", "id1/v/2.mp4", "id1/v/3.mp4")
    openface = tree(tmp_path / "csv", "id1/v/1.csv", "id1_v_2.csv", "id1_v_1.csv", "3.csv")
    corpus = read_voxceleb(VoxcelebSources(source=source, openface=openface))
    assert [u.gaze_path for u in corpus.utterances] == [openface / "id1/v/1.csv", openface / "id1_v_2.csv", None]
    assert "2 of 3 utterances have an OpenFace table" in corpus.notes


def test_tables_of_another_corpus_are_refused(tmp_path: Path) -> None:
    source = tree(tmp_path / "mp4", "id1/v/1.mp4", "id1/v/2.mp4")
    openface = tree(tmp_path / "csv", "id2/v/1.csv", "1.csv", "v_1.csv")
    told = (
        rf"--openface {openface}: none of 2 .* <speaker>/<video>/<utterance>\.csv .* <speaker>_<video>_<utterance>\.csv"
    )
    with pytest.raises(InputError, match=told):
        read_voxceleb(VoxcelebSources(source=source, openface=openface))


def test_whole_videos_with_boxes(tmp_path: Path) -> None:
    source = tree(tmp_path / "videos", "id1/abc.mp4", "id2/abc.mp4", "flat.mkv", "unused.mp4")
    texts = ("id1/abc/00001.txt", "id1/abc/00002.txt", "id2/abc/00001.txt", "id3/flat/00001.txt", "id3/gone/00001.txt")
    boxes = tree(tmp_path / "boxes", *(f"txt/{name}" for name in texts))
    corpus = read_voxceleb(VoxcelebSources(source=source, boxes=boxes, boxes_margin=1.5))
    assert names(corpus) == [tuple(text.removesuffix(".txt").split("/")) for text in texts]
    videos = [u.video_path.relative_to(source).as_posix() for u in corpus.utterances]
    assert videos == ["id1/abc.mp4", "id1/abc.mp4", "id2/abc.mp4", "flat.mkv", "id3/gone.mp4"]
    assert {u.boxes.margin for u in corpus.utterances if u.boxes} == {1.5}
    assert any(note.startswith("1 YouTube videos") for note in corpus.notes)
    assert any(note.startswith("1 video files") and "no boxes" in note for note in corpus.notes)


def test_whole_videos_of_one_name_are_refused(tmp_path: Path) -> None:
    source = tree(tmp_path / "videos", "a/abc.mp4", "b/abc.mp4")
    boxes = tree(tmp_path / "boxes", "id1/abc/00001.txt")
    with pytest.raises(InputError, match="same YouTube video"):
        read_voxceleb(VoxcelebSources(source=source, boxes=boxes))


def test_the_published_split(tmp_path: Path) -> None:
    source = tree(tmp_path / "mp4", "id1/u/1.mp4", "id1/v/1.mp4", "id1/w/1.mp4", "id1/w/2.mp4")
    split = tmp_path / "iden_split.txt"
    split.write_text("1 id1/u/1.wav\n2 id1/v/1.wav\n3 id1/w/1.wav\n1 id9/z/1.wav\n")
    corpus = read_voxceleb(VoxcelebSources(source=source, iden_split=split))
    assert [u.split for u in corpus.utterances] == ["train", "validation", "test"]
    assert [(r.utterance, r.video, r.reason) for r in corpus.rejected] == [("2", "w", "unlisted")]
    assert "3 of the 4 utterances of iden_split.txt are there" in corpus.notes
    assert settle_leaks(corpus, "refuse") == corpus  # speakers are shared by design


def test_a_published_split_with_a_video_on_both_sides_is_a_leak(tmp_path: Path) -> None:
    source = tree(tmp_path / "mp4", "id1/u/1.mp4", "id1/u/2.mp4")
    split = tmp_path / "iden_split.txt"
    split.write_text("1 id1/u/1.wav\n3 id1/u/2.wav\n")
    corpus = read_voxceleb(VoxcelebSources(source=source, iden_split=split))
    with pytest.raises(InputError, match="video 'id1/u'"):
        settle_leaks(corpus, "refuse")


def test_a_list_that_is_of_another_corpus_is_refused(tmp_path: Path) -> None:
    source = tree(tmp_path / "mp4", "id1/u/1.mp4")
    split = tmp_path / "iden_split.txt"
    split.write_text("1 id2/u/1.wav\n")
    with pytest.raises(InputError, match="lists none"):
        read_voxceleb(VoxcelebSources(source=source, iden_split=split))


@pytest.mark.parametrize("split_by", ["speaker", "video", "utterance"])
def test_whoever_the_split_goes_by_is_on_one_side(tmp_path: Path, split_by: str) -> None:
    files = [f"id{s}/v{s}{v}/{u}.mp4" for s in range(6) for v in range(4) for u in range(3)]
    sources = VoxcelebSources(source=tree(tmp_path, *files), split_by=split_by, test_fraction=0.5)  # type: ignore[arg-type]
    corpus = read_voxceleb(sources)
    groups = {(getattr(u, split_by), u.split) for u in corpus.utterances} if split_by != "utterance" else set()
    assert len(groups) == len({name for name, _ in groups})
    assert {u.split for u in corpus.utterances} == {"train", "test"}
    assert settle_leaks(corpus, "refuse") == corpus


def test_a_corpus_that_grows_moves_nothing(tmp_path: Path) -> None:
    before = read_voxceleb(VoxcelebSources(source=tree(tmp_path, *(f"id{s}/v/1.mp4" for s in range(20)))))
    after = read_voxceleb(VoxcelebSources(source=tree(tmp_path, *(f"id{s}/v/2.mp4" for s in range(40)))))
    sides = {u.speaker: u.split for u in after.utterances}
    assert all(sides[u.speaker] == u.split for u in before.utterances)


def test_speakers_lists(tmp_path: Path) -> None:
    source = tree(tmp_path / "mp4", "id1/u/1.mp4", "id2/v/1.mp4")
    meta = tmp_path / "vox1_meta.csv"
    meta.write_text("VoxCeleb1 ID\tVGGFace1 ID\tGender\tNationality\tSet\nid1\tAnn\tf\tIreland\tdev\n")
    corpus = read_voxceleb(VoxcelebSources(source=source, meta=(meta,)))
    assert [dict(u.labels) for u in corpus.utterances] == [{"gender": "f", "nationality": "Ireland"}, {}]
    assert [(label.name, label.classes) for label in corpus.labels] == [
        ("gender", ("f",)),
        ("nationality", ("Ireland",)),
    ]
    assert "1 speakers are not in the --meta lists, the first id2" in corpus.notes


def test_links_out_of_the_source_are_rejected_and_counted(tmp_path: Path) -> None:
    tree(tmp_path / "elsewhere", "id2/v/1.mp4")
    source = tree(tmp_path / "mp4", "id1/u/1.mp4")
    (source / "id1/u/2.mp4").symlink_to(tmp_path / "elsewhere/id2/v/1.mp4")
    (source / "id2").symlink_to(tmp_path / "elsewhere/id2")
    corpus = read_voxceleb(VoxcelebSources(source=source))
    assert names(corpus) == [("id1", "u", "1")]
    assert {(r.speaker, r.utterance, r.reason) for r in corpus.rejected} == {
        ("id1", "2", "outside_source"),
        ("", "", "outside_source"),
    }


def links(root: Path, target: Path, *names: str) -> Path:
    """A tree of links to files that lie elsewhere under other names, as git-annex keeps them."""
    for number, name in enumerate(names):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).symlink_to(tree(target, f"KEY{number}{Path(name).suffix}") / f"KEY{number}{Path(name).suffix}")
    return root


def test_a_tree_of_links_is_counted_and_followed_on_request(tmp_path: Path) -> None:
    source = links(tmp_path / "mp4", tmp_path / "annex", "id1/u/1.mp4", "id1/u/2.mp4", "id2/v/1.mp4")
    with pytest.raises(InputError, match="3 links lead out of it: --follow-links") as refused:
        read_voxceleb(VoxcelebSources(source=source))
    assert "\n" not in str(refused.value)
    corpus = read_voxceleb(VoxcelebSources(source=source, follow_links=True))
    assert names(corpus) == [("id1", "u", "1"), ("id1", "u", "2"), ("id2", "v", "1")]
    assert (corpus.rejected, corpus.notes) == ((), ())
    tree(source, "id3/w/1.mp4")
    some = read_voxceleb(VoxcelebSources(source=source))
    assert names(some) == [("id3", "w", "1")]
    assert any("3 left out as outside_source" in note and "--follow-links" in note for note in some.notes)


def test_sound_boxes_and_tables_that_are_links_out_of_their_trees(tmp_path: Path) -> None:
    """What is left out of a tree is not opened by the name that it would have in it either."""
    source = tree(tmp_path / "mp4", "id1/v/1.mp4", "id1/v/2.mp4")
    audio = links(tree(tmp_path / "wav", "id1/v/2.wav"), tmp_path / "annex", "id1/v/1.wav")
    openface = links(tmp_path / "csv", tmp_path / "annex", "id1/v/2.csv")
    with pytest.raises(InputError, match=r"none of 1 utterances has a table there.*--follow-links"):
        read_voxceleb(VoxcelebSources(source=source, audio=audio, openface=openface))
    tree(source, "id1/v/3.mp4")
    tree(audio, "id1/v/3.wav")
    tree(openface, "id1/v/3.csv")
    sources = VoxcelebSources(source=source, audio=audio, openface=openface)
    corpus = read_voxceleb(sources)
    assert names(corpus) == [("id1", "v", "2"), ("id1", "v", "3")]
    assert [(r.utterance, r.reason) for r in corpus.rejected] == [("1", "outside_source")]
    assert [u.gaze_path for u in corpus.utterances] == [None, openface / "id1/v/3.csv"]
    assert sum("--follow-links" in note for note in corpus.notes) == 2
    followed = read_voxceleb(VoxcelebSources(source=source, audio=audio, openface=openface, follow_links=True))
    assert [u.audio_path for u in followed.utterances] == [audio / f"id1/v/{number}.wav" for number in (1, 2, 3)]
    assert [u.gaze_path for u in followed.utterances] == [None, openface / "id1/v/2.csv", openface / "id1/v/3.csv"]
    assert followed.rejected == ()


def test_whole_videos_that_are_links_out_of_the_source(tmp_path: Path) -> None:
    source = links(tree(tmp_path / "videos", "id2/def.mp4"), tmp_path / "annex", "id1/abc.mp4", "deep/id3/ghi.mp4")
    (source / "id4").symlink_to(tree(tmp_path / "away", "jkl.mp4"))
    boxes = links(
        tree(tmp_path / "boxes", *(f"{name}/1.txt" for name in ("id1/abc", "id2/def", "id3/ghi", "id4/jkl"))),
        tmp_path / "annex",
        "id2/def/2.txt",
    )
    corpus = read_voxceleb(VoxcelebSources(source=source, boxes=boxes))
    assert [n for n in names(corpus) if n[0] != "id3"] == [("id2", "def", "1")]
    out = {(r.speaker, r.video, r.utterance) for r in corpus.rejected if r.reason == "outside_source"}
    assert out == {("", "", ""), ("id1", "abc", "1"), ("id2", "def", "2"), ("id4", "jkl", "1")}
    followed = read_voxceleb(VoxcelebSources(source=source, boxes=boxes, follow_links=True))
    assert len(followed.utterances) == 5
    assert followed.rejected == ()
    only_links = links(tmp_path / "linked", tmp_path / "annex", "id2/def/2.txt")
    with pytest.raises(InputError, match="--follow-links"):
        read_voxceleb(VoxcelebSources(source=source, boxes=only_links))


def test_following_links_in_a_store_is_refused() -> None:
    with pytest.raises(InputError, match="--follow-links"):
        read_voxceleb(VoxcelebSources(source=Path("s3://bucket/vox"), follow_links=True))


def test_a_file_without_a_reader_is_no_utterance_wherever_it_lies(tmp_path: Path) -> None:
    source = tree(tmp_path / "mp4", "id1/v/1.mp4", "id1/v/2.mp4", "id1/v/5.mp4")
    tree(tmp_path / "csv", "id1_v_5.csv")
    tree(tmp_path / "wav", "id1/v/5.wav")
    pipes = [
        pipe(source / "id1/v/2.mp4"),
        pipe(tmp_path / "wav/id1/v/1.wav"),
        pipe(tmp_path / "csv/id1_v_1.csv"),
    ]

    def read(**options: Path) -> Corpus:
        return without_waiting(pipes, lambda: read_voxceleb(VoxcelebSources(source=source, **options)))  # type: ignore[arg-type]

    corpus = read(openface=tmp_path / "csv")
    assert [(r.utterance, r.reason) for r in corpus.rejected] == [("2", "not_a_file")]
    assert [u.gaze_path for u in corpus.utterances] == [None, tmp_path / "csv/id1_v_5.csv"]
    assert any("--openface" in note and "1 left out as not_a_file" in note for note in corpus.notes)
    assert {r.reason for r in read(audio=tmp_path / "wav").rejected} == {"not_a_file"}
    boxes = tree(tmp_path / "boxes", "id1/v/1.txt", "id1/2/1.txt")
    pipes.append(pipe(boxes / "id1/v/3.txt"))
    pipes.append(pipe(source / "id1/2.mp4"))
    cut = read(boxes=boxes)
    assert {(r.video, r.utterance, r.reason) for r in cut.rejected} >= {
        ("v", "3", "not_a_file"),
        ("2", "1", "not_a_file"),
    }


def test_hidden_entries_are_no_speakers(tmp_path: Path) -> None:
    source = tree(tmp_path, "id1/v/1.mp4", "id1/v/._1.mp4", ".Trashes/501/x/9.mp4", "id1/v/@eaDir/1.mp4/SYNOVIDEO.mp4")
    corpus = read_voxceleb(VoxcelebSources(source=source))
    assert names(corpus) == [("id1", "v", "1")]
    assert corpus.rejected == ()
    assert len([note for note in corpus.notes if "3 hidden entries" in note]) == 1


def test_every_suffix_of_a_film_is_an_utterance_and_the_rest_is_counted(tmp_path: Path) -> None:
    suffixes = (".mp4", ".flv", ".ts", ".MTS", ".wmv", ".ogv", ".3gp", ".f4v", ".vob", ".m2ts")
    films = [f"id{number}/v{number}/1{suffix}" for number, suffix in enumerate(suffixes)]
    source = tree(
        tmp_path, *films, "id1/v/1.jpg", "id1/v/2.jpg", "id1/v/1.txt", "id1/v/1.wav", "a.zip", "vox2_meta.csv"
    )
    corpus = read_voxceleb(VoxcelebSources(source=source))
    assert [u.video_path.relative_to(source).as_posix() for u in corpus.utterances] == films
    assert corpus.notes == (f"--source {source}: not looked at: 2 .jpg, 1 .zip",)


def test_a_source_without_films_says_what_it_holds(tmp_path: Path) -> None:
    source = tree(tmp_path, *(f"id1/v/{number}.jpg" for number in range(3)), "id1/v/1.wav", ".x", "1.mp4")
    with pytest.raises(InputError, match=r"3 \.jpg, 1 \.wav, 1 hidden entries, 1 video files less than two folders"):
        read_voxceleb(VoxcelebSources(source=source))


def test_of_an_utterances_files_the_usual_one_is_used(tmp_path: Path) -> None:
    """As it was when rarer suffixes were not looked at; two of a kind are refused."""
    source = tree(tmp_path / "mp4", "id1/v/1.3gp", "id1/v/1.mp4", "id1/v/1.ts", "id1/v/1.wav", "id1/v/2.flv")
    corpus = read_voxceleb(VoxcelebSources(source=source))
    assert [u.video_path.name for u in corpus.utterances] == ["1.mp4", "2.flv"]
    assert any(note.startswith("1 utterances have several video files") and "1.mp4" in note for note in corpus.notes)
    for name in ("2.ts", "1.mov"):
        with pytest.raises(InputError, match="same utterance"):
            read_voxceleb(VoxcelebSources(source=tree(tmp_path / name, f"id1/v/{name}", "id1/v/1.mp4", "id1/v/2.flv")))


def test_of_an_utterances_sounds_and_tables_one_is_used_and_told(tmp_path: Path) -> None:
    source = tree(tmp_path / "mp4", "id1/v/1.mp4")
    audio = tree(tmp_path / "wav", "id1/v/1.m4a", "id1/v/1.wav", "id1/v/1.wma", "id1/v/2.wav", "flat.wav")
    openface = tree(tmp_path / "csv", "a/id1/v/1.csv", "b/id1/v/1.csv")
    corpus = read_voxceleb(VoxcelebSources(source=source, audio=audio, openface=openface))
    assert (only(corpus).audio_path, only(corpus).gaze_path) == (audio / "id1/v/1.wav", openface / "b/id1/v/1.csv")
    told = " ".join(corpus.notes)
    assert "1 utterances have several sound files" in told
    assert "1 utterances have several tables" in told
    assert "2 sound files" in told


def test_whole_videos_of_one_name_and_several_suffixes(tmp_path: Path) -> None:
    source = tree(tmp_path / "videos", "id1/abc.flv", "id1/abc.mp4")
    boxes = tree(tmp_path / "boxes", "id1/abc/00001.txt")
    assert only(read_voxceleb(VoxcelebSources(source=source, boxes=boxes))).video_path == source / "id1/abc.mp4"


def test_unicode_spaces_and_bytes_in_names(tmp_path: Path) -> None:
    source = tree(tmp_path, "Zoë Ångström/a b c/1 é.mp4")
    assert names(read_voxceleb(VoxcelebSources(source=source))) == [("Zoë Ångström", "a b c", "1 é")]
    try:
        tree(source, "s/v/" + os.fsdecode(b"\xff.mp4"))
    except OSError:
        return  # this file system stores only UTF-8
    assert ("s", "v", "\\xff") in names(read_voxceleb(VoxcelebSources(source=source)))


def test_the_same_utterance_twice_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="same utterance"):
        read_voxceleb(VoxcelebSources(source=tree(tmp_path, "a/id1/v/1.mp4", "b/id1/v/1.mp4")))


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"source": "nothing"}, "--source"),
        ({"source": "empty"}, "no <speaker>/<video>/<utterance>"),
        ({"source": "mp4", "audio": "nothing"}, "--audio"),
        ({"source": "mp4", "openface": "nothing"}, "--openface"),
        ({"source": "mp4", "boxes": "empty"}, "--boxes"),
        ({"source": "mp4", "test_fraction": 1.0}, "--test-fraction"),
        ({"source": "mp4", "boxes_margin": 0.0}, "--boxes-margin"),
        ({"source": "mp4", "boxes_height": 0}, "--boxes-height"),
    ],
)
def test_wrong_options_are_refused_by_name(tmp_path: Path, options: dict[str, object], told: str) -> None:
    tree(tmp_path / "mp4", "id1/v/1.mp4")
    (tmp_path / "empty").mkdir()
    given = {name: tmp_path / value if isinstance(value, str) else value for name, value in options.items()}
    with pytest.raises(InputError, match=told) as raised:
        read_voxceleb(VoxcelebSources(**given))  # type: ignore[arg-type]
    assert "\n" not in str(raised.value)


def test_one_utterance(tmp_path: Path) -> None:
    utterance = only(read_voxceleb(VoxcelebSources(source=tree(tmp_path, "id1/v/00001.mp4"))))
    assert utterance.corpus == "voxceleb"
    assert utterance.labels == {}
    assert utterance.key == "id1+v+00001"
