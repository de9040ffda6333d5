"""VoxCeleb1 and VoxCeleb2: ``…/<speaker>/<youtube id>/<utterance>.mp4``, whatever folders lie above.

Or whole YouTube videos, with the txt files that say when and where in them the utterances are.

Layouts as published with Nagrani, Chung and Zisserman, "VoxCeleb" (2017), and Chung, Nagrani and Zisserman, "VoxCeleb2"
(2018).
"""

import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Literal

from loaders.dataset.identity import UtteranceName
from loaders.dataset.labels import Label
from loaders.errors import InputError
from loaders.storage.urls import url_of
from sharding.corpora.gaze_tables import count_tables
from sharding.corpora.metadata import PUBLISHED, Speaker, read_identification_split, read_sets, read_speakers
from sharding.corpora.naming import Naming, settle_names
from sharding.corpora.registry import corpus
from sharding.corpora.split import hashed_split
from sharding.corpora.suffixes import AUDIO_SUFFIXES, VIDEO_SUFFIXES, is_usual
from sharding.corpora.tree import Entry, LeftOut, Tree, by_suffix, read_tree, refusal
from sharding.sources.copies import existence, is_folder
from sharding.utterance import Apart, BoxesFile, Corpus, Rejection, Utterance, readable

# What lies beside the files that are looked at, as published and as OpenFace writes it: not worth a note.
_LAYOUT = {
    "source": {".txt", ".csv", ".wav", ".m4a"},
    "audio": {".txt", ".csv", *VIDEO_SUFFIXES},
    "boxes": {".csv", *VIDEO_SUFFIXES, *AUDIO_SUFFIXES},
    "openface": {".txt", ".hog", ".bmp", ".jpg", ".png", *VIDEO_SUFFIXES, *AUDIO_SUFFIXES},
}

UNKNOWN = Speaker(gender=None, nationality=None)
_OF_SPEAKERS = tuple(field.name for field in fields(Speaker))


@corpus("voxceleb", "Build a dataset from VoxCeleb1, VoxCeleb2 or any tree of <speaker>/<video>/<utterance> files.")
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
    split: Literal["hash", "published"] = "hash"
    """What decides on which side of the split an utterance falls. hash: its id's, as --split-by says; the folders dev
    and test of the archives do not count then. published: these folders, dev, test, vox2_dev_mp4, vox2_test_mp4 and the
    like between --source and the speakers, or where there are none, the column Set of the --meta lists. dev becomes
    train; their speakers are apart, as they are in VoxCeleb1's and 2's."""
    split_by: Apart = "speaker"
    """Whose id's hash decides on which side of the split an utterance falls, and what the sides do not share."""
    test_fraction: float = 0.2
    """Share of the ids that make the split "test"; the others make "train"."""
    iden_split: Path | None = None
    """VoxCeleb1's iden_split.txt, of its identification task: splits "train", "validation" and "test" as it lists them,
    which share speakers but no video. --split-by and --test-fraction do not count then."""
    video_names: Naming = "auto"
    """Whether two speakers' videos of one name are one video (corpus), as of a YouTube id, or two (speaker), as of
    actor_1/interview and actor_2/interview: no sound of a video is a negative for its own pictures, and no video is on
    both sides of the split. auto: corpus where all names might be YouTube ids, 11 letters, digits, - and _, or where a
    file has two speakers; otherwise speaker."""
    meta: tuple[Path, ...] = ()
    """vox1_meta.csv, vox2_meta.csv or both: gender and nationality become labels."""
    follow_links: bool = False
    """Follow symbolic links that lead out of these trees, to files and folders, as git-annex and scratch folders have
    them. An utterance is named by where the link lies. Unless told otherwise they are rejected."""

    def read(self) -> Corpus:
        """See `read_voxceleb`."""
        return read_voxceleb(self)


