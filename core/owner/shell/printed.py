"""What workers print, on its way to this driver: shown, acknowledged, and waited for before the driver leaves.

A raylet sends a driver only so many bytes that were not acknowledged yet; the rest stays in the files of the workers.
So a worker that prints much costs no memory anywhere, and what is printed last comes last, not never.

A thread of its own shows them. A stream that is written in Python (a notebook's) may wait for another thread, which may
wait for a value. What reads the sockets must not wait for such a stream.
"""

from __future__ import annotations

import contextlib
import queue
import threading
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
        self._terminal: Shows | None = None
        #: What has come and was not shown yet. None: no more will come.
        self._left: queue.SimpleQueue[LogLines | None] = queue.SimpleQueue()
        self._taken = self._shown = 0
        self._change = threading.Condition()
        self._thread: threading.Thread | None = None
        self._unheard: set[int] = set()
        client.machine.handlers[LogLines] = self._take

    def show_on(self, terminal: Shows) -> None:
        """Have all that comes shown there."""
        self._terminal = terminal
        self._thread = threading.Thread(target=self._show, args=(terminal,), name="hpc-printed", daemon=True)
        self._thread.start()

    def _take(self, _src: Address, msg: LogLines) -> None:
        self._taken += 1
        if self._terminal is None:
            self._seen(msg)
        else:
            self._left.put(msg)

    def _seen(self, msg: LogLines) -> None:
        self._client.machine.send(raylet_of(msg.node), LogsSeen(msg.size))

    def _show(self, terminal: Shows) -> None:
        """The thread that shows what has come."""
        client = self._client
        while (msg := self._left.get()) is not None:
            try:
                terminal.show(msg)
            except Exception as error:
                with contextlib.suppress(Exception):  # the other stream may be as broken
                    client.warn(f"lines of a worker cannot be shown: {error!r}")
            seen = msg
            if not client.lost:
                client.step(lambda seen=seen: self._seen(seen), everything=True)  # type: ignore[misc]
            with self._change:
                self._shown += 1
                self._change.notify_all()

    def _drain(self) -> None:
        """Wait until all that has come is shown. Gives up where the stream takes nothing for ``SILENT_S``."""
        if self._thread is None or self._thread is threading.current_thread():
            return
        with self._change:
            taken, shown = self._taken, -1
            while shown < self._shown < taken:
                shown = self._shown
                self._change.wait(SILENT_S)

    def flush(self) -> None:
        """Wait for what the workers have printed for this driver until now. They are on the nodes that it used, on
        those that the workers there used, and so on. Gives up where nothing has come for ``SILENT_S``: then `finish`
        names the nodes."""
        client = self._client
        asked: set[int] = set()
        nodes = set(client.machine.state.nodes_used) if self._terminal is not None else set()
        while nodes and not client.lost:
            asked |= nodes
            nodes = self._flush(nodes) - asked
        self._drain()

    def finish(self) -> None:
        """Show what was held back: this driver leaves."""
        if self._terminal is not None:
            self._drain()
            self._left.put(None)
            self._terminal.finish(sorted(self._unheard))

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
