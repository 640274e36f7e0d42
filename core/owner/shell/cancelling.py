"""Cancelling from any process: the owner of an object knows what makes it, and where that is."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hpc.core.exceptions import GetTimeoutError
from hpc.core.ids import owner_of
from hpc.core.wire import CancelObject

if TYPE_CHECKING:
    from hpc.core.owner.ports import Line
    from hpc.core.owner.shell.conversation import Conversation

#: How long an owner may take to say whether it can cancel by force.
ANSWER_S = 10.0


def cancel(client: Line, conversation: Conversation, ident: bytes, force: bool, recursive: bool) -> None:
    """Cancel the task or call that makes this object. Raises ValueError for ``force`` with a call."""
    machine, owner = client.machine, owner_of(ident)
    if force and owner != client.addr:
        _ask(client, conversation, ident, recursive)
        return

    def withdraw() -> None:
        client.check_lost()
        if owner == client.addr:
            machine.cancel(ident, force, recursive)
        elif owner not in machine.state.gone:
            machine.send(owner, CancelObject(0, ident, force, recursive))

    client.step(withdraw)


def _ask(client: Line, conversation: Conversation, ident: bytes, recursive: bool) -> None:
    """Whether it is a task, which force may end, its owner knows."""
    owner = owner_of(ident)
    if owner in client.machine.state.gone:
        return
    try:
        answer = conversation.ask(lambda req: (owner, CancelObject(req, ident, True, recursive)), ANSWER_S)
    except GetTimeoutError:
        if owner in client.machine.state.gone:
            return  # and what it had begun has ended with it
        raise
    if not answer.ok:
        raise ValueError(answer.why)
