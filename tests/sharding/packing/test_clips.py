"""How an utterance is cut into clips, and what one holds. Its media is drawn: decoding has tests of its own."""

import io
import wave
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgpack
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from loaders.dataset.labels import Label
from sharding.crops.crop_plan import CropPlan
from sharding.crops.faces import Track
from sharding.media.filmstrip import decode_filmstrip
from sharding.media.reader import Media
from sharding.packing import clips
from sharding.packing.clips import RejectedError, encode_utterance
from sharding.settings import SAMPLE_RATE, BuildSettings
from sharding.stages import Stopwatch
from sharding.utterance import Utterance

UTTERANCE = Utterance(
    corpus="c",
    split="train",
    speaker="s",
    video="v",
    utterance="u",
    video_path=Path("u.mp4"),
    labels={"mood": "glad", "arousal": 0.5},
)
LABELS = (
    Label(name="mood", classes=("sad", "glad")),
    Label(name="sleep", classes=("deep", "light")),
    Label(name="arousal", low=0.0, high=1.0),
)


def media(frames: int, *, fps: float = 8.0, size: int = 16, level: int = 3000) -> Media:
    """Frame k is of shade 3·k, and sample i is loud by i's place: where a clip was cut from can be read off it."""
    samples = round(frames / fps * SAMPLE_RATE)
    shade = (3 * np.arange(frames) % 256).astype(np.uint8)
    return Media(
        frames=np.broadcast_to(shade[:, None, None, None], (frames, size, size, 3)).copy(),
        audio=(np.arange(samples) % level).astype(np.int16),
        changes=np.ones(frames, bool),
        fps=fps,
        sample_rate=SAMPLE_RATE,
        source_fps=25.0,
        source_starts=np.arange(round(25 * frames / fps)) / 25,
        source_seconds=frames / fps,
        width=size,
        height=size,
    )


def encode(monkeypatch: pytest.MonkeyPatch, given: Media, view: CropPlan | None = None, **options: Any) -> Any:
    monkeypatch.setattr(clips, "read_media", lambda *_, **__: given)
    monkeypatch.setattr(clips, "crop_plan_of", lambda *_: view or CropPlan())
    return encode_utterance(UTTERANCE, BuildSettings(size=16, **options), Stopwatch(), LABELS)


def samples_of(data: bytes) -> np.ndarray[Any, np.dtype[np.int16]]:
    with wave.open(io.BytesIO(data)) as file:
        assert (file.getframerate(), file.getnchannels(), file.getsampwidth()) == (SAMPLE_RATE, 1, 2)
        return np.frombuffer(file.readframes(file.getnframes()), "<i2")