def read_voxceleb(sources: VoxcelebSources) -> Corpus:
    """The utterances that the sources hold.

    What is named by one source and missing in another (a video that has boxes, the sound of a video) is kept, for the
    build to reject by name. What `sharding.corpora.tree.read_tree` leaves out of ``source`` and ``boxes``, utterances
    whose video or sound is left out, and those that ``iden_split`` does not list are among the rejected. Of an
    utterance's files, one with a suffix that corpora are published in (`sharding.corpora.suffixes`) goes before others.

    Raises:
        InputError: a folder or list is missing or not what it should be, the source holds no utterance or one twice, or
            an option is out of range.
    """
    _check(sources)
    utterances, rejected, notes = (_whole_videos if sources.boxes else _cut_videos)(sources)
    is_film = existence(sources.source) if sources.boxes else None  # a file an utterance is one that was found
    absent = {u.video_path for u in utterances if is_film is not None and not is_film(u.video_path)}
    if sources.iden_split is not None:
        utterances, unlisted, note = _by_list(utterances, sources.iden_split)
        rejected, notes = [*rejected, *unlisted], [*notes, note]
    if sources.split == "published":
        utterances, unlisted, note = _as_published(utterances, read_sets(sources.meta))
        rejected, notes = [*rejected, *unlisted], [*notes, note]
    labels: tuple[Label, ...] = ()
    if sources.meta:
        speakers = read_speakers(sources.meta)
        labels = _labels(speakers.values())
        without = {utterance.speaker for utterance in utterances} - speakers.keys()
        if without:
            notes.append(f"{len(without)} speakers are not in the --meta lists, the first {min(without)}")
        utterances = [_labelled(utterance, speakers.get(utterance.speaker, UNKNOWN)) for utterance in utterances]
    if sources.audio is not None:
        utterances, refused, more = _with_audio(utterances, sources.audio, sources.follow_links)
        rejected, notes = [*rejected, *refused], [*notes, *more]
        is_sound = existence(sources.audio)
        absent |= {u.audio_path for u in utterances if u.audio_path is not None and not is_sound(u.audio_path)}
    if sources.openface is not None:
        utterances, more = _with_tables(utterances, sources.openface, sources.follow_links)
        notes += more
    video_names, note_on_names = settle_names(utterances, sources.video_names, sources.split_by)
    return Corpus(
        name="voxceleb",
        utterances=tuple(utterances),
        rejected=tuple(rejected),
        labels=labels,
        notes=(*notes, *note_on_names),
        video_names=video_names,
        apart=_apart(sources),
        absent=frozenset(absent),
    )


def _apart(sources: VoxcelebSources) -> Apart:
    """What the sides of the split do not share."""
    if sources.split == "published":
        return "speaker"
    return sources.split_by if sources.iden_split is None else "video"


def _check(sources: VoxcelebSources) -> None:
    if sources.split == "published":
        defaults = {field.name: field.default for field in fields(sources)}
        for name in ("split_by", "test_fraction", "iden_split"):
            if getattr(sources, name) != defaults[name]:
                option = name.replace("_", "-")
                raise InputError(f"--{option} has no effect with --split published: leave one of them away")
    if not 0 <= sources.test_fraction < 1:
        raise InputError(f"--test-fraction is {sources.test_fraction}: use a share from 0 to below 1")
    if not 0 < sources.boxes_margin <= 10:
        raise InputError(f"--boxes-margin is {sources.boxes_margin}: use more than 0, at most 10")
    if sources.boxes_height is not None and sources.boxes_height < 1:
        raise InputError(f"--boxes-height is {sources.boxes_height}: use 1 or more")
    folders: dict[str, Path | None] = {name: getattr(sources, name) for name in _LAYOUT}
    if sources.follow_links and all(folder is None or url_of(folder) is not None for folder in folders.values()):
        raise InputError("--follow-links: an object store has no links: leave it out")
    for name, folder in folders.items():
        if folder is not None and not is_folder(folder):
            raise InputError(
                f"--{name} {readable(folder)}: no such folder: give the folder that holds <speaker>/<video>/<utterance>"
            )


def _cut_videos(sources: VoxcelebSources) -> tuple[list[Utterance], list[Rejection], list[str]]:
    """A file an utterance."""
    tree = read_tree(sources.source, VIDEO_SUFFIXES, follow_links=sources.follow_links)
    below = [entry for entry in tree.files if len(entry.names) >= 3]
    files = _by_names(below)
    for paths in files.values():
        if len(paths) > 1 and is_usual(paths[1]) == is_usual(paths[0]):
            raise InputError(
                f"{readable(paths[1])}: the same utterance as {readable(paths[0])}: give a --source that holds each "
                "one once"
            )
    if not files:
        raise InputError(_nothing_there(tree, sources))
    notes = tree.notes(f"--source {readable(sources.source)}", _LAYOUT["source"] | _sound_suffixes(sources))
    if above := len(tree.files) - len(below):
        notes.append(
            f"{above} video files lie less than two folders below {readable(sources.source)} and were passed by"
        )
    notes += _several_notes(files, sources.source, "video files")
    above_of = {entry.path: entry.names[:-3] for entry in below}
    notes += _unheard_folders(above_of.values(), sources)
    utterances = [_utterance(names, paths[0], sources, above_of[paths[0]]) for names, paths in sorted(files.items())]
    return utterances, [_rejection(out, sources) for out in tree.left_out], notes


