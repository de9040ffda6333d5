"""Why an example cannot be decoded, as the decoder in use has it."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from loaders.decode.decodable import faults
from loaders.decode.pipeline import Decoder, PipelineSettings
from loaders.decode.planes import Pixels
from sharding.media.filmstrip import encode_filmstrip
from sharding.media.waveform import encode_waveform
from sharding.settings import BuildSettings
from tests.encoded import encoded_of
from tests.planes import needs_libturbojpeg

CLIP = BuildSettings(size=32).clip


def array_of(file: bytes) -> NDArray[np.uint8]:
    return np.frombuffer(file, np.uint8)


@pytest.mark.parametrize(("decoder", "frames"), [("turbo", 16), ("cpu", 16), ("cpu", 5), ("gpu", 16)])
def test_examples_are_judged_one_by_one_by_picture_and_sound(decoder: Decoder, frames: int) -> None:
    draw = np.random.default_rng(0)
    pictures = draw.integers(256, size=(16, 32, 32, 3), dtype=np.uint8)
    samples = draw.integers(-9000, 9000, size=CLIP.samples, dtype=np.int16)
    strip = encode_filmstrip(pictures, quality=90, subsampling="4:2:0")
    sound = encode_waveform(samples, sample_rate=CLIP.sample_rate, audio_format="wav")
    clip = replace(CLIP, addressable=False)  # a strip that is cut short is found when it is cut, not when it is decoded
    strips = array_of(strip), array_of(strip[: strip.index(b"\xff\xda") + 14])
    sounds = array_of(sound), array_of(sound[:20]), None
    settings = PipelineSettings(max_batch=8, threads=2, device=torch.device("cpu"), decoder=decoder)
    with faults(clip, frames, settings) as fault:
        for first_frame in (0, 16 - frames) * 2:
            for strip_number, sound_number in np.ndindex(2, 3):
                sound_file = sounds[sound_number]
                given = [] if sound_file is None else [sound_file]
                chosen = [range(first_frame, first_frame + frames)]
                example = encoded_of(clip, [array_of(strip)], given, chosen)
                why = fault(replace(example, filmstrips=[strips[strip_number]]))
                assert (why is None) == (strip_number == 0 and sound_number != 1)
                assert why is None or (why and "\n" not in why)


@needs_libturbojpeg
@pytest.mark.parametrize(("pixels", "is_at_fault"), [("rgb", False), ("yuv420", True)])
def test_a_filmstrip_of_other_chroma_is_at_fault_for_planes_alone(pixels: Pixels, is_at_fault: bool) -> None:
    strip = encode_filmstrip(np.zeros((16, 32, 32, 3), np.uint8), quality=90, subsampling="4:4:4")
    settings = PipelineSettings(max_batch=8, threads=2, device=torch.device("cpu"), decoder="turbo", pixels=pixels)
    with faults(CLIP, 16, settings) as fault:
        assert (fault(encoded_of(CLIP, [array_of(strip)])) is not None) == is_at_fault
