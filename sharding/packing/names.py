"""Whom and what a catalog's rows name."""

from collections.abc import Iterable, Sequence

import pyarrow as pa


def distinct(table: pa.Table, columns: Sequence[str]) -> pa.Table:
    """The different rows of these columns of names, as strings."""
    strings = table.select(list(columns)).cast(pa.schema([(name, pa.string()) for name in columns]))
    return strings.group_by(list(columns), use_threads=False).aggregate([])


def share_video_names(tables: Iterable[pa.Table]) -> bool:
    """Whether two speakers have videos of one name, in all of these parts of catalogs together."""
    found = [distinct(table, ("speaker", "video")) for table in tables]
    if not found:
        return False
    named = distinct(pa.concat_tables(found), ("speaker", "video"))
    return len(named) > len(distinct(named, ("video",)))
