"""VoxCeleb1 and VoxCeleb2: ``…/<speaker>/<youtube id>/<utterance>.mp4``, whatever folders lie above.

Or whole YouTube videos, with the txt files that say when and where in them the utterances are.

Layouts as published with Nagrani, Chung and Zisserman, "VoxCeleb" (2017), and Chung, Nagrani and Zisserman, "VoxCeleb2"
(2018).
"""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from loaders.errors import InputError
from sharding.corpora.metadata import Speaker, read_identification_split, read_speakers
from sharding.corpora.split import hashed_split
from sharding.corpora.tree import Entry, LeftOut, read_tree
from sharding.corpora.utterance import Apart, BoxesFile, Corpus, Rejection, Utterance, readable
from sharding.sources import existence, is_folder

VIDEO_SUFFIXES = (".mp4", ".avi", ".mkv", ".mov", ".webm", ".mpg", ".mpeg", ".m4v")
AUDIO_SUFFIXES = (".wav", ".m4a", ".flac", ".mp3", ".ogg", ".aac")

Names = tuple[str, str, str]  # speaker, video, utterance
UNKNOWN = Speaker(gender=None, nationality=None)


@dataclass(frozen=True, slots=True, kw_only=True)
class VoxcelebSources:
    """Where VoxCeleb lies, and how it is split."""

    source: Path
    """The tree's root, or any folder above it: here, or a URL such as s3://bucket/VoxCeleb2, as any source."""
    audio: Path | None = None
    """A tree with the sound of each utterance, <speaker>/<video>/<utterance>.wav or .m4a, where it lies apart."""
    boxes: Path | None = None
    """A tree with VoxCeleb's txt files, <speaker>/<video>/<utterance>.txt: --source then holds whole YouTube videos,
    <speaker>/<video>.mp4 or <video>.mp4, and each utterance is cut and cropped as its txt file says."""
    boxes_margin: float = 1.0
    """Side of the crop over that of the box. VoxCeleb2's boxes are its clips' crops, VoxCeleb1's tighter."""
    boxes_height: int | None = None
    """Rows of the picture that boxes in pixels refer to, where the videos at hand have another size. Unless told
    otherwise they are pixels of the videos at hand."""
    openface: Path | None = None
    """A tree with OpenFace's table of each utterance: <speaker>/<video>/<utterance>.csv below any folders, or
    <speaker>_<video>_<utterance>.csv in this one."""
    split_by: Apart = "speaker"
    """Whose id's hash decides on which side of the split an utterance falls, and what the sides do not share."""
    test_fraction: float = 0.2
    """Share of the ids that make the split "test"; the others make "train"."""
    iden_split: Path | None = None
    """VoxCeleb1's iden_split.txt: splits "train", "validation" and "test" as it lists them, which share speakers but no
    video. --split-by and --test-fraction do not count then."""
    meta: tuple[Path, ...] = ()
    """vox1_meta.csv, vox2_meta.csv or both: gender and nationality go into the catalog."""


def read_voxceleb(sources: VoxcelebSources) -> Corpus:
    """The utterances that the sources hold.

    What is named by one source and missing in another (a video that has boxes, the sound of a video) is kept, for the
    build to reject by name. Links that lead out of ``source``, folders that cannot be listed, and utterances that
    ``iden_split`` does not list are among the rejected.

    Raises:
        InputError: a folder or list is missing or not what it should be, the source holds no utterance, or an option is
            out of range.
    """
    _check(sources)
    utterances, rejected, notes = (_whole_videos if sources.boxes else _cut_videos)(sources)
    is_film = existence(sources.source) if sources.boxes else None  # a file an utterance is one that was found
    absent = {u.video_path for u in utterances if is_film is not None and not is_film(u.video_path)}
    if sources.iden_split is not None:
        utterances, unlisted, note = _by_list(utterances, sources.iden_split)
        rejected, notes = [*rejected, *unlisted], [*notes, note]
    if sources.meta:
        speakers = read_speakers(sources.meta)
        without = {utterance.speaker for utterance in utterances} - speakers.keys()
        if without:
            notes.append(f"{len(without)} speakers are not in the --meta lists, the first {min(without)}")
        utterances = [_told(utterance, speakers.get(utterance.speaker, UNKNOWN)) for utterance in utterances]
    if sources.audio is not None:
        utterances = _with_audio(utterances, sources.audio)
        is_there = existence(sources.audio)
        without_sound = [u.audio_path for u in utterances if u.audio_path and not is_there(u.audio_path)]
        absent.update(without_sound)
        count = len(without_sound)
        notes += [f"{count} utterances have no file below {readable(sources.audio)}"] if count else []
    if sources.openface is not None:
        utterances = _with_tables(utterances, sources.openface)
        tables = sum(utterance.gaze_path is not None for utterance in utterances)
        notes.append(f"{tables} of {len(utterances)} utterances have an OpenFace table")
    return Corpus(
        name="voxceleb",
        utterances=tuple(utterances),
        rejected=tuple(rejected),
        notes=tuple(notes),
        apart=sources.split_by if sources.iden_split is None else "video",
        absent=frozenset(absent),
    )


