"""Filmstrips decoded to planes: those that RGB is made of, and nothing else is let in."""

import ctypes
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from loaders import ClipLoader
from loaders.dataset.manifest import Manifest, read_manifest
from loaders.decode import planes
from loaders.decode.pipeline import Encoded, PipelineSettings, to_torch
from loaders.decode.planes import PlaneDecoder, check_pixels
from loaders.decode.turbo import TurboDecoder
from loaders.errors import InputError
from models.frontend.planes import planes_of
from sharding.media.filmstrip import Subsampling, decode_filmstrip, encode_filmstrip
from sharding.media.waveform import encode_waveform
from sharding.settings import BuildSettings
from tests.encoded import encoded_of
from tests.planes import doubled, needs_libturbojpeg, rgb_of

CLIP = BuildSettings(size=32).clip
CPU = PipelineSettings(max_batch=6, threads=5, device=torch.device("cpu"), pixels="yuv420")


def strip(seed: int, size: int = 32, subsampling: Subsampling = "4:2:0") -> NDArray[np.uint8]:
    draw = np.random.default_rng(seed)
    shade = np.linspace(0, 255, size)[:, None] * draw.random(3) + draw.integers(0, 40, (16, size, size, 3))
    frames = shade.clip(0, 255).astype(np.uint8)
    return np.frombuffer(encode_filmstrip(frames, quality=90, subsampling=subsampling), np.uint8)


def encoded(seed: int, clips: int) -> Encoded:
    sound = encode_waveform(np.arange(seed, seed + 32_000, dtype=np.int16), sample_rate=16_000, audio_format="wav")
    return encoded_of(CLIP, [strip(100 * seed + k) for k in range(clips)], [np.frombuffer(sound, np.uint8)] * clips)


def decoded(batches: list[Encoded], settings: PipelineSettings) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    decoder = TurboDecoder(CLIP, 16, settings, iter(batches).__next__)
    try:
        for _ in batches:
            yield to_torch(*decoder.run(), CLIP, 16, settings.device, pixels=settings.pixels)
    finally:
        decoder.close()


@needs_libturbojpeg
def test_rgb_is_made_of_these_planes_and_the_sound_stays_the_same() -> None:
    batches = [encoded(number, clips) for number, clips in enumerate([6, 1, 3, 6, 2, 5])]
    as_rgb = decoded(batches, replace(CPU, pixels="rgb"))
    for batch, (video, audio), (_, sound) in zip(batches, decoded(batches, CPU), as_rgb, strict=True):
        assert torch.equal(audio, sound)
        assert video.shape == (len(batch), 16, 48, 32)
        assert video.dtype == torch.uint8
        for frames, jpeg in zip(video, batch.filmstrips, strict=True):
            # libjpeg doubles chroma over the whole filmstrip: of its frames, it is one picture again.
            luma, blue, red = (plane.flatten(0, 1).numpy() for plane in planes_of(frames))
            pixels = decode_filmstrip(jpeg.tobytes(), 16).reshape(16 * 32, 32, 3)
            made = rgb_of(luma, doubled(blue), doubled(red))
            assert np.abs(made.astype(int) - pixels).max() <= 1


def _damaged(what: str) -> NDArray[np.uint8]:
    if what == "nothing":
        return np.zeros(0, np.uint8)
    if what == "no picture":
        return np.zeros(5000, np.uint8)
    if what == "cut":
        return strip(1)[: len(strip(1)) // 2]
    if what in ("smaller", "larger"):
        return strip(1, 16 if what == "smaller" else 48)
    return strip(1, subsampling="4:4:4")


@needs_libturbojpeg
@pytest.mark.parametrize("what", ["nothing", "no picture", "cut", "smaller", "larger", "4:4:4"])
def test_what_cannot_be_decoded_raises_and_the_next_is_decoded(what: str) -> None:
    decoder = PlaneDecoder(16, 32)
    out, again = np.zeros((16 * 48, 32), np.uint8), np.zeros((16 * 48, 32), np.uint8)
    decoder.decode_into(strip(0), out)
    with pytest.raises(RuntimeError, match="JPEG"):
        decoder.decode_into(_damaged(what), again)
    decoder.decode_into(strip(0), again)
    assert np.array_equal(out, again)


@needs_libturbojpeg
def test_a_loader_s_batches_differ_in_their_frames_alone(dataset: Path) -> None:
    options = {"batch_size": 4, "seed": 3}
    with ClipLoader(dataset, **options, pixels="yuv420") as some, ClipLoader(dataset, **options) as others:
        for batch, other in zip(some, others, strict=True):
            assert batch.video.shape == (4, 16, 48, 32)
            assert batch.clip.tolist() == other.clip.tolist()
            assert batch.seed.tolist() == other.seed.tolist()
            assert torch.equal(batch.audio, other.audio)
        assert some.stats().decoder == "turbo"
        others.load_state_dict(some.state_dict())  # planes are no other order


@needs_libturbojpeg
def test_an_empty_batch_of_planes_has_their_shape(dataset: Path) -> None:
    with ClipLoader(dataset, "test", batch_size=1, pixels="yuv420", rank=0, world_size=1000) as loader:
        assert [batch.video.shape for batch in loader] == [(0, 16, 48, 32)]


@pytest.mark.parametrize(
    ("options", "what"),
    [
        ({"pixels": "yuv"}, "pixels is 'yuv': use rgb or yuv420"),
        ({"cpu_decoder": "dali"}, "cpu_decoder is 'dali', which decodes RGB: use auto, or pixels rgb"),
    ],
)
def test_a_loader_that_cannot_have_planes_says_why(dataset: Path, options: dict[str, object], what: str) -> None:
    with pytest.raises(InputError, match=what):
        ClipLoader(dataset, batch_size=4, **{"pixels": "yuv420", **options})  # type: ignore[arg-type]


@needs_libturbojpeg
def test_datasets_whose_clips_have_no_such_planes_are_named(dataset: Path) -> None:
    manifest = read_manifest(dataset)

    def checked(manifest: Manifest, obstacle: str | None = None) -> str:
        return check_pixels("yuv420", [manifest], "auto", obstacle)

    assert checked(manifest) == "yuv420"
    with pytest.raises(InputError, match=r"the chroma of drawn is 4:4:4: .*--subsampling 4:2:0"):
        checked(replace(manifest, settings={**manifest.settings, "subsampling": "4:4:4"}))
    with pytest.raises(InputError, match="frames are 40 pixels high: use pixels rgb"):
        checked(replace(manifest, clip=replace(manifest.clip, size=40)))
    with pytest.raises(InputError, match="but device is 'cuda:0': use pixels rgb"):
        checked(manifest, "device is 'cuda:0'")


def test_without_the_library_what_to_install_is_named(dataset: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> ctypes.CDLL:
        raise OSError(f"{name}: cannot open shared object file")

    planes._library.cache_clear()
    monkeypatch.setattr(ctypes, "CDLL", missing)
    with pytest.raises(InputError, match="apt install libturbojpeg0; or pip install turbojpeg"):
        ClipLoader(dataset, batch_size=4, pixels="yuv420")
