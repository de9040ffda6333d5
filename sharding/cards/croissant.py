"""Croissant metadata (MLCommons, version 1.0): which files a dataset has, and which records are in them.

Each split is a record set, of its catalog's rows. Each member of its clips is one too, of the files of that kind in the
split's tars, with the clip's key: the format's reader joins no more than two tables at once.
https://docs.mlcommons.org/croissant/docs/croissant-spec.html
"""

import json
import re
from typing import Any

import pyarrow as pa

from loaders.dataset.catalog import schema
from loaders.dataset.manifest import CATALOG, REJECTED, Manifest, Member, Split
from sharding.cards.told import KINDS, MADE_BY, column_means, summary

CROISSANT = "croissant.json"
VERSION = "http://mlcommons.org/croissant/1.0"
_TAR, _PARQUET = "application/x-tar", "application/x-parquet"

# As the specification wants it, so that programs that read JSON alone find their way too.
_CONTEXT: dict[str, Any] = {
    "@language": "en",
    "@vocab": "https://schema.org/",
    "citeAs": "cr:citeAs",
    "column": "cr:column",
    "conformsTo": "dct:conformsTo",
    "cr": "http://mlcommons.org/croissant/",
    "data": {"@id": "cr:data", "@type": "@json"},
    "dataType": {"@id": "cr:dataType", "@type": "@vocab"},
    "dct": "http://purl.org/dc/terms/",
    "equivalentProperty": "cr:equivalentProperty",
    "examples": {"@id": "cr:examples", "@type": "@json"},
    "extract": "cr:extract",
    "field": "cr:field",
    "fileObject": "cr:fileObject",
    "fileProperty": "cr:fileProperty",
    "fileSet": "cr:fileSet",
    "format": "cr:format",
    "includes": "cr:includes",
    "isLiveDataset": "cr:isLiveDataset",
    "jsonPath": "cr:jsonPath",
    "key": "cr:key",
    "md5": "cr:md5",
    "parentField": "cr:parentField",
    "path": "cr:path",
    "rai": "http://mlcommons.org/croissant/RAI/",
    "recordSet": "cr:recordSet",
    "references": "cr:references",
    "regex": "cr:regex",
    "repeated": "cr:repeated",
    "replace": "cr:replace",
    "samplingRate": "cr:samplingRate",
    "sc": "https://schema.org/",
    "separator": "cr:separator",
    "source": "cr:source",
    "subField": "cr:subField",
    "transform": "cr:transform",
}


def croissant(manifest: Manifest) -> str:
    """croissant.json's text. Paths in it are relative to the dataset's folder; nothing in it is of a day."""
    about = manifest.about
    splits = {name: split for name, split in manifest.splits.items() if split.shards}
    stated = {"license": about.license, "url": about.url, "citeAs": about.citation}
    body = {
        "@context": _CONTEXT,
        "@type": "sc:Dataset",
        "conformsTo": VERSION,
        "name": about.title or manifest.corpus,
        "description": about.description or summary(manifest),
        **{name: text for name, text in stated.items() if text is not None},
        "keywords": [MADE_BY, "webdataset"],
        "distribution": [
            _file(REJECTED, _PARQUET, manifest.rejected_sha256),
            *(part for name, split in splits.items() for part in _files(name, split, manifest)),
        ],
        "recordSet": [
            records
            for name in splits
            for records in (_rows(name, manifest), *(_contents(name, member) for member in manifest.members))
        ],
    }
    # The same to every reader of JSON, and no markup where a page has it within a <script>, as search engines want it.
    return json.dumps(body, indent=1, ensure_ascii=False).replace("<", "\\u003c") + "\n"


def _files(name: str, split: Split, manifest: Manifest) -> list[dict[str, Any]]:
    """A split's files, and its members as sets of the files in its tars."""
    tars = [f"{name}/{shard.name}" for shard in split.shards]
    return [
        _file(f"{name}/{CATALOG}", _PARQUET, split.catalog_sha256),
        *(
            _file(tar, _TAR, shard.sha256) | {"contentSize": f"{shard.bytes} B"}
            for tar, shard in zip(tars, split.shards, strict=True)
        ),
        *(
            {
                "@type": "cr:FileSet",
                "@id": f"{name}/*.{member.suffix}",
                "name": f"{name}/*.{member.suffix}",
                "containedIn": [{"@id": tar} for tar in tars],
                "encodingFormat": KINDS[member.extension].mime,
                "includes": f"*.{member.suffix}",
            }
            for member in manifest.members
        ),
    ]


def _file(path: str, kind: str, sha256: str) -> dict[str, Any]:
    return {
        "@type": "cr:FileObject",
        "@id": path,
        "name": path,
        "contentUrl": path,
        "encodingFormat": kind,
        "sha256": sha256,
    }


def _rows(split: str, manifest: Manifest) -> dict[str, Any]:
    """The rows of a split's catalog."""
    # pandas, which the format's reader reads tables by, makes floats of 64 bits of a column with nulls.
    rounded = {f"{member.name}_xxh3" for member in manifest.members if not member.required}
    return {
        "@type": "cr:RecordSet",
        "@id": split,
        "name": split,
        "description": f"The clips of {split}: a row of {CATALOG} each.",
        "key": {"@id": f"{split}/key"},
        "field": [
            {
                "@type": "cr:Field",
                "@id": f"{split}/{column.name}",
                "name": column.name,
                "description": column_means(column.name, manifest),
                "dataType": _type(column.type),
                "source": {
                    "fileObject": {"@id": f"{split}/{CATALOG}"},
                    "extract": {"column": column.name},
                },
            }
            for column in schema(manifest.members, manifest.labels)
            if column.name not in rounded
        ],
    }


def _contents(split: str, member: Member) -> dict[str, Any]:
    """The files of one member, each with its clip's key."""
    records = f"{split}/{member.suffix}"
    files = {"fileSet": {"@id": f"{split}/*.{member.suffix}"}}
    return {
        "@type": "cr:RecordSet",
        "@id": records,
        "name": records,
        "description": f"The clips' {member.suffix}: {KINDS[member.extension].says(member)}.",
        "key": {"@id": f"{records}/key"},
        "field": [
            {
                "@type": "cr:Field",
                "@id": f"{records}/key",
                "name": "key",
                "description": f"The clip's, as in {split}/key.",
                "dataType": "sc:Text",
                "source": {
                    **files,
                    "extract": {"fileProperty": "filename"},
                    "transform": {"regex": rf"^(.+)\.{re.escape(member.suffix)}$"},
                },
            },
            {
                "@type": "cr:Field",
                "@id": f"{records}/content",
                "name": "content",
                "dataType": KINDS[member.extension].croissant,
                "source": {**files, "extract": {"fileProperty": "content"}},
            },
        ],
    }


def _type(kind: pa.DataType) -> str:
    """The data type of a catalog's column."""
    if pa.types.is_dictionary(kind) or pa.types.is_string(kind):
        return "sc:Text"
    names = {pa.int32(): "cr:Int32", pa.int64(): "cr:Int64", pa.uint64(): "cr:UInt64"}
    return names.get(kind) or {pa.float32(): "cr:Float32", pa.float64(): "cr:Float64"}[kind]
