"""A supervisor's side of the pipes to its launcher: commands come in, reports go out, nothing blocks.

Reports wait in memory until the pipe takes them, 4 KiB at a time. A pipe that polls writable has room for that, so the
descriptor, which others may share, need not be made non-blocking.
"""

from __future__ import annotations

import os
import selectors
import time
from typing import Any

from hpc.core.node.bootstrap import CommandDecoder, Message, encode_report

WRITE_BYTES = 4096
READ_BYTES = 1 << 16
LAST_WORDS_S = 2.0


class Uplink:
    """Reads commands from one descriptor and writes the reports of `rank` to another, in a selector's loop."""

    def __init__(self, rank: int, stdin_fd: int, stdout_fd: int, selector: selectors.BaseSelector) -> None:
        self.rank = rank
        self.node = -1  # until the start message
        self.eof = False
        self._stdin_fd = stdin_fd
        self._stdout_fd = stdout_fd  # -1 once nobody reads
        self._selector = selector
        self._number = 0
        self._output = bytearray()
        self._commands = CommandDecoder()

    @property
    def pending_bytes(self) -> int:
        """How much waits for the launcher to read."""
        return len(self._output)

    def read(self) -> list[Message]:
        """The commands that have come; sets `eof` at their end."""
        try:
            data = os.read(self._stdin_fd, READ_BYTES)
        except BlockingIOError:
            return []
        except OSError:
            data = b""
        self.eof = not data
        return self._commands.feed(data)

    def report(self, op: str, **fields: Any) -> None:
        """Queue a message to the launcher."""
        if self._stdout_fd < 0:
            return
        self._number += 1
        message = {"op": op, "rank": self.rank, "node": self.node, **fields}
        self._output += encode_report(self.rank, self._number, message)
        if self._stdout_fd not in self._selector.get_map():
            self._selector.register(self._stdout_fd, selectors.EVENT_WRITE, self.flush)

    def flush(self) -> None:
        """Write one piece; called when the descriptor is writable."""
        try:
            written = os.write(self._stdout_fd, self._output[:WRITE_BYTES])
            del self._output[:written]
        except BlockingIOError:
            return
        except OSError:  # nobody reads: the end of stdin will come
            self._output.clear()
            self._unregister()
            self._stdout_fd = -1
            return
        if not self._output:
            self._unregister()

    def _unregister(self) -> None:
        if self._stdout_fd in self._selector.get_map():
            self._selector.unregister(self._stdout_fd)

    def drain(self) -> None:
        """Write what is left, waiting at most LAST_WORDS_S for a slow reader."""
        deadline = time.monotonic() + LAST_WORDS_S
        while self._output and time.monotonic() < deadline:
            for key, _events in self._selector.select(max(0.0, deadline - time.monotonic())):
                if key.fd == self._stdout_fd:
                    self.flush()
