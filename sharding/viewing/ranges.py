"""The members of single clips of a dataset in a store: their bytes alone are fetched, not the shards that hold them."""

from collections.abc import Sequence

import xxhash

from loaders.dataset.catalog import Catalog
from loaders.dataset.shards import CorruptMemberError
from sharding.sources.store import Store

_TIMES = 4  # that wrong bytes are asked for again, if they are others every time
_ROOM = 1 << 16  # bytes between members that are rather fetched with them than asked for apart


def fetch_members(store: Store, catalog: Catalog, clip: int) -> dict[str, bytes]:
    """A clip's members, checked, by name; those that it does not have are left out.

    Args:
        store: of the dataset.
        catalog: of the split, a local copy; of its members all are fetched.
        clip: row of the catalog.

    Raises:
        CorruptMemberError: the store has other bytes than the catalog tells.
        InputError: there is no such shard, or the store fails.
    """
    shard = catalog.manifest.splits[catalog.split].shards[int(catalog.shard[clip])]
    name = f"{catalog.split}/{shard.name}"
    places = [
        (int(extent.offset[clip]), int(extent.size[clip]), member)
        for member, extent in catalog.members.items()
        if extent.size[clip] > 0
    ]
    members: dict[str, bytes] = {}
    for group in _neighbours(sorted(places)):
        start = group[0][0]
        end = max(offset + size for offset, size, _ in group)
        before = None
        for _ in range(_TIMES):
            data = store.read(name, start, end)
            found = {member: data[offset - start : offset - start + size] for offset, size, member in group}
            wrong = next((member for member in found if not _is_right(catalog, clip, member, found[member])), None)
            if wrong is None:
                members |= found
                break
            if data == before:  # on its way it would hardly have been damaged in the same way twice
                break
            before = data
        if wrong is not None:
            raise CorruptMemberError(clip, wrong, f"{store.url}/{name}", "does not have its checksum")
    return {member: members[member] for member in catalog.members if member in members}


def _neighbours(places: Sequence[tuple[int, int, str]]) -> list[list[tuple[int, int, str]]]:
    """Members, (offset, size, name) by offset, in groups that are fetched together."""
    groups: list[list[tuple[int, int, str]]] = []
    end = 0
    for place in places:
        if not groups or place[0] - end > _ROOM:
            groups.append([])
            end = 0
        groups[-1].append(place)
        end = max(end, place[0] + place[1])
    return groups


def _is_right(catalog: Catalog, clip: int, member: str, data: bytes) -> bool:
    extent = catalog.members[member]
    return len(data) == int(extent.size[clip]) and xxhash.xxh3_64_intdigest(data) == int(extent.xxh3[clip])
