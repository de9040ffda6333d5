"""URLs of datasets and corpora, and the fsspec file systems behind them.

Endpoint and credentials are the file system's own affair, as fsspec and its packages read them: for S3 from
AWS_ENDPOINT_URL, AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_PROFILE and ~/.aws/config, or FSSPEC_S3_ENDPOINT_URL and
its like.
"""

import re
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any
from urllib.parse import unquote

from loaders.errors import InputError, first_line

_URL = re.compile(r"([a-z][a-z0-9+.-]+):/{1,2}(?=[^/]|$)")  # two letters at least: a single one is a drive
_NO_OPTIONS: Mapping[str, Any] = MappingProxyType({})


def url_of(path: str | Path) -> str | None:
    """The URL that a path is, None where it is a path of this machine.

    A Path joins slashes, ``Path("s3://bucket/vox")`` is ``s3:/bucket/vox``: the second one is put back. A file's URL
    always names an absolute path.
    """
    text = str(path)
    if text.startswith("file:/"):
        return "file:///" + text.removeprefix("file:").strip("/")
    match = _URL.match(text)
    return None if match is None else f"{match[1]}://{text[match.end() :]}".rstrip("/")


def local_path(path: str | Path, what: str) -> Path:
    """A path of this machine, also where it is given as a file:// URL.

    Args:
        path: as a user gave it.
        what: for the message, such as ``--output``.

    Raises:
        InputError: it is a URL of a store, and would become a folder called ``s3:``.
    """
    text = str(path)
    if text.startswith("file:/"):  # a Path has joined the slashes
        return Path(unquote("/" + text[len("file:") :].lstrip("/")))
    url = url_of(path)
    if url is not None:
        raise InputError(f"{what} {url}: has to be a local folder: give one, and copy it to the store afterwards")
    return Path(path)


def file_system_of(url: str, options: Mapping[str, Any] = _NO_OPTIONS) -> tuple[Any, str]:
    """The fsspec file system of a URL, and the path by which that names it.

    Args:
        url: such as s3://bucket/vox, of any scheme that fsspec knows.
        options: of the file system, such as ``key`` and ``endpoint_url``.

    Raises:
        InputError: an unknown scheme, one whose package is missing, or a URL that names nothing.
    """
    try:
        import fsspec
    except ImportError as error:
        raise InputError(f"{url}: remote files need fsspec: pip install '.[s3]'") from error
    try:
        file_system, path = fsspec.core.url_to_fs(url, **options)
    except (ImportError, ValueError) as error:
        raise InputError(
            f"{url}: {first_line(error)}: for s3:// pip install '.[s3]', else see to the scheme"
        ) from error
    root = str(path).rstrip("/")
    if not root:
        raise InputError(f"{url}: names nothing: give a bucket and a path, such as s3://bucket/vox")
    return file_system, root
