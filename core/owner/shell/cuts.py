"""What becomes of a message that cannot be sent, and of a connection on which nothing can be understood any more.

Neither happens between processes that keep to the wire's limits. Where it does, whoever waits gets an error that says
why, and nobody waits for ever.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from hpc.core.ids import Address
from hpc.core.net.frames import say_instead, why_too_large
from hpc.core.net.stream import Stream
from hpc.core.wire import Answer, Call, CreateActor, Message, Task

if TYPE_CHECKING:
    from hpc.core.owner.ports import Line, Shell
    from hpc.core.owner.shell.conversation import Conversation


def send_instead(client: Line, conversation: Conversation, msg: Message, size: int) -> Message | None:
    """A single message is larger than any may be: whoever waits for what comes of it has an answer here (the client's
    lock is held). Returns what to send in its place."""
    why = why_too_large(msg, size)
    if isinstance(msg, (Task, Call, CreateActor)):
        return client.machine.refuse(msg, why)
    req = getattr(msg, "req", 0)
    if client.machine.state.asked.get(req) is msg:
        conversation.answered(req, Answer(req, False, why=why))
        return None
    client.warn(why)
    return say_instead(msg, size)


def cut(client: Shell, stream: Stream, why: str) -> None:
    """Close a connection. What was said on it is lost, so its other end counts as gone."""
    stream.eof = True
    if stream is client.sockets.raylet:
        client.lost = client.lost or f"the connection to the raylet of this node was cut: {why}"
    elif isinstance(stream.peer, Address):
        client.warn(f"the connection to process {stream.peer} was cut: {why}")
        with client.lock:
            client.machine.cut_off(stream.peer, why)
            client.send_left(everything=True)
    client.closed(stream)
