"""The door for Prometheus: readers are answered one after the other, and connections that say nothing take no room."""

from __future__ import annotations

import socket
import threading
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from hpc.metrics import serve
from hpc.metrics.serve import Door
from hpc.metrics.totals import Totals
from hpc.state.metrics import Latest, MetricRow


@contextmanager
def opened(door: Door) -> Iterator[Door]:
    thread = threading.Thread(target=door.run)
    thread.start()
    try:
        yield door
    finally:
        door.close()
        thread.join(5.0)


def read(door: Door) -> str:
    headers = {"Authorization": f"Bearer {door.token}"}
    with urllib.request.urlopen(urllib.request.Request(f"http://{door.address}/metrics", headers=headers)) as answer:
        return str(answer.read().decode())


def test_two_readers_at_once_leave_counters_as_they_are():
    totals, numbers, late = Totals(), iter([5.0, 6.0, 7.0]), threading.Event()

    def ask() -> Latest:
        number = next(numbers)
        if number == 5.0:
            late.set()
            time.sleep(0.2)  # its answer would come behind that of the next reader
        return totals.grown(Latest(0.0, 0.0, 1, [], 0, [MetricRow("a_total", "counter", {}, number)]))

    with opened(Door(ask)) as door:
        first = threading.Thread(target=read, args=[door])
        first.start()
        assert late.wait(5.0)
        assert "a_total 6" in read(door)
        first.join(5.0)
        assert "a_total 7" in read(door)


def test_connections_that_say_nothing_are_closed_and_too_many_are_not_let_in(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(serve, "MOST_CONNECTIONS", 2)
    monkeypatch.setattr(serve, "SILENT_S", 0.5)
    with opened(Door(lambda: Latest(0.0, 0.0, 1, [], 0, []))) as door:
        silent = [socket.create_connection(("127.0.0.1", door.server.server_port), 5.0) for _ in range(2)]
        with pytest.raises(OSError):
            read(door)
        assert [one.recv(1) for one in silent] == [b"", b""], "their time is over"
        for one in silent:
            one.close()
        for _ in range(50):
            try:
                read(door)
                break
            except OSError:
                time.sleep(0.05)
        else:
            pytest.fail("there is room again")
