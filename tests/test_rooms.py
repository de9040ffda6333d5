"""The picture of docs/architecture.md, held against the code."""

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def house() -> ModuleType:
    spec = importlib.util.spec_from_file_location("rooms", ROOT / "docs" / "rooms.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_no_import_runs_up(house: ModuleType) -> None:
    found = house.arrows(house.imports(house.modules()))
    assert [lines for (start, end), lines in found.items() if start < end] == []


def test_no_modules_import_each_other_in_a_circle(house: ModuleType) -> None:
    assert house.circles(house.imports(house.modules())) == []


def test_every_room_holds_a_module(house: ModuleType) -> None:
    held = {house.room_of(name) for name in house.modules()}
    assert held == set(range(len(house.rooms())))
    with pytest.raises(LookupError, match="stands in no room"):
        house.room_of("elsewhere.module")


def test_the_picture_is_of_today(house: ModuleType) -> None:
    assert house.PICTURE.read_text() == house.drawn(), "run make architecture"


def test_an_import_that_runs_up_and_a_circle_are_seen(house: ModuleType, tmp_path: Path) -> None:
    """In a house of three modules, of which the lowest imports the highest."""
    contents = {
        "loaders/errors.py": "import sharding.build\n",
        "sharding/build.py": "def later() -> None:\n    from models import predict\n",
        "models/predict.py": "from loaders import errors\n",
        "train.py": "",
    }
    for name, text in contents.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    imported = house.imports(house.modules(tmp_path))
    up = {line for (start, end), lines in house.arrows(imported).items() if start < end for line in lines}
    assert up == {"loaders.errors imports sharding.build", "sharding.build imports models.predict"}
    assert house.circles(imported) == [["loaders.errors", "models.predict", "sharding.build"]]
