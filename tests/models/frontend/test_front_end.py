"""The front end: exact where nothing changes, the same for the same seed, row by row, and blind to the match."""

from __future__ import annotations

import dataclasses
import math

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from loaders.errors import InputError
from models.frontend.augmentation import Augmentation, Draws, SpecAugment, draw_frame_change, draw_gain, draw_kept
from models.frontend.front_end import FrontEnd, FrontEndConfig, Inputs, resampling, spaced
from models.towers.gaze import mirror
from models.towers.tower import Masked

CONFIG = FrontEndConfig(frame_size=16, frames=3, n_fft=512, n_mels=20)
STRIPED = dataclasses.replace(CONFIG, augmentation=Augmentation(spectrogram=SpecAugment(band_width=5, time_width=5)))
PLAIN = dataclasses.replace(CONFIG, crop=1.0, video_mean=(0, 0, 0), video_std=(1, 1, 1))


def batch(n: int = 5, size: int = 24, frames: int = 3) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(7)
    return {
        "video": torch.randint(0, 256, (n, frames, size, size, 3), dtype=torch.uint8, generator=generator),
        "audio": 0.1 * torch.randn(n, 4000, generator=generator),
        "gaze": torch.randn(n, 103, generator=generator),
        "gaze_valid": torch.rand(n, generator=generator) < 0.7,
        "seed": torch.randint(-(2**62), 2**62, (n,), generator=generator),
    }


def parts(inputs: Inputs) -> tuple[Tensor, Tensor, Tensor]:
    assert inputs.video is not None
    assert inputs.audio is not None
    assert inputs.gaze is not None
    return inputs.video, inputs.audio, inputs.gaze


@given(size=st.integers(4, 40), target=st.integers(1, 40), frames=st.integers(1, 5), samples=st.integers(300, 5000))
@settings(max_examples=15, deadline=None)
def test_shapes(size: int, target: int, frames: int, samples: int) -> None:
    config = dataclasses.replace(CONFIG, frame_size=target, frames=frames)
    given_batch = batch(2, size, frames) | {"audio": torch.zeros(2, samples)}
    video, audio, gaze = parts(FrontEnd(config)(**given_batch))
    assert video.shape == (2, 3, frames, target, target)
    assert audio.shape == (2, 1, 20, 1 + samples // 160)
    assert gaze.shape == (2, 103)
    assert all(x.dtype == torch.float32 and x.isfinite().all() for x in (video, audio, gaze))


def test_the_same_seeds_give_the_same_batch_and_others_do_not() -> None:
    front_end, given_batch = FrontEnd(STRIPED), batch()
    first, again = parts(front_end(**given_batch)), parts(front_end(**given_batch))
    other = parts(front_end(**given_batch | {"seed": given_batch["seed"] + 1}))
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))
    for a, b in zip(first[:2], other[:2], strict=True):
        assert ((a - b).flatten(1).abs().amax(1) > 1e-3).all()


@given(st.permutations(range(5)), st.integers(1, 5))
@settings(max_examples=10, deadline=None)
def test_a_row_does_not_depend_on_the_others(order: list[int], count: int) -> None:
    front_end, given_batch = FrontEnd(STRIPED), batch()
    rows = torch.tensor(order[:count])
    whole, some = parts(front_end(**given_batch)), parts(front_end(**{k: v[rows] for k, v in given_batch.items()}))
    assert torch.equal(whole[0][rows], some[0])
    assert torch.equal(whole[2][rows], some[2])
    torch.testing.assert_close(whole[1][rows], some[1], rtol=1e-5, atol=1e-5)


def test_randomness_is_not_torch_s() -> None:
    front_end, given_batch = FrontEnd(STRIPED), batch()
    state = torch.random.get_rng_state()
    first = parts(front_end(**given_batch))
    assert torch.equal(torch.random.get_rng_state(), state)
    torch.manual_seed(99)
    assert all(torch.equal(a, b) for a, b in zip(first, parts(front_end(**given_batch)), strict=True))


