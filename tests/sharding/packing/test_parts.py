"""An utterance that is a part of a longer film: its pictures, sound, gaze and face are those of the part."""

from dataclasses import replace
from pathlib import Path

import msgpack
import numpy as np
import pytest

from sharding.crops.crop_plan import crop_plan_of
from sharding.media.filmstrip import decode_filmstrip
from sharding.media.probe import probe_seconds
from sharding.media.reader import read_frames, read_media
from sharding.media.waveform import decode_waveform, encode_waveform
from sharding.packing.clips import EncodedUtterance, RejectedError, encode_utterance
from sharding.settings import BuildSettings
from sharding.sources.fingerprint import contents, fingerprint
from sharding.stages import Stopwatch
from sharding.utterance import Utterance
from tests.films import shades, tone, write_film, write_table

SETTINGS = BuildSettings(clip_seconds=1, fps=5, size=64, gaze_window="clip")


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Utterance:
    """Six seconds, with the sound apart, and a table of gaze."""
    folder = tmp_path_factory.mktemp("long")
    swept = np.sin(2 * np.pi * (200 + 150 * np.arange(6 * 16000) / 16000) * np.arange(6 * 16000) / 16000) * 0.4
    (folder / "film.wav").write_bytes(
        encode_waveform((swept * 32767).astype(np.int16), sample_rate=16000, audio_format="wav")
    )
    return Utterance(
        corpus="c",
        split="train",
        speaker="s",
        video="v",
        utterance="u",
        video_path=write_film(folder / "film.mp4", 6.0, picture=shades(), options={"g": "40"}),
        audio_path=folder / "film.wav",
        gaze_path=write_table(folder / "film.csv", 150),
    )


def encoded(utterance: Utterance) -> EncodedUtterance:
    return encode_utterance(utterance, SETTINGS, Stopwatch())


def test_a_part_has_the_clips_that_the_whole_has_there(whole: Utterance) -> None:
    of_whole, of_part = encoded(whole).clips, encoded(replace(whole, start=2.0, end=4.0)).clips
    assert (len(of_whole), len(of_part)) == (6, 2)
    for there, clip in zip(of_whole[2:4], of_part, strict=True):
        assert clip.members["filmstrip"] == there.members["filmstrip"]
        assert clip.members["gaze"] == there.members["gaze"]
        sound, expected = (decode_waveform(one.members["audio"]) for one in (clip, there))
        assert np.abs(sound - expected)[100:-100].max() < 2 / 32768  # a resampler begins anew at the part's ends
        assert clip.start == there.start - 2.0
        assert msgpack.unpackb(clip.members["clip"])["start"] == clip.start


def test_a_part_without_an_end_lasts_to_the_films(whole: Utterance) -> None:
    clips = encoded(replace(whole, start=4.0)).clips
    assert [clip.members["filmstrip"] for clip in clips] == [
        clip.members["filmstrip"] for clip in encoded(whole).clips[4:]
    ]
    with pytest.raises(RejectedError, match="too_short"):
        encoded(replace(whole, start=60.0))


def test_pictures_before_a_part_are_none_of_it(whole: Utterance) -> None:
    """They are decoded, for decoding can start at few of them; a table of gaze is held against those of the part."""
    media = read_media(whole.video_path, fps=5, size=16, start=2.02, stop=4.02)
    assert media.source_starts == pytest.approx([0, *(np.arange(1, 51) * 0.04 - 0.02)], abs=1e-6)


def test_sound_within_the_film_is_that_of_the_part(whole: Utterance) -> None:
    inside = replace(whole, audio_path=None)
    there = read_media(whole.video_path, fps=5, size=16).audio[32000:48000].astype(int)
    (clip,) = encoded(replace(inside, start=2.0, end=3.0)).clips
    sound = np.round(decode_waveform(clip.members["audio"]) * 32768).astype(int)
    assert np.abs(sound - there)[100:-100].max() <= 2


def test_gaze_of_a_part_whose_frame_rate_varies_is_not_guessed(whole: Utterance, tmp_path: Path) -> None:
    times = [0.0, 0.1, 0.2, 0.3, 1.6, 1.7, 1.8, 3.1, 3.2, 3.3, 4.6, 5.5]
    film = write_film(tmp_path / "varying.mp4", 6.0, times=times, sound=tone(6.0))
    (clip, *_) = encoded(replace(whole, video_path=film, audio_path=None, start=0.1, end=4.0)).clips
    assert (clip.gaze, clip.gaze_problem) == (None, "gaze_unplaced")


def test_parts_have_fingerprints_of_their_own_and_the_whole_its_files(whole: Utterance) -> None:
    parts = [whole, replace(whole, start=0.0), replace(whole, start=2.0), replace(whole, start=2.0, end=3.0)]
    parts.append(replace(whole, end=3.0))
    assert len({fingerprint(part) for part in parts}) == len({contents(part) for part in parts}) == len(parts)


def test_lengths_are_planned_by_the_part(whole: Utterance) -> None:
    assert probe_seconds(whole) == pytest.approx(6.0, abs=0.1)
    assert probe_seconds(replace(whole, start=1.5, end=4.0)) == 2.5
    assert probe_seconds(replace(whole, start=4.0)) == pytest.approx(2.0, abs=0.1)
    assert probe_seconds(replace(whole, start=9.0)) == 0.0


def test_faces_are_looked_for_in_the_part_alone(whole: Utterance) -> None:
    part = list(read_frames(whole.video_path, fps=5, start=2.0, stop=4.0))
    there = list(read_frames(whole.video_path, fps=5))[10:20]
    assert len(part) == 10
    assert all(np.array_equal(one, other) for one, other in zip(part, there, strict=True))
    plan = crop_plan_of(replace(whole, start=2.0, end=4.0), SETTINGS, Stopwatch())
    assert (plan.start, plan.stop, plan.audio_start) == (2.0, 4.0, 2.0)
    strip = decode_filmstrip(encoded(replace(whole, start=2.0, end=4.0)).clips[0].members["filmstrip"], 5)
    assert strip.shape == (5, 64, 64, 3)
