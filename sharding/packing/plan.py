"""Which utterances go into which shard: decided before anything is decoded, by the utterances and settings alone."""

import hashlib
import json
import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import xxhash

from loaders.dataset.labels import Label
from loaders.errors import InputError
from sharding.packing.upload import Upload
from sharding.settings import BuildSettings
from sharding.utterance import Utterance

_BYTES_A_PIXEL = 0.2  # of a filmstrip of faces at quality 90
_FEWEST_UTTERANCES = 16  # of a shard that is made smaller than it might be, so that workers can share a small build
_SMALL_BUILD = 16  # shards that a small build is spread over


@dataclass(frozen=True, slots=True, kw_only=True)
class ShardJob:
    """One shard to build. Whoever has the sources can build it, alone."""

    output: Path
    split: str
    number: int
    utterances: tuple[Utterance, ...]
    settings: BuildSettings
    labels: tuple[Label, ...]  #: of the corpus
    digest: str  #: of all that decides the shard's bytes, its sources' fingerprints among it
    upload: Upload | None = None  #: where the shard goes when it is built; None: it stays in ``output``

    @property
    def stem(self) -> str:
        """File name of the shard, less its suffix."""
        return f"{self.number:06d}"


def plan_shards(
    utterances: Sequence[Utterance],
    seconds: Sequence[float],
    settings: BuildSettings,
    output: Path,
    first_numbers: Mapping[str, int] | None = None,
    labels: tuple[Label, ...] = (),
) -> list[ShardJob]:
    """Deal the utterances of each split out to shards of about ``settings.shard_mb``.

    The utterances of a video go to different shards where there are several, and stand in a shard in an order that is
    random but fixed: any stretch of a shard is a sample of the corpus.

    Args:
        utterances: of all splits, in a stable order, with the fingerprints of their files as they are now.
        seconds: how long each one lasts, at least about.
        settings: of the build.
        output: the dataset's folder.
        first_numbers: of each split's first shard; otherwise 0.
        labels: of the corpus.

    Raises:
        InputError: two utterances have the same names.
    """
    require_distinct(utterances)
    clip = settings.clip
    clip_bytes = clip.frames * clip.size**2 * _BYTES_A_PIXEL + clip.samples * 2
    by_split: dict[str, list[tuple[Utterance, float]]] = defaultdict(list)
    for utterance, length in zip(utterances, seconds, strict=True):
        by_split[utterance.split].append((utterance, max(1, length // clip.seconds) * clip_bytes))
    jobs = []
    for split, sized in sorted(by_split.items()):
        total = sum(size for _, size in sized)
        count = max(
            math.ceil(total / (settings.shard_mb * 1e6)), min(_SMALL_BUILD, len(sized) // _FEWEST_UTTERANCES), 1
        )
        count = min(count, len(sized))
        ordered = sorted((utterance for utterance, _ in sized), key=lambda u: (u.video, u.speaker, u.utterance))
        first = (first_numbers or {}).get(split, 0)
        for place in range(count):
            number = first + place
            chosen = tuple(sorted(ordered[place::count], key=lambda u: xxhash.xxh3_64_intdigest(u.key.encode())))
            jobs.append(
                ShardJob(
                    output=output,
                    split=split,
                    number=number,
                    utterances=chosen,
                    settings=settings,
                    labels=labels,
                    digest=_digest(split, number, chosen, settings, labels),
                )
            )
    return jobs


def require_distinct(utterances: Iterable[Utterance]) -> None:
    """Raise InputError where two utterances have the same names."""
    seen: dict[str, Utterance] = {}
    for utterance in utterances:
        other = seen.setdefault(utterance.key, utterance)
        if other is not utterance:
            raise InputError(f"{utterance.video_path} and {other.video_path} are the same utterance: leave one out")


def _digest(
    split: str, number: int, utterances: Sequence[Utterance], settings: BuildSettings, labels: Sequence[Label]
) -> str:
    # Not the labels' classes and ranges, which other utterances may add to: they are no part of a shard.
    columns = [(label.name, label.classes is None) for label in labels]
    described = [split, number, asdict(settings), columns, [asdict(utterance) for utterance in utterances]]
    return hashlib.sha256(json.dumps(described, default=str, sort_keys=True).encode()).hexdigest()