def test_evaluation_ignores_the_seed_and_takes_the_centre() -> None:
    front_end = FrontEnd(dataclasses.replace(PLAIN, crop=0.5)).eval()
    given_batch = batch(size=32)
    video, _, gaze = parts(front_end(**given_batch))
    unseeded, _, _ = parts(front_end(**{k: v for k, v in given_batch.items() if k != "seed"}))
    assert torch.equal(video, unseeded)
    centre = given_batch["video"][:, :, 8:24, 8:24].permute(0, 4, 1, 2, 3) / 255
    torch.testing.assert_close(video, centre)
    torch.testing.assert_close(gaze, torch.where(given_batch["gaze_valid"][:, None], given_batch["gaze"], 0))


def test_training_without_augmentation_is_evaluation() -> None:
    front_end, given_batch = FrontEnd(dataclasses.replace(CONFIG, augmentation=None)), batch()
    trained = parts(front_end(**given_batch))
    assert all(torch.equal(a, b) for a, b in zip(trained, parts(front_end.eval()(**given_batch)), strict=True))


def test_every_frame_of_a_clip_is_changed_alike() -> None:
    still = batch(8, frames=1)["video"].expand(-1, 3, -1, -1, -1)
    video = FrontEnd(CONFIG)(video=still, seed=torch.arange(8)).video
    assert torch.equal(video, video[:, :, :1].expand_as(video))


def test_normalisation() -> None:
    config = dataclasses.replace(CONFIG, video_mean=(0.2, 0.4, 0.6), video_std=(0.1, 0.2, 0.3), crop=1.0, frame_size=24)
    given_batch = batch()
    video = FrontEnd(config).eval()(video=given_batch["video"]).video
    expected = given_batch["video"].permute(0, 4, 1, 2, 3) / 255
    mean, std = (torch.tensor(v).view(3, 1, 1, 1) for v in (config.video_mean, config.video_std))
    torch.testing.assert_close(video, (expected - mean) / std, rtol=1e-4, atol=1e-5)


def test_augmented_frames_are_the_drawn_crop_mirrored_and_coloured() -> None:
    """Against the slow way: slice, flip, saturate, brighten, clip, a frame at a time."""
    config = dataclasses.replace(PLAIN, crop=0.75, frame_size=18)
    given_batch = batch(8)
    seed = torch.arange(8)
    video = FrontEnd(config)(video=given_batch["video"], seed=seed).video
    augmentation = config.augmentation
    assert augmentation is not None
    change = draw_frame_change(augmentation, Draws.of(seed), (6, 6))
    assert change.flip.any()
    assert not change.flip.all()
    for i, clip in enumerate(given_batch["video"].float() / 255):
        top, left = int(change.top[i]), int(change.left[i])
        expected = clip[:, top : top + 18, left : left + 18]
        if change.flip[i]:
            expected = expected.flip(2)
        grey = (expected * torch.tensor([0.299, 0.587, 0.114])).sum(-1, keepdim=True)
        expected = (grey + change.saturation[i] * (expected - grey) + change.brightness[i]).clamp(0, 1)
        torch.testing.assert_close(video[i], expected.permute(3, 0, 1, 2), rtol=1e-4, atol=1e-5)


def test_float16_moves_no_pixel_by_half_a_level() -> None:
    front_end, given_batch = FrontEnd(CONFIG), batch(8, size=40)
    exact = front_end(video=given_batch["video"], seed=torch.arange(8)).video
    front_end.frame_dtype = torch.float16
    rounded = front_end(video=given_batch["video"], seed=torch.arange(8)).video
    assert exact is not None
    assert rounded is not None
    assert rounded.dtype == torch.float16
    assert (rounded.float() - exact).abs().max() * CONFIG.video_std[0] * 255 < 0.5


