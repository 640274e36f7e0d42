"""A listener that has no descriptor for a connection waits until it has one.

Without a free descriptor accept() fails. The connection stays in the kernel's queue, so the listener is readable still:
a loop that asks again at once does nothing else. Instead the listener is left alone for a moment, as often as it takes.
Nothing is lost meanwhile: whoever connects is connected, and what it sends is read once it was accepted.
"""

from __future__ import annotations

import errno
import resource
import socket
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from hpc.core.net.reactor import Reactor

#: What accept() says where the connection cannot be taken now, and can be later.
SCARCE = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})
#: A listener is left alone for so long.
RETRY_S = 0.1
#: One shortage is said once: what comes within this time of the last failure belongs to it.
SAY_S = 60.0


def why_waiting(error: OSError) -> str:
    """For people: what is in the way of a connection, and what to do."""
    if error.errno == errno.EMFILE:
        limit = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
        return (
            f"this process has no open files left for a connection: the limit is {limit} (ulimit -n); close files that "
            "are not needed, or raise it. Connections wait until there are some"
        )
    if error.errno == errno.ENFILE:
        return "this machine has no open files left for a connection (fs.file-max). Connections wait for some"
    return f"this machine has no memory for a connection ({error.strerror}). Connections wait until there is some"


class Acceptor:
    """Takes connections of one listening socket, which does not block. ``listen(on)`` begins and ends the watching of
    it; ``say`` gets one line for people when connections have to wait."""

    __slots__ = ("_failed_at", "_listen", "_say", "again_at", "listener")

    def __init__(self, listener: socket.socket, listen: Callable[[bool], object], say: Callable[[str], object]) -> None:
        self.listener = listener
        self._listen = listen
        self._say = say
        self._failed_at = -SAY_S
        #: When `resume` is to be called; 0 while the listener is watched.
        self.again_at = 0.0

    def take(self) -> socket.socket | None:
        """The next connection; None if there is none, or no descriptor for it."""
        try:
            return self.listener.accept()[0]
        except OSError as error:
            if error.errno in SCARCE and not self.again_at:
                now = time.monotonic()
                self.again_at = now + RETRY_S
                self._listen(False)
                if now - self._failed_at >= SAY_S:
                    self._say(why_waiting(error))
                self._failed_at = now
            return None

    def resume(self) -> None:
        """Watch the listener again, if it was left alone."""
        if self.again_at:
            self.again_at = 0.0
            self._listen(True)

    def close(self) -> None:
        """Close the listener, which is watched no more."""
        self.again_at = 0.0
        self.listener.close()


def accept_on(
    reactor: Reactor, listener: socket.socket, came: Callable[[], object], say: Callable[[str], object]
) -> Acceptor:
    """Watch a listener on a reactor: ``came()`` is called to `take` a connection."""
    fd = listener.fileno()

    def listen(on: bool) -> None:
        reactor.set_reader(fd, came if on else None)
        if not on:
            reactor.call_later(RETRY_S, acceptor.resume)

    acceptor = Acceptor(listener, listen, say)
    listen(True)
    return acceptor
