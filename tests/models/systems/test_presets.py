"""The presets by name, and that the full one has the thesis' sizes."""

from __future__ import annotations

import pytest

from loaders.errors import InputError
from models.systems.presets import FULL, TINY, correspondence_net, preset


def test_full_is_the_thesis() -> None:
    assert (FULL.front_end.frame_size, FULL.video.width, FULL.audio.width) == (224, 64, 64)
    assert (FULL.gaze.features, FULL.gaze.embedding, FULL.ave.embedding) == (103, 128, 128)


def test_presets_by_name() -> None:
    assert preset("full") is FULL
    assert preset("tiny") is TINY
    with pytest.raises(InputError, match=r"'huge'.*full, tiny"):
        preset("huge")
    with pytest.raises(InputError, match="'avee'"):
        correspondence_net(TINY, "avee")  # type: ignore[arg-type]
