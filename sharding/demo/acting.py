"""Who stands before the demo's camera, and what they do there, as numbers over time.

A person is a handful of traits. A take is what that person does for a few seconds: syllables, glances, blinks, nods.
`demo_face` draws the numbers and `demo_voice` sounds them, so whatever joins picture and sound is stated here:

- a person's looks tell nothing of their voice (`Person`);
- the mouth opens with every syllable that is heard (`Speech`);
- what is felt moves the face, the eyes and the voice (`sharding.demo.affect`), each with its own chance errors.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sharding.demo import affect as affects
from sharding.demo.affect import Affect, FaceManner, GlanceManner, ToneManner

Track = NDArray[np.float64]

#: Steps a second at which speech is described: fine enough for a consonant, coarse enough to be cheap.
CONTROL_RATE = 200

#: How far voices are apart, as a share of what `Person`'s traits allow.
_VOICES = 0.9


# Mean formants of men's vowels in hertz, F1 to F3 (Peterson and Barney 1952, Table II): heed, head, hod, hawed, who'd.
VOWELS = np.array([(270, 2290, 3010), (530, 1840, 2480), (730, 1090, 2440), (570, 840, 2410), (300, 870, 2240)], float)


@dataclass(frozen=True, slots=True, kw_only=True)
class Person:
    """Traits from 0 to 1, seen but for the last three, which are heard. None tells anything of another: if looks told
    of voices, who speaks would be all that a network learns of a pair, so quickly that it looks no further.
    """

    width: float
    hair_length: float
    hair_warmth: float
    skin: float
    eyes: float
    parting: float
    fringe: float
    nose: float
    freckles: bool
    glasses: bool
    depth: float  # of the voice: from high to low
    tract: float  # from short to long
    mellowness: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Scene:
    """One video's circumstances, the same in all its utterances. What is seen of them tells nothing of the voice."""

    wall: tuple[float, float, float]
    shirt: tuple[float, float, float]
    light: tuple[float, float, float]
    stripes: bool
    place: tuple[float, float]  # of the head, in frame sides from its usual place
    zoom: float
    pitch: float  # how this day's voice differs from the person's: octaves
    tract: float  # ... octaves of the formants
    tilt: float  # ... dB an octave


@dataclass(frozen=True, slots=True)
class Speech:
    """Syllables over time, at `CONTROL_RATE`."""

    loudness: Track  # (ticks,) 0..1
    formants: Track  # (ticks, 3) hertz, of an average tract
    melody: Track  # (ticks,) semitones about the speaker's own pitch
    hiss: Track  # (ticks,) 0..1: consonants


@dataclass(frozen=True, slots=True)
class Take:
    """What happens in an utterance: speech at `CONTROL_RATE`, everything else once a frame."""

    fps: int
    speech: Speech
    tone: ToneManner
    face: FaceManner
    mouth_open: Track  # 0..1
    mouth_spread: Track  # -1 rounded .. 1 wide
    closure: Track  # of the eyes, 0..1
    gaze: Track  # (frames, 2) radians from the camera's axis, wherever the head points: x to the right, y down
    pupil: Track  # millimetres, diameter
    sway: Track  # (frames, 2) of the head, in frame sides
    roll: Track  # radians
    turn: Track  # radians, positive to the right of the picture
    distance: Track  # millimetres from the camera
    flush: float  # of the skin, -1 pale .. 1 red


def draw_person(rng: np.random.Generator) -> Person:
    """A new person: every trait independent of the others.

    Build, hair and voice are nearer to an extreme than not: were they uniform, more strangers would be alike.
    """
    width, length, warmth = _fold(_fold(rng.random(3))).tolist()
    skin, eyes, parting, fringe, nose, freckles, glasses = rng.random(7).tolist()
    chance = _fold(_fold(rng.random(3)))
    depth, tract, mellowness = (0.5 + _VOICES * (chance - 0.5)).tolist()
    return Person(
        width=width,
        hair_length=length,
        hair_warmth=warmth,
        skin=skin,
        eyes=eyes,
        parting=parting,
        fringe=fringe,
        nose=nose,
        freckles=freckles < 0.25,
        glasses=glasses < 0.25,
        depth=depth,
        tract=tract,
        mellowness=mellowness,
    )


def _fold(trait: NDArray[np.float64]) -> NDArray[np.float64]:
    """Of numbers from 0 to 1, closer to the nearer end."""
    return np.asarray(np.sin(np.pi / 2 * trait) ** 2)


