"""The members that the clips of a build have, and who makes them: those of every build, and what ``--member`` adds."""

import math
import re
from collections.abc import Mapping

import numpy as np

from loaders.dataset.manifest import AUDIO, FILMSTRIP, GAZE, GAZE_STATISTICS, Member
from loaders.errors import InputError
from sharding.members.files import ArrayFile
from sharding.members.registry import ArrayType, OfUtterance, Registered, registered
from sharding.settings import BuildSettings

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,23}")  # with an utterance's key it fits into a plain tar header
_MOST_BYTES = 1 << 26  # of a clip's array


def members_of(settings: BuildSettings) -> tuple[Member, ...]:
    """The declaration of all members of a clip, in the order in which a shard holds them.

    Raises:
        InputError: ``--member`` says what no clip can have.
    """
    clip = settings.clip
    picture = (clip.frames, clip.size, clip.size, 3)
    return (
        Member(name=FILMSTRIP, extension="jpg", dtype="uint8", shape=picture, required=settings.requires("video")),
        Member(
            name=AUDIO,
            extension=settings.audio_format,
            dtype="int16",
            shape=(clip.samples,),
            required=settings.requires("audio"),
        ),
        Member(name=GAZE, extension="npy", dtype="float32", shape=(GAZE_STATISTICS,), required=False),
        *(_declared(name, found.type(settings)) for name, found in _asked_for(settings).items()),
        Member(name="clip", extension="msg", dtype="map", shape=(), required=True),
    )


def makers_of(settings: BuildSettings) -> Mapping[str, OfUtterance]:
    """Who makes the arrays that ``--member`` asks for, by the member's name. Raises InputError as `members_of`."""
    return {name: found.of_utterance for name, found in _asked_for(settings).items()}


def with_moments(settings: BuildSettings) -> tuple[Member, ...]:
    """Those of which dataset.json states moments. Raises InputError as `members_of`."""
    asked = _asked_for(settings).items()
    return tuple(_declared(name, array) for name, found in asked if (array := found.type(settings)).moments)


def files_of_members(settings: BuildSettings) -> tuple[ArrayFile, ...]:
    """The files beside the videos that ``--member`` asks for. Raises InputError as `members_of`."""
    return tuple(found for found in _asked_for(settings).values() if isinstance(found, ArrayFile))


def _asked_for(settings: BuildSettings) -> dict[str, Registered | ArrayFile]:
    functions = registered() if settings.member else {}
    found: dict[str, Registered | ArrayFile] = {}
    for text in settings.member:
        if "=" not in text and text not in functions:
            have = ", ".join(functions)
            raise InputError(f"--member {text}: is none of {have}: give one of them, or NAME=SUFFIX:DTYPE[SHAPE]")
        one = functions[text] if text in functions else ArrayFile.parse(text)
        if not _NAME.fullmatch(one.name):
            raise InputError(f"--member {text}: {one.name!r} is no name: use letters, digits and _, at most 24")
        # WebDataset and DuckDB take Tok and tok for one.
        if one.name.lower() in (FILMSTRIP, AUDIO, GAZE, "clip") or (
            isinstance(one, ArrayFile) and one.name in functions and not functions[one.name].or_files
        ):
            raise InputError(f"--member {text}: {one.name!r} is a member of another kind: use another name")
        if one.name.lower() in map(str.lower, found):
            raise InputError(f"--member {text}: {one.name!r} is asked for twice: leave one out")
        found[one.name] = one
    return found


def _declared(name: str, array: ArrayType) -> Member:
    size = math.prod(array.shape) * np.dtype(array.dtype).itemsize
    if size > _MOST_BYTES:
        raise InputError(f"--member {name}: {size} bytes a clip are too many: use at most {_MOST_BYTES}")
    declared = Member(
        name=name, extension="npy", dtype=array.dtype, shape=array.shape, required=False, variable=array.variable
    )
    if array.moments and (array.variable or np.dtype(array.dtype).kind not in "iuf"):
        raise InputError(f"--member {name}: moments of numbers whose rows vary, or that are none: leave them out")
    if (problem := declared.problem()) is not None:
        raise InputError(f"--member {name}: {problem}: no loader would take it")
    kind = np.dtype(array.dtype)
    if kind.newbyteorder("<") != kind:  # as which a clip's file is written, whatever the function returns
        raise InputError(f"--member {name}: is declared as {array.dtype!r}, big-endian: declare it as {kind.name!r}")
    return declared
