"""The dataset card, README.md: for people, with a head that the Hugging Face Hub and its ``datasets`` read.

The head names the tars of each split, and what type each member is of. Without that, ``datasets`` goes by the first
five clips, and refuses tars where one of these lacks a member that another has.
https://huggingface.co/docs/hub/datasets-cards, https://github.com/huggingface/hub-docs/blob/main/datasetcard.md
"""

import json
import re
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import yaml

from loaders.dataset.about import About, is_url
from loaders.dataset.manifest import APART, AUDIO, FILMSTRIP, Manifest
from sharding.cards.markdown import block, inline
from sharding.cards.told import KINDS, MADE_BY, clips_of, says_label, summary

CARD = "README.md"

# Identifiers of the Hub that data are published under, https://huggingface.co/docs/hub/repositories-licenses; SPDX has
# the same but for capitals. Any other licence is "other" there, with a name or an address.
# fmt: off
_HUB_LICENSES = frozenset((
    "agpl-3.0", "apache-2.0", "bsd-2-clause", "bsd-3-clause", "bsl-1.0", "c-uda", "cc", "cc-by-2.0", "cc-by-2.5",
    "cc-by-3.0", "cc-by-4.0", "cc-by-nc-2.0", "cc-by-nc-3.0", "cc-by-nc-4.0", "cc-by-nc-nd-3.0", "cc-by-nc-nd-4.0",
    "cc-by-nc-sa-2.0", "cc-by-nc-sa-3.0", "cc-by-nc-sa-4.0", "cc-by-nd-4.0", "cc-by-sa-3.0", "cc-by-sa-4.0",
    "cc0-1.0", "cdla-permissive-1.0", "cdla-permissive-2.0", "cdla-sharing-1.0", "etalab-2.0", "gfdl", "gpl-3.0",
    "lgpl-3.0", "mit", "mpl-2.0", "odbl", "odc-by", "pddl", "unlicense",
))
# fmt: on
_SIZES = ("1K", "10K", "100K", "1M", "10M", "100M", "1B", "10B", "100B", "1T")  #: from a thousand, tenfold each


def card(manifest: Manifest) -> str:
    """README.md's text. Nothing in it is of a day, and what nobody has stated is not claimed.

    Names appear as they are, whatever is in them; the description is its owner's, and may be Markdown.
    """
    head = yaml.safe_dump(_head(manifest), sort_keys=False, allow_unicode=True, width=1000)
    return f"---\n# made by {MADE_BY}\n{head}---\n\n" + "\n\n".join(_body(manifest)) + "\n"


def _head(manifest: Manifest) -> dict[str, Any]:
    about = manifest.about
    names = _hub_names(name for name, split in manifest.splits.items() if split.shards)
    return {
        **_license(about),
        "pretty_name": about.title or manifest.corpus,
        "task_categories": _tasks(manifest),
        "size_categories": [_size_category(clips_of(manifest))],
        "tags": ["webdataset", MADE_BY],
        "configs": [
            {
                "config_name": "default",
                "data_files": [{"split": hub, "path": f"{_plain(name)}/*.tar"} for name, hub in names.items()],
            }
        ],
        "dataset_info": {
            "features": [
                {"name": "__key__", "dtype": "string"},
                {"name": "__url__", "dtype": "string"},
                *(
                    {"name": member.suffix, **KINDS[member.extension].feature(member, manifest)}
                    for member in manifest.members
                ),
            ]
        },
    }


def _license(about: About) -> dict[str, str]:
    if about.license is None:
        return {}
    if about.license.lower() in _HUB_LICENSES:
        return {"license": about.license.lower()}
    if is_url(about.license):
        return {"license": "other", "license_link": about.license}
    return {"license": "other", "license_name": about.license.lower()}


def _tasks(manifest: Manifest) -> list[str]:
    """By the Hub's words: what is labelled with classes can be classified."""
    if not any(label.classes for label in manifest.labels):
        return ["feature-extraction"]
    kinds = {"video-classification": FILMSTRIP, "audio-classification": AUDIO}
    return [task for task, member in kinds.items() if manifest.member(member) is not None]


def _size_category(clips: int) -> str:
    place = next((place for place in range(len(_SIZES)) if clips < 10 ** (3 + place)), len(_SIZES))
    if place == 0:
        return f"n<{_SIZES[0]}"
    return f"n>{_SIZES[-1]}" if place == len(_SIZES) else f"{_SIZES[place - 1]}<n<{_SIZES[place]}"


def _hub_names(splits: Iterable[str]) -> dict[str, str]:
    """By split: its name on the Hub, which is of letters, digits and underscores."""
    names: dict[str, str] = {}
    for split in splits:
        plain = name = re.sub(r"\W", "_", split)
        number = 2
        while name in names.values():
            name, number = f"{plain}_{number}", number + 1
        names[split] = name
    return names


def _plain(name: str) -> str:
    """A folder's name as a pattern that is that of no other."""
    return re.sub(r"[*?\[]", lambda match: f"[{match[0]}]", name)


