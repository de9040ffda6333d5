"""What a build makes of its utterances."""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, Literal, Self

from loaders.dataset.manifest import LONGEST, ClipFormat
from loaders.errors import InputError
from sharding.media.filmstrip import LONGEST_INTERVAL, ROWS_OF_A_BLOCK, Subsampling, rows_of_a_block
from sharding.media.waveform import AudioFormat

SAMPLE_RATE = 16_000

Crop = Literal["centre", "face"]
Tracker = Literal["openface", "mediapipe"]
GazeWindow = Literal["utterance", "clip"]
Modality = Literal["audio", "video"]


@dataclass(frozen=True, slots=True, kw_only=True)
class BuildSettings:
    """The settings of every build. The bytes of a dataset depend on these and on the utterances, on nothing else."""

    clip_seconds: float = 2.0
    """Length of a clip."""
    fps: float = 8.0
    """Frames a second of the filmstrips."""
    size: int = 224
    """Height and width of a frame, pixels: a multiple of 16."""
    crop: Crop = "centre"
    """What is cropped to a square: the middle of the picture, or the largest face with some background, followed over
    the utterance. Boxes that a corpus gives come before either."""
    quality: int = 90
    """JPEG quality of the filmstrips, 1 to 95."""
    subsampling: Subsampling = "4:2:0"
    """Colour resolution of the filmstrips."""
    restart_markers: bool = True
    """One restart marker a frame of the filmstrips: any frames are decoded without the others, and a damaged byte costs
    one frame. Whole clips take a few per cent longer to decode on a CPU."""
    audio_format: AudioFormat = "wav"
    """Format of the audio; flac is a fifth smaller on the whole and slower to decode."""
    max_seconds: float = 600.0
    """Longer utterances are rejected."""
    min_loudness: float = -60.0
    """Clips whose loudest tenth of a second stays below, in dB of full scale, are left out as silent, and so are
    utterances."""
    allow_missing: tuple[Modality, ...] = ()
    """Keep utterances without sound, or without pictures, whose clips then come without: may be given twice. Clips
    below --min-loudness come without sound instead of being left out."""
    pad_short: bool = False
    """Pad utterances shorter than a clip with their last frame and silence, instead of rejecting them."""
    gaze_window: GazeWindow = "utterance"
    """What the gaze statistics are computed over: the whole utterance, the same for all its clips, or each clip."""
    gaze: Tracker = "openface"
    """What tracks gaze: OpenFace 2, whose tables come with the corpus or by --openface-bin; or MediaPipe's networks
    (extra mediapipe), run on every utterance, without tables. The numbers of one are not those of the other."""
    openface_bin: str | None = None
    """OpenFace 2's FeatureExtraction: it is run on the crops of utterances that have no table."""
    gaze_fps: float = 25.0
    """With --member gaze_frames: time steps a second of the gaze signals."""
    require_gaze: bool = False
    """Reject utterances, and leave out clips, without gaze."""
    member: tuple[str, ...] = ()
    """An array more for every clip, as NAME.npy; may be given several times. gaze_frames: the gaze signals themselves,
    a row a time step, of 12 signals and whether they are valid. egemaps: openSMILE's 88 functionals of the clip's sound
    (extra egemaps). NAME=SUFFIX:DTYPE[SHAPE]: that of an .npy file beside
    the video, as tokens=.tokens.npy:int32[<=64] of video.tokens.npy, with 64 rows at most; with @RATE, as
    lm=.lm.npy:float32[68,2]@25, the file has so many rows a second, and a clip gets those of its own time."""
    shard_mb: int = 256
    """Size that shards are planned for, in 10⁶ bytes."""

    @classmethod
    def stated(cls, settings: Mapping[str, Any], where: str) -> Self:
        """Those that a dataset.json states, or whoever has copied them from there.

        Args:
            settings: by name; what is not stated has its default.
            where: it is stated, for messages.

        Raises:
            InputError: they are not a build's.
        """
        known = {field.name for field in fields(cls)}
        unknown = [name for name in settings if name not in known]
        if unknown:
            raise InputError(where, f"clips made with {unknown[0]!r}, which this program does not know", "upgrade it")
        try:
            as_given: dict[str, Any] = {n: tuple(v) if isinstance(v, list) else v for n, v in settings.items()}
            found = cls(**as_given)
            found.check()
        except (TypeError, ValueError, AttributeError) as error:
            raise InputError(where, f"not the settings of a build ({error})", "restore it from a copy") from error
        return found

    @property
    def clip(self) -> ClipFormat:
        """What every clip has in common."""
        frames = round(self.clip_seconds * self.fps)
        return ClipFormat(
            seconds=self.clip_seconds,
            fps=self.fps,
            frames=frames,
            size=self.size,
            sample_rate=SAMPLE_RATE,
            samples=round(self.clip_seconds * SAMPLE_RATE),
            addressable=self.restart_markers,
        )

    def requires(self, modality: Modality) -> bool:
        """Whether every clip has it."""
        return modality not in self.allow_missing

    def check(self) -> None:
        """Raise InputError for a setting that is out of range."""
        frames = self.clip_seconds * self.fps
        _require(0 < self.clip_seconds <= 60, "--clip-seconds", self.clip_seconds, "more than 0, at most 60")
        _require(0 < self.fps <= 120, "--fps", self.fps, "more than 0, at most 120")
        _require(
            frames >= 1 and abs(frames - round(frames)) < 1e-6,
            "--clip-seconds × --fps",
            round(frames, 6),
            "a whole number of frames",
        )
        multiple = self.size > 0 and self.size % ROWS_OF_A_BLOCK == 0
        _require(multiple, "--size", self.size, f"a multiple of {ROWS_OF_A_BLOCK}")
        _require(
            round(frames) * self.size <= LONGEST,
            "--clip-seconds × --fps × --size",
            round(frames) * self.size,
            f"at most {LONGEST} (JPEG's height)",
        )
        blocks = (self.size // rows_of_a_block(self.subsampling)) ** 2
        if self.restart_markers and blocks > LONGEST_INTERVAL:
            raise InputError(
                f"--size is {self.size}: a frame is {blocks} blocks of --subsampling {self.subsampling}, and between "
                f"restart markers are {LONGEST_INTERVAL} at most: use a smaller one, or --no-restart-markers"
            )
        _require(1 <= self.quality <= 95, "--quality", self.quality, "1 to 95")
        _require(self.max_seconds >= self.clip_seconds, "--max-seconds", self.max_seconds, "at least --clip-seconds")
        steps = round(self.clip_seconds * self.gaze_fps) if 0 < self.gaze_fps <= 1000 else 0
        _require(steps >= 1, "--gaze-fps", self.gaze_fps, "one step a clip, or more")
        _require(
            self.gaze_fps == 25.0 or "gaze_frames" in self.member, "--gaze-fps", self.gaze_fps, "--member gaze_frames"
        )
        if self.openface_bin is not None and self.gaze != "openface":
            raise InputError(f"--openface-bin has no effect with --gaze {self.gaze}: leave one of them away")
        _require(self.min_loudness <= 0, "--min-loudness", self.min_loudness, "at most 0, full scale")
        unlike = len(set(self.allow_missing)) == len(self.allow_missing)
        _require(unlike, "--allow-missing", " ".join(self.allow_missing), "each at most once")
        _require(1 <= self.shard_mb <= 4000, "--shard-mb", self.shard_mb, "1 to 4000")


def _require(holds: bool, option: str, value: object, use: str) -> None:
    if not holds:
        raise InputError(f"{option} is {value}: use {use}")