def _by_names(entries: Sequence[Entry]) -> dict[UtteranceName, list[Path]]:
    """The files of each utterance, those with usual suffixes first, otherwise in the order of the entries."""
    files: dict[UtteranceName, list[Path]] = {}
    for entry in entries:
        files.setdefault(_last_three(entry), []).append(entry.path)
    return {names: _usual_first(paths) for names, paths in files.items()}


def _usual_first(paths: list[Path]) -> list[Path]:
    return paths if len(paths) == 1 else sorted(paths, key=is_usual, reverse=True)


def _several_notes(files: dict[UtteranceName, list[Path]], root: Path, what: str) -> list[str]:
    several = [paths for _, paths in sorted(files.items()) if len(paths) > 1]
    if not several:
        return []
    used, other = several[0][:2]
    return [
        f"{len(several)} utterances have several {what} below {readable(root)}: one is used, of the first "
        f"{readable(used)}, not {readable(other)}"
    ]


def _sound_suffixes(sources: VoxcelebSources) -> set[str]:
    """Sound that lies in the source's tree is looked at where --audio is given."""
    return set() if sources.audio is None else set(AUDIO_SUFFIXES)


def _nothing_there(tree: Tree, sources: VoxcelebSources) -> str:
    where = f"--source {readable(sources.source)}"
    if out := tree.count("outside_source"):
        return (
            f"{where}: no utterance lies in it, and {out} links lead out of it: --follow-links follows them, or give "
            "the folder that they lead to"
        )
    held = [by_suffix(tree.others)] if tree.others else []
    held += [f"{tree.hidden} hidden entries"] if tree.hidden else []
    held += [f"{count} left out as {reason}" for reason, count in Counter(o.reason for o in tree.left_out).items()]
    held += [f"{len(tree.files)} video files less than two folders below"] if tree.files else []
    return (
        f"{where}: no <speaker>/<video>/<utterance> with a video file, but {', '.join(held) or 'nothing'}: is it the "
        "right folder?"
    )


def _whole_videos(sources: VoxcelebSources) -> tuple[list[Utterance], list[Rejection], list[str]]:
    """A txt file an utterance, in a file a YouTube video."""
    assert sources.boxes is not None
    films = read_tree(sources.source, VIDEO_SUFFIXES, follow_links=sources.follow_links)
    by_id: dict[str, list[Entry]] = defaultdict(list)
    for entry in films.files:
        by_id[entry.names[-1]].append(entry)
    texts = read_tree(sources.boxes, (".txt",), follow_links=sources.follow_links)
    utterances: dict[UtteranceName, Utterance] = {}
    above: list[Sequence[str]] = []
    for entry in texts.files:
        if len(entry.names) < 3:
            continue
        names = _last_three(entry)
        above.append(entry.names[:-3])
        if names in utterances:
            raise InputError(
                f"{readable(entry.path)}: the same utterance as another: give a --boxes that holds each one once"
            )
        file = BoxesFile(path=entry.path, margin=sources.boxes_margin, height=sources.boxes_height)
        path = _film(names, by_id, sources.source)
        utterances[names] = replace(_utterance(names, path, sources, entry.names[:-3]), boxes=file)
    if not utterances:
        raise InputError(_no_boxes(texts, sources.boxes))
    usable, refused = _usable(
        [utterance for _, utterance in sorted(utterances.items())],
        lambda utterance: utterance.video_path,
        {entry.path for entry in films.files},
        sources.source,
        sources.follow_links,
    )
    is_there = existence(sources.source)
    missing = {(u.speaker, u.video) for u in usable if not is_there(u.video_path)}
    unused = by_id.keys() - {video for _, video, _ in utterances}
    notes = [
        *films.notes(f"--source {readable(sources.source)}", _LAYOUT["source"] | _sound_suffixes(sources)),
        *texts.notes(f"--boxes {readable(sources.boxes)}", _LAYOUT["boxes"]),
        *_unheard_folders(above, sources),
    ]
    notes += (
        [f"{len(missing)} YouTube videos that have boxes are not below {readable(sources.source)}"] if missing else []
    )
    notes += (
        [f"{len(unused)} video files below {readable(sources.source)} have no boxes and were passed by"]
        if unused
        else []
    )
    rejected = [*(out.rejection() for out in films.left_out), *(_rejection(out, sources) for out in texts.left_out)]
    return usable, [*rejected, *refused], notes


