"""What a run answered, kept beside its scores: ``predictions.parquet`` and ``pairs.parquet``.

``predictions.parquet`` has a row for each utterance and target: ``dataset`` (its corpus, with a number where several
are of one), ``split``, ``speaker``, ``video``, ``utterance``, ``target``; ``stated_class`` or ``stated_number``, null
where nothing is stated; and for each modality, as ``audio_``, ``class`` and ``probabilities`` (in the order of the
classes, which the file's metadata has), or ``number``. ``pairs.parquet`` has a row for each pair of each round:
``negatives`` (their kind), ``round``, ``split``, ``match``, ``probability`` (of a match), and for picture and sound, as
``video_``, ``dataset``, ``speaker`` and ``clip`` (its key).
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from loaders.dataset.catalog import Catalog
from loaders.dataset.labels import Label
from loaders.dataset.tables import read_table
from loaders.errors import InputError, first_line
from loaders.storage.atomic import atomic_write
from models.training.evaluation import MODALITIES, MatchPredictions, Predictions

PREDICTIONS, PAIRS = "predictions.parquet", "pairs.parquet"
_CLASSES = b"filmstrip.classes"  #: of the metadata: each target's classes, null for a number
_NAME = pa.dictionary(pa.int32(), pa.string())
_KEY = ("dataset", "split", "speaker", "video", "utterance")
_SIDES = ("video", "audio")
_PAIR = ("round", *(f"{side}_{name}" for side in _SIDES for name in ("dataset", "speaker", "clip")))


@dataclass(frozen=True, slots=True, kw_only=True)
class Answers:
    """Of N utterances about one target, or of N pairs: what was asked and answered."""

    classes: tuple[str, ...] | None  #: None: a number, or a pair
    keys: tuple[tuple[Any, ...], ...]  #: (N,) whose answers they are
    units: NDArray[np.int64]  #: (N,) equal numbers, equal speakers; (N, 2) of pairs
    stated: NDArray[Any]  #: (N,) int64 codes, −1 where there is none; or float64, NaN there
    by: Mapping[str, NDArray[Any]]  #: by modality, or "match": (N, classes) probabilities, or (N,) numbers


def write_predictions(
    path: Path, predictions: Predictions, targets: Sequence[Label], catalogs: Sequence[Catalog]
) -> None:
    """Write ``predictions.parquet``, whole or not at all.

    Args:
        path: of the file.
        predictions: one of each utterance, its `clip` counted through the datasets.
        targets: their labels.
        catalogs: of the datasets.

    Raises:
        OSError: it cannot be written.
    """
    of = _rows(catalogs, predictions.clip, ["speaker", "video", "utterance"])
    parts = []
    for target in targets:
        said = predictions.targets[target.name]
        columns: dict[str, Any] = {name: of[name] for name in _KEY}
        columns["target"] = pa.array([target.name] * len(predictions.clip), pa.string())
        columns["stated_class"], columns["stated_number"] = _class_and_number(target, said.stated)
        for modality in MODALITIES:
            values = said.by[modality]
            codes = values.argmax(1) if target.classes is not None and len(values) else values
            columns[f"{modality}_class"], columns[f"{modality}_number"] = _class_and_number(target, codes)
            columns[f"{modality}_probabilities"] = pa.array(
                [None] * len(values) if target.classes is None else list(values), pa.list_(pa.float32())
            )
        parts.append(pa.table(columns))
    table = pa.concat_tables(parts)
    metadata = {_CLASSES: json.dumps({target.name: target.classes for target in targets})}
    _write(path, table.replace_schema_metadata(metadata))


def write_pairs(path: Path, answers: Mapping[str, Sequence[MatchPredictions]], catalogs: Sequence[Catalog]) -> None:
    """Write ``pairs.parquet``, whole or not at all.

    Args:
        path: of the file.
        answers: of each round, by the kind of negatives.
        catalogs: of the datasets.

    Raises:
        OSError: it cannot be written.
    """
    rounds = [(kind, number, one) for kind, several in answers.items() for number, one in enumerate(several)]
    count = [len(one.match) for _, _, one in rounds]
    columns: dict[str, Any] = {
        "negatives": pa.array(np.repeat([kind for kind, _, _ in rounds], count).tolist(), pa.string()),
        "round": pa.array(np.repeat([number for _, number, _ in rounds], count), pa.int32()),
    }
    for side in _SIDES:
        clip = np.concatenate([one.clip if side == "video" else one.audio_clip for _, _, one in rounds])
        of = _rows(catalogs, clip, ["speaker", "key"])
        columns["split"] = of["split"]
        columns |= {f"{side}_{name}": of[{"clip": "key"}.get(name, name)] for name in ("dataset", "speaker", "clip")}
    columns["match"] = pa.array(np.concatenate([one.match for _, _, one in rounds]).astype(bool))
    columns["probability"] = pa.array(np.concatenate([one.probability for _, _, one in rounds]), pa.float32())
    _write(path, pa.table(columns))


def read_predictions(path: Path) -> dict[str, Answers]:
    """The answers of ``predictions.parquet`` by target, of all utterances, also those of which nothing is stated.

    Raises:
        InputError: there is no such file, or it is not one.
    """
    table = _read(path, (*_KEY, "target", "stated_class", "stated_number"))
    found: dict[str, Answers] = {}
    try:
        known = json.loads((table.schema.metadata or {})[_CLASSES])
        for target, classes in known.items():
            rows = table.filter(pc.equal(table["target"].cast(pa.string()), target))
            by = {modality: _values(rows, modality, classes) for modality in MODALITIES}
            if classes is None:
                stated = rows["stated_number"].to_numpy().astype(np.float64)
            else:
                places = {name: place for place, name in enumerate(classes)}
                stated = np.array([places.get(name, -1) for name in rows["stated_class"].to_pylist()], np.int64)
            found[target] = Answers(
                classes=None if classes is None else tuple(classes),
                keys=_keys(rows, _KEY),
                units=_numbers(_keys(rows, ("dataset", "speaker"))),
                stated=stated,
                by=by,
            )
    except (KeyError, ValueError, TypeError, AttributeError, pa.ArrowException) as error:
        raise _not_one(path, error) from error
    return found


def read_pairs(path: Path) -> dict[str, Answers]:
    """The answers of ``pairs.parquet`` by the kind of negatives.

    Raises:
        InputError: there is no such file, or it is not one.
    """
    table = _read(path, ("negatives", *_PAIR, "match", "probability"))
    found: dict[str, Answers] = {}
    for kind in dict.fromkeys(table["negatives"].to_pylist()):
        rows = table.filter(pc.equal(table["negatives"].cast(pa.string()), kind))
        speakers = [_keys(rows, (f"{side}_dataset", f"{side}_speaker")) for side in _SIDES]
        found[kind] = Answers(
            classes=None,
            keys=_keys(rows, _PAIR),
            units=_numbers([*speakers[0], *speakers[1]]).reshape(2, -1).T,
            stated=rows["match"].to_numpy().astype(np.int64),
            by={"match": rows["probability"].to_numpy()},
        )
    return found


def aligned(several: Mapping[str, Answers]) -> list[Answers]:
    """The answers of several runs, by their names, in one order of utterances.

    Raises:
        InputError: they are not of the same utterances or pairs, or what is stated of these differs.
    """
    names, found = list(several), []
    for name, answers in several.items():
        order = sorted(range(len(answers.keys)), key=answers.keys.__getitem__)
        found.append(
            Answers(
                classes=answers.classes,
                keys=tuple(answers.keys[row] for row in order),
                units=answers.units[order],
                stated=answers.stated[order],
                by={modality: values[order] for modality, values in answers.by.items()},
            )
        )
        first, last = found[0], found[-1]
        if last.keys != first.keys:
            more, less = (len(set(a.keys) - set(b.keys)) for a, b in ((first, last), (last, first)))
            raise InputError(
                f"{names[0]} and {name}: {more} answers are of the first alone, {less} of the second: evaluate both on "
                "the same data, with the same --seed and --evaluation-rounds where they are of pairs"
            )
        if last.classes != first.classes or not np.array_equal(last.stated, first.stated, equal_nan=True):
            raise InputError(f"{names[0]} and {name}: not the same is stated: evaluate both on the same dataset")
    # One numbering: that of the first.
    return [Answers(classes=a.classes, keys=a.keys, units=found[0].units, stated=a.stated, by=a.by) for a in found]


def _rows(catalogs: Sequence[Catalog], clip: NDArray[np.int64], columns: Sequence[str]) -> Mapping[str, Any]:
    """What the catalogs say of clips that are counted through them."""
    corpora = Counter[str]()
    parts = []
    for catalog in catalogs:
        corpus = catalog.manifest.corpus
        corpora[corpus] += 1
        name = corpus if corpora[corpus] == 1 else f"{corpus} {corpora[corpus]}"
        table = catalog.table(columns)
        table = pa.table({column: table[column].cast(pa.string()) for column in columns})
        for column, value in (("dataset", name), ("split", catalog.split)):
            table = table.append_column(column, pa.array([value] * len(table), pa.string()))
        parts.append(table)
    taken = pa.concat_tables(parts).take(pa.array(clip))
    return {column: taken[column] for column in taken.column_names}


def _class_and_number(target: Label, values: NDArray[Any]) -> tuple[pa.Array, pa.Array]:
    nothing = [None] * len(values)
    if target.classes is None:
        numbers = values.astype(np.float32)
        return pa.array(nothing, pa.string()), pa.array(numbers, pa.float32(), mask=np.isnan(numbers))
    names = [target.classes[int(code)] if code >= 0 else None for code in values]
    return pa.array(names, pa.string()), pa.array(nothing, pa.float32())


def _values(rows: pa.Table, modality: str, classes: Sequence[str] | None) -> NDArray[Any]:
    if classes is None:
        numbers: NDArray[Any] = rows[f"{modality}_number"].to_numpy()
        return numbers
    flat = rows[f"{modality}_probabilities"].combine_chunks().flatten().to_numpy()
    return np.asarray(flat).reshape(len(rows), len(classes))


def _keys(table: pa.Table, columns: Iterable[str]) -> tuple[tuple[Any, ...], ...]:
    return tuple(zip(*(table[column].to_pylist() for column in columns), strict=True))


def _numbers(names: Sequence[tuple[Any, ...]]) -> NDArray[np.int64]:
    """Equal names, equal numbers."""
    places = {name: place for place, name in enumerate(dict.fromkeys(names))}
    return np.array([places[name] for name in names], np.int64)


def _write(path: Path, table: pa.Table) -> None:
    schema = pa.schema(
        [(field.name, _NAME if field.type == pa.string() else field.type) for field in table.schema],
        metadata=table.schema.metadata,
    )
    with atomic_write(path) as file:
        pq.write_table(table.cast(schema), file, compression="zstd")


def _read(path: Path, columns: Iterable[str]) -> pa.Table:
    try:
        table = read_table(path)
    except FileNotFoundError as error:
        mend = "give a finished run, or a file that train.py --stage evaluate --predictions wrote"
        raise InputError(f"{path}: no answers there: {mend}") from error
    except OSError as error:
        raise InputError(f"{path}: {first_line(error)}: make it readable") from error
    except pa.ArrowException as error:
        raise _not_one(path, error) from error
    missing = [column for column in columns if column not in table.column_names]
    if missing:
        raise _not_one(path, KeyError(f"no column {missing[0]}"))
    return table


def _not_one(path: Path, error: Exception) -> InputError:
    why = first_line(error)
    return InputError(f"{path}: not the answers of a run ({why}): write them again by train.py --stage evaluate")
