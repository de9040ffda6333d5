"""What the demo's people feel, and what that does to their faces, eyes and voices: tables and arithmetic.

What is felt is a point of the plane of arousal and valence (Russell 1980), and somewhere in it lies each of the seven
emotions. Face and voice rise and fall with the two numbers together, whatever an emotion is called: that is what
pre-training can find, and what recognises emotions afterwards. Beside it each emotion has marks of its own.

The corpus is made so that this can work (see docs/results.md): the sizes are a cartoon's.
"""

from typing import NamedTuple

import numpy as np

from sharding.corpora.omg import EMOTIONS


class Affect(NamedTuple):
    """What is felt, from -1 to 1 each, and a little beyond."""

    arousal: float  # from asleep to beside oneself
    valence: float  # from misery to bliss


class FaceManner(NamedTuple):
    """What an emotion does to a face; all zero is a face at rest."""

    brow_raise: float
    brow_slant: float  # positive: inner ends up, as in worry; negative: inner ends down, as in anger
    smile: float  # corners of the mouth: 1 up, -1 down
    eyes: float  # 1 wide open, -1 half shut
    jaw: float  # opening of the mouth at rest, 0..1
    sneer: float  # one corner of the mouth and one brow higher than the other
    droop: float  # the head sinks (positive) or is held high (negative)
    motion: float  # doublings of the head's movement


class GlanceManner(NamedTuple):
    """What an emotion does to the gaze: angles in radians, x to the right of the picture, y down; rates a second."""

    aside: float
    down: float
    scatter: float
    glances: float
    blinks: float
    pupil: float  # millimetres, diameter


class ToneManner(NamedTuple):
    """What an emotion does to a voice; all zero is a calm voice."""

    pitch: float  # semitones
    range: float  # doublings of the melody's range
    tempo: float  # doublings of the syllable rate
    loudness: float  # dB
    brightness: float  # dB an octave, less fall towards high frequencies
    breath: float  # 0..1, share of whispered sound
    rise: float  # semitones from the first to the last syllable
    tremor: float  # semitones of a 6 Hz waver


# In the order of OMG-Emotion's codes 0..6. The directions are those that the literature reports (for voices Banse and
# Scherer 1996, for faces Ekman and Friesen 1978); the sizes are a cartoon's.
FACES = (
    FaceManner(-0.7, -1.0, -0.35, -0.2, 0.05, 0.0, 0.2, 0.6),
    FaceManner(-0.4, -0.3, -0.5, -0.7, 0.0, 1.0, -0.5, -0.2),
    FaceManner(0.7, 0.9, -0.35, 0.9, 0.15, 0.0, -0.6, 0.4),
    FaceManner(0.3, 0.1, 1.0, -0.15, 0.1, 0.0, -0.2, 0.5),
    FaceManner(0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0),
    FaceManner(0.0, 0.8, -0.8, -0.6, 0.0, 0.0, 0.9, -0.7),
    FaceManner(1.2, 0.1, 0.1, 1.0, 0.5, 0.0, -0.3, 0.0),
)
GLANCES = (
    GlanceManner(0.00, 0.02, 0.05, 1.0, 0.15, 4.0),
    GlanceManner(0.26, -0.02, 0.07, 1.0, 0.5, 3.5),
    GlanceManner(0.05, 0.00, 0.24, 3.0, 1.0, 5.0),
    GlanceManner(0.02, 0.00, 0.08, 1.2, 0.4, 4.4),
    GlanceManner(0.04, 0.00, 0.08, 1.2, 0.3, 3.8),
    GlanceManner(0.06, 0.22, 0.06, 0.7, 0.7, 3.4),
    GlanceManner(0.00, -0.06, 0.04, 0.6, 0.08, 5.2),
)
TONES = (
    ToneManner(2.0, 0.4, 0.30, 6.0, 3.5, 0.05, -3.0, 0.0),
    ToneManner(-3.0, -0.3, -0.50, -1.0, -1.0, 0.35, -6.0, 0.0),
    ToneManner(5.0, -0.7, 0.60, -3.0, 0.5, 0.60, 1.0, 1.4),
    ToneManner(3.0, 1.3, 0.25, 2.0, 1.2, 0.0, 0.0, 0.0),
    ToneManner(0.0, 0.0, 0.0, 0.0, 0.0, 0.0, -1.0, 0.0),
    ToneManner(-2.0, -1.2, -0.60, -6.0, -2.0, 0.2, -2.0, 0.3),
    ToneManner(5.0, 0.6, -0.35, 2.0, 0.5, 0.1, 11.0, 0.0),
)
#: Chance errors, one standard deviation each: no two angry faces are alike.
FACE_SPREAD = FaceManner(0.26, 0.26, 0.25, 0.26, 0.07, 0.22, 0.28, 0.30)
GLANCE_SPREAD = GlanceManner(0.05, 0.05, 0.02, 0.4, 0.12, 0.5)
TONE_SPREAD = ToneManner(1.2, 0.30, 0.12, 1.2, 0.7, 0.06, 1.6, 0.2)
#: Where the emotions lie, in the order of OMG-Emotion's codes, about as in Russell 1980, Figure 4; and how far from
#: there what is felt at a time may be, one standard deviation.
PLACES = (
    Affect(0.80, -0.70),
    Affect(-0.10, -0.80),
    Affect(0.85, -0.25),
    Affect(0.50, 0.90),
    Affect(0.00, 0.00),
    Affect(-0.85, -0.60),
    Affect(0.90, 0.45),
)
PLACE_SPREAD = 0.12

