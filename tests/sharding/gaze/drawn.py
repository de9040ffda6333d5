"""People of the demo corpus who look where they are told, for tests that track them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from sharding.demo.acting import act, draw_person, draw_scene
from sharding.demo.affect import Affect
from sharding.demo.face import film


def looking(gaze: NDArray[np.float64], *, fps: int = 25, size: int = 224, seed: int = 0) -> list[NDArray[np.uint8]]:
    """Pictures of somebody who keeps the head towards the camera, with open eyes.

    Args:
        gaze: (pictures, 2): radians from the camera's axis, to the right of the picture and down.
        fps: pictures a second.
        size: of a picture, pixels.
        seed: who it is.
    """
    rng = np.random.default_rng(seed)
    person, scene = replace(draw_person(rng), glasses=False), draw_scene(rng)
    take = act(rng, frames=len(gaze), fps=fps, affect=Affect(0.0, 0.0))
    still = replace(take, gaze=gaze, turn=np.zeros(len(gaze)), closure=np.zeros(len(gaze)))
    return list(film(person, scene, still, size=size))
