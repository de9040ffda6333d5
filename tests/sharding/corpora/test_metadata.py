"""VoxCeleb's lists of speakers and of its split."""

from pathlib import Path

import pytest

from loaders.errors import InputError
from sharding.corpora.metadata import Speaker, read_identification_split, read_speakers

VOX1 = "VoxCeleb1 ID\tVGGFace1 ID\tGender\tNationality\tSet\nid10001\tA.J._Buckley\tm\tIreland\tdev\n"
VOX2 = "VoxCeleb2 ID ,VGGFace2 ID ,Gender ,Set \nid00012 ,n000012 ,f ,dev \n\n"


def write(path: Path, text: str) -> Path:
    path.write_text(text)
    return path


def test_both_lists(tmp_path: Path) -> None:
    speakers = read_speakers([write(tmp_path / "1.csv", VOX1), write(tmp_path / "2.csv", "\ufeff" + VOX2)])
    buckley = Speaker(gender="m", nationality="Ireland")
    assert speakers["id10001"] == speakers["A.J._Buckley"] == buckley
    assert speakers["id00012"] == Speaker(gender="f", nationality=None)
    assert len(speakers) == 4


@pytest.mark.parametrize("text", ["", "id10001,m\n", "VoxCeleb1 ID\tNationality\nid10001\tIreland\n"])
def test_a_list_without_its_columns_is_refused(tmp_path: Path, text: str) -> None:
    with pytest.raises(InputError, match="Gender"):
        read_speakers([write(tmp_path / "meta.csv", text)])
    with pytest.raises(InputError, match="cannot be read"):
        read_speakers([tmp_path / "nothing.csv"])


def test_the_split(tmp_path: Path) -> None:
    text = "3 id10003/na8-QEFmj44/00003.wav\n1 id10003/tCq2LcKO6xY/00002.wav\r\n\n2 id10003/q8b2/00001.wav\n"
    splits = read_identification_split(write(tmp_path / "iden_split.txt", text))
    assert splits == {
        ("id10003", "na8-QEFmj44", "00003"): "test",
        ("id10003", "tCq2LcKO6xY", "00002"): "train",
        ("id10003", "q8b2", "00001"): "validation",
    }


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "holds no line"),
        ("1 a/b/c.wav\n4 a/b/d.wav\n", "line 2"),
        ("1 a/b.wav\n", "line 1"),
        ("1 a/b/c.wav\n3 a/b/c.wav\n", "two splits"),
    ],
)
def test_a_split_that_is_none_is_refused(tmp_path: Path, text: str, told: str) -> None:
    with pytest.raises(InputError, match=told):
        read_identification_split(write(tmp_path / "iden_split.txt", text))
