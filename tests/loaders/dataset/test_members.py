"""What dataset.json declares of a member is something that a reader can reserve memory by, or refused by name."""

from dataclasses import replace

import pytest

from loaders.dataset.members import LARGEST_ARRAY, Member
from sharding.settings import BuildSettings

ARRAY = Member(name="more", extension="npy", dtype="float32", shape=(4, 2), required=False)


def test_what_is_built_is_as_it_should_be() -> None:
    for member in (*BuildSettings().members, *BuildSettings(audio_format="flac").members):
        assert member.problem() is None
        assert member.suffix == f"{member.name}.{member.extension}"


@pytest.mark.parametrize(
    "changes",
    [
        *({"dtype": name} for name in ("uint8", "int16", "int64", "float16", "float64", ">f4", "u4")),
        {"shape": ()},
        {"variable": True},
        {"shape": (LARGEST_ARRAY // 4,)},
    ],
)
def test_arrays_of_numbers_can_be(changes: dict[str, object]) -> None:
    assert replace(ARRAY, **changes).problem() is None  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "changes",
    [
        *({"dtype": name} for name in ("object", "bool", "str", "complex64", "longdouble", "f4,f4", "3f4", "M8[s]")),
        *({"dtype": name} for name in ("", "{", "f4,,", "banana", "float32\0", "map")),
        *({"shape": shape} for shape in ((0,), (4, -1), (1 << 31,), (1 << 20, 1 << 20), (LARGEST_ARRAY // 4 + 1,))),
        {"variable": True, "shape": ()},
        {"variable": True, "extension": "jpg"},
        {"extension": "msg"},
        {"name": "gaze", "extension": "msg", "dtype": "map"},
        {"name": "gaze", "variable": True},
        {"name": "audio"},
        {"name": "filmstrip", "extension": "png", "dtype": "uint8"},
    ],
)
def test_what_cannot_be_is_told_by_its_name(changes: dict[str, object]) -> None:
    member = replace(ARRAY, **changes)  # type: ignore[arg-type]
    assert f"the member {member.name!r} is declared" in (member.problem() or "")
