"""A web proxy that has a server below a path, as portals of clusters do: it strips that path, or leaves it."""

from __future__ import annotations

import http.client
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

#: What belongs to one connection, and is not passed on.
OWN = {"connection", "keep-alive", "transfer-encoding", "content-length"}


@contextmanager
def a_proxy(root: str, to_port: int, strips: bool) -> Iterator[int]:
    """The port of a proxy for what is below ``root``."""

    class Passing(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            if not self.path.startswith(f"{root}/"):
                self.send_error(404)
                return
            path = self.path[len(root) :] if strips else self.path
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            upstream = http.client.HTTPConnection("127.0.0.1", to_port, timeout=60)
            try:
                upstream.request(self.command, path, body or None, dict(self.headers.items()))
                answer = upstream.getresponse()
                self.send_response(answer.status)
                for name, value in answer.getheaders():
                    if name.lower() not in OWN:
                        self.send_header(name, value)
                self.send_header("Connection", "close")
                self.end_headers()
                with suppress(BrokenPipeError, ConnectionResetError):  # a browser that has left a page
                    while data := answer.read1(65536):
                        self.wfile.write(data)
            finally:
                upstream.close()
                self.close_connection = True

        do_POST = do_HEAD = do_GET

        def log_message(self, format: str, *args: object) -> None:
            """Nothing to speak of."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Passing)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield server.server_port
    finally:
        server.shutdown()
        server.server_close()
        thread.join(60)
