"""An S3 server on loopback that serves a folder and misbehaves: deterministically, so often as it is told to."""

import hashlib
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

MISDEEDS = ("503", "reset", "truncate", "stall", "lie")


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: "_Server"

    def log_message(self, *_: Any) -> None:
        """Tests are quiet."""

    def do_HEAD(self) -> None:
        self._answer(body=False)

    def do_GET(self) -> None:
        self._answer(body=True)

    def _answer(self, *, body: bool) -> None:
        key = self.path.split("?")[0].lstrip("/")
        path = self.server.folder / key
        if not path.is_file():
            self._send(404, b"<Error><Code>NoSuchKey</Code><Message>no such key</Message></Error>" if body else b"", {})
            return
        data = path.read_bytes()
        total = len(data)
        status, headers = 200, {"ETag": f'"{hashlib.md5(data).hexdigest()}"', "Accept-Ranges": "bytes"}
        asked = self.headers.get("Range")
        if asked:
            first, last = asked.removeprefix("bytes=").split("-")
            start, end = int(first), min(int(last) + 1 if last else total, total)
            data = data[start:end]
            status, headers["Content-Range"] = 206, f"bytes {start}-{end - 1}/{total}"
        misdeed = self.server.misdeed(key) if body and key.endswith(self.server.suffix) else None
        if misdeed == "503":
            self._send(503, b"<Error><Code>SlowDown</Code><Message>slow down</Message></Error>", {})
        elif misdeed == "reset":
            self.close_connection = True
            self.connection.close()
        elif misdeed == "truncate":
            self._send(status, data[: len(data) // 2], headers, length=len(data))
            self.close_connection = True
        elif misdeed == "stall":
            time.sleep(self.server.stall_seconds)
            self.close_connection = True
        elif misdeed == "lie":
            wrong = bytearray(data)
            wrong[len(wrong) // 3] ^= 64
            self._send(status, bytes(wrong), headers)
        else:
            self._send(status, data if body else b"", headers, length=len(data))
            self.server.served[key] += 1

    def _send(self, status: int, body: bytes, headers: dict[str, str], *, length: int | None = None) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Type", "binary/octet-stream" if status < 300 else "application/xml")
        self.send_header("Content-Length", str(len(body) if length is None else length))
        self.end_headers()
        self.wfile.write(body)


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, folder: Path, every: int, stall_seconds: float, suffix: str, misdeeds: Sequence[str]) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.folder = folder
        self.every, self.suffix = every, suffix
        self.stall_seconds = stall_seconds
        self.misdeeds = misdeeds
        self.lock = threading.Lock()
        self.asked = 0
        self.done: Counter[str] = Counter()
        self.served: Counter[str] = Counter()

    def handle_error(self, *_: Any) -> None:
        """Clients that hang up are part of the game."""

    def misdeed(self, key: str) -> str | None:
        with self.lock:
            self.asked += 1
            if not self.every or self.asked % self.every:
                return None
            what = self.misdeeds[self.asked // self.every % len(self.misdeeds)]
            self.done[what] += 1
            return what

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


@contextmanager
def s3_adversary(
    folder: Path, *, every: int, stall_seconds: float = 3.0, suffix: str = "", misdeeds: Sequence[str] = MISDEEDS
) -> Iterator[_Server]:
    """Serve ``folder``'s sub-folders as buckets; every so many requests, for names of the suffix, goes wrong.

    With ``every`` 0, none does.
    """
    server = _Server(folder, every, stall_seconds, suffix, misdeeds)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()


def options_for(server: _Server) -> dict[str, Any]:
    """For s3fs: this server, no credentials, and a short patience."""
    return {
        "key": "test",
        "secret": "test",
        "endpoint_url": server.url,
        "config_kwargs": {"read_timeout": 1, "connect_timeout": 2, "retries": {"max_attempts": 1}},
        "skip_instance_cache": True,
    }
