"""Requests to a session's host: one JSON line there, one back, over the host's socket.

The socket lies in a directory of mode 0700 and has mode 0600; both sides check that the other runs as the same user.
"""

from __future__ import annotations

import json
import socket
from collections.abc import Mapping
from types import TracebackType
from typing import Any

from hpc.core.net.stream import check_peer
from hpc.host.find import HostInfo

MAX_LINE_BYTES = 8 << 20
SLACK_S = 30.0  # beyond the time that a request itself may take


class HostError(RuntimeError):
    """The host says no, and why."""


class Talk:
    """A connection to a host, for `with`."""

    def __init__(self, info: HostInfo, timeout_s: float = SLACK_S) -> None:
        self.info = info
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(timeout_s)
        try:
            self.sock.connect(info.socket)
            check_peer(self.sock)
        except (OSError, PermissionError) as error:
            self.sock.close()
            raise ConnectionError(f"the host of session {info.session} cannot be reached: {error}") from None
        self._file = self.sock.makefile("rb")

    def send(self, request: Mapping[str, Any]) -> None:
        """Send a request."""
        self.sock.sendall(json.dumps(request).encode() + b"\n")

    def reply(self) -> dict[str, Any] | None:
        """The next reply; None when the host closed the connection. HostError for a refusal."""
        try:
            line = self._file.readline(MAX_LINE_BYTES)
        except TimeoutError:
            raise HostError(f"the host of session {self.info.session} (pid {self.info.pid}) does not answer") from None
        except ConnectionError:
            return None
        if not line.endswith(b"\n"):
            return None
        answer: dict[str, Any] = json.loads(line)
        if not answer.get("ok"):
            raise HostError(str(answer.get("why", "refused")))
        return answer

    def close(self) -> None:
        """Hang up."""
        self._file.close()
        self.sock.close()

    def __enter__(self) -> Talk:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def ask_host(info: HostInfo, request: Mapping[str, Any], timeout_s: float = SLACK_S) -> dict[str, Any]:
    """One request and its reply. HostError when it is refused, ConnectionError when nobody is there."""
    with Talk(info, timeout_s) as talk:
        try:
            talk.send(request)
        except OSError as error:
            raise ConnectionError(f"the host of session {info.session} has ended: {error}") from None
        answer = talk.reply()
    if answer is None:
        raise ConnectionError(f"the host of session {info.session} ended without an answer")
    return answer
