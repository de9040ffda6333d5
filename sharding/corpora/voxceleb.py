"""VoxCeleb1 and VoxCeleb2: ``…/<speaker>/<youtube id>/<utterance>.mp4``, whatever folders lie above.

Layouts as published with Nagrani, Chung and Zisserman, "VoxCeleb" (2017), and Chung, Nagrani and Zisserman, "VoxCeleb2"
(2018).
"""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

from loaders.errors import InputError
from sharding.corpora.split import hashed_split
from sharding.corpora.utterance import Corpus, Utterance

VIDEO_SUFFIXES = (".mp4", ".avi", ".mkv", ".mov", ".webm", ".mpg", ".mpeg", ".m4v")
AUDIO_SUFFIXES = (".wav", ".m4a", ".flac", ".mp3", ".ogg", ".aac")
SplitBy = Literal["speaker", "video", "utterance"]


def read_voxceleb(
    source: Path,
    *,
    audio: Path | None = None,
    openface: Path | None = None,
    split_by: SplitBy = "speaker",
    test_fraction: float = 0.2,
) -> Corpus:
    """The utterances below ``source``.

    Args:
        source: a folder with ``<speaker>/<video>/<utterance>.<suffix>`` at any depth: a download's root, its dev/mp4, …
        audio: a tree with each utterance's sound under the same three names; None: the sound is inside the videos.
        openface: a tree with each utterance's OpenFace table, a .csv under the same three names.
        split_by: whose hash says on which side an utterance falls.
        test_fraction: share of those ids that make the split "test"; the others make "train".

    Raises:
        InputError: a folder is missing or holds no utterance, or the fraction is none.
    """
    if not 0 <= test_fraction < 1:
        raise InputError(f"--test-fraction is {test_fraction}: use a share from 0 to below 1")
    for name, folder in (("--source", source), ("--audio", audio), ("--openface", openface)):
        if folder is not None and not folder.is_dir():
            raise InputError(
                f"{name} {folder}: no such folder: give the folder that holds <speaker>/<video>/<utterance>"
            )
    sounds = {} if audio is None else dict(_files(audio, AUDIO_SUFFIXES))
    tables = {} if openface is None else dict(_files(openface, (".csv",)))
    found: dict[tuple[str, str, str], Path] = {}
    for names, path in _files(source, VIDEO_SUFFIXES):
        if names in found:
            raise InputError(f"{path}: the same utterance as {found[names]}: give a --source that holds each one once")
        found[names] = path
    if not found:
        raise InputError(
            f"--source {source}: no <speaker>/<video>/<utterance> with a video file: is it the right folder?"
        )
    utterances = []
    for names, path in sorted(found.items()):
        speaker, video, utterance = names
        identity = {"speaker": speaker, "video": video, "utterance": "/".join(names)}[split_by]
        utterances.append(
            Utterance(
                corpus="voxceleb",
                split=hashed_split(identity, test_fraction),
                speaker=speaker,
                video=video,
                utterance=utterance,
                video_path=path,
                # Named even where the tree lacks it, so that the build counts the utterance as one without audio.
                audio_path=None if audio is None else sounds.get(names, audio.joinpath(*names).with_suffix(".wav")),
                gaze_path=tables.get(names),
            )
        )
    notes = []
    if openface is not None:
        without = sum(utterance.gaze_path is None for utterance in utterances)
        notes.append(f"{len(utterances) - without} of {len(utterances)} utterances have an OpenFace table")
    return Corpus(name="voxceleb", utterances=tuple(utterances), notes=tuple(notes))


def _files(root: Path, suffixes: tuple[str, ...]) -> Iterator[tuple[tuple[str, str, str], Path]]:
    """(speaker, video, utterance) and path of every file of these kinds that lies at least three names deep."""
    for folder, folders, files in os.walk(root):
        folders.sort()
        for name in sorted(files):
            path = Path(folder, name)
            above = path.relative_to(root).parts[:-1]
            if len(above) >= 2 and path.suffix.lower() in suffixes:
                yield (above[-2], above[-1], path.stem), path
