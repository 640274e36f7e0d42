"""What a supervisor keeps so that a head which ended can be started again: its port, its keys, and its mail.

The listening socket is made here and inherited, so that what connects while there is no head waits in the kernel's
queue. The key pair is made by the first head, which tells it to its supervisor over their socket. It is in the memory
of these two processes and nowhere else. What the launcher says to the head (keys of nodes, nodes that are lost) is
kept. It is said again to each new head, which may hear it any number of times.
"""

from __future__ import annotations

import socket
import time
from collections import deque
from typing import Any

import msgspec

from hpc.core.node.spec import NodeSpec

#: A head that ends more often than this within the time below is not started again: the session ends. The first is for
#: heads that fail: they crash or hang, and most likely will do so again. One that somebody else kills has no fault, and
#: nothing is lost with it.
MAX_RESTARTS = 5
MAX_KILLS = 60
RESTART_WINDOW_S = 60.0
BACKLOG = 1024
#: Messages of the launcher that are kept for the next head: one for each node that joins or is lost.
MAX_MAIL = 100_000
#: Of these only what was said last has to be said again.
LAST_COUNTS = ("watch", "vacate", "growth")


class HeadRestart:
    """The parts of a head that outlive it."""

    def __init__(self, spec: NodeSpec) -> None:
        self.listener = socket.create_server((spec.interface_addr, 0), backlog=BACKLOG)
        self.spec = msgspec.structs.replace(spec, head_fd=self.listener.fileno())
        self.mail: list[dict[str, Any]] = []
        self.no_restart = ""
        self._failures: deque[float] = deque(maxlen=MAX_RESTARTS)
        self._kills: deque[float] = deque(maxlen=MAX_KILLS)

    def on_bound(self, message: dict[str, Any]) -> None:
        """The head listens. Its secret key is taken out of the message, which others will see."""
        secret = message.pop("sk", None)
        if secret is not None:
            self.spec.head_keys = (str(message["pk"]), str(secret))

    def on_mail(self, message: dict[str, Any]) -> None:
        """The launcher says something to the head. Of what it says about time the last word counts, and when that was
        said: all of this machine read the same clock."""
        if message["op"] == "happened":
            return  # the head has written it down; one that comes later is not told again
        if message["op"] == "time":
            message["at"] = time.monotonic()
            same = [m for m in self.mail if m["op"] == "time" and m.get("nodes") == message.get("nodes")]
            if same and "drain" in same[0]:
                message.setdefault("drain", same[0]["drain"])  # what drains does so to its end, and for whom it does
                message.setdefault("taken", same[0].get("taken", False))
            self.mail = [m for m in self.mail if m["op"] != "time" or m.get("nodes") != message.get("nodes")]
        elif message["op"] in LAST_COUNTS:
            self.mail = [m for m in self.mail if m["op"] != message["op"]]
        if len(self.mail) >= MAX_MAIL:
            self.no_restart = self.no_restart or f"more than {MAX_MAIL} messages would have to be said again"
        else:
            self.mail.append(message)

    def why_not(self, code: int, killed: bool) -> str:
        """Why the head that ended is not to be started again; empty if it is. It counts as started then. ``killed``: by
        somebody else, with SIGKILL."""
        if self.no_restart:
            return self.no_restart
        if self.spec.head_keys is None or code == 0:
            return "it ended by itself" if code == 0 else "it never listened"
        now = time.monotonic()
        before, most = (self._kills, MAX_KILLS) if killed else (self._failures, MAX_RESTARTS)
        if len(before) == most and now - before[0] < RESTART_WINDOW_S:
            what = "was killed" if killed else "failed"
            return f"it {what} more than {most} times within {RESTART_WINDOW_S:g} s"
        before.append(now)
        return ""

    def close(self) -> None:
        """Let go of the port."""
        self.listener.close()
