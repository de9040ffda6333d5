"""SSIM and PSNR are those of the literature; every codec gives every frame back; the rule picks what it says."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.quality import Settings, choose, measure, plot, ways
from benchmarks.record import Record
from benchmarks.ssim import luma, psnr, ssim
from loaders.errors import InputError
from sharding.settings import BuildSettings
from tests.films import write_film


def pictures(seed: int, shape: tuple[int, ...] = (2, 32, 40)) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, shape).astype(np.float32)


# Of structural_similarity of scikit-image 0.26.0 (data_range=255, gaussian_weights=True, sigma=1.5,
# use_sample_covariance=False, full=True): the mean over the places where the whole window lies in the picture.
SCIKIT_IMAGES = (0.919861, 0.926869, 0.925062)


@pytest.mark.parametrize(("seed", "expected"), [*enumerate(SCIKIT_IMAGES)])
def test_ssim_is_scikit_images(seed: int, expected: float) -> None:
    one = pictures(seed)[0]
    other = np.clip(one + np.random.default_rng(seed + 9).normal(0, 30, one.shape), 0, 255).astype(np.float32)
    assert ssim(one, other) == pytest.approx(expected, abs=1e-4)


@given(st.integers(0, 50))
def test_ssim_is_symmetric_and_one_of_what_is_equal(seed: int) -> None:
    one, other = pictures(seed), pictures(seed + 1)
    assert ssim(one, one) == pytest.approx(1)
    assert ssim(one, other) == pytest.approx(ssim(other, one))
    assert ssim(one, other) < 0.3


def test_psnr_of_a_known_error() -> None:
    black = np.zeros((8, 8), np.uint8)
    assert psnr(black, black) == float("inf")
    assert psnr(black, black + 255) == pytest.approx(0)
    assert psnr(black, black + 1) == pytest.approx(48.1308, abs=1e-3)


def test_luma_of_grey_is_grey() -> None:
    assert luma(np.full((3, 4, 3), 77, np.uint8)) == pytest.approx(77, abs=1e-3)


def test_every_way_gives_every_frame_back_and_alike() -> None:
    build = BuildSettings(size=64)
    y, x = np.mgrid[:64, :64] / 64
    wave = 128 + 100 * np.sin(6 * x + 4 * y + np.arange(build.clip.frames)[:, None, None] / 4)
    clip = np.repeat(wave[..., None], 3, axis=3).astype(np.uint8)
    for name, way in ways(build).items():
        again = way.decode(way.encode(clip))
        assert again.shape == clip.shape, name
        assert psnr(clip, again) > 27, name


def record_of(**sides: tuple[float, float]) -> Record:
    rounds = {name.replace("_", " "): [{"kilobytes": size, "worst_ssim": kept}] for name, (size, kept) in sides.items()}
    return Record(benchmark="quality", settings={}, rounds=rounds, ratios={}, facts={})


def test_the_rule_takes_the_smallest_filmstrip_that_keeps_enough() -> None:
    record = record_of(filmstrip_a=(90, 0.97), filmstrip_b=(120, 0.991), filmstrip_c=(150, 0.999), VP9=(20, 0.999))
    assert choose(record, 0.99) == "filmstrip b"
    assert choose(record, 0.998) == "filmstrip c"
    assert choose(record, 0.9999) is None


def test_a_film_gives_the_whole_table(tmp_path: Path) -> None:
    write_film(tmp_path / "film.mp4")
    record = measure(Settings(source=tmp_path, clips=1, rounds=1))
    kilobytes = [record.median(f"filmstrip {q} 4:2:0", "kilobytes") for q in (75, 80, 85, 90, 95)]
    assert kilobytes == sorted(kilobytes)
    kept = [record.median(f"filmstrip {q} 4:2:0", "ssim") for q in (75, 85, 95)]
    assert kept == sorted(kept)
    plot(record, tmp_path / "plot.png")
    assert (tmp_path / "plot.png").read_bytes().startswith(b"\x89PNG")


def test_a_folder_without_films_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no film"):
        measure(Settings(source=tmp_path))
