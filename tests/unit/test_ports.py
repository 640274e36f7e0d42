"""The head's attempts to reach the ports of silent nodes, on real sockets."""

from __future__ import annotations

import os
import socket

from hpc.core.head import ports
from hpc.core.head.ports import Ports
from hpc.core.net.reactor import Reactor


def outcome(endpoint, monkeypatch, answer_s=5.0):
    """What a reactor's loop is told of an endpoint; None: nothing."""
    monkeypatch.setattr(ports, "ANSWER_S", answer_s)
    reactor, told = Reactor(), []
    asking = Ports(reactor, lambda node, refused: (told.append((node, refused)), reactor.stop()))
    before = len(os.listdir("/proc/self/fd"))
    asking.attempt(7, endpoint)
    reactor.call_later(2.0 if answer_s > 1 else 2 * answer_s, reactor.stop)
    if not told:
        reactor.run()
    assert len(os.listdir("/proc/self/fd")) == before
    asking.close()
    reactor.close()
    return told[0] if told else None


def test_a_port_that_listens_and_one_that_does_not(monkeypatch):
    with socket.create_server(("127.0.0.1", 0)) as server:
        endpoint = f"tcp://127.0.0.1:{server.getsockname()[1]}"
        assert outcome(endpoint, monkeypatch) == (7, False)
    assert outcome(endpoint, monkeypatch) == (7, True)


def test_a_port_that_says_nothing_is_given_up(monkeypatch):
    with socket.socket() as full:
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        endpoint = f"tcp://127.0.0.1:{full.getsockname()[1]}"
        waiting = [socket.socket() for _ in range(3)]
        for one in waiting:
            one.setblocking(False)
            one.connect_ex(full.getsockname())
        assert outcome(endpoint, monkeypatch, 0.05) is None
        for one in waiting:
            one.close()


def test_an_endpoint_that_is_none_is_not_tried(monkeypatch):
    assert outcome("", monkeypatch, 0.01) is None