def _check(sources: VoxcelebSources) -> None:
    if not 0 <= sources.test_fraction < 1:
        raise InputError(f"--test-fraction is {sources.test_fraction}: use a share from 0 to below 1")
    if not 0 < sources.boxes_margin <= 10:
        raise InputError(f"--boxes-margin is {sources.boxes_margin}: use more than 0, at most 10")
    if sources.boxes_height is not None and sources.boxes_height < 1:
        raise InputError(f"--boxes-height is {sources.boxes_height}: use 1 or more")
    for name in ("source", "audio", "boxes", "openface"):
        folder: Path | None = getattr(sources, name)
        if folder is not None and not is_folder(folder):
            raise InputError(
                f"--{name} {readable(folder)}: no such folder: give the folder that holds <speaker>/<video>/<utterance>"
            )


def _cut_videos(sources: VoxcelebSources) -> tuple[list[Utterance], list[Rejection], list[str]]:
    """A file an utterance."""
    tree = read_tree(sources.source, VIDEO_SUFFIXES)
    found: dict[Names, Path] = {}
    above = 0
    for entry in tree.files:
        if len(entry.names) < 3:
            above += 1
            continue
        names = _last_three(entry)
        if names in found:
            other = readable(found[names])
            raise InputError(
                f"{readable(entry.path)}: the same utterance as {other}: give a --source that holds each one once"
            )
        found[names] = entry.path
    if not found:
        raise InputError(
            f"--source {readable(sources.source)}: no <speaker>/<video>/<utterance> with a video file: is it the right "
            "folder?"
        )
    notes = (
        [f"{above} video files lie less than two folders below {readable(sources.source)} and were passed by"]
        if above
        else []
    )
    utterances = [_utterance(names, path, sources) for names, path in sorted(found.items())]
    return utterances, [_rejection(out, sources) for out in tree.left_out], notes


def _whole_videos(sources: VoxcelebSources) -> tuple[list[Utterance], list[Rejection], list[str]]:
    """A txt file an utterance, in a file a YouTube video."""
    assert sources.boxes is not None
    films = read_tree(sources.source, VIDEO_SUFFIXES)
    by_id: dict[str, list[Entry]] = defaultdict(list)
    for entry in films.files:
        by_id[entry.names[-1]].append(entry)
    texts = read_tree(sources.boxes, (".txt",))
    utterances: dict[Names, Utterance] = {}
    for entry in texts.files:
        if len(entry.names) < 3:
            continue
        names = _last_three(entry)
        if names in utterances:
            raise InputError(
                f"{readable(entry.path)}: the same utterance as another: give a --boxes that holds each one once"
            )
        file = BoxesFile(path=entry.path, margin=sources.boxes_margin, height=sources.boxes_height)
        path = _film(names, by_id, sources.source)
        utterances[names] = replace(_utterance(names, path, sources), boxes=file)
    if not utterances:
        raise InputError(
            f"--boxes {readable(sources.boxes)}: no <speaker>/<video>/<utterance>.txt: is it the right folder?"
        )
    is_there = existence(sources.source)
    missing = {(names[0], names[1]) for names, utterance in utterances.items() if not is_there(utterance.video_path)}
    unused = by_id.keys() - {video for _, video, _ in utterances}
    notes = (
        [f"{len(missing)} YouTube videos that have boxes are not below {readable(sources.source)}"] if missing else []
    )
    notes += (
        [f"{len(unused)} video files below {readable(sources.source)} have no boxes and were passed by"]
        if unused
        else []
    )
    rejected = [_rejection(out, sources) for out in (*films.left_out, *texts.left_out)]
    return [utterance for _, utterance in sorted(utterances.items())], rejected, notes


