"""A demo corpus that a program makes: talking heads with voices, in VoxCeleb2's and OMG-Emotion's published layouts.

Nothing here is recorded, so it may be handed on, and everything about it is known: when the mouth opens, what is felt
(see `demo_acting`). What a network learns from it holds for people that it has never seen, which is what makes it
useful to try a pipeline on; it says nothing about how well anything works on people. What is felt shows in face and
voice alike, and who somebody is nowhere in both: so what pre-training finds is of use.

```
OUTPUT/voxceleb/dev/mp4/<speaker>/<video>/00001.mp4     H.264 at 25 fps, AAC 16 kHz mono
OUTPUT/omg/videos/<video>/utterance_1.mp4               the same
OUTPUT/omg/omg_TrainVideos.csv, omg_ValidationVideos.csv
OUTPUT/openface/voxceleb/<speaker>/<video>/00001.csv    OpenFace 2's table, a row a frame
OUTPUT/openface/omg/<video>/utterance_1.csv
```
"""

import csv
import io
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

import av
import numpy as np
from av.video.reformatter import VideoReformatter
from numpy.typing import NDArray
from rich.console import Console

from loaders.errors import InputError
from loaders.progress import progress
from sharding.demo import acting as demo_acting
from sharding.demo import face as demo_face
from sharding.demo import voice as demo_voice
from sharding.demo.acting import Scene, Take
from sharding.demo.affect import Affect, feel
from sharding.engines.local import run

SAMPLE_RATE = 16000
FPS = 25

#: Shares of the emotions, in the order of OMG's codes: neutral and happy lead as they do there, but the rarest are
#: raised, so that a few hundred utterances hold some of each.
SHARES = (0.12, 0.08, 0.06, 0.25, 0.29, 0.14, 0.06)

#: How far raters are off, one standard deviation, of arousal (0..1) and valence (-1..1).
RATERS_SPREAD = (0.06, 0.12)

#: The columns that we write of OpenFace 2's `FeatureExtraction`, in its order. Of its 56 eye landmarks these are the
#: outer corners of the eyes (8 and 42) and two opposite points of a pupil's rim (51 and 55).
_LANDMARKS = (8, 42, 51, 55)
OPENFACE_COLUMNS = (
    *("frame", "face_id", "timestamp", "confidence", "success"),
    *(f"gaze_{eye}_{axis}" for eye in (0, 1) for axis in "xyz"),
    *("gaze_angle_x", "gaze_angle_y"),
    *(f"eye_lmk_{axis}_{landmark}" for axis in "XYZ" for landmark in _LANDMARKS),
    *("pose_Tx", "pose_Ty", "pose_Tz", "pose_Rx", "pose_Ry", "pose_Rz"),
    *("AU45_r", "AU45_c"),
)
_DECIMALS = (0, 0, 3, 2, 0, *[6] * 6, 3, 3, *[1] * 12, *[1] * 3, *[3] * 3, 2, 0)
#: What a frame side spans at the head's distance, millimetres.
_FRAME_MM = 270.0


@dataclass(frozen=True, slots=True, kw_only=True)
class DemoSettings:
    """What the corpus holds. Two corpora with the same settings are the same, byte for byte."""

    seed: int = 0
    """The source of all chance, 0 or more."""
    speakers: int = 500
    """Of the VoxCeleb part."""
    videos_per_speaker: int = 4
    """Of the VoxCeleb part: each has its own room, light and clothes, and its own mood."""
    utterances_per_video: int = 1
    """Of the VoxCeleb part."""
    voxceleb_seconds: tuple[float, float] = (2.1, 2.6)
    """Shortest and longest utterance of the VoxCeleb part."""
    omg_train: int = 50
    """Utterances of OMG's training split: few, as labels are dear."""
    omg_validation: int = 1000
    """Utterances of OMG's validation split: none of its speakers is in the training split."""
    omg_utterances_per_video: int = 5
    """Of the OMG part, whose videos each show a speaker of their own."""
    omg_seconds: tuple[float, float] = (2.1, 2.5)
    """Shortest and longest utterance of the OMG part."""
    size: int = 224
    """Side of the frames, pixels: even."""
    lost_faces: float = 0.02
    """Share of the utterances whose face OpenFace lost for most of the time."""

    def __post_init__(self) -> None:
        """Raises: InputError: a setting out of its range."""
        least = {
            "seed": 0,
            "speakers": 1,
            "videos_per_speaker": 1,
            "utterances_per_video": 1,
            "omg_train": 1,
            "omg_validation": 1,
            "omg_utterances_per_video": 1,
        }
        for name, minimum in least.items():
            if getattr(self, name) < minimum:
                raise InputError(f"demo: {name} must be {minimum} or more (got {getattr(self, name)})")
        for name in ("voxceleb_seconds", "omg_seconds"):
            shortest, longest = getattr(self, name)
            if not 0.5 <= shortest <= longest:
                raise InputError(f"demo: {name} must be two rising lengths from 0.5 on (got {shortest}, {longest})")
        if self.size < 32 or self.size % 2:
            raise InputError(f"demo: size must be even and 32 or more (got {self.size})")
        if not 0 <= self.lost_faces <= 1:
            raise InputError(f"demo: lost_faces must be between 0 and 1 (got {self.lost_faces})")