def _body(manifest: Manifest) -> Iterator[str]:
    """The paragraphs."""
    about = manifest.about
    yield f"# {block(about.title or manifest.corpus)}"
    if about.description is not None:
        yield about.description
    yield block(summary(manifest))
    yield "## Splits"
    yield _table(
        ("split", "clips", "speakers", "videos", "shards", "MB"),
        (
            (
                inline(name),
                split.clips,
                split.speakers,
                split.videos,
                len(split.shards),
                round(sum(shard.bytes for shard in split.shards) / 1e6, 1),
            )
            for name, split in manifest.splits.items()
        ),
    )
    yield _says_apart(manifest)
    if manifest.rejected:
        counts = ", ".join(f"{count} {inline(reason)}" for reason, count in manifest.rejected.items())
        yield f"Left out: {counts}. `rejected.parquet` has each of them, with the reason."
    yield "## A clip"
    yield (
        "Files of one clip have one name up to the first dot. `clips.parquet` of each split has a row a clip, with "
        "what is known of it and where its files lie in the tars."
    )
    yield _table(
        ("file", "what it is", "of every clip"),
        (
            (f"`<key>.{member.suffix}`", KINDS[member.extension].says(member), "yes" if member.required else "no")
            for member in manifest.members
        ),
    )
    if manifest.labels:
        yield "## Labels"
        yield "In `clip.msg` and in `clips.parquet`, under their names; null where nothing is stated."
        yield _table(
            ("label", "values"),
            ((f"`{label.name}`", inline(says_label(label))) for label in manifest.labels),
        )
    yield "## Load"
    yield "`DATASET` is the folder that this file is in, or for `datasets` what the Hub calls it."
    yield from _programs(manifest)
    yield "## How it was built"
    yield "With filmstrip's `sharding/build.py`, by these settings. The sources and they decide every byte."
    yield _fenced(json.dumps(manifest.settings, indent=1, ensure_ascii=False), "json")
    yield "`dataset.json` has the SHA-256 of every file; `python sharding/verify.py` compares them."
    if about.license is not None:
        yield f"## Licence\n\n{_link(about.license) if is_url(about.license) else block(about.license)}"
    if about.citation is not None:
        yield f"## Citation\n\n{_fenced(about.citation)}"
    if about.url is not None:
        yield f"## Source\n\n{_link(about.url)}"


def _link(url: str) -> str:
    """An address as a link that ends where it does."""
    return f"<{re.sub('[<>]', lambda match: f'%{ord(match[0]):X}', url)}>"


def _says_apart(manifest: Manifest) -> str:
    shared = APART.get(manifest.apart, ())
    if not shared:
        return "Splits share no utterance; speakers and videos they may."
    own = "video" in shared and manifest.video_names == "speaker"
    names = " (a video's name counts within its speaker's)" if own else ""
    return f"No {' and no '.join(shared)} is in two splits{names}."


def _programs(manifest: Manifest) -> Iterator[str]:
    """How to load it, for the members that it has."""
    names = _hub_names(name for name, split in manifest.splits.items() if split.shards)
    split = "train" if "train" in names else next(iter(names))
    tars = _pattern([shard.name.removesuffix(".tar") for shard in manifest.splits[split].shards]) + ".tar"
    yield _python(
        f"""
        import webdataset

        for clip in webdataset.WebDataset("DATASET/{split}/{tars}", shardshuffle=False).decode("pil"):
            print(clip["__key__"], clip["clip.msg"])
        """
    )
    yield _python(
        f"""
        import datasets

        for clip in datasets.load_dataset("DATASET", split="{names[split]}", streaming=True):
            print(clip["__key__"], clip["clip.msg"])
        """
    )
    lacking = [name for name in (FILMSTRIP, AUDIO) if not _is_of_every_clip(name, manifest)]
    options, fields = f"batch_size={min(32, max(manifest.splits[split].clips // 2 * 2, 1))}", ["video", "audio"]
    if lacking:  # only clips that have both can be paired
        fields = ["video" if lacking == [AUDIO] else "audio"]
        options += f", {'audio' if lacking == [AUDIO] else 'video'}=False, negatives=None"
    if len(lacking) < 2:
        yield _python(
            f"""
        from loaders import ClipLoader

        with ClipLoader("DATASET", split="{split}", {options}) as loader:
            for batch in loader:
                print({", ".join(f"batch.{field}.shape" for field in fields)})
        """
        )


def _pattern(names: Sequence[str]) -> str:
    """Names, most of them numbers that follow on from each other, in the braces of a shell: a repair leaves gaps."""
    runs: list[tuple[str, str]] = []
    for name in names:
        last = runs[-1][1] if runs else ""
        follows = last.isdecimal() and name == f"{int(last) + 1:0{len(last)}}"
        runs.append((runs.pop()[0] if follows else name, name))
    parts = [first if first == last else f"{{{first}..{last}}}" for first, last in runs]
    return parts[0] if len(parts) == 1 else f"{{{','.join(parts)}}}"


def _is_of_every_clip(name: str, manifest: Manifest) -> bool:
    member = manifest.member(name)
    return member is not None and member.required


def _python(text: str) -> str:
    lines = text.strip("\n").splitlines()
    return _fenced("\n".join(line.removeprefix(" " * 8) for line in lines).rstrip(), "python")


def _fenced(text: str, language: str = "") -> str:
    """A block of code, whatever is in it."""
    longest = max((len(run) for run in re.findall(r"`+", text)), default=0)
    fence = "`" * max(3, longest + 1)
    return f"{fence}{language}\n{text.strip()}\n{fence}"


def _table(head: Sequence[object], rows: Iterable[Iterable[object]]) -> str:
    cells = [head, *rows]
    lines = ["| " + " | ".join(_cell(cell) for cell in row) + " |" for row in cells]
    return "\n".join([lines[0], "|---" * len(head) + "|", *lines[1:]])


def _cell(value: object) -> str:
    return re.sub(r"\s+", " ", str(value)).replace("|", "\\|")
