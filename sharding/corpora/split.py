"""Which side of a split an id falls on: a hash of the id, so that a corpus that grows never moves a clip."""

import xxhash


def hashed_split(identity: str, test_fraction: float) -> str:
    """ "test" for about ``test_fraction`` of all ids, "train" for the others; always the same for the same id."""
    return "test" if xxhash.xxh3_64_intdigest(identity.encode()) / 2.0**64 < test_fraction else "train"
