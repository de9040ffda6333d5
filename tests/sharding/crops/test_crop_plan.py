"""What is looked at of an utterance, where the size of its pictures changes in mid-file or its boxes do not fit."""

from pathlib import Path

import numpy as np
import pytest

from sharding.crops.faces import FaceDetector
from sharding.media.filmstrip import decode_filmstrip
from sharding.packing.clips import RejectedError, encode_utterance
from sharding.settings import BuildSettings
from sharding.stages import Stopwatch
from sharding.utterance import BoxesFile, Utterance
from tests.films import write_changing_film, write_film
from tests.networks import needs_centerface
from tests.sharding.crops.test_faces import draw_faces
from tests.sharding.media.test_changes import marked


def utterance(path: Path, boxes: BoxesFile | None = None) -> Utterance:
    return Utterance(corpus="c", split="train", speaker="s", video="v", utterance="u", video_path=path, boxes=boxes)


def strips(of: Utterance, settings: BuildSettings) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
    """The stored frames of all of its clips, (clips, T, H, W, 3)."""
    clips = encode_utterance(of, settings, Stopwatch()).clips
    return np.stack([decode_filmstrip(clip.members["filmstrip"], settings.clip.frames) for clip in clips])


@needs_centerface
@pytest.mark.parametrize("small", [(320, 180), (240, 180)], ids=["smaller", "and of another shape"])
def test_the_face_is_in_every_clip_though_the_pictures_change_their_size(
    tmp_path: Path, small: tuple[int, int]
) -> None:
    """In a picture of another shape the face is elsewhere: it was cut to that shape, not squeezed."""
    large = draw_faces(640, 360, (440.0, 160.0, 75.0))
    width, height = small
    left = 640 - 2 * width
    shrunk = large[:, left:].reshape(height, 2, width, 2, 3).mean((1, 3)).astype(np.uint8)
    path = write_changing_film(tmp_path / "film.mkv", [large] * 20 + [shrunk] * 20)
    frames = strips(utterance(path), BuildSettings(crop="face", size=112, fps=4, clip_seconds=1))
    assert frames.shape[:2] == (4, 4)
    detector = FaceDetector()
    for frame in frames.reshape(-1, 112, 112, 3):
        (face, *_) = detector.detect(frame).boxes
        assert face[3] / 112 == pytest.approx(0.67, abs=0.1)
        assert (face[0] + face[2] / 2) / 112 == pytest.approx(0.5, abs=0.07)


HEADER = "Identity  : \ts\n\nFRAME \tX \tY \tW \tH \n"


def write_boxes(path: Path, *box: float) -> Path:
    rows = (f"{number} {' '.join(map(str, box))}" for number in range(50))
    path.write_text(HEADER + "\n".join(rows) + "\n")
    return path


@pytest.mark.parametrize(
    ("box", "height"),
    [((80, 32, 32, 32), None), ((160, 64, 64, 64), 192), ((0.625, 1 / 3, 0.25, 1 / 3), None)],
    ids=["pixels", "pixels of another height", "fractions"],
)
def test_published_boxes_follow_the_size_of_the_pictures(
    tmp_path: Path, box: tuple[float, ...], height: int | None
) -> None:
    large, small = marked(128, 96, 80, 32, 32), marked(64, 48, 40, 16, 16)
    path = write_changing_film(tmp_path / "film.mkv", [large] * 10 + [small] * 10)
    boxes = BoxesFile(path=write_boxes(tmp_path / "boxes.txt", *box), height=height)
    frames = strips(utterance(path, boxes), BuildSettings(size=16, clip_seconds=1))
    assert frames.shape[0] == 2
    assert frames[:, :, 2:-2, 2:-2].min() > 220


@pytest.mark.parametrize(
    ("box", "height", "told"),
    [
        ((500, 500, 30, 30), None, r"FRAME 0, around \(515, 515\), .* 64×64: .* --boxes-height"),
        ((70, 10, 30, 30), None, "--boxes-height, that picture's rows"),
        ((10, -40, 30, 30), None, "--boxes-height"),
        ((40, 40, 30, 30), 32, "--boxes-height 32"),
        ((0.9, 0.9, 0.4, 0.4), None, "fractions"),
    ],
)
def test_a_box_outside_the_picture_is_no_corner_of_it(
    tmp_path: Path, box: tuple[float, ...], height: int | None, told: str
) -> None:
    path = write_film(tmp_path / "film.mp4", 2)
    boxes = BoxesFile(path=write_boxes(tmp_path / "boxes.txt", *box), height=height)
    with pytest.raises(RejectedError, match=told) as raised:
        encode_utterance(utterance(path, boxes), BuildSettings(size=16), Stopwatch())
    assert raised.value.reason == "boxes_outside"


@pytest.mark.parametrize("box", [(-14, -14, 30, 30), (48, 48, 30, 30), (-20, -20, 104, 104), (0.6, 0.7, 0.6, 0.6)])
def test_a_box_may_reach_over_the_edges(tmp_path: Path, box: tuple[float, ...]) -> None:
    path = write_film(tmp_path / "film.mp4", 2)
    boxes = BoxesFile(path=write_boxes(tmp_path / "boxes.txt", *box))
    assert len(strips(utterance(path, boxes), BuildSettings(size=16))) == 1


def test_one_box_outside_is_enough(tmp_path: Path) -> None:
    """Where some are outside, those that happen to be inside are of another picture too."""
    path = write_film(tmp_path / "film.mp4", 2)
    rows = [f"{number} {2 * number} 10 20 20" for number in range(50)]
    text = tmp_path / "boxes.txt"
    text.write_text(HEADER + "\n".join(rows) + "\n")
    with pytest.raises(RejectedError, match="FRAME 28") as raised:
        encode_utterance(utterance(path, BoxesFile(path=text)), BuildSettings(size=16), Stopwatch())
    assert raised.value.reason == "boxes_outside"
