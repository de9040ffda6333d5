"""A dataset card says what dataset.json says, is read by YAML, and claims nothing that nobody has stated."""

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from markdown_it import MarkdownIt
from markdown_it.token import Token
from webdataset.shardlists import expand_urls

from loaders.dataset.about import About, is_url
from loaders.dataset.labels import Label
from loaders.dataset.manifest import Manifest, Member, read_manifest
from sharding.cards.card import card
from sharding.cards.markdown import block, inline


@pytest.fixture(scope="module")
def manifest(dataset: Path) -> Manifest:
    return read_manifest(dataset)


def head(manifest: Manifest) -> dict[str, Any]:
    text = card(manifest)
    assert text.startswith("---\n")
    parsed: dict[str, Any] = yaml.safe_load(text.split("---\n")[1])
    return parsed


def with_clips(manifest: Manifest, clips: int) -> Manifest:
    splits = {name: replace(split, clips=0) for name, split in manifest.splits.items()}
    return replace(manifest, splits=splits | {"train": replace(manifest.splits["train"], clips=clips)})


def test_it_counts_what_is_there(manifest: Manifest) -> None:
    text = card(manifest)
    for name, split in manifest.splits.items():
        assert f"| {name} | {split.clips} | {split.speakers} | {split.videos} | {len(split.shards)} |" in text
    for member in manifest.members:
        assert f"`<key>.{member.suffix}`" in text
    for label in manifest.labels:
        assert f"| `{label.name}` | " in text
    assert ", ".join(manifest.labels[0].classes or ()) in text
    assert card(manifest) == text


def test_every_split_has_its_tars(manifest: Manifest) -> None:
    files = head(manifest)["configs"][0]["data_files"]
    assert files == [{"split": name, "path": f"{name}/*.tar"} for name in manifest.splits]


@pytest.mark.parametrize("numbers", [(0,), (3,), (0, 1, 2), (0, 2, 3), (1, 2, 5, 9, 10), (999_998, 999_999, 1_000_000)])
def test_its_program_for_webdataset_names_the_tars_that_are_there_and_no_others(
    manifest: Manifest, numbers: tuple[int, ...]
) -> None:
    """A repair takes some out."""
    split = manifest.splits["train"]
    shards = tuple(replace(split.shards[0], name=f"{number:06d}.tar") for number in numbers)
    text = card(replace(manifest, splits={"train": replace(split, shards=shards)}))
    (urls,) = re.findall(r'WebDataset\("([^"]*)"', text)
    assert expand_urls(urls) == [f"DATASET/train/{shard.name}" for shard in shards]


def test_of_very_many_classes_some_are_named_and_the_others_counted(manifest: Manifest) -> None:
    label = Label(name="word", classes=tuple(f"w{number}" for number in range(5000)))
    text = card(replace(manifest, labels=(label,)))
    assert "| `word` | w0, w1, " in text
    assert "w99 and 4900 more, see dataset.json |" in text


def test_splits_that_the_hub_cannot_call_so_are_renamed_and_none_is_lost(manifest: Manifest) -> None:
    split = manifest.splits["train"]
    odd = replace(manifest, splits={"dev-1": split, "dev 1": split, "a[b]": split, "none": replace(split, shards=())})
    files = head(odd)["configs"][0]["data_files"]
    assert [entry["split"] for entry in files] == ["dev_1", "dev_1_2", "a_b_"]
    assert [entry["path"] for entry in files] == ["dev-1/*.tar", "dev 1/*.tar", "a[[]b]/*.tar"]


@pytest.mark.parametrize(
    ("clips", "category"),
    [(2, "n<1K"), (999, "n<1K"), (1000, "1K<n<10K"), (10_000, "10K<n<100K"), (5 * 10**6, "1M<n<10M"), (10**12, "n>1T")],
)
def test_sizes_are_the_hubs(manifest: Manifest, clips: int, category: str) -> None:
    assert head(with_clips(manifest, clips))["size_categories"] == [category]


@pytest.mark.parametrize(
    ("given", "told"),
    [
        (None, {}),
        ("CC-BY-4.0", {"license": "cc-by-4.0"}),
        ("OMG-Research-1.0", {"license": "other", "license_name": "omg-research-1.0"}),
        ("https://x.org/terms", {"license": "other", "license_link": "https://x.org/terms"}),
    ],
)
def test_a_licence_is_the_hubs_or_named_or_nothing(manifest: Manifest, given: str | None, told: dict[str, str]) -> None:
    stated = replace(manifest, about=About(license=given))
    assert {name: text for name, text in head(stated).items() if name.startswith("license")} == told
    assert ("## Licence" in card(stated)) == (given is not None)
    if given is not None:
        assert given in card(stated)


def test_what_is_stated_is_told_whatever_is_in_it(manifest: Manifest) -> None:
    about = About(
        title='Talk: "heads" | #1',
        description="Two\n\nparagraphs.",
        citation="@misc{x, note={```}}",
        url="https://x.org/y",
    )
    stated = replace(manifest, about=about)
    assert head(stated)["pretty_name"] == about.title
    text = card(stated)
    assert f"# {about.title}\n\n{about.description}\n\n" in text
    assert f"````\n{about.citation}\n````" in text
    assert "<https://x.org/y>" in text
    plain = card(manifest)
    assert not any(word in plain for word in ("## Licence", "## Citation", "## Source"))