def test_colours_of_means_and_deviations_of_their_own_are_limited_each_to_its_own() -> None:
    config = dataclasses.replace(CONFIG, video_mean=(0.2, 0.4, 0.6), video_std=(0.1, 0.2, 0.3))
    white = torch.full((3, 3, 24, 24, 3), 255, dtype=torch.uint8)
    for value, frames in ((0, torch.zeros_like(white)), (1, white)):
        video = FrontEnd(config)(video=frames, seed=torch.arange(3)).video
        assert video is not None
        limit = (value - torch.tensor(config.video_mean)) / torch.tensor(config.video_std)
        beyond = (video - limit.view(3, 1, 1, 1)) * (1 if value else -1)
        assert beyond.max() <= 1e-5


def test_draws_keep_to_their_ranges_and_fill_them() -> None:
    seed = torch.arange(4000)
    change = draw_frame_change(Augmentation(), Draws.of(seed), (4, 9))
    assert set(change.top.tolist()) == set(range(5))
    assert set(change.left.tolist()) == set(range(10))
    gain = draw_gain(Augmentation(), Draws.of(seed))
    for values, low, high in (
        (change.brightness, -32 / 255, 32 / 255),
        (change.saturation, 0.5, 1.5),
        (gain, 0.9, 1.1),
    ):
        assert low <= values.min() < low + 0.01 * (high - low)
        assert high - 0.01 * (high - low) < values.max() <= high
    off = Augmentation(crop=False, flip=False, brightness=0, saturation=(1, 1), gain=0)
    still = draw_frame_change(off, Draws.of(seed), (4, 9))
    assert (still.top == 2).all()
    assert (still.left == 4).all()
    assert not still.flip.any()
    assert (still.brightness == 0).all()
    assert (still.saturation == 1).all()
    assert (draw_gain(off, Draws.of(seed)) == 1).all()


