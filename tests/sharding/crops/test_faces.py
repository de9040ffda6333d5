"""Where the face is: tracks and crops are tested on made-up boxes, the detector on drawn faces and on real clips."""

from __future__ import annotations

import importlib
import importlib.util
import math
import subprocess
import sys
from pathlib import Path

import av
import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFilter

from loaders.errors import InputError
from sharding.crops.faces import (
    DETECTIONS_PER_SECOND,
    FACE_CENTRE,
    FACE_SHARE,
    MINIMUM_COVERAGE,
    Detections,
    FaceDetector,
    Track,
    crop_boxes,
    decode,
    face_share,
    link,
    track,
)
from tests.networks import why_not

Box = tuple[float, float, float, float]

ROOT = Path(__file__).parents[3]
REAL = ROOT / "../shared/real"
unhurried = settings(deadline=None)  # a busy machine is no failure
needs_real = pytest.mark.skipif(not REAL.is_dir(), reason="the real clips of ../shared are not here")


def found(*boxes: Box, scores: tuple[float, ...] = ()) -> Detections:
    return Detections(
        boxes=np.array(boxes, np.float64).reshape(-1, 4),
        scores=np.array(scores or (0.9,) * len(boxes), np.float64),
        landmarks=np.zeros((len(boxes), 5, 2)),
    )


def clock(samples: int, rate: float = DETECTIONS_PER_SECOND) -> NDArray[np.float64]:
    return np.arange(samples) / rate


def follow(detections: list[Detections], rate: float = 8.0) -> Track:
    """The track at `rate` boxes a second, from the first frame looked at to the last."""
    times = clock(len(detections))
    path = track(detections, times, np.arange(times[0], times[-1] + 1e-9, 1 / rate))
    assert path is not None
    return path


