"""Settings declare what they lead to, and refuse what cannot be."""

import pytest

from loaders.errors import InputError
from sharding.settings import BuildSettings


def test_the_usual_clip() -> None:
    settings = BuildSettings()
    settings.check()
    clip = settings.clip
    assert (clip.seconds, clip.fps, clip.frames, clip.size) == (2.0, 8.0, 16, 224)
    assert (clip.sample_rate, clip.samples) == (16_000, 32_000)
    assert [(member.suffix, member.shape, member.required) for member in settings.members] == [
        ("filmstrip.jpg", (16, 224, 224, 3), True),
        ("audio.wav", (32_000,), True),
        ("gaze.npy", (103,), False),
        ("clip.msgpack", (), True),
    ]


def test_gaze_frames_are_declared_where_they_are_kept() -> None:
    members = {m.name: m for m in BuildSettings(gaze_frames=True, gaze_fps=30, clip_seconds=4).members}
    assert members["gaze_frames"].suffix == "gaze_frames.npy"
    assert (members["gaze_frames"].shape, members["gaze_frames"].required) == ((120, 13), False)
    assert "gaze_frames" not in {member.name for member in BuildSettings().members}


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"clip_seconds": 0}, "--clip-seconds"),
        ({"fps": 0}, "--fps"),
        ({"fps": 7.7}, "whole number of frames"),
        ({"size": 100}, "--size"),
        ({"size": 0}, "--size"),
        ({"fps": 120, "clip_seconds": 60}, "JPEG"),
        ({"quality": 96}, "--quality"),
        ({"max_seconds": 1}, "--max-seconds"),
        ({"gaze_fps": 0}, "--gaze-fps"),
        ({"shard_mb": 0}, "--shard-mb"),
    ],
)
def test_what_cannot_be_is_refused_by_name(options: dict[str, float], told: str) -> None:
    with pytest.raises(InputError, match=told) as raised:
        BuildSettings(**options).check()  # type: ignore[arg-type]
    assert "\n" not in str(raised.value)
