"""How the demo's people sound: a source and a filter (Fant 1960; Klatt 1980).

The source is a train of glottal pulses and some breath; the filter is a chain of resonators that moves from vowel to
vowel. Filtering is done on short overlapping blocks by FFT, which needs no compiled filter code and costs about a
hundredth of the time that is heard.
"""

import numpy as np
from numpy.typing import NDArray

from sharding.demo.acting import CONTROL_RATE, Person, Scene, Speech, Take, Track

#: Blocks of 32 ms that overlap by half; twice that for the FFT leaves room for the resonators to ring.
_BLOCK = 512
_HOP = _BLOCK // 2
_FFT = 2 * _BLOCK

#: Root mean square of what is loud in a calm utterance, relative to full scale, and of the microphone's noise.
_LEVEL = 10 ** (-23 / 20)
_NOISE = 10 ** (-58 / 20)


def pitch_hz(person: Person, scene: Scene) -> float:
    """The pitch that this person speaks at on this day, calmly: from 80 to 280 Hz at the ends of the trait."""
    return float(280.0 * 2.0 ** (-1.8 * person.depth + scene.pitch))


def formant_scale(person: Person, scene: Scene) -> float:
    """What the formants are multiplied by: above 1 for a short vocal tract, below 1 for a long one."""
    return float(1.32 * 2.0 ** (-0.72 * person.tract + scene.tract))


def fall_db(person: Person, scene: Scene) -> float:
    """How fast the voice falls towards high frequencies, in dB an octave: a mellow one faster."""
    return 3.0 + 9.0 * person.mellowness + scene.tilt


def speak(
    rng: np.random.Generator, person: Person, scene: Scene, take: Take, *, samples: int, rate: int
) -> NDArray[np.int16]:
    """The sound of a take.

    But for chance and emotion, utterances come out equally loud and over the same noise, so that loudness tells nothing
    about who speaks.

    Returns:
        (samples,) int16, mono at `rate` hertz.
    """
    speech = take.speech
    ticks = (np.arange(len(speech.loudness)) + 0.5) / CONTROL_RATE
    times = (np.arange(samples) + 0.5) / rate
    loudness = np.interp(times, ticks, speech.loudness)
    pitch = pitch_hz(person, scene) * 2.0 ** (np.interp(times, ticks, speech.melody) / 12)
    breath = float(np.clip(0.06 + take.tone.breath, 0.02, 0.7))

    voiced = _pulses(rng, np.clip(pitch, 55, 520), rate)
    excitation = loudness * ((1 - breath) * voiced + 0.5 * breath * rng.normal(0, 1, samples))
    fall = max(fall_db(person, scene) - take.tone.brightness, 1.0)
    vocal = _filter(excitation, _tract(speech, formant_scale(person, scene), fall, rate, blocks=_blocks(samples)))

    hiss = np.interp(times, ticks, speech.hiss) * rng.normal(0, 1, samples)
    hiss = _filter(hiss, _sibilance(rate, formant_scale(person, scene))[None])
    sound = vocal / _loud(vocal) + 0.12 * hiss / max(_loud(hiss), 1e-9)
    gain = _LEVEL * 10 ** ((take.tone.loudness + rng.normal(0, 0.7)) / 20)
    sound = np.tanh(gain * sound / _loud(sound)) + _NOISE * rng.normal(0, 1, samples)
    return np.clip(np.rint(sound * 32767), -32768, 32767).astype(np.int16)


def _pulses(rng: np.random.Generator, pitch: Track, rate: int) -> Track:
    """A pulse at each period's start, between the two nearest samples, with 1 % jitter and power 1 at any pitch."""
    phase = np.cumsum(pitch / rate) + rng.random()
    before = np.flatnonzero(np.floor(phase[1:]) > np.floor(phase[:-1]))
    step = pitch[before + 1] / rate
    late = np.clip((phase[before + 1] % 1.0) / step + rng.normal(0, 0.01, len(before)) / step, 0, 1)
    height = np.sqrt(rate / pitch[before]) * (1 + rng.normal(0, 0.04, len(before)))
    train = np.zeros(len(pitch))
    train[before] += height * late
    train[before + 1] += height * (1 - late)
    return train


def _tract(speech: Speech, scale: float, fall: float, rate: int, *, blocks: int) -> NDArray[np.complex128]:
    """(blocks, bins): five resonators in a chain (Klatt 1980, equations 1 and 2), and the source's fall."""
    times = np.arange(blocks) * _HOP / rate
    ticks = (np.arange(len(speech.loudness)) + 0.5) / CONTROL_RATE
    moving = [np.interp(times, ticks, speech.formants[:, formant]) for formant in range(3)]
    hertz = np.fft.rfftfreq(_FFT, 1 / rate)
    delay = np.exp(-2j * np.pi * hertz / rate)
    source = (1 + (hertz / 250) ** 2) ** (-fall / 12.04)  # amplitude; 12.04 = 20 log10 of 2, squared
    response: NDArray[np.complex128] = np.tile(source.astype(np.complex128), (blocks, 1))
    fixed = [np.full(blocks, 3500.0), np.full(blocks, 4500.0)]
    for centres, width in zip([*moving, *fixed], (70, 90, 130, 200, 280), strict=True):
        centre = np.minimum(centres * scale, 0.48 * rate)[:, None]
        c = -np.exp(-2 * np.pi * width / rate)
        b = 2 * np.exp(-np.pi * width / rate) * np.cos(2 * np.pi * centre / rate)
        response *= (1 - b - c) / (1 - b * delay - c * delay**2)
    return response


def _sibilance(rate: int, scale: float) -> NDArray[np.complex128]:
    """Response of a hissed consonant: a broad hump that moves a little with the tract."""
    hertz = np.fft.rfftfreq(_FFT, 1 / rate)
    hump: NDArray[np.complex128] = np.exp(-(((hertz - 4800 * scale**0.5) / 1300) ** 2)).astype(np.complex128)
    return hump


def _blocks(samples: int) -> int:
    return samples // _HOP + 2


def _filter(sound: Track, responses: NDArray[np.complex128]) -> Track:
    """Filters the block around sample n · hop with `responses[n]`, or with the only one, for all n (overlap-add)."""
    count = _blocks(len(sound))
    padded = np.zeros((count + 1) * _HOP)
    padded[_HOP : _HOP + len(sound)] = sound
    window = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(_BLOCK) / _BLOCK)  # periodic Hann: halves that overlap sum to 1
    framed = np.lib.stride_tricks.sliding_window_view(padded, _BLOCK)[::_HOP] * window
    filtered = np.fft.irfft(np.fft.rfft(framed, _FFT, axis=1) * responses, _FFT, axis=1)
    out = np.zeros((count + _FFT // _HOP) * _HOP)
    for part in range(_FFT // _HOP):
        out[part * _HOP : (part + count) * _HOP] += filtered[:, part * _HOP : (part + 1) * _HOP].ravel()
    return out[_HOP : _HOP + len(sound)]


def _loud(sound: Track) -> float:
    """Root mean square of the loud half of a sound, in stretches of 20 ms: pauses do not count."""
    stretches = sound[: len(sound) // 320 * 320].reshape(-1, 320)
    power = np.sort((stretches**2).mean(axis=1))
    return float(np.sqrt(power[len(power) // 2 :].mean()))
