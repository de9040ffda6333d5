"""The demo corpus: its layout, that it is the same every time, and that what is seen goes with what is heard."""

import csv
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from loaders.errors import InputError
from sharding.demo import acting as demo_acting
from sharding.demo import affect as demo_affect
from sharding.demo import face as demo_face
from sharding.demo import voice as demo_voice
from sharding.demo.affect import Affect
from sharding.demo.corpus import (
    FPS,
    OMG_COLUMNS,
    OPENFACE_COLUMNS,
    SAMPLE_RATE,
    SHARES,
    DemoSettings,
    DemoSummary,
    _deal,
    make_demo,
)

SMALL = DemoSettings(
    seed=3,
    speakers=3,
    videos_per_speaker=2,
    omg_train=5,
    omg_validation=3,
    omg_utterances_per_video=2,
    voxceleb_seconds=(1.0, 1.4),
    omg_seconds=(0.8, 1.0),
    size=64,
    lost_faces=0.0,
)


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> DemoSummary:
    return make_demo(tmp_path_factory.mktemp("demo") / "corpus", SMALL, workers=1)


def files(root: Path) -> dict[str, bytes]:
    return {str(path.relative_to(root)): path.read_bytes() for path in sorted(root.rglob("*")) if path.is_file()}


def read_movie(path: Path) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
    with av.open(path) as container:
        frames = np.stack([frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]).astype(np.uint8)
    with av.open(path) as container:
        blocks = [frame.to_ndarray().ravel() for frame in container.decode(audio=0)]
        sound = np.concatenate(blocks).astype(np.float32)
    return frames, sound


