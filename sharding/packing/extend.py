"""More utterances for a finished dataset: its shards stay as they are, the new utterances get new ones.

Here it is decided what is new. How it gets to where the dataset is, `sharding.packing.folder_output` and
`sharding.packing.remote` say.
"""

import json
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import asdict, dataclass, replace
from typing import Any

from loaders.dataset.identity import UtteranceName
from loaders.dataset.labels import Label
from loaders.dataset.manifest import Manifest
from loaders.errors import InputError
from sharding.packing.existing import ExistingDataset, same_statement
from sharding.packing.labels import joined
from sharding.packing.plan import require_distinct
from sharding.settings import BuildSettings
from sharding.sources.fingerprint import fingerprint
from sharding.utterance import Corpus, Utterance

AGAIN = "build the dataset again, into another --output"


@dataclass(frozen=True, slots=True, kw_only=True)
class Extension:
    """What a corpus holds that a dataset does not."""

    existing: ExistingDataset
    corpus: Corpus  #: new utterances and new rejections alone

    @property
    def first_numbers(self) -> Mapping[str, int]:
        """Of the new shards, by split."""
        splits = {utterance.split for utterance in self.corpus.utterances}
        return {split: self.existing.next_number(split) for split in splits}

    @property
    def is_empty(self) -> bool:
        """The dataset holds it all."""
        return not (self.corpus.utterances or self.corpus.rejected)


def plan_extension(
    corpus: Corpus,
    existing: ExistingDataset,
    dataset: str,
    settings: BuildSettings,
    workers: int,
    tell: Callable[[int], None] = lambda _: None,
) -> Extension:
    """Hold a corpus against a dataset that was built from a part of it.

    Args:
        corpus: all of it: what the dataset has, as it was, and what is new. Leaks are settled.
        existing: the dataset.
        dataset: its name.
        settings: of the dataset's build.
        workers: sources are looked at by four times as many threads.
        tell: is called with a number of utterances when so many have been looked at.

    Raises:
        InputError: settings or corpus are not those of the dataset, an utterance of it is gone or has changed, a file
            system fails, or the dataset is faulty; the message names the first.
    """
    require_same_build(existing.manifest, corpus, settings, dataset)
    require_distinct(corpus.utterances)
    clips, refusals = existing.utterances(), existing.rejected()
    if existing.manifest.video_names != corpus.video_names:
        _require_unshared_names(clips, existing.manifest, corpus, dataset)
    given = {utterance.name: utterance for utterance in corpus.utterances}
    out, stated = {_subject(asdict(r)) for r in corpus.rejected}, {_subject(row) for row in refusals}
    now_out = {r.name: r for r in corpus.rejected}
    for names, row in clips.items():
        if names not in given:
            reason = f"is rejected now ({now_out[names].detail})" if names in now_out else "is not in the sources now"
            raise InputError(f"{dataset}: its utterance {names} of {row['split']} {reason}: {AGAIN}")
    rejected: dict[UtteranceName, dict[str, Any]] = {}
    for row in refusals:
        names = UtteranceName.of(row)
        if _subject(row) in out:
            continue
        if names not in given or row["source_xxh3"] is None:
            raise InputError(f"{row['path']}: was rejected ({row['reason']}), and is so no longer: {AGAIN}")
        rejected[names] = row
    known = [utterance for names, utterance in given.items() if names in clips or names in rejected]
    with closing(with_fingerprints(known, workers)) as utterances:
        for utterance in utterances:
            names = utterance.name
            require_unchanged(utterance, clips.get(names) or rejected[names], AGAIN)
            if names in clips:
                _require_same_labels(utterance, clips[names], corpus.labels, AGAIN)
            tell(1)
    fresh = replace(
        corpus,
        utterances=tuple(u for names, u in given.items() if names not in clips and names not in rejected),
        rejected=tuple(r for r in corpus.rejected if _subject(asdict(r)) not in stated),
    )
    return Extension(existing=existing, corpus=fresh)


def _require_unshared_names(clips: Iterable[UtteranceName], manifest: Manifest, corpus: Corpus, dataset: str) -> None:
    """Raise InputError where two speakers of a dataset have videos of one name, which it takes for one video and the
    corpus for two, or the other way round."""
    speakers: dict[str, str] = {}
    for speaker, video, _ in sorted(clips):
        if speakers.setdefault(video, speaker) != speaker:
            raise InputError(
                f"{dataset}: two speakers have a video {video!r}, and it was built with --video-names "
                f"{manifest.video_names}, not {corpus.video_names}: give the same, or {AGAIN}"
            )


def _subject(row: Mapping[str, Any]) -> tuple[str, ...]:
    """What was rejected and why. An utterance's path does not count, for sources may be moved; a folder has no more."""
    if row["utterance"]:
        return row["split"], *UtteranceName.of(row), row["reason"]
    return row["path"], row["reason"]


def with_fingerprints(utterances: Sequence[Utterance], workers: int) -> Generator[Utterance]:
    """Each with its sources' fingerprint as it is now; four times as many threads as ``workers`` look at them."""
    with ThreadPoolExecutor(4 * workers) as pool:
        yield from pool.map(_with_fingerprint, utterances)


def _with_fingerprint(utterance: Utterance) -> Utterance:
    return replace(utterance, source_xxh3=fingerprint(utterance))


def require_same_build(manifest: Manifest, corpus: Corpus, settings: BuildSettings, dataset: str) -> None:
    """Raise InputError where a dataset is not of this corpus, built with these settings."""
    if manifest.corpus != corpus.name:
        raise InputError(f"{dataset}: was built from {manifest.corpus}, not from {corpus.name}: {AGAIN}")
    if manifest.apart != corpus.apart:
        raise InputError(f"{dataset}: its splits are apart by {manifest.apart}, not by {corpus.apart}: {AGAIN}")
    joined(manifest.labels, corpus.labels, dataset, AGAIN)
    for name, value in json.loads(json.dumps(asdict(settings))).items():
        stated = manifest.gaze_tracker if name == "gaze" else manifest.settings.get(name)
        if stated != value:
            option = f"--{name.replace('_', '-')}"
            raise InputError(f"{dataset}: was built with {option} {stated}, not {value}: give the same, or {AGAIN}")


def require_unchanged(utterance: Utterance, stated: Mapping[str, Any], mend: str) -> None:
    """Raise InputError where an utterance, with its fingerprint, is not what a dataset says that it was."""
    path = utterance.video_path
    if utterance.split != stated["split"]:
        raise InputError(f"{path}: is in {utterance.split} now, and was in {stated['split']}: {mend}")
    if utterance.source_xxh3 != stated["source_xxh3"]:
        part = "" if utterance.is_whole else f", or its part of the film ({_part(utterance)} now),"
        raise InputError(
            f"{path}: it, its sound, gaze, boxes or arrays{part} have changed since the dataset was built: {mend}"
        )


def _part(utterance: Utterance) -> str:
    end = "its end" if utterance.end is None else f"{utterance.end:.9g} s"
    return f"{utterance.start or 0:.9g} s to {end}"


def _require_same_labels(utterance: Utterance, stated: Mapping[str, Any], labels: Iterable[Label], mend: str) -> None:
    for label in labels:
        now = utterance.labels.get(label.name)
        if not same_statement(stated, label.name, now):
            what = f"its {label.name} is {now} now, and was {stated[label.name]}"
            raise InputError(f"{utterance.video_path}: {what}: {mend}")
