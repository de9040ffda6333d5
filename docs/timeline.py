"""The timeline of docs/predict.md, of a drawn person's video: ``python docs/timeline.py --checkpoint RUN``.

What the corpus has are utterances of two seconds; those of one video are joined to a file of ten.
"""

import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from PIL import Image

from loaders.arguments import cli
from models import predict
from sharding.media.reader import read_media

FPS, RATE, SIZE = 25, 16_000, 96  # of the demo's videos


@dataclass(frozen=True, slots=True, kw_only=True)
class Timeline:
    """Join the utterances of a drawn video, and have them predicted."""

    checkpoint: Path
    """A run that was fine-tuned on the demo's OMG."""
    video: Path = Path("demo/corpus/omg/videos/demovalid018")
    """The folder of the utterances."""
    output: Path = Path(__file__).parent / "timeline.png"
    """The picture."""
    every: float = 0.25
    """Seconds from one window to the next."""


def join(files: Sequence[Path], path: Path) -> None:
    """Write the videos one after the other, each for as many whole pictures as it has with sound."""
    with av.open(str(path), "w") as container:
        video = container.add_stream("libx264", rate=FPS, options={"crf": "12"})
        video.width = video.height = SIZE
        video.pix_fmt = "yuv420p"
        sound = container.add_stream("aac", rate=RATE, layout="mono")
        shown, heard = 0, []
        for file in files:
            media = read_media(file, fps=FPS, size=SIZE, sample_rate=RATE)
            for picture in media.frames:
                frame = av.VideoFrame.from_ndarray(picture, "rgb24")
                frame.pts, frame.time_base = shown, Fraction(1, FPS)
                container.mux(video.encode(frame))
                shown += 1
            heard.append(media.audio)
        container.mux(video.encode(None))
        samples = np.concatenate(heard).astype(np.float32) / 32768
        for at in range(0, len(samples), 1024):
            piece = av.AudioFrame.from_ndarray(samples[None, at : at + 1024].copy(), "fltp", "mono")
            piece.sample_rate, piece.pts, piece.time_base = RATE, at, Fraction(1, RATE)
            container.mux(sound.encode(piece))
        container.mux(sound.encode(None))


def main() -> None:
    """The command line."""
    asked = cli(Timeline, description=__doc__)
    files = sorted(asked.video.glob("*.mp4"))
    if not files:
        sys.exit(f"error: {asked.video}: no utterances there: run make demo first")
    with tempfile.TemporaryDirectory() as folder:
        joined = Path(folder, f"{asked.video.name}.mp4")
        join(files, joined)
        asked.output.unlink(missing_ok=True)
        options = ["--timeline", str(asked.output), "--every", str(asked.every)]
        predict.main([str(joined), "--checkpoint", str(asked.checkpoint), *options])
    with Image.open(asked.output) as picture:  # a third of the bytes; by octree, which keeps thin lines' colours apart
        picture.convert("RGB").quantize(256, method=Image.Quantize.FASTOCTREE).save(asked.output, optimize=True)


if __name__ == "__main__":
    main()