NEUTRAL = EMOTIONS.index("neutral")
#: How often a face stays blank, or a voice flat, whatever is felt: the other one then tells more.
POKER_FACE = 0.03
FLAT_VOICE = 0.03
#: How much of the tables above an emotion shows beside what arousal and valence do.
OWN_MARKS = 0.6


def feel(rng: np.random.Generator, emotion: int) -> Affect:
    """What somebody feels who has this emotion, by its code."""
    return Affect(*(np.array(PLACES[emotion]) + rng.normal(0, PLACE_SPREAD, 2)).tolist())


def face_of(affect: Affect, emotion: int | None) -> FaceManner:
    """What it does to a face: wide eyes, movement, a high head and an open mouth are arousal; a smile is valence."""
    arousal, valence = affect
    misery = max(-valence, 0.0)
    slant = misery * float(np.clip(-2 * arousal, -1, 1))  # angry where it is excited, worried where it is not
    with_it = FaceManner(
        brow_raise=0.65 * arousal,
        brow_slant=0.65 * slant,
        smile=1.2 * valence,
        eyes=1.05 * arousal,
        jaw=0.32 * max(arousal, 0.0),
        sneer=0.0,
        droop=-0.65 * arousal - 0.25 * valence,
        motion=0.65 * arousal,
    )
    return FaceManner(*_plus_own(with_it, FACES, emotion))


def glance_of(affect: Affect, emotion: int | None) -> GlanceManner:
    """What it does to the eyes: wide pupils and many glances are arousal, a lowered look is grief."""
    arousal, valence = affect
    misery = max(-valence, 0.0)
    calm = GLANCES[NEUTRAL]
    with_it = GlanceManner(
        aside=calm.aside + 0.03 * misery,
        down=calm.down + (0.10 * misery if arousal < 0 else 0.0),
        scatter=calm.scatter + 0.05 * arousal,
        glances=calm.glances + 0.5 * arousal,
        blinks=calm.blinks + 0.2 * misery,
        pupil=calm.pupil + 0.9 * arousal,
    )
    return GlanceManner(*_plus_own(with_it, GLANCES, emotion))


def tone_of(affect: Affect, emotion: int | None) -> ToneManner:
    """What it does to a voice: high, loud, fast and bright are arousal; a wide and rising melody is valence."""
    arousal, valence = affect
    with_it = ToneManner(
        pitch=5.2 * arousal + 1.3 * valence,
        range=0.5 * arousal + 0.8 * valence,
        tempo=0.45 * arousal,
        loudness=6.5 * arousal,
        brightness=2.0 * arousal + 1.3 * valence,
        breath=0.13 - 0.20 * arousal - 0.13 * valence,
        rise=2.6 * valence,
        tremor=0.0,
    )
    return ToneManner(*_plus_own(with_it, TONES, emotion))


def _plus_own(with_it: tuple[float, ...], marks: tuple[tuple[float, ...], ...], emotion: int | None) -> list[float]:
    own = np.zeros(len(with_it)) if emotion is None else np.array(marks[emotion]) - np.array(marks[NEUTRAL])
    summed: list[float] = (np.array(with_it) + OWN_MARKS * own).tolist()
    return summed


def flush_of(affect: Affect) -> float:
    """How red a face is, from -1 (pale) to 1."""
    return float(np.clip(0.8 * affect.arousal, -1, 1))


def lean_of(affect: Affect) -> float:
    """By how much of the usual distance somebody leans towards the camera."""
    return float(0.16 * np.clip(affect.arousal, -1.2, 1.2))


def bow_of(affect: Affect) -> float:
    """How much lower than usual the head is held, in frame sides."""
    return float(-0.05 * np.clip(affect.valence + 0.3 * affect.arousal, -1.2, 1.2))