def test_features_are_of_the_members_and_labels(manifest: Manifest) -> None:
    tokens = Member(name="tokens", extension="npy", dtype="int32", shape=(64, 2), required=False, variable=True)
    more = replace(
        manifest,
        members=(*manifest.members, tokens),
        labels=(Label(name="mood", classes=("good", "bad")), Label(name="age", low=0, high=120)),
    )
    features = {feature.pop("name"): feature for feature in head(more)["dataset_info"]["features"]}
    assert features["filmstrip.jpg"] == {"dtype": "image"}
    assert features["audio.wav"] == {"dtype": "binary"}
    assert features["tokens.npy"] == {"list": {"list": "int32"}}
    described = {entry["name"]: entry["dtype"] for entry in features["clip.msg"]["struct"]}
    assert described["mood"] == "string"
    assert described["age"] == "float32"
    assert described["source_xxh3"] == "uint64"
    assert "at most 64 × 2" in card(more)


def test_tasks_are_of_what_is_labelled(manifest: Manifest) -> None:
    assert head(manifest)["task_categories"] == ["video-classification", "audio-classification"]
    assert head(replace(manifest, labels=manifest.labels[1:]))["task_categories"] == ["feature-extraction"]


@pytest.mark.parametrize(
    ("lacking", "options"), [({"audio"}, "audio=False, negatives=None"), ({"filmstrip"}, "video=False, negatives=None")]
)
def test_clips_that_lack_something_are_loaded_without_it(manifest: Manifest, lacking: set[str], options: str) -> None:
    members = tuple(replace(member, required=member.name not in lacking) for member in manifest.members)
    assert options in card(replace(manifest, members=members))
    assert "ClipLoader" not in card(
        replace(manifest, members=tuple(replace(member, required=False) for member in manifest.members))
    )


HOSTILE = (
    "<script>alert(1)</script>",
    "<img src=x onerror=y>",
    "a | b",
    "a\\|b",
    "`code`",
    "``",
    "[text](https://x.org)",
    "![x](y)",
    "*strong* _emph_ ~~gone~~",
    "https://x.org/y",
    "<https://x.org>",
    "www.x.org",
    "someone@x.org",
    "&lt;b&gt; &amp; & &#60;",
    "\\",
    "ends in \\",
    "two\n\n# lines",
    "# heading #",
    "- item",
    "1. item",
    "$x$",
    "snake_case_name",
    "___",
    "--- | ---",
)


def shown(text: str) -> list[Token]:
    """What a viewer of Markdown makes of a card, less its head."""
    viewer = MarkdownIt("commonmark", {"html": True}).enable(["table", "strikethrough"])
    return viewer.parse(text.partition("\n---\n\n")[2])


def inline_of(tokens: list[Token]) -> list[Token]:
    return [token for token in tokens if token.type == "inline"]


def plain(token: Token) -> str:
    """What is read there, by who sees no markup."""
    return "".join(child.content for child in token.children or ())


@pytest.mark.parametrize("name", HOSTILE)
def test_names_are_shown_as_they_are(manifest: Manifest, name: str) -> None:
    """Of the corpus, splits, classes and reasons: none becomes markup, a link or another cell."""
    label = Label(name="mood", classes=("calm", name))
    told = replace(
        manifest,
        corpus=name,
        labels=(label,),
        splits={**manifest.splits, name: manifest.splits["train"]},
        rejected={name: 3},
        about=About(license=None if re.search(r"\s", name) or is_url(name) else name),
    )
    tokens, usual = shown(card(told)), shown(card(replace(manifest, labels=(label,), rejected={"short": 3})))
    line = re.sub(r"\s+", " ", name).strip()
    texts = [plain(token) for token in inline_of(tokens)]
    assert texts[0] == line
    assert line in texts  # the split's cell
    assert f"calm, {line}" in texts
    assert f"Left out: 3 {line}. rejected.parquet has each of them, with the reason." in texts
    assert any(text.startswith(f"{sum(s.clips for s in told.splits.values())} clips of ") for text in texts)
    assert told.about.license is None or texts[-1] == line
    kinds = {child.type for token in inline_of(tokens) for child in token.children or ()}
    assert (
        kinds <= {child.type for token in inline_of(usual) for child in token.children or ()} <= {"text", "code_inline"}
    )
    assert {token.type for token in tokens} <= {token.type for token in usual}


@pytest.mark.parametrize("name", ["VoxCeleb2", "very_happy", "C-3", "a.b (c)", "Zürich, 8×8", "100 %", "a & b", "x: y"])
def test_usual_names_need_no_escape(name: str) -> None:
    assert inline(name) == block(name) == name


def test_an_address_is_a_link_that_ends_where_it_does(manifest: Manifest) -> None:
    url = "https://x.org/a>b<script>"
    (source,) = inline_of(shown(card(replace(manifest, about=About(url=url)))))[-1:]
    opened, text, closed = list(source.children or [])
    assert (opened.type, text.type, closed.type) == ("link_open", "text", "link_close")
    assert opened.attrs == {"href": "https://x.org/a%3Eb%3Cscript%3E"}


def test_addresses_in_names_are_no_links_to_viewers_that_look_for_them() -> None:
    """GitHub and others make links of plain addresses, by what the source says."""
    for name in ("https://x.org/y", "see www.x.org", "someone@x.org"):
        assert not re.search(r"://|www\.|@", inline(name))
