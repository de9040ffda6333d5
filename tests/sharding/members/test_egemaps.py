"""eGeMAPS: openSMILE's own values, from a clip's sound to a batch, and what has none."""

from __future__ import annotations

import importlib.util
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from loaders import ClipLoader
from loaders.dataset.catalog import open_catalog
from loaders.dataset.manifest import MANIFEST, MemberMoments, read_manifest, write_manifest
from loaders.dataset.shards import Shards
from loaders.errors import InputError
from loaders.storage.atomic import sha256_of
from sharding.checks.repair import repair
from sharding.corpora.voxceleb import VoxcelebSources, read_voxceleb
from sharding.media.waveform import decode_waveform, encode_waveform
from sharding.packing.building import Built, build
from sharding.settings import SAMPLE_RATE, BuildSettings
from sharding.utterance import Corpus
from sharding.verify import verify
from tests.films import tone, write_film

REAL = Path(__file__).parents[4] / "shared" / "real"
SETTINGS = BuildSettings(size=16, fps=25, member=("egemaps",), pad_short=True, allow_missing=("audio",))

needs_opensmile = pytest.mark.skipif(
    importlib.util.find_spec("opensmile") is None, reason="the extra egemaps is not installed"
)


def vox(source: Path) -> Corpus:
    return read_voxceleb(VoxcelebSources(source=source, test_fraction=0.0))


def opensmiles(samples: NDArray[np.float32]) -> NDArray[np.float32]:
    """By its public interface, of samples in -1 … 1."""
    import opensmile

    smile = opensmile.Smile(opensmile.FeatureSet.eGeMAPSv02, opensmile.FeatureLevel.Functionals)
    values: NDArray[np.float32] = smile.process_signal(samples, SAMPLE_RATE).to_numpy()[0]
    return values


