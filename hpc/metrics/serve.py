"""Metrics for a Prometheus to scrape: a door on this machine, a token, and a file that says where.

The door answers GET /metrics to who has the token (``Authorization: Bearer ...``), and nothing else. The token lies in
a file of mode 0600 beside the target's file, which Prometheus reads (``authorization: credentials_file``). The file of
the target is gone with the door, so that Prometheus does not look for a session that has ended.
"""

from __future__ import annotations

import hmac
import json
import os
import secrets
import socket
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from hpc.metrics.grafana import target
from hpc.metrics.text import OPENMETRICS, form_for, openmetrics, prometheus
from hpc.state.metrics import Latest

LOCAL = "127.0.0.1"
#: What stands for all addresses of the machine.
EVERYWHERE = ("", "0.0.0.0", "::")
#: Everybody on the machine, or in the network, reaches the door: this many may be open, and be silent for this long.
MOST_CONNECTIONS = 50
SILENT_S = 10.0


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, address: tuple[str, int], handler: type[BaseHTTPRequestHandler], family: int) -> None:
        self.address_family = family
        self._room = threading.Semaphore(MOST_CONNECTIONS)
        super().__init__(address, handler)

    def process_request(self, request: Any, client_address: Any) -> None:
        """One connection gets a thread, or is closed where there are too many."""
        if self._room.acquire(blocking=False):
            super().process_request(request, client_address)
        else:
            self.shutdown_request(request)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        """In that thread."""
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._room.release()


def bound_to(text: str) -> tuple[str, int]:
    """The address and the port (0: any) of ADDR, ADDR:PORT, [ADDR] or [ADDR]:PORT; brackets are for addresses of IPv6.
    Raises ValueError for anything else."""
    host, found, port = text.rpartition(":")
    if text.startswith("[") and "]" in text:
        host, _, port = text[1:].partition("]")
        found, port = port[:1], port[1:]
        if found not in ("", ":"):
            raise ValueError(f"[ADDR]:PORT is meant, not {text!r}")
    elif text.count(":") > 1:
        raise ValueError(f"an address of IPv6 stands in brackets, as [::1]:9100, not {text!r}")
    elif not found:
        host, port = text, ""
    if found and not port.isdigit():
        raise ValueError(f"a port is a number, not {port!r}")
    return host, int(port or 0)


def family_of(host: str) -> int:
    """The family of addresses of what a door is bound to."""
    return socket.AF_INET6 if ":" in host else socket.AF_INET


class Door:
    """An HTTP server for one session. ``ask``: for the newest metrics; ``bind``: the address to listen on, else that
    of this machine alone; port 0: any."""

    def __init__(self, ask: Callable[[], Latest], bind: str = LOCAL, port: int = 0) -> None:
        self.token = secrets.token_urlsafe(24)
        asking = threading.Lock()

        def alone() -> Latest:
            """One reader after the other: to `Totals` an older answer behind a newer one is a head that began anew."""
            with asking:
                return ask()

        self.server = _Server((bind, port), _handler(alone, self.token), family_of(bind))
        host = socket.gethostname() if bind in EVERYWHERE else bind
        self.address = f"[{host}]:{self.server.server_port}" if ":" in host else f"{host}:{self.server.server_port}"

    def write(self, file: Path, session: str, job: str = "") -> Path:
        """Write the target and, beside it, the token; returns the token's file."""
        token = file.with_name(file.name + ".token")
        with os.fdopen(os.open(token, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as out:
            os.fchmod(out.fileno(), 0o600)
            out.write(self.token)
        write_whole(file, json.dumps(target(self.address, session, job), indent=1) + "\n")
        return token

    def run(self) -> None:
        """Until `close`."""
        self.server.serve_forever(poll_interval=0.2)

    def close(self) -> None:
        """Answer nobody any more."""
        self.server.shutdown()
        self.server.server_close()


def write_whole(file: Path, text: str) -> None:
    """Write a file so that a reader finds the old text or the new one."""
    new = file.with_name(f".{file.name}.new")
    new.write_text(text)
    new.replace(file)


def _handler(ask: Callable[[], Latest], token: str) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        server_version, sys_version = "hpc", ""
        timeout = SILENT_S

        def do_GET(self) -> None:
            given = self.headers.get("Authorization", "").encode()
            if not hmac.compare_digest(given, f"Bearer {token}".encode()):
                self.send_response(401)
                self.send_header("WWW-Authenticate", "Bearer")
                self._say("text/plain", "the token is missing, or another one: it is in the file beside the target's\n")
            elif self.path.partition("?")[0] != "/metrics":
                self.send_response(404)
                self._say("text/plain", "there is /metrics\n")
            else:
                form = form_for(self.headers.get("Accept", ""))
                try:
                    latest = ask()
                except Exception as error:  # the session has ended, or its head is being started again
                    self.send_response(503)
                    self._say("text/plain", f"{error}\n")
                    return
                self.send_response(200)
                self._say(form, openmetrics(latest) if form == OPENMETRICS else prometheus(latest))

        def _say(self, form: str, text: str) -> None:
            data = text.encode()
            self.send_header("Content-Type", form)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, format: str, *args: object) -> None:
            """Each scrape is nothing to speak of."""

    return Handler