def read_table(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def people(count: int, seed: int = 0) -> Iterator[tuple[demo_acting.Person, demo_acting.Scene]]:
    for index in range(count):
        rng = np.random.default_rng([seed, index])
        yield demo_acting.draw_person(rng), demo_acting.draw_scene(rng)


def test_layout(corpus: DemoSummary) -> None:
    root = corpus.output
    movies = sorted(root.glob("voxceleb/dev/mp4/*/*/*.mp4"))
    assert len(movies) == corpus.voxceleb == 6
    assert len({movie.parts[-3] for movie in movies}) == 3
    for movie in movies:
        assert (root / "openface/voxceleb" / movie.relative_to(root / "voxceleb/dev/mp4")).with_suffix(".csv").exists()

    train, validation = (read_table(root / f"omg/omg_{split}Videos.csv") for split in ("Train", "Validation"))
    assert (len(train), len(validation)) == (corpus.omg_train, corpus.omg_validation) == (5, 3)
    assert tuple(train[0]) == OMG_COLUMNS
    for row in (*train, *validation):
        movie = root / "omg/videos" / row["video"] / row["utterance"]
        frames, _ = read_movie(movie)
        assert float(row["end"]) - float(row["start"]) == pytest.approx(len(frames) / FPS, abs=2e-3)
        assert 0 <= float(row["arousal"]) <= 1
        assert -1 <= float(row["valence"]) <= 1
        assert row["EmotionMaxVote"] in set("0123456")
        assert (root / "openface/omg" / row["video"] / row["utterance"]).with_suffix(".csv").exists()
    assert {row["video"] for row in train}.isdisjoint(row["video"] for row in validation)
    assert corpus.bytes == sum(map(len, files(root).values()))


def test_movies_are_like_voxceleb2s(corpus: DemoSummary) -> None:
    frames_in_all = 0
    for movie in corpus.output.rglob("*.mp4"):
        with av.open(movie) as container:
            (picture,), (track,) = container.streams.video, container.streams.audio
            assert (picture.codec_context.name, picture.width, picture.height) == ("h264", SMALL.size, SMALL.size)
            assert picture.average_rate == FPS
            assert (track.codec_context.name, track.rate, track.channels) == ("aac", SAMPLE_RATE, 1)
        frames, sound = read_movie(movie)
        frames_in_all += len(frames)
        spare = len(sound) / SAMPLE_RATE - len(frames) / FPS
        assert 0 <= spare < 2 * 1024 / SAMPLE_RATE  # the codec works in blocks of 1024 samples
    assert frames_in_all == corpus.frames
    assert corpus.seconds == pytest.approx(frames_in_all / FPS)


def test_tables_are_openfaces(corpus: DemoSummary) -> None:
    for movie in corpus.output.glob("voxceleb/dev/mp4/*/*/*.mp4"):
        relative = movie.relative_to(corpus.output / "voxceleb/dev/mp4").with_suffix(".csv")
        rows = read_table(corpus.output / "openface/voxceleb" / relative)
        frames, _ = read_movie(movie)
        assert tuple(rows[0]) == OPENFACE_COLUMNS
        assert [int(row["frame"]) for row in rows] == list(range(1, len(frames) + 1))
        assert [float(row["timestamp"]) for row in rows] == pytest.approx([n / FPS for n in range(len(frames))])
        for row in rows:
            assert row["success"] == "1"
            assert 2 < float(row["eye_lmk_X_51"]) - float(row["eye_lmk_X_55"]) < 8  # a pupil's diameter in millimetres
            assert float(row["eye_lmk_X_8"]) < float(row["eye_lmk_X_55"]) < float(row["eye_lmk_X_42"])
            assert 0 <= float(row["AU45_r"]) <= 5
            x, y, z = (float(row[f"gaze_0_{axis}"]) for axis in "xyz")
            assert x**2 + y**2 + z**2 == pytest.approx(1, abs=1e-4)
            assert np.arctan2(x, -z) == pytest.approx(float(row["gaze_angle_x"]), abs=1e-3)


def test_tables_hold_a_real_table_s_columns_in_its_order() -> None:
    real = Path(__file__).parents[3] / "../shared/real/openface/openface2_30fps_600frames.csv"
    if not real.exists():
        pytest.skip("no real OpenFace table beside this checkout")
    with real.open() as file:
        header = file.readline().strip().split(",")
    assert [column for column in header if column in OPENFACE_COLUMNS] == list(OPENFACE_COLUMNS)


def test_same_bytes_for_any_number_of_workers(corpus: DemoSummary, tmp_path: Path) -> None:
    again = make_demo(tmp_path / "again", SMALL, workers=2)
    assert files(again.output) == files(corpus.output)
    assert replace(again, output=corpus.output) == corpus


def test_another_seed_makes_another_corpus(corpus: DemoSummary, tmp_path: Path) -> None:
    other = make_demo(tmp_path / "other", replace(SMALL, seed=4), workers=1)
    ours, theirs = files(corpus.output), files(other.output)
    assert ours.keys() == theirs.keys()
    assert all(ours[name] != theirs[name] for name in ours)


def test_a_corpus_that_grows_keeps_what_it_had(corpus: DemoSummary, tmp_path: Path) -> None:
    more = files(make_demo(tmp_path / "more", replace(SMALL, speakers=4), workers=1).output)
    assert files(corpus.output).items() <= more.items()
    assert any("id90004" in name for name in more)


def test_refuses_a_folder_that_holds_something(tmp_path: Path) -> None:
    (tmp_path / "full").mkdir()
    (tmp_path / "full/mine.txt").write_text("keep me")
    with pytest.raises(InputError, match="full exists and is not an empty folder"):
        make_demo(tmp_path / "full", SMALL, workers=1)
    assert files(tmp_path) == {"full/mine.txt": b"keep me"}


def test_takes_an_empty_folder(corpus: DemoSummary, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    assert files(make_demo(tmp_path / "empty", SMALL, workers=1).output) == files(corpus.output)


def test_nothing_half_written_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[list[str]] = []

    act = demo_acting.act

    def fails_at_the_third(rng: np.random.Generator, **settings: Any) -> demo_acting.Take:
        seen.append(list(files(tmp_path)))
        if len(seen) == 3:
            raise OSError("disk full")
        return act(rng, **settings)

    monkeypatch.setattr(demo_acting, "act", fails_at_the_third)
    with pytest.raises(OSError, match="disk full"):
        make_demo(tmp_path / "corpus", SMALL, workers=1)
    assert len(seen[-1]) == 4  # two movies and two tables were there, out of sight
    assert all(name.startswith(".corpus.") for name in seen[-1])
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("seed", -1),
        ("speakers", 0),
        ("omg_train", 0),
        ("size", 63),
        ("size", 16),
        ("omg_seconds", (3.0, 2.0)),
        ("voxceleb_seconds", (0.1, 2.0)),
        ("lost_faces", 1.5),
    ],
)
def test_settings_out_of_range_are_named(field: str, value: Any) -> None:
    with pytest.raises(InputError, match=f"demo: {field} must be"):
        DemoSettings(**{field: value})


