"""A real S3 server on loopback, moto's, that can be told to misbehave."""

import re
import threading
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from io import BytesIO
from typing import Any

import pytest


@dataclass(slots=True)
class Misdeed:
    """What is done to the next ``times`` requests of a method for a path."""

    method: str
    path: str  #: regular expression, found anywhere in /bucket/name
    what: str  #: "503", "flip" (a bit of the body), "truncate" (the body), "slow" (a second), "forget" (the condition)
    times: int = 1 << 30


@dataclass(slots=True)
class S3:
    """The server, and what it was asked for."""

    endpoint: str
    misdeeds: list[Misdeed] = field(default_factory=list)
    requests: list[tuple[str, str]] = field(default_factory=list)  #: method and path, of all requests
    ranges: list[str] = field(default_factory=list)  #: of the requests for a part of an object, as "bytes=0-99"
    done: int = 0  #: misdeeds

    @property
    def environment(self) -> Mapping[str, str]:
        """What a process needs to find it."""
        return {
            "AWS_ENDPOINT_URL": self.endpoint,
            "AWS_ACCESS_KEY_ID": "test",
            "AWS_SECRET_ACCESS_KEY": "test",
            "AWS_DEFAULT_REGION": "us-east-1",
            "AWS_EC2_METADATA_DISABLED": "true",
            "AWS_MAX_ATTEMPTS": "1",  # botocore's own patience is not what is tested
        }

    def puts(self, pattern: str) -> int:
        """Uploads of objects whose path holds the pattern."""
        return sum(method == "PUT" and re.search(pattern, path) is not None for method, path in self.requests)


class _Application:
    """moto's WSGI application behind one that spoils requests."""

    def __init__(self, inner: Any, s3: S3) -> None:
        self._inner, self._s3, self._lock = inner, s3, threading.Lock()

    def __call__(self, environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        method, path = environ["REQUEST_METHOD"], environ["PATH_INFO"].encode("latin-1").decode()
        with self._lock:
            self._s3.requests.append((method, path))
            if "HTTP_RANGE" in environ:
                self._s3.ranges.append(environ["HTTP_RANGE"])
            misdeed = next((m for m in self._s3.misdeeds if self._is_meant(m, method, path)), None)
            if misdeed is not None:
                misdeed.times -= 1
                self._s3.done += 1
        if misdeed is not None:
            if misdeed.what == "slow":
                time.sleep(1)
            elif misdeed.what == "forget":
                environ.pop("HTTP_IF_NONE_MATCH", None)
            else:
                body = bytearray(environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0)))
                if misdeed.what == "503":
                    start_response("503 Service Unavailable", [("Content-Type", "application/xml")])
                    return [b"<Error><Code>ServiceUnavailable</Code><Message>come again</Message></Error>"]
                if misdeed.what == "flip":
                    body[len(body) // 2] ^= 4
                else:
                    body = body[: len(body) // 2]
                # As if it had happened behind the store's own checks: on its disk.
                for name in [n for n in environ if n.startswith("HTTP_X_AMZ_CHECKSUM") or n == "HTTP_CONTENT_MD5"]:
                    del environ[name]
                environ["wsgi.input"], environ["CONTENT_LENGTH"] = BytesIO(bytes(body)), str(len(body))
        answer: Iterable[bytes] = self._inner(environ, start_response)
        return answer

    @staticmethod
    def _is_meant(misdeed: Misdeed, method: str, path: str) -> bool:
        return misdeed.times > 0 and misdeed.method == method and re.search(misdeed.path, path) is not None


@contextmanager
def s3_server(bucket: str = "bucket") -> Iterator[S3]:
    """A server of this process, on a port that the system chooses, with one bucket; this process is led to it."""
    pytest.importorskip("s3fs", reason="the extra s3 is not installed")
    pytest.importorskip("moto", reason="moto's S3 server is not installed")
    import s3fs
    from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app
    from werkzeug.serving import WSGIRequestHandler, make_server

    class Quiet(WSGIRequestHandler):
        def log(self, *_: Any) -> None:
            """Tests are quiet."""

    s3 = S3(endpoint="")
    application = _Application(DomainDispatcherApplication(create_backend_app), s3)
    server = make_server("127.0.0.1", 0, application, threaded=True, request_handler=Quiet)
    s3.endpoint = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        with pytest.MonkeyPatch.context() as patch:
            for name, value in s3.environment.items():
                patch.setenv(name, value)
            s3fs.S3FileSystem.clear_instance_cache()  # another server's, of another test
            s3fs.S3FileSystem().mkdir(bucket)
            yield s3
            s3fs.S3FileSystem().rm(bucket, recursive=True)
            s3fs.S3FileSystem.clear_instance_cache()
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
