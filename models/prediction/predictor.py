"""A finished run, ready to be asked about any video: ``load(RUN).predict(path)``."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from loaders.dataset.labels import Label
from loaders.dataset.manifest import GAZE_STATISTICS, Member
from loaders.errors import InputError
from models.answers import Prediction, predict_targets
from models.frontend.front_end import FrontEnd
from models.prediction.clips import ClipInputs, VideoClips, notes_of
from models.prediction.making import GazeSource, Making, making_of
from models.prediction.results import MODALITIES, Answer, Answers, VideoPrediction, Window, mean_of
from models.systems.streams import Needs
from models.systems.targets import TargetNet
from models.training import runs
from models.training.config import Precision
from models.training.execution import place, place_front_end
from models.training.precision import trained_in
from models.training.provenance import SETTINGS
from sharding.crops.crop_plan import face_detector
from sharding.gaze.mediapipe import require_mediapipe
from sharding.media.reader import Media
from sharding.members.declared import members_of
from sharding.packing.clips import RejectedError
from sharding.settings import Crop
from sharding.sources.copies import is_gone, local_media
from sharding.stages import Stopwatch
from sharding.utterance import Utterance, readable

Device = Literal["auto", "cpu", "cuda"]
_TOGETHER = 32  # windows a batch
_HALF = {"fp16": torch.float16, "bf16": torch.bfloat16}


def load(
    run: Path | str,
    *,
    like: str | Path | None = None,
    crop: Crop | None = None,
    gaze: GazeSource = "auto",
    device: Device = "cpu",
) -> Predictor:
    """A finished fine-tuning, to be asked about videos.

    Args:
        run: its folder.
        like: a dataset whose clips are made as the run's are; needed for runs of older versions, which do not say how.
        crop: what to crop instead of what the run's clips show.
        gaze: what tracks it; auto: MediaPipe, where the run has learned from it.
        device: auto: a GPU where there is one.

    Raises:
        InputError: there is no such run, it is not finished or of another stage; or no clips can be made for it here.
    """
    folder = Path(run)
    front_end, network = runs.load_targets(folder)
    described = runs.read_run(folder)
    given = None if like is None else str(like)
    making = making_of(folder, described, network.needs, front_end.config.frames, like=given, crop=crop, gaze=gaze)
    if making.settings.gaze == "mediapipe":
        require_mediapipe()
    if making.settings.crop == "face":
        face_detector()
    where = torch.device("cuda" if device == "cuda" or (device == "auto" and torch.cuda.is_available()) else "cpu")
    if where.type == "cuda" and not torch.cuda.is_available():
        raise InputError("--device cuda: there is no GPU that torch can use: use cpu")
    trained = trained_in(described)
    precision: Precision = "no" if trained is None or (trained == "fp16" and where.type == "cpu") else trained
    settings = described.get(SETTINGS) or {}
    return Predictor(
        front_end, network, making, device=where, precision=precision, gaze_dropout=settings.get("gaze_dropout") or 0.0
    )


class Predictor:
    """What a trained network says of videos.

    Attributes:
        front_end, network: of the run.
        labels: the targets.
        needs: what the network looks at.
        making: how clips are made for it.
    """

    def __init__(
        self,
        front_end: FrontEnd,
        network: TargetNet,
        making: Making,
        *,
        device: torch.device,
        precision: Precision = "no",
        gaze_dropout: float = 0.0,
    ) -> None:
        """See `load`.

        Args:
            front_end, network: of the run.
            making: how clips are made.
            device: where it is computed.
            precision: in what.
            gaze_dropout: share of the training clips whose gaze was withheld.
        """
        self.front_end, self.network = front_end, network
        place(network, device)
        place_front_end(front_end, device, half=precision != "no")
        self._device, self._precision = device, precision
        self._gaze_dropout = gaze_dropout
        self.making = making
        self.labels: tuple[Label, ...] = network.targets
        self.needs: Needs = network.needs
        self._members: dict[str, Member] = {member.name: member for member in members_of(making.settings)}

    def predict(
        self, path: Path | str, *, every: float | None = None, gaze: Path | str | None = None
    ) -> VideoPrediction:
        """What the run says of a video.

        Args:
            path: of its file, or its URL.
            every: seconds from one window to the next, a whole number of the clips' frames; None: they lie end to end.
            gaze: OpenFace's table of the video, if there is one.

        Raises:
            InputError: it cannot be read, or ``every`` is no such number.
        """
        video = Path(path)
        return self.predict_utterance(utterance_of(video, gaze=None if gaze is None else Path(gaze)), every=every)[0]

    def predict_utterance(self, utterance: Utterance, *, every: float | None = None) -> tuple[VideoPrediction, Media]:
        """`predict` of a video or a part of one, with what was looked at and listened to: frames as they are cropped.

        Raises:
            InputError: see `predict`.
        """
        step = None if every is None else self.frames_of(every)
        if utterance.gaze_path is not None and self.making.settings.gaze == "mediapipe":
            problem = "it comes with a table of gaze, which here MediaPipe tracks"
            raise InputError(readable(utterance.video_path), problem, "leave the table away")
        with local_media(utterance, Stopwatch()) as local:
            try:
                clips = VideoClips(local.utterance, self.making, self.needs)
                first = sorted({*clips.clips, *(clips.every(step) if step is not None else ())})
                windows = dict(zip(first, self._windows(clips, first, utterance.start or 0.0), strict=True))
            except RejectedError as error:
                why = local.rewrite_paths(error.detail)
                if error.reason == "missing":
                    raise InputError(why, "missing", "give a file that is there") from error
                mend = "give a video with pictures or sound that can be decoded"
                if error.reason == "too_long":
                    mend = "give a table of its parts, with columns video, start and end"
                raise InputError(readable(utterance.video_path), f"{error.reason}: {why}", mend) from error
        end_to_end = [windows[place] for place in clips.clips]
        shown = end_to_end if step is None else [windows[place] for place in clips.every(step)]
        notes = notes_of([w.lacks for w in windows.values()], self.needs, self.making, gaze_dropout=self._gaze_dropout)
        length = self.making.settings.clip_seconds
        if clips.media.padded:
            notes.append(
                f"it lasts {clips.seconds:.3g} s, and a clip {length:g}: its last picture and silence fill the rest"
            )
        left = clips.seconds - (max(window.end for window in shown) - (utterance.start or 0.0))
        frame = 1 / self.making.settings.fps
        if left > frame + 1e-6:
            lie = f"fill no clip of {length:g} s" if step is None else "lie in no window"
            notes.append(f"its last {left:.3g} s {lie} and are left out: --every {frame:g} looks at them")
        found = VideoPrediction(
            path=readable(utterance.video_path),
            start=utterance.start or 0.0,
            seconds=clips.seconds,
            labels=self.labels,
            targets=mean_of(end_to_end, self.labels),
            windows=tuple(shown),
            notes=tuple(notes),
        )
        return found, clips.media.source

    def frames_of(self, every: float) -> int:
        """Seconds as frames of the clips' clock.

        Raises:
            InputError: they are not a whole number of them, or none.
        """
        fps = self.making.settings.fps
        frames = every * fps
        if not (frames >= 1 - 1e-6 and abs(frames - round(frames)) < 1e-6):
            raise InputError(
                f"--every {every:g}: use a multiple of {1 / fps:g} s, which a frame of the run's clips lasts"
            )
        return round(frames)

    def _windows(self, clips: VideoClips, first: Sequence[int], begins: float) -> Iterator[Window]:
        """The windows that begin with these frames; ``begins``: the second of the file at which the clips do."""
        for begin in range(0, len(first), _TOGETHER):
            inputs = [clips.at(frame) for frame in first[begin : begin + _TOGETHER]]
            said: dict[int, dict[str, Answers]] = {}
            for seen, heard in product((True, False), repeat=2):
                rows = [row for row, one in enumerate(inputs) if (one.is_seen, one.is_heard) == (seen, heard)]
                if rows:
                    of_rows = self._said([inputs[row] for row in rows], seen=seen, heard=heard)
                    said |= dict(zip(rows, of_rows, strict=True))
            for row, one in enumerate(inputs):
                yield Window(start=begins + one.start, end=begins + one.end, targets=said[row], lacks=one.lacks)

    def _said(self, inputs: Sequence[ClipInputs], *, seen: bool, heard: bool) -> list[dict[str, Answers]]:
        """Of windows that have the same of pictures and sound."""
        if not seen and not heard:
            return [{label.name: Answers() for label in self.labels} for _ in inputs]
        given = self._batch(inputs, seen=seen, heard=heard)
        half = _HALF.get(self._precision, torch.bfloat16)
        with torch.autocast(self._device.type, dtype=half, enabled=self._precision != "no"):
            predictions = predict_targets(self.front_end, self.network, **given)
        by_target = {name: _answers(prediction, len(inputs)) for name, prediction in predictions.items()}
        return [{name: answers[row] for name, answers in by_target.items()} for row in range(len(inputs))]

    def _batch(self, inputs: Sequence[ClipInputs], *, seen: bool, heard: bool) -> dict[str, Any]:
        """What `models.frontend.front_end.FrontEnd` takes, as the loader has it; only what there is."""

        def stacked(arrays: Sequence[np.ndarray[Any, Any] | None]) -> Tensor:
            return torch.from_numpy(np.stack([array for array in arrays if array is not None])).to(self._device)

        given: dict[str, Any] = {}
        if seen and self.needs.video:
            given["video"] = stacked([one.video for one in inputs])
        if heard and self.needs.audio:
            given["audio"] = stacked([one.audio for one in inputs])
        if seen:
            rows = [np.zeros(GAZE_STATISTICS, np.float32) if one.gaze is None else one.gaze for one in inputs]
            given["gaze"] = stacked(rows)
            given["gaze_valid"] = stacked([np.array(one.gaze is not None) for one in inputs])
        members, masks = {}, {}
        for name in self.needs.members:
            if heard if name in self.needs.of_audio else seen:
                values, valid = zip(
                    *(_filled(self._members[name], one.members.get(name)) for one in inputs), strict=True
                )
                members[name], masks[name] = stacked(values), stacked(valid)
        return given | {"members": members, "masks": masks}


def utterance_of(video: Path, *, gaze: Path | None = None) -> Utterance:
    """A whole video as what the build takes."""
    name = readable(video.name)
    return Utterance(corpus="", split="", speaker=name, video=name, utterance=name, video_path=video, gaze_path=gaze)


def with_table_beside(utterance: Utterance) -> Utterance:
    """With OpenFace's table beside the video, ``clip.csv`` of ``clip.mp4``, where there is one and none was named.

    Raises:
        InputError: it cannot be seen whether there is one.
    """
    if utterance.gaze_path is not None:
        return utterance
    table = utterance.video_path.with_suffix(".csv")
    return utterance if is_gone(table) else replace(utterance, gaze_path=table)


def _filled(member: Member, array: np.ndarray[Any, Any] | None) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """A member of a clip as a batch has it, zeros where there is none, and where there is some."""
    values = np.zeros(member.shape, np.dtype(member.dtype).newbyteorder("="))
    mask = np.zeros(member.shape[:1] if member.variable else (), np.bool_)
    if array is not None and member.variable:
        values[: len(array)], mask[: len(array)] = array, True
    elif array is not None:
        values[...], mask[...] = array, True
    return values, mask


def _answers(prediction: Prediction, rows: int) -> list[Answers]:
    said: list[dict[str, Answer]] = [{} for _ in range(rows)]
    for modality in MODALITIES:
        tensor: Tensor | None = getattr(prediction, modality)
        if tensor is None:
            continue
        for row, values in enumerate(tensor.float().cpu().tolist()):
            if prediction.classes is None:
                said[row][modality] = Answer(number=values)
            else:
                said[row][modality] = Answer(probabilities=dict(zip(prediction.classes, values, strict=True)))
    return [Answers(**one) for one in said]