def centres(boxes: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.asarray(boxes[:, :2] + boxes[:, 2:] / 2)


boxes_of_faces = st.tuples(
    st.floats(-50, 600), st.floats(-50, 400), st.floats(8, 300), st.floats(8, 300)
)  # x, y, width, height


@st.composite
def wandering_faces(draw: st.DrawFn) -> list[Detections]:
    """One face that moves and grows by less than makes another of it, and is now and then not seen."""
    moves, sizes = st.floats(-20, 20), st.floats(70, 120)
    faces = st.builds(lambda x, y, side: found((300 + x, 200 + y, side, side * 1.3)), moves, moves, sizes)
    detections = draw(st.lists(faces | st.just(found()), max_size=24))
    detections.insert(draw(st.integers(0, len(detections))), draw(faces))
    return detections


class TestDecode:
    @staticmethod
    def outputs(rows: int = 24, columns: int = 32) -> tuple[NDArray[np.float32], ...]:
        return tuple(np.zeros((channels, rows, columns), np.float32) for channels in (1, 2, 2, 10))

    @unhurried
    @given(
        row=st.integers(0, 23),
        column=st.integers(0, 31),
        dy=st.floats(-0.5, 0.5),
        dx=st.floats(-0.5, 0.5),
        height=st.floats(4, 100),
        width=st.floats(4, 100),
    )
    def test_a_single_cell_gives_the_box_that_was_written_there(
        self, row: int, column: int, dy: float, dx: float, height: float, width: float
    ) -> None:
        heatmap, sizes, offsets, landmarks = self.outputs()
        heatmap[0, row, column] = 0.8
        sizes[:, row, column] = math.log(height / 4), math.log(width / 4)
        offsets[:, row, column] = dy, dx
        landmarks[:, row, column] = 0.3, 0.2, 0.3, 0.8, 0.5, 0.5, 0.7, 0.25, 0.7, 0.75  # y before x
        faces = decode(heatmap, sizes, offsets, landmarks)
        x, y = (column + dx + 0.5) * 4 - width / 2, (row + dy + 0.5) * 4 - height / 2
        np.testing.assert_allclose(faces.boxes, [[x, y, width, height]], rtol=1e-5, atol=1e-4)
        np.testing.assert_allclose(faces.scores, [0.8], rtol=1e-6)
        left_eye, nose = faces.landmarks[0, 0], faces.landmarks[0, 2]
        np.testing.assert_allclose(left_eye, [x + 0.2 * width, y + 0.3 * height], rtol=1e-5, atol=1e-4)
        np.testing.assert_allclose(nose, [x + width / 2, y + height / 2], rtol=1e-5, atol=1e-4)

    def test_cells_of_one_face_vote_and_another_face_stays_another(self) -> None:
        heatmap, sizes, offsets, landmarks = self.outputs()
        sizes[:] = math.log(40 / 4)
        heatmap[0, 10, 8:10] = 0.6, 0.9
        heatmap[0, 10, 25] = 0.7
        faces = decode(heatmap, sizes, offsets, landmarks)
        np.testing.assert_allclose(faces.scores, [0.9, 0.7], rtol=1e-6)
        middle = ((8.5 * 0.6 + 9.5 * 0.9) / 1.5) * 4
        np.testing.assert_allclose(centres(faces.boxes), [[middle, 42.0], [102.0, 42.0]], rtol=1e-6)

    def test_nothing_below_the_minimum_score(self) -> None:
        heatmap, *others = self.outputs()
        heatmap[0, 3, 3] = 0.49
        faces = decode(heatmap, *others, minimum_score=0.5)
        assert faces.boxes.shape == (0, 4)
        assert faces.scores.shape == (0,)
        assert faces.landmarks.shape == (0, 5, 2)


class TestLink:
    @unhurried
    @given(st.lists(st.lists(boxes_of_faces, max_size=4), max_size=8))
    def test_every_detection_belongs_to_exactly_one_face_and_no_face_is_in_two_places(
        self, frames: list[list[Box]]
    ) -> None:
        faces = link([found(*boxes) for boxes in frames])
        members = [member for face in faces for member in face]
        assert sorted(members) == [(f, d) for f, boxes in enumerate(frames) for d in range(len(boxes))]
        for face in faces:
            times = [frame for frame, _ in face]
            assert times == sorted(set(times))

    def test_two_faces_that_change_their_order_keep_apart(self) -> None:
        left, right = (100.0, 100.0, 60.0, 80.0), (400.0, 100.0, 60.0, 80.0)
        faces = link([found(left, right), found(right, left), found(left, right)])
        assert faces == [[(0, 0), (1, 1), (2, 0)], [(0, 1), (1, 0), (2, 1)]]

    def test_a_face_that_comes_back_near_its_place_is_the_same(self) -> None:
        away = [found()] * 20
        assert len(link([found((100, 100, 60, 80)), *away, found((130, 110, 60, 80))])) == 1
        assert len(link([found((100, 100, 60, 80)), *away, found((400, 110, 60, 80))])) == 2

    def test_the_face_that_was_there_goes_before_a_nearer_one_that_had_left(self) -> None:
        left, stayed, next_one = (100.0, 100.0, 60.0, 80.0), (200.0, 100.0, 60.0, 80.0), (140.0, 100.0, 60.0, 80.0)
        assert link([found(left), found(stayed), found(next_one)]) == [[(0, 0)], [(1, 0), (2, 0)]]

    def test_a_size_out_of_all_proportion_is_another_face(self) -> None:
        assert len(link([found((100, 100, 100, 100)), found((130, 130, 40, 40))])) == 2


class TestTrack:
    def test_no_face_no_track(self) -> None:
        assert track([found(), found()], clock(2), clock(4, 8.0)) is None
        assert track([], clock(0), clock(4, 8.0)) is None

    @unhurried
    @given(box=boxes_of_faces, samples=st.integers(1, 20), rate=st.floats(1, 30))
    def test_a_face_at_rest_stays_at_rest(self, box: Box, samples: int, rate: float) -> None:
        path = follow([found(box)] * samples, rate)
        np.testing.assert_allclose(path.boxes, np.tile(box, (len(path.boxes), 1)), atol=1e-9)
        assert path.coverage() == 1.0

    @unhurried
    @given(wandering_faces(), st.floats(-500, 500), st.floats(-500, 500))
    def test_a_shifted_picture_shifts_the_track(self, detections: list[Detections], dx: float, dy: float) -> None:
        shifted = [found(*((x + dx, y + dy, w, h) for x, y, w, h in d.boxes.tolist())) for d in detections]
        expected = follow(detections).boxes + np.array([dx, dy, 0, 0])
        np.testing.assert_allclose(follow(shifted).boxes, expected, atol=1e-6)

    @unhurried
    @given(wandering_faces())
    def test_played_backwards_the_track_is_the_same_backwards(self, detections: list[Detections]) -> None:
        """So the smoothing has no lag."""
        times = clock(len(detections))
        at = times[-1] * (np.arange(25) * 0.618034 % 1)  # half-way between two shots is nobody's
        there, back = track(detections, times, at), track(detections[::-1], times, times[-1] - at)
        assert there is not None
        assert back is not None
        np.testing.assert_allclose(back.boxes, there.boxes, atol=1e-6)
        assert back.coverage() == there.coverage()

    @unhurried
    @given(wandering_faces())
    def test_the_track_stays_where_the_face_was_seen(self, detections: list[Detections]) -> None:
        seen = np.concatenate([d.boxes for d in detections])
        middle, path = centres(seen), follow(detections)
        inside = centres(path.boxes)
        assert (inside >= middle.min(0) - 1e-6).all()
        assert (inside <= middle.max(0) + 1e-6).all()
        assert (path.boxes[:, 2:] >= seen[:, 2:].min(0) - 1e-6).all()
        assert (path.boxes[:, 2:] <= seen[:, 2:].max(0) + 1e-6).all()

    @unhurried
    @given(wandering_faces())
    def test_a_box_depends_on_its_own_time_alone(self, detections: list[Detections]) -> None:
        times = clock(len(detections))
        at = np.linspace(-1.0, times[-1] + 1.0, 23)
        whole, part = track(detections, times, at), track(detections, times, at[::3])
        assert whole is not None
        assert part is not None
        np.testing.assert_allclose(part.boxes, whole.boxes[::3], atol=1e-9)

    def test_of_two_faces_the_larger_is_followed(self) -> None:
        small, large = (50.0, 50.0, 60.0, 80.0), (400.0, 100.0, 90.0, 120.0)
        path = follow([found(small, large, scores=(0.95, 0.8))] * 8)
        np.testing.assert_allclose(path.boxes[3], large)

    def test_a_passer_by_does_not_win_over_the_one_who_stays(self) -> None:
        speaker, passer_by = (100.0, 100.0, 80.0, 100.0), (400.0, 50.0, 150.0, 200.0)
        path = follow([found(speaker, passer_by) if i in (5, 6) else found(speaker) for i in range(20)])
        np.testing.assert_allclose(path.boxes, np.tile(speaker, (len(path.boxes), 1)))

    def test_a_steady_motion_is_followed_without_lag_and_through_gaps(self) -> None:
        seen = [i not in (9, 10, 11, 20) for i in range(32)]
        detections = [found((100 + 10 * i, 200 - 4 * i, 100, 130)) if seen[i] else found() for i in range(32)]
        path = follow(detections, DETECTIONS_PER_SECOND)
        line = np.array([[150 + 10 * i, 265 - 4 * i] for i in range(32)])
        # A median and a Gaussian leave a straight line alone, but for the ends, which have neighbours on one side only.
        np.testing.assert_allclose(centres(path.boxes)[4:-4], line[4:-4], atol=0.05)
        np.testing.assert_allclose(centres(path.boxes), line, atol=12.0)
        assert path.coverage() == pytest.approx(28 / 32)

    def test_a_face_that_leaves_is_covered_only_while_it_was_seen(self) -> None:
        box = (100.0, 100.0, 80.0, 100.0)
        path = follow([found(box) if i < 4 or i >= 16 else found() for i in range(20)])
        assert path.coverage() == pytest.approx(8 / 20)
        assert path.coverage(0.0, 1.0) == 1.0
        assert path.coverage(1.0, 4.0) == 0.0
        assert path.coverage(0.5, 1.5) == pytest.approx(0.5)
        assert path.coverage(100.0, 101.0) == 0.0
        np.testing.assert_allclose(path.boxes, np.tile(box, (len(path.boxes), 1)))

    def test_a_single_false_place_is_ignored(self) -> None:
        box = (100.0, 100.0, 80.0, 100.0)
        path = follow([found((150.0, 130.0, 100.0, 90.0)) if i == 7 else found(box) for i in range(16)])
        np.testing.assert_allclose(path.boxes, np.tile(box, (len(path.boxes), 1)))

    def test_jitter_is_smoothed_away(self) -> None:
        noise = np.random.default_rng(0).normal(0, 3.0, (80, 4))
        path = follow([found(tuple(np.array([100, 100, 100, 130]) + n)) for n in noise], DETECTIONS_PER_SECOND)
        assert np.diff(centres(path.boxes), axis=0).std() < 0.35 * np.diff(centres(noise), axis=0).std()
        assert (path.boxes[:, 2:].std(0) < noise[:, 2:].std(0) / 2).all()

    def test_a_jump_cut_is_not_smoothed_over(self) -> None:
        before, after = (100.0, 100.0, 80.0, 100.0), (165.0, 100.0, 80.0, 100.0)
        path = follow([found(before)] * 8 + [found(after)] * 8, 16.0)
        assert path.coverage() == 1.0
        assert set(path.boxes[:, 0].round(6)) == {100.0, 165.0}

    def test_boxes_are_in_pixels_of_the_size_that_is_asked_for(self) -> None:
        """The second half of the frames is half as large, and shows the face a little further left."""
        large, small = (300.0, 100.0, 80.0, 100.0), (140.0, 50.0, 40.0, 50.0)
        looked = [found(large)] * 8 + [found(small)] * 8
        sizes = [(640, 360)] * 8 + [(320, 180)] * 8
        at = clock(16)
        for size, box in (((640, 360), large), ((320, 180), small)):
            path = track(looked, at, at, sizes=sizes, size=size)
            assert path is not None
            assert path.coverage() == 1.0
            np.testing.assert_allclose(path.boxes, np.tile(box, (16, 1)))
        # Of a size in which the face was never seen, the same share.
        path = track([*looked[:8], *[found()] * 8], at, at, sizes=sizes, size=(320, 180))
        assert path is not None
        np.testing.assert_allclose(path.boxes, np.tile(np.array(large) / 2, (16, 1)))

    def test_a_face_is_not_larger_for_having_more_pixels(self) -> None:
        speaker, passer_by = (20.0, 20.0, 60.0, 80.0), (600.0, 180.0, 90.0, 120.0)
        looked = [found(speaker)] * 9 + [found(passer_by)] * 6
        path = track(looked, clock(15), clock(15), sizes=[(320, 180)] * 9 + [(960, 540)] * 6)
        assert path is not None
        np.testing.assert_allclose(path.boxes, np.tile(speaker, (15, 1)))


class TestCrop:
    @staticmethod
    def pictures() -> st.SearchStrategy[tuple[int, int]]:
        return st.tuples(st.integers(16, 2000), st.integers(16, 2000))

    @unhurried
    @given(st.lists(boxes_of_faces, max_size=5), pictures(), st.floats(0.2, 1.0))
    def test_a_square_inside_the_picture(self, faces: list[Box], picture: tuple[int, int], share: float) -> None:
        width, height = picture
        crops = crop_boxes(np.array(faces).reshape(-1, 4), width, height, share)
        assert crops.shape == (len(faces), 4)
        assert (crops[:, 2] == crops[:, 3]).all()
        assert (crops[:, :2] >= 0).all()
        assert (crops[:, 2:] > 0).all()
        assert (crops[:, :2] + crops[:, 2:] <= [width + 1e-9, height + 1e-9]).all()

    @unhurried
    @given(boxes_of_faces, pictures(), st.floats(0.2, 1.0), st.tuples(st.floats(0, 1), st.floats(0, 1)))
    def test_the_face_is_in_it_where_a_square_can_hold_it(
        self, face: Box, picture: tuple[int, int], share: float, centre: tuple[float, float]
    ) -> None:
        x, y, w, h = face
        near = np.maximum([x, y], 0.0)
        far = np.minimum([x + w, y + h], picture)
        assume(max(w, h) <= min(picture) and (near < far).all())
        crop = crop_boxes(np.array([face]), *picture, share, centre)[0]
        assert (crop[:2] <= near + 1e-6).all()
        assert (crop[:2] + crop[2:] >= far - 1e-6).all()

    @unhurried
    @given(st.floats(300, 500), st.floats(300, 500), st.floats(20, 100), st.floats(20, 100), st.floats(0.5, 0.8))
    def test_with_room_around_it_the_face_has_its_share_and_its_place(
        self, x: float, y: float, w: float, h: float, share: float
    ) -> None:
        face = np.array([[x, y, w, h]])
        crop = crop_boxes(face, 1000, 1000, share)
        np.testing.assert_allclose(face_share(face, crop[0, 2]), share)
        # Unless the face would stick out of the crop there: a large share leaves it less freedom.
        place = (centres(face) - crop[:, :2]) / crop[:, 2:]
        margin = face[:, 2:] / 2 / crop[:, 2:]
        np.testing.assert_allclose(place, np.clip(FACE_CENTRE, margin, 1 - margin), atol=1e-9)

    @unhurried
    @given(st.floats(-100, 100), st.floats(-100, 100))
    def test_it_moves_with_the_face(self, dx: float, dy: float) -> None:
        face = np.array([[450.0, 450.0, 80.0, 100.0]])
        shift = np.array([dx, dy, 0, 0])
        moved = crop_boxes(face + shift, 1000, 1000)
        np.testing.assert_allclose(moved, crop_boxes(face, 1000, 1000) + shift, atol=1e-9)

    def test_a_face_larger_than_the_picture_is_cut_on_both_sides_alike(self) -> None:
        crop = crop_boxes(np.array([[100.0, -50.0, 150.0, 200.0]]), 400, 100)
        np.testing.assert_allclose(crop, [[125.0, 0.0, 100.0, 100.0]])


class TestWithoutTheExtra:
    def test_the_module_does_not_import_what_the_extra_brings(self) -> None:
        code = "import sys, sharding.crops.faces; assert not {'cv2'} & set(sys.modules)"
        subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT)

    def test_a_missing_package_names_the_extra(self, monkeypatch: pytest.MonkeyPatch) -> None:
        find = importlib.util.find_spec
        monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "cv2" else find(name))
        with pytest.raises(InputError, match=r"pip install '\.\[faces\]'"):
            FaceDetector()

    def test_an_opencv_that_lacks_a_library_names_the_one_that_does_not_need_it(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def fail(name: str) -> None:
            raise ImportError("libGL.so.1: cannot open shared object file")

        monkeypatch.setattr(importlib.util, "find_spec", lambda name: object())
        monkeypatch.setattr(importlib, "import_module", fail)
        with pytest.raises(InputError, match=r"libGL\.so\.1.*opencv-python-headless"):
            FaceDetector()


@pytest.fixture(scope="module")
def detector() -> FaceDetector:
    pytest.importorskip("cv2", exc_type=ImportError)
    if (reason := why_not("centerface")) is not None:
        pytest.skip(reason)
    return FaceDetector()


def draw_faces(width: int, height: int, *faces: tuple[float, float, float]) -> NDArray[np.uint8]:
    """A picture of plain faces, each given by x and y of its centre and half its height."""
    picture = Image.new("RGB", (width, height), (90, 120, 150))
    pen = ImageDraw.Draw(picture)
    for cx, cy, r in faces:
        features = [  # x, y, half width, half height, in half face heights; colour
            (0.0, 1.9, 1.4, 0.7, (50, 50, 70)),  # shoulders
            (0.0, -0.15, 0.86, 1.05, (40, 28, 20)),  # hair
            (0.0, 0.9, 0.3, 0.5, (190, 140, 115)),  # neck
            (0.0, 0.0, 0.72, 0.95, (215, 165, 140)),  # face
            *((side, -0.17, 0.16, 0.08, (245, 240, 235)) for side in (-0.28, 0.28)),  # eyes
            *((side, -0.17, 0.08, 0.08, (40, 30, 25)) for side in (-0.28, 0.28)),  # pupils
            *((side, -0.36, 0.18, 0.04, (50, 35, 25)) for side in (-0.28, 0.28)),  # brows
            (0.0, 0.12, 0.08, 0.18, (200, 145, 120)),  # nose
            (0.0, 0.22, 0.12, 0.03, (120, 75, 60)),  # nostrils
            (0.0, 0.5, 0.26, 0.08, (150, 60, 60)),  # mouth
        ]
        for x, y, a, b, colour in features:
            pen.ellipse([cx + (x - a) * r, cy + (y - b) * r, cx + (x + a) * r, cy + (y + b) * r], fill=colour)
    softness = min((r for _, _, r in faces), default=16.0) / 16  # edges as sharp as the pen's look like no face
    return np.asarray(picture.filter(ImageFilter.GaussianBlur(softness)))


def drawn_box(cx: float, cy: float, r: float) -> NDArray[np.float64]:
    return np.array([cx - 0.72 * r, cy - 0.95 * r, 1.44 * r, 1.9 * r])


def overlap(a: NDArray[np.float64], b: NDArray[np.float64]) -> float:
    shared = np.maximum(np.minimum(a[:2] + a[2:], b[:2] + b[2:]) - np.maximum(a[:2], b[:2]), 0).prod()
    return float(shared / (a[2:].prod() + b[2:].prod() - shared))


class TestDetector:
    @pytest.mark.parametrize("scale", [1, 3])
    def test_a_drawn_face_is_found_where_it_was_drawn(self, detector: FaceDetector, scale: int) -> None:
        face = (210 * scale, 150 * scale, 110 * scale)
        faces = detector.detect(draw_faces(480 * scale, 350 * scale, face))
        assert len(faces.boxes) == 1
        assert overlap(faces.boxes[0], drawn_box(*face)) > 0.8
        assert (faces.boxes % 1 == 0).all()
        left_eye, right_eye, nose, left_mouth, right_mouth = (faces.landmarks[0] - face[:2]) / face[2]
        assert np.hypot(*(left_eye - [-0.28, -0.17])) < 0.15
        assert np.hypot(*(right_eye - [0.28, -0.17])) < 0.15
        assert np.hypot(*(nose - [0.0, 0.2])) < 0.2
        assert left_mouth[0] < nose[0] < right_mouth[0]
        assert min(left_mouth[1], right_mouth[1]) > nose[1]

    def test_two_drawn_faces(self, detector: FaceDetector) -> None:
        drawn = ((110.0, 170.0, 90.0), (350.0, 170.0, 110.0))
        faces = detector.detect(draw_faces(480, 360, *drawn))
        assert len(faces.boxes) == 2
        for face in drawn:
            assert max(overlap(box, drawn_box(*face)) for box in faces.boxes) > 0.7

    @pytest.mark.parametrize("shape", [(360, 480), (1, 1), (2000, 30), (33, 65)])
    def test_a_plain_picture_holds_none(self, detector: FaceDetector, shape: tuple[int, int]) -> None:
        assert len(detector.detect(np.full((*shape, 3), 128, np.uint8)).boxes) == 0

    def test_the_same_frame_gives_the_same_bytes_whatever_came_between(self, detector: FaceDetector) -> None:
        frame = draw_faces(480, 350, (210, 150, 110))
        frame.setflags(write=False)
        first = detector.detect(frame)
        detector.detect(draw_faces(320, 320, (150, 150, 100)))
        second, other = detector.detect(frame), FaceDetector().detect(frame)
        assert first.boxes.tobytes() == second.boxes.tobytes() == other.boxes.tobytes()

    def test_the_crop_follows_a_face_that_wanders(self, detector: FaceDetector) -> None:
        at = np.arange(24) / 8.0
        places = [(300 + 60 * math.sin(t), 220 + 30 * math.cos(1.3 * t), 100.0) for t in at]
        frames = [draw_faces(640, 480, place) for place in places]
        path = track([detector.detect(frame) for frame in frames[::2]], at[::2], at)
        assert path is not None
        assert path.coverage() == 1.0
        crops = crop_boxes(path.boxes, 640, 480)
        faces = np.array([drawn_box(*place) for place in places])
        assert np.abs(faces[:, 2:].max(1) / crops[:, 2] - FACE_SHARE).max() < 0.06
        assert np.abs((centres(faces) - crops[:, :2]) / crops[:, 2:] - FACE_CENTRE).max() < 0.06


def read(path: Path, rate: float) -> tuple[list[NDArray[np.uint8]], NDArray[np.float64]]:
    """Frames of a real clip, about `rate` a second, and their times in seconds."""
    frames: list[NDArray[np.uint8]] = []
    times: list[float] = []
    with av.open(str(path)) as container:
        for frame in container.decode(video=0):
            time = float(frame.time or 0.0)
            if not times or time >= times[-1] + 1 / rate - 1e-6:
                frames.append(np.asarray(frame.to_ndarray(format="rgb24"), np.uint8))
                times.append(time)
    return frames, np.array(times)


@needs_real
class TestRealClips:
    @pytest.mark.parametrize("clip", ["grid/bbaf2n.mpg", "grid/lwbsza.mpg", "grid/swiz3n.mpg", "wide/fps22.mp4"])
    def test_the_face_is_seen_throughout_and_fills_its_crop_as_in_voxceleb(
        self, detector: FaceDetector, clip: str
    ) -> None:
        frames, times = read(REAL / clip, 2.0)
        path = track([detector.detect(frame) for frame in frames], times, times)
        assert path is not None
        assert path.coverage() == 1.0
        height, width = frames[0].shape[:2]
        shares = []
        for frame, (x, y, side, _) in zip(frames, crop_boxes(path.boxes, width, height), strict=True):
            crop = Image.fromarray(frame).resize((224, 224), Image.Resampling.BICUBIC, (x, y, x + side, y + side))
            faces = detector.detect(np.asarray(crop))
            assert len(faces.boxes) == 1
            shares.append(face_share(faces.boxes, 224)[0])
        assert np.median(shares) == pytest.approx(FACE_SHARE, abs=0.06)

    def test_the_share_is_that_of_voxceleb(self, detector: FaceDetector) -> None:
        clips = sorted((REAL / "voxceleb2").rglob("*.mp4"))
        faces = [detector.detect(frame).boxes[:1] for clip in clips for frame in read(clip, 0.8)[0]]
        boxes = np.concatenate(faces)
        assert len(boxes) == len(faces)
        assert np.median(face_share(boxes, 224)) == pytest.approx(FACE_SHARE, abs=0.015)
        np.testing.assert_allclose(np.median(centres(boxes) / 224, axis=0), FACE_CENTRE, atol=0.015)

    @pytest.mark.parametrize("clip", ["no_face.mp4", "short_10fps_no_face.mp4"])
    def test_no_face(self, detector: FaceDetector, clip: str) -> None:
        frames, times = read(REAL / "edge" / clip, 2.0)
        assert track([detector.detect(frame) for frame in frames], times, times) is None

    def test_a_face_that_leaves(self, detector: FaceDetector) -> None:
        frames, times = read(REAL / "edge/face_leaves_hevc.mov", 2.0)
        path = track([detector.detect(frame) for frame in frames], times, times)
        assert path is not None
        assert path.coverage() < MINIMUM_COVERAGE
        assert path.coverage(end=2.0) == 1.0
        assert path.coverage(start=4.0) == 0.0