@given(frames=st.integers(1, 70), clip_frames=st.integers(1, 20), pad=st.booleans())
@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_clips_lie_end_to_end_and_hold_what_was_there(
    monkeypatch: pytest.MonkeyPatch, frames: int, clip_frames: int, pad: bool
) -> None:
    whole = media(frames)
    options = {"clip_seconds": clip_frames / 8, "pad_short": pad}
    if frames < clip_frames and not pad:
        with pytest.raises(RejectedError) as raised:
            encode(monkeypatch, whole, **options)
        assert raised.value.reason == "too_short"
        return
    encoded = encode(monkeypatch, whole, **options).clips
    assert len(encoded) == max(1, frames // clip_frames)
    for number, clip in enumerate(encoded):
        assert clip.key == f"s+v+u+{number:03d}"
        assert clip.start == number * clip_frames / 8
        strip = decode_filmstrip(clip.members["filmstrip"], clip_frames)[:, 8, 8, 1].astype(int)
        expected = whole.frames[number * clip_frames :][:clip_frames, 8, 8, 1].astype(int)
        assert np.abs(strip[: len(expected)] - expected).max() <= 3
        sound = samples_of(clip.members["audio"])
        there = whole.audio[number * clip_frames * 2000 :][: clip_frames * 2000]
        assert len(sound) == clip_frames * 2000
        assert np.array_equal(sound[: len(there)], there)
        if frames < clip_frames:
            assert clip.padded == (clip_frames - frames) / 8
            assert np.abs(strip[frames:] - expected[-1]).max() <= 3
            assert not sound[len(there) :].any()
        else:
            assert clip.padded == 0


def test_a_description_says_what_the_catalog_says(monkeypatch: pytest.MonkeyPatch) -> None:
    (clip,) = encode(monkeypatch, media(16)).clips
    description = msgpack.unpackb(clip.members["clip"])
    names = ("corpus", "speaker", "video", "utterance", "start", "mood", "sleep", "arousal")
    assert {name: description[name] for name in names} == {
        "corpus": "c",
        "speaker": "s",
        "video": "v",
        "utterance": "u",
        "start": 0.0,
        "mood": "glad",
        "sleep": None,
        "arousal": 0.5,
    }
    assert list(clip.members) == ["filmstrip", "audio", "clip"]
    assert (clip.gaze, clip.gaze_problem) == (None, "gaze_missing")


def test_silence_is_rejected_and_one_loud_moment_is_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    silent = media(16, level=1)
    with pytest.raises(RejectedError, match="silent"):
        encode(monkeypatch, silent)
    silent.audio[20_000:22_000] = 1000 * (-1) ** np.arange(2000)
    assert len(encode(monkeypatch, silent).clips) == 1
    with pytest.raises(RejectedError, match="silent"):
        encode(monkeypatch, silent, min_loudness=-20)


def test_a_clip_of_silence_is_left_out_and_the_others_keep_their_numbers(monkeypatch: pytest.MonkeyPatch) -> None:
    partly = media(48)
    partly.audio[32_000:64_000] = 0
    encoded = encode(monkeypatch, partly)
    assert [clip.start for clip in encoded.clips] == [0.0, 4.0]
    assert encoded.left_out == {"silent": 1}
    # As loud as --min-loudness somewhere is loud enough, and what lies below the least that there is counts as sound.
    partly.audio[40_000:42_000] = 60 * (-1) ** np.arange(2000)
    assert len(encode(monkeypatch, partly).clips) == 3
    assert encode(monkeypatch, partly, min_loudness=-50).left_out == {"silent": 1}
    partly.audio[32_000:64_000] = 0
    assert len(encode(monkeypatch, partly, min_loudness=-130).clips) == 3


def showing(pattern: str) -> Media:
    """Eight frames a second, each of another picture than the one before (+) or of the same (.)."""
    return replace(media(len(pattern)), changes=np.array([sign == "+" for sign in pattern]))


def test_a_clip_of_one_still_picture_is_left_out_where_the_others_move(monkeypatch: pytest.MonkeyPatch) -> None:
    encoded = encode(monkeypatch, showing("+" * 20 + "." * 28 + "+" * 16))
    assert [clip.start for clip in encoded.clips] == [0.0, 2.0, 6.0]
    assert encoded.left_out == {"still": 1}
    # One more picture in it, and it is not still.
    assert len(encode(monkeypatch, showing("+" * 20 + "." * 20 + "+" + "." * 7 + "+" * 16)).clips) == 4
    with pytest.raises(RejectedError, match="one and the same picture") as raised:
        encode(monkeypatch, showing("+" + "." * 17 + "+" * 10))
    assert raised.value.reason == "still"


@pytest.mark.parametrize(
    "pattern",
    ["+" + 63 * ".", "+.......++......" * 4, ("+" + 31 * ".") * 2, "+..." * 16],
    ids=["a photograph", "a picture a second", "two photographs", "two pictures a second"],
)
@pytest.mark.parametrize("clip_seconds", [0.125, 0.5, 2.0])
def test_where_still_pictures_are_the_rule_they_stay(
    monkeypatch: pytest.MonkeyPatch, pattern: str, clip_seconds: float
) -> None:
    assert len(encode(monkeypatch, showing(pattern), clip_seconds=clip_seconds).clips) == 8 / clip_seconds


def test_a_picture_held_for_less_than_a_second_is_no_stillness(monkeypatch: pytest.MonkeyPatch) -> None:
    held = showing("+" * 9 + "." * 6 + "+" * 17)
    assert len(encode(monkeypatch, held, clip_seconds=0.5).clips) == 8
    encoded = encode(monkeypatch, showing("+" * 8 + "." * 8 + "+" * 16), clip_seconds=0.5)
    assert [clip.start for clip in encoded.clips] == [0.0, 0.5, 2.0, 2.5, 3.0, 3.5]


def test_what_was_added_to_a_short_utterance_is_neither_silent_nor_still(monkeypatch: pytest.MonkeyPatch) -> None:
    assert len(encode(monkeypatch, media(3), pad_short=True).clips) == 1
    assert len(encode(monkeypatch, showing("++.++"), pad_short=True).clips) == 1


def face(seen: list[int]) -> CropPlan:
    """A face looked for four times a second, and seen or not."""
    return CropPlan(face=Track(boxes=np.zeros((0, 4)), times=np.arange(len(seen)) / 4, seen=np.array(seen, bool)))


def test_clips_without_the_face_are_left_out_and_keep_their_numbers(monkeypatch: pytest.MonkeyPatch) -> None:
    view = face([1] * 8 + [1] * 3 + [0] * 5 + [0] * 4 + [1] * 4)
    encoded = encode(monkeypatch, media(48), view)
    assert [(clip.key, clip.start) for clip in encoded.clips] == [("s+v+u+000", 0.0), ("s+v+u+002", 4.0)]
    assert encoded.left_out == {"no_face": 1}
    with pytest.raises(RejectedError, match="no_face"):
        encode(monkeypatch, media(48), face([0] * 24))


def test_a_padded_clip_is_judged_by_what_was_there(monkeypatch: pytest.MonkeyPatch) -> None:
    assert len(encode(monkeypatch, media(8), face([1, 1, 0, 1]), pad_short=True).clips) == 1


def test_gaze_that_is_required_is_missed(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(RejectedError, match="gaze_missing"):
        encode(monkeypatch, media(16), require_gaze=True)


def test_time_is_told_by_stage(monkeypatch: pytest.MonkeyPatch) -> None:
    watch = Stopwatch()
    monkeypatch.setattr(clips, "read_media", lambda *_, **__: media(32))
    encode_utterance(UTTERANCE, BuildSettings(size=16), watch)
    assert set(watch.seconds) == {"decode", "gaze", "encode"}
    assert watch.seconds["encode"] > 0


def test_a_file_that_the_system_will_not_give_is_unreadable(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> Media:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(clips, "read_media", refuse)
    with pytest.raises(RejectedError, match="unreadable"):
        encode_utterance(UTTERANCE, BuildSettings(size=16), Stopwatch())
