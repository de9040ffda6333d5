"""Is a finished dataset what a build would make? Then there is nothing to do, and whoever started it again may go on.

Settings are compared, and the utterances with what their corpus says of them. The files themselves are not read: of a
large corpus that would take hours. ``--extend`` compares their fingerprints too.
"""

from collections.abc import Mapping
from typing import Any

from loaders.dataset.manifest import MANIFEST
from loaders.errors import InputError
from sharding.packing.description import copied_description
from sharding.packing.extend import require_same_build
from sharding.packing.former import STATED, Former, same_statement
from sharding.packing.tar import index_path
from sharding.settings import BuildSettings
from sharding.sources.store import Store
from sharding.utterance import Corpus, Utterance

_AGAIN = "build into another --output, or remove it first"
_Place = tuple[str, str, str, str]  # split, speaker, video, utterance


def require_same(former: Former, corpus: Corpus, settings: BuildSettings, dataset: str) -> None:
    """Raise InputError, which names the first difference, where a dataset is not of this corpus and these settings.

    Args:
        former: the dataset.
        corpus: what would be built; leaks are settled.
        settings: of the build.
        dataset: its name.
    """
    require_same_build(former.manifest, corpus, settings, dataset)
    clips = {(row["split"], *names): row for names, row in former.utterances().items()}
    held = {*clips, *(_place(row) for row in former.rejected() if row["utterance"])}
    given = {(u.split, u.speaker, u.video, u.utterance): u for u in corpus.utterances}
    sought = {*given, *((r.split, r.speaker, r.video, r.utterance) for r in corpus.rejected if r.utterance)}
    if new := sorted(sought - held):
        what = f"{len(new)} utterances of the sources are not in it (the first: {'/'.join(new[0])})"
        raise InputError(f"{dataset}: is built already, but {what}: --extend it, {_AGAIN}")
    if gone := sorted(held - sought):
        what = f"{len(gone)} of its utterances are not in the sources now (the first: {'/'.join(gone[0])})"
        raise InputError(f"{dataset}: is built already, but {what}: {_AGAIN}")
    for place, row in clips.items():
        if place in given:
            _require_same_statements(given[place], row, dataset)


def require_same_remotely(store: Store, found: Mapping[str, int], corpus: Corpus, settings: BuildSettings) -> Former:
    """The finished dataset of a store, where it is of this corpus and these settings; see `require_same`.

    Args:
        store: the dataset's.
        found: name and size of all its objects.
        corpus: what would be built; leaks are settled.
        settings: of the build.

    Raises:
        InputError: it is not, the message names the first difference; or an object is not as dataset.json says.
    """
    with copied_description(store) as copy:
        former = Former(folder=copy.folder, manifest=copy.manifest)
        for split, entry in former.manifest.splits.items():
            for shard in entry.shards:
                name = f"{split}/{shard.name}"
                if found.get(name) != shard.bytes or index_path(name) not in found:
                    raise InputError(f"{store.url}/{name}: is not as {MANIFEST} says: run sharding/verify.py")
        require_same(former, corpus, settings, store.url)
    return former


def _require_same_statements(utterance: Utterance, row: Mapping[str, Any], dataset: str) -> None:
    for name in STATED:
        # Of the files there are no fingerprints: a corpus only lists them.
        if name != "source_xxh3" and name in row and not same_statement(row, name, getattr(utterance, name)):
            what = f"{utterance.key}: its {name} is {getattr(utterance, name)} now, and was {row[name]}"
            raise InputError(f"{dataset}: is built already, but {what}: {_AGAIN}")


def _place(row: Mapping[str, Any]) -> _Place:
    return row["split"], row["speaker"], row["video"], row["utterance"]
