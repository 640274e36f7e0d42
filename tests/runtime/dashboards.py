"""A dashboard of a session for tests: the process of `hpc dashboard`, its links, and a small client."""

from __future__ import annotations

import http.client
import json
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from runtime.hosting import ENV


class Dashboard:
    """A running `hpc dashboard`. ``links`` are those that it has printed, the one of its port last."""

    def __init__(self, process: subprocess.Popen[str], said: list[str], address: str) -> None:
        self.process, self.address = process, address
        self.said = said
        text = "\n".join(said)
        self.socket = re.findall(r"-L \d+:(\S+) ", text)[0]
        self.link = re.findall(r"on this machine: +(\S+)", text)[0]
        self.port = int(re.findall(r":(\d+)/", self.link)[0])
        self.token = self.link.partition("#")[2]

    def ask(
        self, path: str, method: str = "GET", body: str = "", by_socket: bool = False, **headers: str
    ) -> tuple[int, dict[str, str], bytes]:
        """Status, headers (in small letters) and body of one request; underscores in header names are dashes."""
        connection = http.client.HTTPConnection("localhost", self.port, timeout=30)
        if by_socket:
            connection.sock = socket.socket(socket.AF_UNIX)
            connection.sock.connect(self.socket)
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        connection.request(method, f"/{path}", body.encode() or None, named)
        answer = connection.getresponse()
        try:
            return answer.status, {name.lower(): value for name, value in answer.getheaders()}, answer.read()
        finally:
            connection.close()

    def enter(self, token: str = "", **more: Any) -> tuple[int, str]:
        """Hand in a token; the status, and the cookie that was given."""
        status, headers, _ = self.ask("api/enter", "POST", token or self.token, x_hpc="1", **more)
        return status, headers.get("set-cookie", "").partition(";")[0]

    def page(self, path: str, cookie: str) -> Any:
        """What a page is, as JSON."""
        status, _, body = self.ask(f"api/{path}", cookie=cookie)
        assert status == 200, body
        return json.loads(body)

    def next_link(self) -> str:
        """The link that is printed when one was used."""
        assert self.process.stdout is not None
        return self.process.stdout.readline().strip().rpartition(" ")[2]


@contextmanager
def dashboard_of(address: str, *options: str) -> Iterator[Dashboard]:
    """`hpc dashboard` for a session, which ends with the block."""
    command = [sys.executable, "-m", "hpc", "dashboard", f"--address={address}", *options]
    process = subprocess.Popen(command, env=ENV, stdout=subprocess.PIPE, text=True, stdin=subprocess.DEVNULL)
    try:
        assert process.stdout is not None
        yield Dashboard(process, [process.stdout.readline().rstrip() for _ in range(5)], address)
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGINT)
        process.communicate(timeout=60)