@given(length=st.integers(1, 30), out=st.integers(1, 30), room=st.integers(0, 5))
@settings(max_examples=40, deadline=None)
def test_resampling_is_antialiased_bilinear(length: int, out: int, room: int) -> None:
    size = length + room
    # Two columns: over a single one, torch 2.13's own antialiased resize repeats the first sample.
    signal = torch.rand(1, 1, size, 2)
    weight = resampling(torch.tensor([room // 2]), length, out, size)
    torch.testing.assert_close(weight.sum(2), torch.ones(1, out))
    got = weight[0] @ signal[0, 0]
    crop = signal[:, :, room // 2 : room // 2 + length]
    expected = F.interpolate(crop, size=(out, 2), mode="bilinear", antialias=True)[0, 0]
    torch.testing.assert_close(got, expected, rtol=1e-4, atol=1e-4)


@given(st.integers(1, 40), st.data())
def test_spaced_frames_are_in_order_and_even(given_frames: int, data: st.DataObject) -> None:
    wanted = data.draw(st.integers(1, given_frames))
    taken = torch.arange(given_frames)[spaced(given_frames, wanted)]
    assert len(taken) == wanted
    steps = set(taken.diff().tolist())
    assert steps <= {given_frames // wanted, math.ceil(given_frames / wanted)}
    # As much is left over before the first as after the last, to within a frame and a half.
    assert abs(int(taken[0]) - (given_frames - 1 - int(taken[-1]))) <= math.ceil(given_frames / wanted)


def test_fewer_frames_are_taken_evenly_and_too_few_are_refused() -> None:
    config = dataclasses.replace(PLAIN, frames=2, frame_size=24)
    given_batch = batch(frames=4)
    video = FrontEnd(config).eval()(video=given_batch["video"]).video
    torch.testing.assert_close(video, given_batch["video"][:, 1::2].permute(0, 4, 1, 2, 3) / 255)
    with pytest.raises(ValueError, match="2 frames, and the batch has 1"):
        FrontEnd(config).eval()(video=batch(frames=1)["video"])


def test_the_log_mel_has_a_tone_where_it_belongs() -> None:
    config = dataclasses.replace(CONFIG, n_fft=1024, n_mels=64)
    time = torch.arange(16000) / 16000
    audio = FrontEnd(config).eval()(audio=torch.sin(2 * math.pi * 1000 * time)[None]).audio
    loudest = audio[0, 0, :, 10:-10].mean(1).argmax()
    # Mel scale: 2595·log10(1 + f/700); bands are evenly spaced on it.
    low, high, tone = (2595 * math.log10(1 + f / 700) for f in (20, 8000, 1000))
    assert abs(int(loudest) + 1 - 65 * (tone - low) / (high - low)) <= 1


def test_silence_is_finite_and_gain_shifts_the_log_mel_evenly() -> None:
    front_end = FrontEnd(CONFIG).eval()
    assert front_end(audio=torch.zeros(2, 4000)).audio.isfinite().all()
    audio = 0.1 * torch.randn(1, 4000)
    soft, loud = front_end(audio=audio).audio, front_end(audio=2 * audio).audio
    torch.testing.assert_close((loud - soft) * CONFIG.mel_std, torch.full_like(soft, math.log(4)), rtol=1e-2, atol=1e-2)


def test_training_draws_each_waveform_s_gain() -> None:
    front_end, given_batch = FrontEnd(CONFIG), batch()
    assert CONFIG.augmentation is not None
    gain = draw_gain(CONFIG.augmentation, Draws.of(given_batch["seed"]))
    assert len(set(gain.tolist())) == len(gain)
    trained = front_end(audio=given_batch["audio"], seed=given_batch["seed"]).audio
    torch.testing.assert_close(trained, front_end.eval()(audio=gain[:, None] * given_batch["audio"]).audio)


def test_clip_normalisation_takes_loudness_away() -> None:
    front_end = FrontEnd(dataclasses.replace(CONFIG, clip_normalise=True)).eval()
    audio = 0.1 * torch.randn(3, 4000)
    soft, loud = front_end(audio=audio).audio, front_end(audio=3 * audio).audio
    torch.testing.assert_close(soft, loud, rtol=1e-2, atol=1e-2)
    torch.testing.assert_close(soft.mean((1, 2, 3)), torch.zeros(3), rtol=0, atol=1e-4)
    assert front_end(audio=torch.zeros(1, 4000)).audio.isfinite().all()


def test_stripes_hide_whole_bands_and_whole_moments() -> None:
    config = SpecAugment(band_stripes=1, band_width=4, time_stripes=2, time_width=6)
    kept = draw_kept(config, torch.arange(500), 20, 50)
    # What is hidden is a set of bands and a set of moments, so what is kept is their complement's rectangle.
    bands, moments = kept.any(2), kept.any(1)
    assert torch.equal(kept, bands[:, :, None] & moments[:, None, :])
    assert (~bands).sum(1).max() == 4
    assert (~bands).sum(1).min() == 0
    assert 6 < (~moments).sum(1).max() <= 12


def test_stripes_are_as_wide_as_drawn_wherever_they_lie() -> None:
    one = SpecAugment(band_stripes=1, band_width=8, time_stripes=0)
    hidden = ~draw_kept(one, torch.arange(9000), 8, 1)[:, :, 0]
    widths = torch.bincount(hidden.sum(1), minlength=9)
    # Uniform over 0 … 8: chi-squared with 8 degrees of freedom is above 30 once in 5000 fair tries; seeds are fixed.
    assert ((widths - 1000).square() / 1000).sum() < 30
    narrow = hidden[hidden.sum(1) == 1].sum(0)
    assert (narrow > 0.5 * narrow.float().mean()).all()


def test_gaze_is_normalised_limited_and_neutral_where_not_valid() -> None:
    mean, std = torch.randn(103), torch.rand(103) + 0.5
    std[3] = 0  # a statistic that never varied in training
    front_end = FrontEnd(CONFIG, gaze_mean=mean, gaze_std=std).eval()
    gaze = mean + std * torch.linspace(-3, 3, 4)[:, None]
    gaze[1] = float("nan")
    gaze[2, 3] += 1
    gaze[3, 5] = 1e9
    out = front_end(gaze=gaze, gaze_valid=torch.tensor([True, False, True, True])).gaze
    usual = torch.arange(103) != 3
    torch.testing.assert_close(out[0, usual], torch.full((102,), -3.0), rtol=1e-3, atol=1e-3)
    assert (out[1] == 0).all()
    assert out[0, 3] == 0
    assert out[2, 3] == CONFIG.gaze_limit
    assert out[3, 5] == CONFIG.gaze_limit


def test_gaze_is_mirrored_with_its_frames() -> None:
    given_batch = batch(32) | {"gaze_valid": torch.ones(32, dtype=torch.bool)}
    front_end = FrontEnd(CONFIG)
    _, _, gaze = parts(front_end(**given_batch))
    assert CONFIG.augmentation is not None
    flip = draw_frame_change(CONFIG.augmentation, Draws.of(given_batch["seed"]), (3, 3)).flip
    source, sign = mirror()
    raw = given_batch["gaze"]
    torch.testing.assert_close(gaze, torch.where(flip[:, None], raw[:, source] * sign, raw))


def test_a_checkpoint_brings_its_own_gaze_statistics() -> None:
    trained = FrontEnd(CONFIG, gaze_mean=torch.full((103,), 2.0), gaze_std=torch.full((103,), 4.0)).eval()
    fresh = FrontEnd(CONFIG).eval()
    fresh.load_state_dict(trained.state_dict())
    gaze = torch.randn(2, 103)
    assert torch.equal(fresh(gaze=gaze).gaze, trained(gaze=gaze).gaze)
    assert not list(fresh.parameters())


def test_autocast_does_not_reach_inside() -> None:
    front_end, given_batch = FrontEnd(CONFIG), batch()
    plain = parts(front_end(**given_batch))
    with torch.autocast("cpu", torch.bfloat16):
        cast = parts(front_end(**given_batch))
    assert all(torch.equal(a, b) for a, b in zip(plain, cast, strict=True))


def test_what_is_not_given_stays_out() -> None:
    front_end, given_batch = FrontEnd(CONFIG).eval(), batch()
    only_audio = front_end(audio=given_batch["audio"])
    assert only_audio.video is only_audio.gaze is None
    only_video = front_end(video=given_batch["video"])
    assert only_video.audio is None
    assert (only_video.gaze == 0).all()


@pytest.mark.parametrize(
    ("given_batch", "what"),
    [
        ({"video": torch.zeros(2, 3, 8, 8, 3)}, "uint8"),
        ({"video": torch.zeros(2, 3, 3, 8, 8, dtype=torch.uint8)}, "B, T, H, W, 3"),
        ({"audio": torch.zeros(2, 1, 4000)}, "B, samples"),
        ({"audio": torch.zeros(2, 4000, dtype=torch.int16)}, "floats"),
        ({"audio": torch.zeros(2, 100)}, "longer than 256"),
        ({"gaze": torch.zeros(2, 88)}, "B, 103"),
    ],
)
def test_wrong_batches_are_refused(given_batch: dict[str, Tensor], what: str) -> None:
    with pytest.raises(ValueError, match=what):
        FrontEnd(CONFIG).eval()(**given_batch)


def test_augmentation_needs_seeds() -> None:
    with pytest.raises(ValueError, match="seed"):
        FrontEnd(CONFIG)(video=batch()["video"])


@pytest.mark.filterwarnings("ignore:At least one mel filterbank")  # torchaudio warns of what is refused here
@pytest.mark.parametrize(
    "change", [{"crop": 0.0}, {"crop": 1.5}, {"frames": 0}, {"n_fft": 256}, {"n_fft": 512, "n_mels": 128}]
)
def test_settings_that_cannot_be_are_refused(change: dict[str, float]) -> None:
    with pytest.raises(InputError):
        FrontEnd(dataclasses.replace(CONFIG, **change))  # type: ignore[arg-type]


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs an NVIDIA GPU")
def test_a_gpu_gives_the_same_batch() -> None:
    front_end, given_batch = FrontEnd(STRIPED), batch()
    here = parts(front_end(**given_batch))
    there = parts(front_end.cuda()(**{k: v.cuda() for k, v in given_batch.items()}))
    for a, b in zip(here, there, strict=True):
        torch.testing.assert_close(a, b.cpu(), rtol=1e-3, atol=1e-3)
    seed = given_batch["seed"]
    assert STRIPED.augmentation is not None
    for a, b in zip(
        dataclasses.astuple(draw_frame_change(STRIPED.augmentation, Draws.of(seed), (3, 3))),
        dataclasses.astuple(draw_frame_change(STRIPED.augmentation, Draws.of(seed.cuda()), (3, 3))),
        strict=True,
    ):
        assert torch.equal(a, b.cpu())


def test_withheld_gaze_is_neutral_and_depends_on_the_seed_alone() -> None:
    config = FrontEndConfig(frame_size=16, frames=1, augmentation=Augmentation(gaze_dropout=0.3))
    front_end = FrontEnd(config).train()
    gaze, seed = torch.rand(2000, 103) + 1, torch.arange(2000)
    given = torch.arange(2000) % 4 != 0
    prepared = front_end(gaze=gaze, gaze_valid=given, seed=seed).gaze
    assert prepared is not None
    withheld = (prepared == 0).all(dim=1)
    assert withheld[~given].all()
    assert 0.25 < withheld[given].float().mean() < 0.35
    again = front_end(gaze=gaze.flip(0), gaze_valid=given.flip(0), seed=seed.flip(0)).gaze
    assert again is not None
    assert again.flip(0).equal(prepared)
    assert not (front_end.eval()(gaze=gaze, seed=seed).gaze == 0).all(dim=1).any()


def test_members_leave_as_they_are_with_whose_frames_were_mirrored() -> None:
    """In single precision, zeros where there is none, and not normalised."""
    front_end = FrontEnd(dataclasses.replace(CONFIG, augmentation=Augmentation()))
    values = torch.arange(24, dtype=torch.int32).view(4, 3, 2)
    rows = torch.tensor([[True, True, True], [True, False, False], [False] * 3, [True, True, False]])
    given_batch = batch(4)
    inputs = front_end(**given_batch, members={"marks": values}, masks={"marks": rows})
    marks = inputs["marks"]
    assert isinstance(marks, Masked)
    assert marks.values.dtype == torch.float32
    assert torch.equal(marks.values, values * rows[:, :, None])
    assert torch.equal(marks.mask, rows)
    plain = front_end(**{k: v for k, v in given_batch.items() if k != "gaze_valid"})
    # A mirrored clip's horizontal gaze, the third of the statistics, has the other sign.
    assert marks.mirrored is not None
    assert marks.mirrored.dtype == torch.bool
    gaze = given_batch["gaze"][:, 2]
    own = plain.gaze
    assert own is not None
    mirrored = (own[:, 2] - (gaze - front_end.gaze_mean[2]) / front_end.gaze_std[2]).abs() > 1e-4
    assert torch.equal(mirrored, marks.mirrored)
    assert sorted(inputs) == ["audio", "gaze", "marks", "video"]
    alone = front_end.eval()(members={"marks": values}, masks={"marks": rows})
    assert [*alone] == ["marks"]
    assert isinstance(alone["marks"], Masked)
    assert alone["marks"].mirrored is None


def test_gaze_dropout_withholds_what_is_of_gaze_and_nothing_else() -> None:
    config = dataclasses.replace(CONFIG, augmentation=Augmentation(gaze_dropout=0.5))
    front_end = FrontEnd(config, gaze_streams=("gaze_frames",))
    values, there = torch.ones(64, 5, 2), torch.ones(64, dtype=torch.bool)
    members = {"gaze_frames": values, "egemaps": values}
    inputs = front_end(seed=torch.arange(64), members=members, masks=dict.fromkeys(members, there))
    gaze, other = inputs["gaze_frames"], inputs["egemaps"]
    assert isinstance(gaze, Masked)
    assert isinstance(other, Masked)
    withheld = ~gaze.mask
    assert 16 < withheld.sum() < 48
    assert not gaze.values[withheld].any()
    assert gaze.values[~withheld].all()
    assert other.mask.all()
