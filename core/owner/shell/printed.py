"""What workers print, on its way to this driver: shown, acknowledged, and waited for before the driver leaves.

A raylet sends a driver only so many bytes that were not acknowledged yet; the rest stays in the files of the workers.
So a worker that prints much costs no memory anywhere, and what is printed last comes last, not never.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol

import msgspec

from hpc.core.ids import Address, raylet_of
from hpc.core.owner.tables import Waiter
from hpc.core.wire import Answer, FlushLogs, LogLines, LogsSeen

if TYPE_CHECKING:
    from hpc.core.owner.ports import Line
    from hpc.core.owner.shell.conversation import Conversation

#: A driver that leaves waits for output as long as some comes at least this often.
SILENT_S = 3.0


class Shows(Protocol):
    """Where lines are shown to people."""

    def show(self, msg: LogLines) -> None:
        """Lines that a worker wrote have come."""

    def finish(self, unheard: Sequence[int]) -> None:
        """No more will come. ``unheard``: nodes that did not say that they have sent all."""


class Printed:
    """A process's end of what workers print for it."""

    def __init__(self, client: Line, conversation: Conversation) -> None:
        self._client = client
        self._conversation = conversation
        #: None where nobody wants to see any.
        self.terminal: Shows | None = None
        self._taken = 0
        self._unheard: set[int] = set()
        client.machine.handlers[LogLines] = self._take

    def _take(self, _src: Address, msg: LogLines) -> None:
        self._taken += 1
        if self.terminal is not None:
            self.terminal.show(msg)
        self._client.machine.send(raylet_of(msg.node), LogsSeen(msg.size))

    def flush(self) -> None:
        """Wait for what the workers have printed for this driver until now. They are on the nodes that it used, on
        those that the workers there used, and so on. Gives up where nothing has come for ``SILENT_S``: then `finish`
        names the nodes."""
        client = self._client
        asked: set[int] = set()
        nodes = set(client.machine.state.nodes_used) if self.terminal is not None else set()
        while nodes and not client.lost:
            asked |= nodes
            nodes = self._flush(nodes) - asked

    def finish(self) -> None:
        """Show what was held back: this driver leaves."""
        if self.terminal is not None:
            self.terminal.finish(sorted(self._unheard))

    def _flush(self, nodes: set[int]) -> set[int]:
        """The same for some nodes; returns those that their workers used."""
        client = self._client
        waiter = Waiter(0)
        with client.lock:
            raylets = [raylet_of(node) for node in nodes - set(client.machine.state.gone_nodes)]
            questions = self._conversation.ask_each(raylets, FlushLogs, waiter)
        taken, until = self._taken, time.monotonic() + SILENT_S
        while waiter.needed > 0 and time.monotonic() < until and not client.lost:
            client.wait_for(waiter, SILENT_S / 4)
            if self._taken != taken:
                taken, until = self._taken, time.monotonic() + SILENT_S
        found: set[int] = set()
        with client.lock:
            answers = self._conversation.take_answers(questions)
            self._unheard.update(raylet.node for raylet in raylets if raylet not in answers)
            for answer in answers.values():
                assert isinstance(answer, Answer)
                found.update(msgspec.msgpack.decode(answer.data, type=list[int]))
        return found
