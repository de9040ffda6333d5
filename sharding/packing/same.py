"""Is a finished dataset what a build would make? Then there is nothing to do, and whoever started it again may go on.

Settings are compared, and the utterances with what their corpus says of them: labels, and which part of a film each one
is. The files themselves are not read: of a large corpus that would take hours. ``--extend`` compares their fingerprints
too; here that is done where parts are not what they were, to name the first.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import closing
from dataclasses import fields
from typing import Any

from loaders.dataset.about import About
from loaders.dataset.identity import UtteranceName
from loaders.dataset.labels import Label
from loaders.errors import InputError
from sharding.packing.existing import ExistingDataset, same_statement
from sharding.packing.extend import require_same_build, require_unchanged, with_fingerprints
from sharding.packing.labels import require_alike
from sharding.packing.parts import parts_sha256
from sharding.settings import BuildSettings
from sharding.utterance import Corpus, Utterance

_AGAIN = "build into another --output, or remove it first"
InDoubt = tuple[Utterance, Mapping[str, Any]]  #: an utterance, and what the dataset says of it
_Place = tuple[str, UtteranceName]  # a split, and whose place in it


def require_same(existing: ExistingDataset, corpus: Corpus, settings: BuildSettings, dataset: str) -> list[InDoubt]:
    """Raise InputError, which names the first difference, where a dataset is not of this corpus and these settings.

    Args:
        existing: the dataset.
        corpus: what would be built; leaks are settled.
        settings: of the build.
        dataset: its name.

    Returns:
        The utterances whose sources are to be looked at before they are taken for the same: most often none.
    """
    require_same_build(existing.manifest, corpus, settings, dataset)
    clips = {(row["split"], names): row for names, row in existing.utterances().items()}
    refusals = {(row["split"], UtteranceName.of(row)): row for row in existing.rejected() if row["utterance"]}
    held = {*clips, *refusals}
    given = {(u.split, u.name): u for u in corpus.utterances}
    sought = {*given, *((r.split, r.name) for r in corpus.rejected if r.utterance)}
    if new := sorted(sought - held):
        what = f"{len(new)} utterances of the sources are not in it (the first: {_told(new[0])})"
        raise InputError(f"{dataset}: is built already, but {what}: --extend it, {_AGAIN}")
    if gone := sorted(held - sought):
        what = f"{len(gone)} of its utterances are not in the sources now (the first: {_told(gone[0])})"
        raise InputError(f"{dataset}: is built already, but {what}: {_AGAIN}")
    for place, row in clips.items():
        if place not in given:
            raise InputError(f"{dataset}: is built already, but {_told(place)} would be left out now: {_AGAIN}")
        _require_same_labels(given[place], row, corpus.labels, dataset)
    for place, row in refusals.items():
        if place in given and row["source_xxh3"] is None:  # it was left out before its sources were looked at
            what = f"{_told(place)} was left out ({row['reason']}) and would not be now"
            raise InputError(f"{dataset}: is built already, but {what}: {_AGAIN}")
    require_alike(existing.manifest.labels, corpus.labels, corpus.declared, dataset, f"give the same, or {_AGAIN}")
    stated = existing.manifest.parts_sha256
    if stated == parts_sha256(corpus):
        return []
    # With none said an earlier version built it, or all were whole then.
    known = {place: row for place, row in {**refusals, **clips}.items() if place in given}
    return [(given[p], row) for p, row in known.items() if stated is not None or not given[p].is_whole]


def require_same_sources(
    doubted: Sequence[InDoubt], workers: int, tell: Callable[[int], None] = lambda _: None
) -> None:
    """Raise InputError, which names the first, where utterances are not what a dataset says that they were.

    Args:
        doubted: what `require_same` has returned.
        workers: sources are looked at by four times as many threads.
        tell: is called with a number of utterances when so many have been looked at.
    """
    with closing(with_fingerprints([utterance for utterance, _ in doubted], workers)) as utterances:
        for utterance, (_, stated) in zip(utterances, doubted, strict=True):
            require_unchanged(utterance, stated, _AGAIN)
            tell(1)


def require_stated(stated: About, about: About, dataset: str) -> None:
    """Raise InputError where what is to be said of a dataset is not what it says of itself, which names the option."""
    for field in fields(About):
        now, before = getattr(about, field.name), getattr(stated, field.name)
        if now not in (None, before):
            was = "nothing" if before is None else repr(before)
            raise InputError(
                f"{dataset}: is built already, with {was} for --{field.name}, not {now!r}: "
                "sharding/card.py writes that into it"
            )


def _require_same_labels(utterance: Utterance, row: Mapping[str, Any], labels: Iterable[Label], dataset: str) -> None:
    for label in labels:
        now = utterance.labels.get(label.name)
        if not same_statement(row, label.name, now):
            what = f"{utterance.key}: its {label.name} is {now} now, and was {row[label.name]}"
            raise InputError(f"{dataset}: is built already, but {what}: {_AGAIN}")


def _told(place: _Place) -> str:
    return "/".join(map(str, place))
