"""Which files lie beside a corpus' videos."""

import io
import tarfile
from pathlib import Path

import numpy as np
import pytest

from loaders.errors import InputError
from sharding.corpora.webdataset import WebdatasetSources, read_webdataset
from sharding.members.beside import with_arrays
from sharding.members.declared import files_of_members
from sharding.members.files import ArrayFile
from sharding.packing.building import build
from sharding.settings import BuildSettings
from sharding.utterance import Corpus, Utterance
from tests.films import write_film

FILES = files_of_members(BuildSettings(member=("t=.t.npy:int8[3]", "u=.u.npy:int8[3]")))


def utterance(path: Path, **arrays: Path) -> Utterance:
    return Utterance(
        corpus="c", split="train", speaker="s", video=path.stem, utterance="u", video_path=path, arrays=arrays
    )


def test_files_are_found_beside_their_videos_and_counted(tmp_path: Path) -> None:
    for number in range(4):
        (tmp_path / f"v{number}.mp4").touch()
        if number:
            (tmp_path / f"v{number}.t.npy").touch()
    (tmp_path / "v2.u.npy").touch()
    (tmp_path / "v0.u.npy").mkdir()  # no file
    utterances = [utterance(tmp_path / f"v{number}.mp4") for number in range(3)]
    own = utterance(tmp_path / "v3.mp4", t=tmp_path / "elsewhere.npy")  # as a reader of a corpus may say itself
    corpus = with_arrays(Corpus(name="c", utterances=(*utterances, own), notes=("read",)), FILES, 2)
    assert [{name: path.name for name, path in u.arrays.items()} for u in corpus.utterances] == [
        {},
        {"t": "v1.t.npy"},
        {"t": "v2.t.npy", "u": "v2.u.npy"},
        {"t": "elsewhere.npy"},
    ]
    assert corpus.notes == (
        "read",
        "3 of 4 utterances have a .t.npy beside the video",
        "1 of 4 utterances have a .u.npy beside the video",
    )
    with pytest.raises(InputError, match=r"--member x: none of 4 utterances has a \.x\.npy .*v0\.x\.npy beside"):
        with_arrays(corpus, [ArrayFile.parse("x=.x.npy:int8[3]")], 2)


def test_in_tars_they_are_found_by_the_samples_key(tmp_path: Path) -> None:
    """The same corpus in a tar gives the same bytes as from files."""
    folder = tmp_path / "mp4"
    for name in ("a", "b"):
        write_film(folder / f"{name}.mp4", 2.2)
    np.save(folder / "a.tokens.npy", np.arange(5, dtype=np.int32))
    with tarfile.open(tmp_path / "0.tar", "w") as tar:
        for path in sorted(folder.iterdir()):
            data = path.read_bytes()
            entry = tarfile.TarInfo(f"some/{path.name}")
            entry.size = len(data)
            tar.addfile(entry, io.BytesIO(data))
    packed = read_webdataset(WebdatasetSources(source=(str(tmp_path / "0.tar"),), name="c", test_fraction=0.0))
    plain = Corpus(
        name="c",
        utterances=tuple(
            Utterance(**{**fields(u), "video_path": folder / u.video_path.name}) for u in packed.utterances
        ),
        apart=packed.apart,
        video_names=packed.video_names,
    )
    settings = BuildSettings(size=16, member=("tokens=.tokens.npy:int32[<=8]",))
    for corpus, output in ((packed, tmp_path / "one"), (plain, tmp_path / "two")):
        made = build(corpus, output, settings, 1).made
        assert made is not None
        assert made.lacks.members["tokens"] == {"tokens_missing": 1}
    assert (tmp_path / "one/train/000000.tar").read_bytes() == (tmp_path / "two/train/000000.tar").read_bytes()


def fields(one: Utterance) -> dict[str, object]:
    return {name: getattr(one, name) for name in one.__dataclass_fields__}
