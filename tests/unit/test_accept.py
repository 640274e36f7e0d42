"""A listener without a descriptor for a connection waits, says so once, and loses nothing."""

from __future__ import annotations

import errno
import socket
import time

import pytest

from hpc.core.net.accept import RETRY_S, accept_on
from hpc.core.net.reactor import Reactor


class Scarce(socket.socket):
    """A listener whose process has no descriptors for so many tries."""

    tries = 0
    in_vain = 2
    error = errno.EMFILE

    def accept(self):
        self.tries += 1
        if self.tries <= self.in_vain:
            raise OSError(self.error, "scarce")
        return super().accept()


@pytest.mark.parametrize("error", [errno.EMFILE, errno.ENFILE, errno.ENOMEM])
def test_a_listener_waits_for_a_descriptor_and_takes_what_waited(error):
    reactor, listener, taken, said, turns = Reactor(), Scarce(), [], [], 0
    listener.error = error
    listener.bind(("127.0.0.1", 0))
    listener.listen()
    listener.setblocking(False)
    acceptor = accept_on(reactor, listener, lambda: taken.append(acceptor.take()), said.append)
    client = socket.create_connection(listener.getsockname())
    client.sendall(b"sent before it was accepted")
    began = time.monotonic()
    while not any(taken):
        reactor.run_once(5.0)
        turns += 1
    assert time.monotonic() - began >= 2 * RETRY_S * 0.9 and turns < 20
    assert listener.tries == 3 and taken[-1].recv(100) == b"sent before it was accepted"
    (line,) = said
    assert ("open files" in line) == (error != errno.ENOMEM) and "Connections wait" in line
    for sock in (client, taken[-1]):
        sock.close()
    acceptor.close()
    reactor.close()


def test_a_listener_that_is_closed_meanwhile_is_left_in_peace():
    reactor, listener = Reactor(), Scarce()
    listener.bind(("127.0.0.1", 0))
    listener.listen()
    acceptor = accept_on(reactor, listener, lambda: acceptor.take(), lambda text: None)
    client = socket.create_connection(listener.getsockname())
    while not acceptor.again_at:
        reactor.run_once(5.0)
    acceptor.close()
    client.close()
    reactor.run_once(2 * RETRY_S)
    assert not reactor.errors
    reactor.close()