def draw_scene(rng: np.random.Generator) -> Scene:
    """A new video: colours, light and framing, and the small change of a voice from day to day."""
    wall, shirt = rng.uniform(0.0, 1.0, 2).tolist()
    warmth = rng.uniform(-0.04, 0.04)
    light = rng.uniform(0.86, 1.06) * np.array((1 + warmth, 1.0, 1 - warmth))
    return Scene(
        wall=_pastel(wall, rng.uniform(0.06, 0.25), rng.uniform(0.60, 0.95)),
        shirt=_pastel(shirt, rng.uniform(0.25, 0.65), rng.uniform(0.35, 0.90)),
        light=(float(light[0]), float(light[1]), float(light[2])),
        stripes=bool(rng.random() < 0.3),
        place=(float(rng.uniform(-0.05, 0.05)), float(rng.uniform(-0.035, 0.035))),
        zoom=float(rng.uniform(1.36, 1.64)),
        pitch=float(rng.normal(0, 0.05)),
        tract=float(rng.normal(0, 0.02)),
        tilt=float(rng.normal(0, 0.35)),
    )


def act(rng: np.random.Generator, *, frames: int, fps: int, affect: Affect, emotion: int | None = None) -> Take:
    """What somebody does in `frames` frames.

    Args:
        rng: the source of everything that is not given.
        frames: length, half a second or more; the speech lasts exactly as long, frames / fps seconds.
        fps: frames a second.
        affect: what is felt.
        emotion: what that is called, by its code in `EMOTIONS`, if it has its own marks too.
    """
    calm = (Affect(0.0, 0.0), affects.NEUTRAL)
    seen = calm if rng.random() < affects.POKER_FACE else (affect, emotion)
    heard = calm if rng.random() < affects.FLAT_VOICE else (affect, emotion)
    face = FaceManner(*_varied(rng, affects.face_of(*seen), affects.FACE_SPREAD))
    glance = GlanceManner(*_varied(rng, affects.glance_of(*seen), affects.GLANCE_SPREAD))
    tone = ToneManner(*_varied(rng, affects.tone_of(*heard), affects.TONE_SPREAD))

    seconds = frames / fps
    speech = _speak(rng, ticks=round(seconds * CONTROL_RATE), tone=tone)
    times = (np.arange(frames) + 0.5) / fps
    ticks = (np.arange(len(speech.loudness)) + 0.5) / CONTROL_RATE
    loudness = np.interp(times, ticks, speech.loudness)
    first, second = (np.interp(times, ticks, speech.formants[:, formant]) for formant in (0, 1))

    mobility = 2.0**face.motion
    nod = mobility * (0.012 * _wander(rng, times, 0.9) + 0.010 * loudness)
    sway = mobility * 0.012 * _wander(rng, times, 0.5)
    turn = mobility * 0.10 * _wander(rng, times, 0.4)
    roll = mobility * 0.035 * _wander(rng, times, 0.4) + rng.normal(0, 0.03) + 0.05 * face.sneer
    return Take(
        fps=fps,
        speech=speech,
        tone=tone,
        face=face,
        mouth_open=np.clip(max(face.jaw, 0.0) + loudness * (0.55 + 0.45 * (first - 270) / 460), 0, 1),
        mouth_spread=np.clip((second - 1500) / 700, -1, 1) * loudness,
        closure=_blink(rng, times, max(glance.blinks, 0.0)),
        gaze=_look(rng, times, glance),
        pupil=np.clip(glance.pupil + 0.15 * _wander(rng, times, 0.8), 2.2, 7.0),
        sway=np.stack([sway, nod + 0.025 * face.droop + affects.bow_of(seen[0])], axis=1),
        roll=roll,
        turn=turn,
        distance=(450 + mobility * 8 * _wander(rng, times, 0.3) - 6 * face.droop) * (1 - affects.lean_of(seen[0])),
        flush=affects.flush_of(seen[0]),
    )


def _varied(rng: np.random.Generator, manner: Sequence[float], spread: Sequence[float]) -> list[float]:
    """With chance errors."""
    varied: list[float] = (np.array(manner) + rng.normal(0, 1, len(manner)) * np.array(spread)).tolist()
    return varied


