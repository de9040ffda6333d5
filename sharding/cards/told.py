"""What a dataset card and Croissant metadata have in common: the words for what a dataset holds."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from loaders.dataset.columns import DESCRIBED, with_labels
from loaders.dataset.labels import Label
from loaders.dataset.manifest import Manifest, Member

MADE_BY = "filmstrip"
_NAMED_CLASSES = 100  # a line of them can still be read

COLUMNS_MEAN: Mapping[str, str] = {
    "key": "The clip's name: of its files in the tar, before the first dot.",
    "shard": "Which of the split's tars it is in, from 0.",
    "corpus": "What the clip was built from.",
    "speaker": "Who speaks.",
    "video": "The video that the clip is from.",
    "utterance": "The part of that video.",
    "start": "Seconds from the start of the utterance.",
    "padded": "Seconds at the end that repeat the last frame in silence.",
    "fps": "Frames a second of the filmstrip.",
    "source_xxh3": "XXH3-64 of the files that it was built from, by their sizes and ends.",
}
"""What each column of the catalog or of a clip's description says, those of labels and members apart."""

EXTENTS_MEAN: Mapping[str, str] = {
    "offset": "First byte of {member} in the tar.",
    "size": "Bytes of {member}; null: the clip has none.",
    "xxh3": "XXH3-64 of {member}.",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Kind:
    """A kind of file that a member can be, and what others call it."""

    mime: str
    croissant: str  #: a type of Croissant; it has none for bytes, and what is declared as text comes as they are
    feature: Callable[[Member, Manifest], Mapping[str, Any]]  #: as Hugging Face's datasets declares it in a card
    says: Callable[[Member], str]


def _sound(member: Member, manifest: Manifest) -> Mapping[str, Any]:
    """Bytes: where its type were "audio", ``datasets`` would read nothing at all of the clips without torchcodec."""
    return {"dtype": "binary"}


def _array(member: Member, manifest: Manifest) -> Mapping[str, Any]:
    """Lists in lists, a dimension each."""
    kind: Any = member.dtype
    for _ in member.shape[1:]:
        kind = {"list": kind}
    return {"list": kind} if member.shape else {"dtype": kind}


def _shape(member: Member) -> str:
    lengths = [str(length) for length in member.shape]
    if member.variable:
        lengths[0] = f"at most {lengths[0]}"
    return " × ".join(lengths)


def _says_filmstrip(member: Member) -> str:
    frames, height, width, _ = member.shape
    return f"{frames} frames of {width}×{height} pixels, one below the other in one JPEG"


def _says_sound(member: Member) -> str:
    return f"{member.shape[0]} samples of 16 bits, one channel"


def _says_array(member: Member) -> str:
    return f"an array of {member.dtype}, {_shape(member)}"


KINDS: Mapping[str, Kind] = {
    "jpg": Kind(
        mime="image/jpeg", croissant="sc:ImageObject", feature=lambda *_: {"dtype": "image"}, says=_says_filmstrip
    ),
    "wav": Kind(mime="audio/wav", croissant="sc:AudioObject", feature=_sound, says=_says_sound),
    "flac": Kind(mime="audio/flac", croissant="sc:AudioObject", feature=_sound, says=_says_sound),
    "npy": Kind(mime="application/x-npy", croissant="sc:Text", feature=_array, says=_says_array),
    "msg": Kind(
        mime="application/vnd.msgpack",
        croissant="sc:Text",
        feature=lambda _, manifest: description_feature(manifest),
        says=lambda _: "MessagePack: whose clip it is, and its labels",
    ),
}
"""By the extension of a member."""


def description_feature(manifest: Manifest) -> Mapping[str, Any]:
    """The feature of clip.msg: see `Kind.feature`."""
    columns = with_labels(DESCRIBED, manifest.labels)
    return {"struct": [{"name": column.name, "dtype": _dtype(column.type)} for column in columns]}


def _dtype(kind: pa.DataType) -> str:
    if pa.types.is_dictionary(kind):
        return "string"
    return {pa.float32(): "float32", pa.float64(): "float64"}.get(kind) or str(kind)


def column_means(name: str, manifest: Manifest) -> str:
    """What a column of the catalog says."""
    if name in COLUMNS_MEAN:
        return COLUMNS_MEAN[name]
    label = manifest.label(name)
    if label is not None:
        return f"{'One of ' if label.classes else 'From '}{says_label(label)}; null: nothing is stated."
    member, _, part = name.rpartition("_")
    return EXTENTS_MEAN[part].format(member=member)


def says_label(label: Label) -> str:
    """What values it has; of very many classes the first."""
    if label.classes is not None:
        more = len(label.classes) - _NAMED_CLASSES
        return ", ".join(label.classes[:_NAMED_CLASSES]) + (f" and {more} more, see dataset.json" if more > 0 else "")
    return f"{label.low:g} to {label.high:g}"


def clips_of(manifest: Manifest) -> int:
    """In all splits."""
    return sum(split.clips for split in manifest.splits.values())


def summary(manifest: Manifest) -> str:
    """A dataset in a sentence."""
    clip, labels = manifest.clip, ", ".join(label.name for label in manifest.labels)
    return (
        f"{clips_of(manifest)} clips of {clip.seconds:g} s from {manifest.corpus}: {clip.frames} frames of "
        f"{clip.size}×{clip.size} pixels, audio at {clip.sample_rate} Hz"
        f"{f', and labels: {labels}' if labels else ''}."
    )
