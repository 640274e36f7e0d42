"""Nodes of a session that are two pipes: what they hear and say is the test's."""

from __future__ import annotations

import os
import socket
from typing import Any

from hpc.core.node.bootstrap import CommandDecoder, Message, encode_report
from hpc.core.node.detect import boot_id
from hpc.launchers.node_group import Channel, NodeGroup
from hpc.launchers.versions import own_versions


class PipeGroup(NodeGroup):
    """Nodes whose supervisors are this test: `heard()` has what they were told, `say` answers."""

    def __init__(self, size: int = 1) -> None:
        super().__init__(size)
        self.number = 0
        self._decoder = CommandDecoder()

    def _launch(self) -> list[Channel]:
        self.read_fd, stdin_fd = os.pipe()
        stdout_fd, self.write_fd = os.pipe()
        os.set_blocking(self.read_fd, False)
        return [Channel(stdin_fd, stdout_fd, range(self.size))]

    def heard(self) -> list[Message]:
        try:
            return self._decoder.feed(os.read(self.read_fd, 1 << 16))
        except BlockingIOError:
            return []

    def say(self, op: str, rank: int = 0, **fields: Any) -> None:
        self.number += 1
        os.write(self.write_fd, encode_report(rank, self.number, {"op": op, "rank": rank, **fields}))

    def come(self, rank: int = 0) -> None:
        """As a node does that starts without trouble."""
        modules = {name: own_versions()[name] for name in ("msgspec", "zmq")}
        self.say(
            "hello", rank, host=socket.gethostname(), boot=boot_id(), python=own_versions()["Python"], modules=modules,
            hpc=own_versions()["hpc"], pk="key", head_ep="tcp://127.0.0.1:1", head_pk="key",
        )  # fmt: skip
        self.say("ready", rank)

    def end(self) -> None:
        """Said again it changes nothing."""
        if self.write_fd >= 0:
            self.say("bye", code=0)
            self._close()

    def _close(self) -> None:
        os.close(self.write_fd)
        os.close(self.read_fd)
        self.write_fd = self.read_fd = -1

    def poll(self) -> int | None:
        return 0 if self.silent else None

    def kill(self) -> None:
        if self.write_fd >= 0:
            self._close()
