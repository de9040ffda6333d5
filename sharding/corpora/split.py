"""Which side of a split an id falls on: a hash of the id, so that a corpus that grows never moves a clip."""

import xxhash


def hashed_split(identity: str, test_fraction: float, validation_fraction: float = 0.0) -> str:
    """ "test" for about ``test_fraction`` of all ids, "validation" for about so many, "train" for the others.

    It is always the same for the same id, and which ids are of test does not depend on how many are of validation.
    """
    place = xxhash.xxh3_64_intdigest(identity.encode()) / 2.0**64
    if place < test_fraction:
        return "test"
    return "validation" if place < test_fraction + validation_fraction else "train"