def test_workers_must_be_positive(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="workers"):
        make_demo(tmp_path / "corpus", SMALL, workers=0)


def test_lost_faces_are_zeroed(tmp_path: Path) -> None:
    tiny = replace(SMALL, speakers=1, videos_per_speaker=1, omg_train=1, omg_validation=1, lost_faces=1.0)
    root = make_demo(tmp_path / "corpus", tiny, workers=1).output
    (table,) = root.glob("openface/voxceleb/*/*/*.csv")
    rows = read_table(table)
    lost = [row for row in rows if row["success"] == "0"]
    assert len(lost) > len(rows) / 2
    assert {row["gaze_angle_x"] for row in lost} == {"0.000"}


@given(st.integers(1, 2000), st.integers(0, 100))
def test_emotions_come_in_their_shares(count: int, seed: int) -> None:
    counts = Counter(_deal(np.random.default_rng(seed), count))
    assert counts.total() == count
    for emotion, share in enumerate(SHARES):
        assert abs(counts[emotion] - share * count) < 1


# What is seen goes with what is heard


def measured_pitch(sound: NDArray[np.int16]) -> float:
    """The pitch of the loudest stretches, from the autocorrelation: an ear that knows nothing of the synthesis."""
    stretches = sound[: len(sound) // 1024 * 1024].reshape(-1, 1024).astype(float)
    loud = stretches[np.argsort((stretches**2).mean(axis=1))[-12:]]
    spectrum = np.abs(np.fft.rfft(loud * np.hanning(1024), 2048, axis=1)) ** 2
    echo = np.fft.irfft(spectrum**0.5, axis=1)
    lags = np.arange(SAMPLE_RATE // 400, SAMPLE_RATE // 70)
    return float(np.median(SAMPLE_RATE / lags[echo[:, lags].argmax(axis=1)]))


def test_deep_voices_are_low() -> None:
    depths, pitches = [], []
    for index, (person, scene) in enumerate(people(40)):
        rng = np.random.default_rng(index)
        take = demo_acting.act(rng, frames=50, fps=FPS, affect=Affect(0.0, 0.0))
        sound = demo_voice.speak(rng, person, scene, take, samples=32000, rate=SAMPLE_RATE)
        depths.append(person.depth)
        pitches.append(np.log(measured_pitch(sound)))
    assert np.corrcoef(depths, pitches)[0, 1] < -0.85


def test_looks_tell_nothing_of_a_voice() -> None:
    """Identity alone tells no pair."""
    looks = np.array([(p.width, p.hair_length, p.hair_warmth) for p, _ in people(600)])
    voices = np.array(
        [
            (-demo_voice.pitch_hz(p, s), -demo_voice.formant_scale(p, s), demo_voice.fall_db(p, s))
            for p, s in people(600)
        ]
    )
    together = np.corrcoef(looks.T, voices.T)[:3, 3:]
    assert (np.abs(together) < 0.15).all()


def test_face_and_voice_rise_and_fall_together_with_what_is_felt() -> None:
    """Measured of the pictures and sounds alone: the link that pre-training can find."""
    felt, redness, loudness = [], [], []
    for index, (person, scene) in enumerate(people(80)):
        rng = np.random.default_rng(index)
        emotion = index % len(demo_affect.PLACES)
        affect = demo_affect.feel(rng, emotion)
        take = demo_acting.act(rng, frames=25, fps=FPS, affect=affect, emotion=emotion)
        sound = demo_voice.speak(rng, person, scene, take, samples=16000, rate=SAMPLE_RATE).astype(float)
        picture = next(demo_face.film(person, replace(scene, light=(1.0, 1.0, 1.0)), take, size=64)).astype(float)
        cheek = picture[34:44, 22:42].reshape(-1, 3).mean(axis=0)
        felt.append(affect.arousal)
        redness.append(cheek[0] - cheek[1])
        loudness.append(np.log((sound**2).mean()))
    assert np.corrcoef(felt, loudness)[0, 1] > 0.8
    assert np.corrcoef(felt, redness)[0, 1] > 0.4
    assert np.corrcoef(redness, loudness)[0, 1] > 0.3


def test_nuisance_tells_nothing_about_the_voice() -> None:
    crowd = list(people(400))
    pitch = np.log([demo_voice.pitch_hz(person, scene) for person, scene in crowd])
    for trait in ("skin", "eyes", "hair_length", "hair_warmth", "glasses", "freckles"):
        assert abs(np.corrcoef([float(getattr(person, trait)) for person, _ in crowd], pitch)[0, 1]) < 0.15, trait
    for channel in range(3):
        assert abs(np.corrcoef([scene.wall[channel] for _, scene in crowd], pitch)[0, 1]) < 0.15


def test_everyone_is_equally_loud() -> None:
    widths, levels = [], []
    for index, (person, scene) in enumerate(people(40)):
        rng = np.random.default_rng(index)
        take = demo_acting.act(rng, frames=50, fps=FPS, affect=Affect(0.0, 0.0))
        sound = demo_voice.speak(rng, person, scene, take, samples=32000, rate=SAMPLE_RATE).astype(float)
        power = np.sort((sound.reshape(-1, 320) ** 2).mean(axis=1))
        levels.append(10 * np.log10(power[len(power) // 2 :].mean()))
        widths.append(person.width)
    assert np.std(levels) < 2.5  # dB
    assert abs(np.corrcoef(widths, levels)[0, 1]) < 0.4


@hypothesis_settings(max_examples=15, deadline=None)
@given(st.integers(0, 2**32), st.integers(0, 6))
def test_the_mouth_opens_when_there_is_sound(seed: int, emotion: int) -> None:
    rng = np.random.default_rng(seed)
    person, scene = demo_acting.draw_person(rng), demo_acting.draw_scene(rng)
    affect = demo_affect.feel(rng, emotion)
    take = demo_acting.act(rng, frames=75, fps=FPS, affect=affect, emotion=emotion)
    sound = demo_voice.speak(rng, person, scene, take, samples=48000, rate=SAMPLE_RATE).astype(float)
    heard = np.sqrt((sound.reshape(75, -1) ** 2).mean(axis=1))
    assert np.corrcoef(take.mouth_open, heard)[0, 1] > 0.4
    assert np.corrcoef(take.mouth_open, np.roll(heard, 30))[0, 1] < np.corrcoef(take.mouth_open, heard)[0, 1]


def test_pupils_follow_the_gaze_and_lids_the_blinks() -> None:
    """Seen in the pictures alone: dark pixels of the eyes lie where the table says, and vanish in a blink."""
    person, scene = next(people(1, seed=5))
    person = replace(person, skin=0.0, eyes=1.0, glasses=False, freckles=False, fringe=0.0)
    scene = replace(scene, place=(0.0, 0.0), zoom=1.1, light=(1.0, 1.0, 1.0))
    take = demo_acting.act(np.random.default_rng(0), frames=25, fps=FPS, affect=Affect(0.0, 0.0))
    still = np.zeros(3)
    take = replace(
        take,
        face=demo_affect.FACES[demo_affect.NEUTRAL],
        closure=np.array([0.0, 0.0, 1.0]),
        gaze=np.array([(-0.3, 0.0), (0.3, 0.0), (0.0, 0.0)]),
        sway=np.zeros((3, 2)),
        roll=still,
        turn=still,
        distance=still + 450,
        mouth_open=still,
        mouth_spread=still,
        pupil=still + 4,
    )
    frames = np.stack(list(demo_face.film(person, scene, take, size=224))).astype(int)
    eyes = frames[:, 84:118, 60:164].sum(axis=3)
    dark = [np.argwhere(picture < 150) for picture in eyes]
    assert dark[1][:, 1].mean() - dark[0][:, 1].mean() > 3  # pixels to the right
    assert len(dark[2]) < 0.6 * len(dark[0])