def _no_boxes(texts: Tree, boxes: Path) -> str:
    if out := texts.count("outside_source"):
        return f"--boxes {readable(boxes)}: {out} links lead out of it, and nothing else is there: give --follow-links"
    return f"--boxes {readable(boxes)}: no <speaker>/<video>/<utterance>.txt: is it the right folder?"


def _usable(
    utterances: Sequence[Utterance],
    file_of: Callable[[Utterance], Path],
    found: set[Path],
    root: Path,
    follow_links: bool,
) -> tuple[list[Utterance], list[Rejection]]:
    """The utterances without those whose file was left out of its tree: that one would be opened all the same.

    Args:
        utterances: of the corpus.
        file_of: the file of an utterance.
        found: the files that the tree gave.
        root: of the tree.
        follow_links: as the tree was read.
    """
    usable: list[Utterance] = []
    rejected: list[Rejection] = []
    for utterance in utterances:
        path = file_of(utterance)
        refused = None if path in found else refusal(path, root, follow_links=follow_links)
        if refused is None:
            usable.append(utterance)
        else:
            reason, detail = refused
            rejected.append(Rejection.of(utterance, reason, f"{readable(path)}: {detail}"))
    return usable, rejected


def _film(names: UtteranceName, by_id: dict[str, list[Entry]], source: Path) -> Path:
    """The YouTube video of an utterance: the one in its speaker's folder, or the only one of that name."""
    speaker, video, _ = names
    entries = by_id.get(video, [])
    own = _usual_first([e.path for e in entries if speaker in e.names[:-1]] or [e.path for e in entries])
    if len(own) > 1 and is_usual(own[0]) == is_usual(own[1]):
        raise InputError(f"{own[0]} and {own[1]} are the same YouTube video: leave one of them out")
    return own[0] if own else source / speaker / f"{video}.mp4"


def _utterance(names: UtteranceName, path: Path, sources: VoxcelebSources, above: Sequence[str]) -> Utterance:
    """``above``: the folders between the root and the speaker's. What they do not say of a published split is empty."""
    speaker, video, utterance = names
    identity = {"speaker": speaker, "video": video, "utterance": "/".join(names)}[sources.split_by]
    by_hash = sources.split == "hash"
    return Utterance(
        corpus="voxceleb",
        split=hashed_split(identity, sources.test_fraction) if by_hash else _split_of_folders(above),
        speaker=speaker,
        video=video,
        utterance=utterance,
        video_path=path,
    )


def _rejection(out: LeftOut, sources: VoxcelebSources) -> Rejection:
    if not out.is_folder and len(out.entry.names) >= 3:
        names = out.entry.names
        utterance = _utterance(_last_three(out.entry), out.entry.path, sources, names[:-3])
        return Rejection.of(utterance, out.reason, out.detail)
    return out.rejection()


def _split_of_folders(above: Sequence[str]) -> str:
    """The split that the folders of a published archive are of, the innermost that says so; empty where none does."""
    for folder in reversed(above):
        said = PUBLISHED.keys() & set(re.split(r"[^a-z]+", folder.lower()))
        if len(said) == 1:
            return PUBLISHED[said.pop()]
    return ""


def _unheard_folders(above: Iterable[Sequence[str]], sources: VoxcelebSources) -> list[str]:
    """A note where folders say dev and test, and something else decides the split."""
    if sources.split == "published" or sources.iden_split is not None:
        return []
    if not set(PUBLISHED.values()) <= {_split_of_folders(folders) for folders in above}:
        return []
    return ["its folders dev and test do not decide the split, hashes do: --split published takes it from them"]