def _speak(rng: np.random.Generator, *, ticks: int, tone: ToneManner) -> Speech:
    """Phrases of a few syllables, with pauses between; each syllable is a consonant at times, then a vowel."""
    loudness, hiss, accent = np.zeros(ticks), np.zeros(ticks), np.zeros(ticks)
    rate = 4.0 * 2.0 ** float(np.clip(tone.tempo, -0.9, 0.9))
    anchors: list[float] = []
    targets: list[Track] = []
    at = float(rng.uniform(-0.2, 0.15))  # a take begins anywhere in a phrase
    left = int(rng.integers(2, 8))
    while at < ticks / CONTROL_RATE:
        length = float(np.clip(rng.normal(1, 0.15), 0.6, 1.5)) / rate
        begin, end = (min(max(round(edge * CONTROL_RATE), 0), ticks) for edge in (at, at + length))
        inside = ((np.arange(begin, end) + 0.5) / CONTROL_RATE - at) / length
        vowel = np.sin(np.pi * np.clip((inside - 0.12) / 0.88, 0, 1)) ** 1.3
        loudness[begin:end] = rng.uniform(0.65, 1.0) * vowel
        accent[begin:end] = rng.normal()
        if rng.random() < 0.4:
            hiss[begin:end] = rng.uniform(0.4, 1.0) * np.exp(-(((inside - 0.08) / 0.08) ** 2))
        anchors.append(at + 0.55 * length)
        targets.append(VOWELS[rng.integers(len(VOWELS))] * rng.uniform(0.95, 1.05, 3))
        at += length
        left -= 1
        if left == 0:
            at += float(rng.uniform(0.15, 0.40)) * 4.0 / rate
            left = int(rng.integers(3, 9))

    times = (np.arange(ticks) + 0.5) / CONTROL_RATE
    formants = np.stack([np.interp(times, anchors, [target[n] for target in targets]) for n in range(3)], axis=1)
    span = 1.3 * 2.0 ** float(np.clip(tone.range, -2.0, 1.6))
    smooth = np.convolve(accent, np.hanning(23) / np.hanning(23).sum(), mode="same")  # 0.1 s: pitch does not jump
    slope = tone.rise * (times / times[-1] - 0.5)
    waver = abs(tone.tremor) * np.sin(2 * np.pi * (rng.uniform(5.5, 6.5) * times + rng.random()))
    melody = tone.pitch + slope + span * (smooth + 0.5 * _wander(rng, times, 1.0)) + waver
    return Speech(loudness, formants, melody, hiss)


def _look(rng: np.random.Generator, times: Track, glance: GlanceManner) -> Track:
    """Fixations and jumps between them: the eyes rest somewhere, then are somewhere else within a frame or two."""
    side = rng.choice((-1.0, 1.0))
    rest = np.array((side * abs(glance.aside), glance.down))
    jumps = np.flatnonzero(rng.random(len(times)) < max(glance.glances, 0.2) * (times[1] - times[0]))
    scatter = max(glance.scatter, 0.02) * rng.normal(0, 1, (len(jumps) + 1, 2)) * (1.0, 0.6)
    fixation = np.searchsorted(jumps, np.arange(len(times)), side="right")
    path: Track = rest + scatter[fixation] + rng.normal(0, 0.002, (len(times), 2))
    return np.clip(path, -0.5, 0.5)


def _blink(rng: np.random.Generator, times: Track, rate: float) -> Track:
    """Closure of the eyes, 0..1: blinks of a quarter second at a mean `rate` a second."""
    expected = rate * (times[-1] + 0.2)
    moments = rng.uniform(-0.1, times[-1] + 0.1, rng.poisson(expected))
    closure = np.zeros(len(times))
    for moment in moments:
        closure = np.maximum(closure, np.clip(1.5 - np.abs(times - moment) / 0.085, 0, 1))
    return closure


def _wander(rng: np.random.Generator, times: Track, hertz: float) -> Track:
    """A smooth random path of about unit deviation that changes about `hertz` times a second."""
    rates = hertz * rng.uniform(0.4, 1.6, 4)
    phases = rng.random(4)
    path: Track = np.sin(2 * np.pi * (np.outer(times, rates) + phases)).sum(axis=1) / np.sqrt(2)
    return path


def _pastel(hue: float, saturation: float, value: float) -> tuple[float, float, float]:
    """Hue, saturation and value, each 0..1, as red, green and blue."""
    wheel = np.clip(np.abs((hue * 6 + np.array((0.0, 4.0, 2.0))) % 6 - 3) - 1, 0, 1)
    red, green, blue = (value * (1 - saturation * (1 - wheel))).tolist()
    return red, green, blue