@dataclass(frozen=True, slots=True, kw_only=True)
class DemoSummary:
    """What `make_demo` wrote."""

    output: Path
    voxceleb: int  # utterances
    omg_train: int  # utterances
    omg_validation: int  # utterances
    frames: int
    seconds: float  # of video
    bytes: int

    def __str__(self) -> str:
        return (
            f"{self.output}: {self.voxceleb} utterances in VoxCeleb's layout, {self.omg_train} + "
            f"{self.omg_validation} in OMG's, {self.seconds / 60:.0f} minutes, {self.bytes / 1e6:.0f} MB"
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Scenario:
    """One utterance to make: who, where, what is felt, and the two files that it becomes, under the output folder."""

    part: int  # VoxCeleb, OMG train or OMG validation: people of different parts are strangers
    person: int
    video: int
    utterance: int
    emotion: int
    affect: Affect
    frames: int
    movie: str
    table: str


OMG_COLUMNS = ("link", "start", "end", "video", "utterance", "arousal", "valence", "EmotionMaxVote")

# A stream of chance is keyed by what it is for, then by whose it is: part, person, video, utterance.
_PERSON, _SCENE, _PLAN, _ACTING, _VOICE, _TRACKER = range(6)
_VOXCELEB, _OMG_TRAIN, _OMG_VALIDATION = 1, 2, 3


def make_demo(output: Path, settings: DemoSettings, *, workers: int) -> DemoSummary:
    """Makes the corpus under `output`, which appears when it is whole and not before.

    Args:
        output: a folder that does not exist yet, or is empty.
        settings: what to make. The result depends on nothing else.
        workers: processes; 1 works in this one. With more, the calling program needs the usual
            `if __name__ == "__main__"` guard, because each new process imports it.

    Raises:
        InputError: `output` holds something already, or `workers` is under 1.
    """
    if workers < 1:
        raise InputError(f"demo: workers must be 1 or more (got {workers})")
    if output.exists() and (not output.is_dir() or any(output.iterdir())):
        raise InputError(f"{output} exists and is not an empty folder: name another, or remove it first")
    output = output.resolve()
    output.parent.mkdir(parents=True, exist_ok=True)
    voxceleb = _voxceleb(settings)
    train, train_rows = _omg(settings, _OMG_TRAIN, settings.omg_train)
    validation, validation_rows = _omg(settings, _OMG_VALIDATION, settings.omg_validation)
    scenarios = [*voxceleb, *train, *validation]
    with TemporaryDirectory(prefix=f".{output.name}.", dir=output.parent) as beside:
        unfinished = Path(beside) / output.name
        size = sum(_each(partial(_make, settings=settings, root=unfinished), scenarios, workers=workers))
        size += _write_omg(unfinished / "omg/omg_TrainVideos.csv", train_rows)
        size += _write_omg(unfinished / "omg/omg_ValidationVideos.csv", validation_rows)
        unfinished.replace(output)
    return DemoSummary(
        output=output,
        voxceleb=len(voxceleb),
        omg_train=len(train),
        omg_validation=len(validation),
        frames=sum(scenario.frames for scenario in scenarios),
        seconds=sum(scenario.frames / FPS for scenario in scenarios),
        bytes=size,
    )


def _stream(settings: DemoSettings, *key: int) -> np.random.Generator:
    """Chance that depends on the seed and on whose it is, never on what was made before."""
    return np.random.default_rng(np.random.SeedSequence(settings.seed, spawn_key=key))


def _voxceleb(settings: DemoSettings) -> list[_Scenario]:
    """Interviews: one of the emotions is felt in each, all as often, and nobody says which."""
    scenarios = []
    for person in range(settings.speakers):
        for video in range(settings.videos_per_speaker):
            for utterance in range(settings.utterances_per_video):
                rng = _stream(settings, _PLAN, _VOXCELEB, person, video, utterance)
                emotion = int(rng.integers(len(SHARES)))
                name = f"id{90001 + person}/demo{person:04d}_{video:02d}/{utterance + 1:05d}"
                scenarios.append(
                    _Scenario(
                        part=_VOXCELEB,
                        person=person,
                        video=video,
                        utterance=utterance,
                        emotion=emotion,
                        affect=feel(rng, emotion),
                        frames=round(rng.uniform(*settings.voxceleb_seconds) * FPS),
                        movie=f"voxceleb/dev/mp4/{name}.mp4",
                        table=f"openface/voxceleb/{name}.csv",
                    )
                )
    return scenarios


def _omg(settings: DemoSettings, part: int, utterances: int) -> tuple[list[_Scenario], list[tuple[str, ...]]]:
    """Utterances of one split in the exact `SHARES`, in videos of a few each, and their rows of the split's table."""
    scenarios: list[_Scenario] = []
    rows: list[tuple[str, ...]] = []
    split = "train" if part == _OMG_TRAIN else "valid"
    start = 0.0
    for index, emotion in enumerate(_deal(_stream(settings, _PLAN, part), utterances)):
        person, utterance = divmod(index, settings.omg_utterances_per_video)
        rng = _stream(settings, _PLAN, part, person, 0, utterance)
        frames = round(rng.uniform(*settings.omg_seconds) * FPS)
        start = rng.uniform(0, 5) if utterance == 0 else start + rng.uniform(0.2, 3)
        end = start + frames / FPS
        affect = feel(rng, emotion)
        rated = np.array((0.5 + 0.5 * affect.arousal, affect.valence)) + rng.normal(0, RATERS_SPREAD)
        arousal, valence = np.clip(rated, (0, -1), (1, 1)).tolist()
        video = f"demo{split}{person:03d}"
        name = f"utterance_{utterance + 1}"
        times = f"{start:.3f}", f"{end:.3f}"
        ratings = f"{arousal:.4f}", f"{valence:.4f}", str(emotion)
        rows.append((f"https://example.org/{video}", *times, video, f"{name}.mp4", *ratings))
        scenarios.append(
            _Scenario(
                part=part,
                person=person,
                video=0,
                utterance=utterance,
                emotion=emotion,
                affect=affect,
                frames=frames,
                movie=f"omg/videos/{video}/{name}.mp4",
                table=f"openface/omg/{video}/{name}.csv",
            )
        )
        start = end
    return scenarios, rows


def _deal(rng: np.random.Generator, count: int) -> list[int]:
    """`count` emotions in the proportion of `SHARES` (largest remainders), shuffled."""
    quotas = np.array(SHARES) / sum(SHARES) * count
    counts = np.floor(quotas).astype(int)
    counts[np.argsort(counts - quotas, kind="stable")[: count - counts.sum()]] += 1
    emotions: list[int] = rng.permutation(np.repeat(np.arange(len(SHARES)), counts)).tolist()
    return emotions


def _each(make: Callable[[_Scenario], int], scenarios: list[_Scenario], *, workers: int) -> Iterator[int]:
    """`make` of every scenario, in any number of processes, behind a bar."""
    screen = Console(stderr=True)
    with progress("demo corpus", len(scenarios), "utterances", console=screen, transient=True) as bar:
        yield from bar.track(run(make, scenarios, workers=workers))


def _make(scenario: _Scenario, *, settings: DemoSettings, root: Path) -> int:
    """Acts a scenario out and writes its movie and its table; returns their bytes."""
    video = (scenario.part, scenario.person, scenario.video)
    person = demo_acting.draw_person(_stream(settings, _PERSON, *video[:2]))
    scene = demo_acting.draw_scene(_stream(settings, _SCENE, *video))
    take = demo_acting.act(
        _stream(settings, _ACTING, *video, scenario.utterance),
        frames=scenario.frames,
        fps=FPS,
        affect=scenario.affect,
        emotion=scenario.emotion,
    )
    sound = demo_voice.speak(
        _stream(settings, _VOICE, *video, scenario.utterance),
        person,
        scene,
        take,
        samples=scenario.frames * SAMPLE_RATE // FPS,
        rate=SAMPLE_RATE,
    )
    movie = _movie(demo_face.film(person, scene, take, size=settings.size), sound, size=settings.size)
    tracker = _stream(settings, _TRACKER, *video, scenario.utterance)
    table = _openface(tracker, scene, take, lost=tracker.random() < settings.lost_faces).encode()
    for name, content in ((scenario.movie, movie), (scenario.table, table)):
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    return len(movie) + len(table)


def _movie(frames: Iterable[NDArray[np.uint8]], sound: NDArray[np.int16], *, size: int) -> bytes:
    """An MP4 as VoxCeleb2's: H.264 and AAC. One thread and no dates, so that the same input gives the same bytes."""
    file = io.BytesIO()
    reformatter = VideoReformatter()  # kept: setting one up costs ten times what it does to a frame
    with av.open(file, "w", format="mp4", options={"fflags": "+bitexact"}) as container:
        quick = {"preset": "superfast", "crf": "26", "threads": "1"}
        picture = container.add_stream("libx264", rate=FPS, options=quick)
        picture.width, picture.height, picture.pix_fmt = size, size, "yuv420p"
        plain = {"aac_coder": "fast", "flags": "+bitexact"}
        track = container.add_stream("aac", rate=SAMPLE_RATE, layout="mono", options=plain)
        track.bit_rate = 64000
        for frame in frames:
            image = av.VideoFrame.from_ndarray(frame, format="rgb24")
            container.mux(picture.encode(reformatter.reformat(image, format="yuv420p", threads=1)))
        container.mux(picture.encode())
        waveform = av.AudioFrame.from_ndarray(sound[None], format="s16", layout="mono")
        waveform.sample_rate, waveform.pts = SAMPLE_RATE, 0
        container.mux(track.encode(waveform))
        container.mux(track.encode())
    return file.getvalue()


def _openface(rng: np.random.Generator, scene: Scene, take: Take, *, lost: bool) -> str:
    """What OpenFace would have measured of a take: its columns, conventions, decimals and errors.

    Lengths are millimetres from the camera, x to the right of the picture and y down; angles are radians.
    """
    frames = len(take.closure)
    gaze = take.gaze + rng.normal(0, 0.0015, take.gaze.shape)
    toward = np.stack([np.tan(gaze[:, 0]), np.tan(gaze[:, 1]), -np.ones(frames)], axis=1)
    toward /= np.linalg.norm(toward, axis=1, keepdims=True)

    middle = (take.sway + np.array(scene.place)) * _FRAME_MM
    centre = np.concatenate([middle, take.distance[:, None]], axis=1)
    centre += rng.normal(0, (0.2, 0.2, 0.8), centre.shape)
    # Eyes sit 30 mm to both sides of the nose and 20 mm before the head's middle; a turn brings one of them nearer.
    outward = np.stack([np.cos(take.turn), np.zeros(frames), np.sin(take.turn)], axis=1)
    front = centre - (0, 30, 20)
    corners = (front - 44 * outward, front + 44 * outward)
    pupil = front + 31 * outward + 12 * toward
    radius = (take.pupil / 2 + rng.normal(0, 0.03, frames))[:, None] * outward
    points = np.stack([*corners, pupil + radius, pupil - radius], axis=2)  # frames, xyz, landmarks

    success = np.ones(frames)
    if lost:
        success[rng.random(frames) < 0.8] = 0
    seen = success > 0
    blink = np.clip(3.2 * take.closure**1.5 + np.maximum(rng.normal(0, 0.06, frames), 0), 0, 5)
    nod = 0.4 * take.sway[:, 1] + rng.normal(0, 0.004, frames)
    head = np.stack([nod, -take.turn, take.roll], axis=1) + rng.normal(0, 0.003, (frames, 3))
    table = np.column_stack(
        [
            np.arange(1, frames + 1),
            np.zeros(frames),
            np.arange(frames) / take.fps,
            np.where(seen, 0.98, 0.02),
            success,
            toward,
            toward,
            gaze,
            points.reshape(frames, -1),
            centre,
            head,
            blink,
            take.closure > 0.5,
        ]
    )
    table[~seen, 5:] = 0.0  # as OpenFace does where it finds no face
    line = ",".join(f"%.{decimals}f" for decimals in _DECIMALS)
    return "\n".join([",".join(OPENFACE_COLUMNS), *(line % tuple(row) for row in table.tolist())]) + "\n"


def _write_omg(path: Path, rows: list[tuple[str, ...]]) -> int:
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(OMG_COLUMNS)
    writer.writerows(rows)
    path.parent.mkdir(parents=True, exist_ok=True)
    return path.write_bytes(file.getvalue().encode())
