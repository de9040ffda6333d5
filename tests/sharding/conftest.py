"""What tests of building share."""

from collections.abc import Iterator

import pytest

from tests.s3 import S3, s3_server


@pytest.fixture(scope="module")
def server() -> Iterator[S3]:
    """An S3 server with a bucket called bucket; `s3` is it without what an earlier test asked of it."""
    with s3_server() as s3:
        yield s3


@pytest.fixture
def s3(server: S3) -> S3:
    """The module's server, well-behaved and with nothing counted yet."""
    server.misdeeds.clear()
    server.requests.clear()
    server.ranges.clear()
    server.done = 0
    return server
