"""An S3 server on loopback, moto's: ``python store.py ADDRESS``, a file that its address is written into.

``kill -USR1`` makes it refuse every connection for eight seconds; what it holds stays. It ends with SIGTERM.
"""

import signal
import sys
import threading
import time
from pathlib import Path

from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app
from werkzeug.serving import BaseWSGIServer, WSGIRequestHandler, make_server

AWAY = 8.0  # seconds
APPLICATION = DomainDispatcherApplication(create_backend_app)


class Once(WSGIRequestHandler):
    """A connection a request, so that who is away answers nobody; without a line a request."""

    protocol_version = "HTTP/1.0"

    def log(self, *_: object) -> None:
        """Nothing."""


def serve(port: int = 0) -> BaseWSGIServer:
    server = make_server("127.0.0.1", port, APPLICATION, threaded=True, request_handler=Once)
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
    return server


if __name__ == "__main__":
    asked = [signal.SIGUSR1, signal.SIGTERM]
    signal.pthread_sigmask(signal.SIG_BLOCK, asked)
    server = serve()
    port = server.server_port
    written = Path(sys.argv[1] + ".new")
    written.write_text(f"http://127.0.0.1:{port}\n")
    written.rename(sys.argv[1])
    while signal.sigwait(asked) == signal.SIGUSR1:
        server.shutdown()
        server.server_close()
        time.sleep(AWAY)
        server = serve(port)