def heard(dataset: Path) -> dict[tuple[str, float], tuple[NDArray[np.float32] | None, NDArray[np.float32] | None]]:
    """By utterance and start, what there is of each clip: its sound, and what a loader yields of its functionals."""
    options = {"batch_size": 1, "training": False, "negatives": None, "audio": False, "members": ("egemaps",)}
    catalog, found = open_catalog(dataset, "train", ["audio"]), {}
    reader, rows = Shards(catalog), catalog.table(["utterance", "start"]).to_pylist()
    with ClipLoader(dataset, "train", **options) as loader:
        for batch in loader:
            clip = int(batch.clip[0])
            stored = reader.read("audio", clip)
            sound = None if stored is None else decode_waveform(stored.tobytes())
            values = batch.members["egemaps"][0].numpy() if batch.masks["egemaps"][0] else None
            found[rows[clip]["utterance"], rows[clip]["start"]] = (sound, values)
    return found


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Films of two clips of sound; of one and then silence; of 0.04 s; and without sound."""
    folder = tmp_path_factory.mktemp("egemaps") / "mp4" / "s" / "v"
    noise = np.random.default_rng(0).normal(0, 0.02, 64000).astype(np.float32)
    noisy = tone(4.0) + noise
    write_film(folder / "noisy.mp4", 4.0, sound=noisy)
    write_film(folder / "half.mp4", 4.0, sound=np.where(np.arange(64000) < 30000, noisy, 0).astype(np.float32))
    write_film(folder / "short.mp4", 0.04, sound=noisy[:640])
    write_film(folder / "mute.mp4", 2.0, sound=None)
    return folder.parents[1]


def test_a_missing_package_names_the_extra(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("sharding.members.egemaps.find_spec", lambda name: None)
    write_film(tmp_path / "mp4/s/v/u.mp4", 2.0)
    with pytest.raises(InputError, match=r"--member egemaps: .*pip install '\.\[egemaps\]'"):
        build(vox(tmp_path / "mp4"), tmp_path / "out", SETTINGS, 1)
    assert not (tmp_path / "out").exists()


@pytest.fixture(scope="module")
def built(source: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Built]:
    output = tmp_path_factory.mktemp("egemaps") / "out"
    return output, build(vox(source), output, SETTINGS, 1)


@needs_opensmile
def test_values_are_opensmiles_own_and_what_has_none_is_counted(built: tuple[Path, Built]) -> None:
    output, made = built
    member = made.manifest.member("egemaps")
    assert member is not None
    assert (member.suffix, member.dtype, member.shape, member.required) == ("egemaps.npy", "float32", (88,), False)
    assert made.made is not None
    lacks = made.made.lacks.members["egemaps"]
    assert lacks == {"egemaps_silent": 1, "egemaps_too_short": 1, "egemaps_no_audio": 1}
    clips = heard(output)
    of_noisy = [values for (utterance, _), (_, values) in clips.items() if utterance == "noisy"]
    assert len(of_noisy) == 2
    assert not np.array_equal(of_noisy[0], of_noisy[1])  # a clip's, not the utterance's
    assert sum(values is not None for _, values in clips.values()) == 3
    for samples, values in clips.values():
        if values is not None:
            assert samples is not None
            np.testing.assert_array_equal(values, opensmiles(samples))


@needs_opensmile
def test_dataset_json_has_the_moments_of_the_training_split(built: tuple[Path, Built], tmp_path: Path) -> None:
    output, made = built
    values = np.stack([v for _, v in heard(output).values() if v is not None]).astype(np.float64)
    moments = made.manifest.moments["egemaps"]
    assert moments.count == 3
    np.testing.assert_allclose(moments.mean, values.mean(0), rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(moments.std, values.std(0), rtol=1e-6, atol=1e-9)
    assert read_manifest(output) == made.manifest
    assert verify(output).is_whole
    # And a dataset that says otherwise is told of, and mended.
    copy = Path(shutil.copytree(output, tmp_path / "copy"))
    wrong = MemberMoments(count=3, mean=(0.0,) * 88, std=moments.std)
    write_manifest(copy, replace(made.manifest, moments={"egemaps": wrong}))
    report = verify(copy)
    assert [fault.where for fault in report.faults if fault.path == MANIFEST] == ["moments of egemaps"]
    repair(report)
    assert verify(copy).is_whole
    np.testing.assert_allclose(read_manifest(copy).moments["egemaps"].mean, moments.mean, rtol=1e-9)


@needs_opensmile
def test_processes_and_extending_change_nothing(built: tuple[Path, Built], source: Path, tmp_path: Path) -> None:
    output, made = built
    build(vox(source), tmp_path / "two", SETTINGS, 2)
    assert _digests(tmp_path / "two") == _digests(output)

    corpus = vox(source)
    first = replace(corpus, utterances=corpus.utterances[:2])
    build(first, tmp_path / "extended", SETTINGS, 1)
    extended = build(corpus, tmp_path / "extended", SETTINGS, 1, extend=True).manifest.moments["egemaps"]
    whole = made.manifest.moments["egemaps"]
    assert extended.count == whole.count
    np.testing.assert_allclose(extended.mean, whole.mean, rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(extended.std, whole.std, rtol=1e-6, atol=1e-9)


@needs_opensmile
def test_silence_is_left_out_as_ever_where_sound_is_required(source: Path, tmp_path: Path) -> None:
    settings = replace(SETTINGS, allow_missing=())
    made = build(vox(source), tmp_path / "out", settings, 1)
    assert made.manifest.rejected == {"no_audio": 1}
    assert made.made is not None
    assert made.made.lacks.clips == {"silent": 1}
    assert made.made.lacks.members["egemaps"] == {"egemaps_too_short": 1}


@needs_opensmile
@pytest.mark.skipif(not REAL.is_dir(), reason="needs the real clips in ../shared/real")
def test_values_are_opensmiles_own_on_a_real_clip(tmp_path: Path) -> None:
    import opensmile

    film = min((REAL / "voxceleb2").rglob("*.mp4"), key=lambda path: path.stat().st_size)
    place = tmp_path / "mp4" / "s" / "v" / film.name
    place.parent.mkdir(parents=True)
    shutil.copy(film, place)
    build(vox(tmp_path / "mp4"), tmp_path / "out", SETTINGS, 1)
    smile = opensmile.Smile(opensmile.FeatureSet.eGeMAPSv02, opensmile.FeatureLevel.Functionals)
    for samples, values in heard(tmp_path / "out").values():
        wav = tmp_path / "clip.wav"
        assert samples is not None
        integers = (samples * 32768).astype(np.int16)
        wav.write_bytes(encode_waveform(integers, sample_rate=SAMPLE_RATE, audio_format="wav"))
        assert values is not None
        np.testing.assert_array_equal(values, smile.process_file(str(wav)).to_numpy()[0])


def _digests(folder: Path) -> dict[str, str]:
    return {str(path.relative_to(folder)): sha256_of(path) for path in sorted(folder.rglob("*")) if path.is_file()}


def test_functionals_that_others_have_computed_need_no_opensmile(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("sharding.members.egemaps.find_spec", lambda name: None)
    film = write_film(tmp_path / "mp4/s/v/u.mp4", 2.0)
    np.save(film.with_name("u.egemaps.npy"), np.arange(88, dtype=np.float32))
    settings = replace(SETTINGS, member=("egemaps=.egemaps.npy:float32[88]",))
    manifest = build(vox(tmp_path / "mp4"), tmp_path / "out", settings, 1).manifest
    assert not manifest.moments
    ((_, values),) = heard(tmp_path / "out").values()
    assert values is not None
    assert values.tolist() == list(range(88))