def _as_published(
    utterances: Sequence[Utterance], sets: Mapping[str, str]
) -> tuple[list[Utterance], list[Rejection], str]:
    """Where their folders do not say the split, as the lists' ``sets`` have it, by speaker."""
    kept: list[Utterance] = []
    unlisted: list[Rejection] = []
    for utterance in utterances:
        split = utterance.split or sets.get(utterance.speaker, "")
        if split:
            kept.append(replace(utterance, split=split))
        else:
            why = "neither a folder above its speaker's nor a list says whether it is of dev or of test"
            unlisted.append(Rejection.of(utterance, "unlisted", why))
    if not kept:
        raise InputError(
            "--split published: no folder between --source and the speakers is called dev or test, and no --meta list "
            "has a column Set: give the folder above both, or vox2_meta.csv"
        )
    counts = ", ".join(f"{count} in {split}" for split, count in sorted(Counter(u.split for u in kept).items()))
    return kept, unlisted, f"as published: {counts}, {len(unlisted)} in neither"


def _by_list(utterances: Sequence[Utterance], iden_split: Path) -> tuple[list[Utterance], list[Rejection], str]:
    splits = read_identification_split(iden_split)
    kept, unlisted = [], []
    for utterance in utterances:
        split = splits.get(utterance.name)
        if split is None:
            unlisted.append(
                Rejection.of(replace(utterance, split=""), "unlisted", f"{iden_split.name} has no line of it")
            )
        else:
            kept.append(replace(utterance, split=split))
    if not kept:
        raise InputError(f"--iden-split {iden_split}: lists none of the {len(utterances)} utterances: give VoxCeleb1's")
    return kept, unlisted, f"{len(kept)} of the {len(splits)} utterances of {iden_split.name} are there"


def _labelled(utterance: Utterance, speaker: Speaker) -> Utterance:
    return replace(utterance, labels={name: value for name, value in asdict(speaker).items() if value is not None})


def _labels(speakers: Iterable[Speaker]) -> tuple[Label, ...]:
    """What the lists state of speakers, also of those that are not there."""
    stated = {name: {getattr(speaker, name) for speaker in speakers} - {None} for name in _OF_SPEAKERS}
    return tuple(Label(name=name, classes=tuple(sorted(values))) for name, values in stated.items() if values)


def _with_audio(
    utterances: Sequence[Utterance], audio: Path, follow_links: bool
) -> tuple[list[Utterance], list[Rejection], list[str]]:
    tree = read_tree(audio, AUDIO_SUFFIXES, follow_links=follow_links)
    # The last of several, as their paths are sorted: so 1.wav goes before 1.m4a.
    files = _by_names([entry for entry in reversed(tree.files) if len(entry.names) > 2])
    # Named even where the tree lacks it, so that the build counts the utterance as one whose sound is missing.
    named = [
        replace(
            utterance, audio_path=files[names][0] if names in files else audio.joinpath(*names[:2], f"{names[2]}.wav")
        )
        for utterance in utterances
        for names in (utterance.name,)
    ]
    found = {paths[0] for paths in files.values()}
    usable, refused = _usable(named, lambda utterance: utterance.audio_path or audio, found, audio, follow_links)
    notes = tree.notes(f"--audio {readable(audio)}", _LAYOUT["audio"])
    notes += _several_notes(files, audio, "sound files")
    if unused := len(tree.files) - sum(len(files.get(utterance.name, ())) for utterance in utterances):
        notes.append(f"{unused} sound files below {readable(audio)} are of no utterance and were passed by")
    is_there = existence(audio)
    without = sum(not (u.audio_path and is_there(u.audio_path)) for u in usable)
    notes += [f"{without} utterances have no file below {readable(audio)}"] if without else []
    return usable, refused, notes


def _with_tables(
    utterances: Sequence[Utterance], openface: Path, follow_links: bool
) -> tuple[list[Utterance], list[str]]:
    tree = read_tree(openface, (".csv",), follow_links=follow_links)
    files = _by_names([entry for entry in reversed(tree.files) if len(entry.names) > 2])
    flat = {entry.names[0]: entry.path for entry in tree.files if len(entry.names) == 1}
    with_tables = [
        replace(utterance, gaze_path=files[names][0] if names in files else flat.get("_".join(names)))
        for utterance in utterances
        for names in (utterance.name,)
    ]
    notes = tree.notes(f"--openface {readable(openface)}", _LAYOUT["openface"])
    notes += _several_notes(files, openface, "tables")
    names = ["<speaker>/<video>/<utterance>.csv below any folders", "<speaker>_<video>_<utterance>.csv"]
    notes.append(count_tables(with_tables, openface, names, notes))
    return with_tables, notes


def _last_three(entry: Entry) -> UtteranceName:
    return UtteranceName(*entry.names[-3:])
