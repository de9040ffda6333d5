"""Settings declare what they lead to, and refuse what cannot be."""

import pytest

from loaders.errors import InputError
from sharding.members.declared import members_of
from sharding.settings import BuildSettings


def test_the_usual_clip() -> None:
    settings = BuildSettings()
    settings.check()
    clip = settings.clip
    assert (clip.seconds, clip.fps, clip.frames, clip.size) == (2.0, 8.0, 16, 224)
    assert (clip.sample_rate, clip.samples) == (16_000, 32_000)
    assert [(member.suffix, member.shape, member.required) for member in members_of(settings)] == [
        ("filmstrip.jpg", (16, 224, 224, 3), True),
        ("audio.wav", (32_000,), True),
        ("gaze.npy", (103,), False),
        ("clip.msg", (), True),
    ]


def test_gaze_frames_are_declared_where_they_are_kept() -> None:
    settings = BuildSettings(member=("gaze_frames",), gaze_fps=30, clip_seconds=4)
    settings.check()
    members = {m.name: m for m in members_of(settings)}
    assert members["gaze_frames"].suffix == "gaze_frames.npy"
    assert (members["gaze_frames"].shape, members["gaze_frames"].required) == ((120, 13), False)
    assert "gaze_frames" not in {member.name for member in members_of(BuildSettings())}


def test_a_modality_that_may_be_missing_is_not_required() -> None:
    settings = BuildSettings(allow_missing=("audio",))
    settings.check()
    required = {member.name: member.required for member in members_of(settings)}
    assert required == {"filmstrip": True, "audio": False, "gaze": False, "clip": True}


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
        ({"min_loudness": 0.1}, "--min-loudness is 0.1: use at most 0"),  # nothing is so loud
        ({"min_loudness": float("nan")}, "--min-loudness is nan"),
        ({"gaze_fps": 0}, "--gaze-fps"),
        ({"gaze_fps": 30}, "--gaze-fps is 30: use --member gaze_frames"),  # without, it has no effect
        ({"allow_missing": ("audio", "audio")}, "--allow-missing"),
        ({"shard_mb": 0}, "--shard-mb"),
    ],
)
def test_what_cannot_be_is_refused_by_name(options: dict[str, object], told: str) -> None:
    with pytest.raises(InputError, match=told) as raised:
        BuildSettings(**options).check()  # type: ignore[arg-type]
    assert "\n" not in str(raised.value)