def _film(names: Names, by_id: dict[str, list[Entry]], source: Path) -> Path:
    """The YouTube video of an utterance: the one in its speaker's folder, or the only one of that name."""
    speaker, video, _ = names
    entries = by_id.get(video, [])
    own = [entry for entry in entries if speaker in entry.names[:-1]] or entries
    if len(own) > 1:
        raise InputError(f"{own[0].path} and {own[1].path} are the same YouTube video: leave one of them out")
    return own[0].path if own else source / speaker / f"{video}.mp4"


def _utterance(names: Names, path: Path, sources: VoxcelebSources) -> Utterance:
    speaker, video, utterance = names
    identity = {"speaker": speaker, "video": video, "utterance": "/".join(names)}[sources.split_by]
    return Utterance(
        corpus="voxceleb",
        split=hashed_split(identity, sources.test_fraction),
        speaker=speaker,
        video=video,
        utterance=utterance,
        video_path=path,
    )


def _rejection(out: LeftOut, sources: VoxcelebSources) -> Rejection:
    if not out.is_folder and len(out.entry.names) >= 3:
        return Rejection.of(_utterance(_last_three(out.entry), out.entry.path, sources), out.reason, out.detail)
    return Rejection(
        split="",
        speaker="",
        video="",
        utterance="",
        path=readable(out.entry.path),
        reason=out.reason,
        detail=out.detail,
    )


def _by_list(utterances: Sequence[Utterance], iden_split: Path) -> tuple[list[Utterance], list[Rejection], str]:
    splits = read_identification_split(iden_split)
    kept, unlisted = [], []
    for utterance in utterances:
        split = splits.get(_names(utterance))
        if split is None:
            unlisted.append(
                Rejection.of(replace(utterance, split=""), "unlisted", f"{iden_split.name} has no line of it")
            )
        else:
            kept.append(replace(utterance, split=split))
    if not kept:
        raise InputError(f"--iden-split {iden_split}: lists none of the {len(utterances)} utterances: give VoxCeleb1's")
    return kept, unlisted, f"{len(kept)} of the {len(splits)} utterances of {iden_split.name} are there"


def _told(utterance: Utterance, speaker: Speaker) -> Utterance:
    return replace(utterance, gender=speaker.gender, nationality=speaker.nationality)


def _with_audio(utterances: Sequence[Utterance], audio: Path) -> list[Utterance]:
    sounds = {
        _last_three(entry): entry.path for entry in read_tree(audio, AUDIO_SUFFIXES).files if len(entry.names) > 2
    }
    # Named even where the tree lacks it, so that the build counts the utterance as one whose sound is missing.
    return [
        replace(utterance, audio_path=sounds.get(names, audio.joinpath(*names[:2], f"{names[2]}.wav")))
        for utterance in utterances
        for names in (_names(utterance),)
    ]


def _with_tables(utterances: Sequence[Utterance], openface: Path) -> list[Utterance]:
    entries = read_tree(openface, (".csv",)).files
    below = {_last_three(entry): entry.path for entry in entries if len(entry.names) > 2}
    flat = {entry.names[0]: entry.path for entry in entries if len(entry.names) == 1}
    return [
        replace(utterance, gaze_path=below.get(names) or flat.get("_".join(names)))
        for utterance in utterances
        for names in (_names(utterance),)
    ]


def _names(utterance: Utterance) -> Names:
    return utterance.speaker, utterance.video, utterance.utterance


def _last_three(entry: Entry) -> Names:
    speaker, video, utterance = entry.names[-3:]
    return speaker, video, utterance
