"""What a process of this node said before it died, read ahead of the news of its death.

The news comes by the raylet, what the process said by a connection of its own: the one may overtake the other.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from hpc.core.wire import LeaseLost, Message, ProcessGone, decode_body

if TYPE_CHECKING:
    from hpc.core.owner.machine import OwnerMachine
    from hpc.core.owner.shell.sockets import Sockets


def take_last_words(sockets: Sockets, machine: OwnerMachine, news: Sequence[Message]) -> None:
    """Have the machine take what those have said whose deaths are among the news (the client's lock is held)."""
    for msg in news:
        if isinstance(msg, (LeaseLost, ProcessGone)):
            process = msg.worker if isinstance(msg, LeaseLost) else msg.addr
            for frames in sockets.last_words(process):
                for _, src, body in frames:
                    if src == process:  # it speaks for itself alone
                        machine.handle(src, decode_body(body))
