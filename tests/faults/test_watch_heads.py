"""Watches on keys when heads are killed and sessions end."""

from __future__ import annotations

import threading

import pytest

import hpc
from hpc import spi
from hpc.exceptions import SessionLostError
from runtime.running import Heads, local_nodes, one_node


def test_a_watch_outlives_the_head():
    with local_nodes(1) as session, spi.watch("s", "", prefix=True) as watch:
        heads = Heads(session)
        first = spi.kv_put("s", "a", b"1")
        assert watch.next(10) == [spi.Change("a", b"1", first)]
        found: list[list[spi.Change]] = []
        thread = threading.Thread(target=lambda: found.append(watch.next(30)))
        thread.start()
        heads.kill()
        second = spi.kv_put("s", "b", b"2")
        thread.join(30)
        assert found == [[spi.Change("b", b"2", second)]] and second > first
        spi.kv_delete("s", "a")
        heads.kill()
        assert [(change.key, change.value) for change in watch.next(10)] == [("a", None)]
        assert watch.next(0.05) == []


def test_who_watches_is_told_that_the_session_is_gone():
    with one_node():
        watch = spi.watch("s", "a")
        threading.Timer(0.2, hpc.shutdown).start()
        with pytest.raises(SessionLostError):
            watch.next(20)
        with pytest.raises(SessionLostError):
            watch.next(0)
        watch.close()


def test_who_waits_at_a_channel_is_told_that_the_session_is_gone():
    with one_node():
        mailbox = spi.listen("box")
        threading.Timer(0.2, hpc.shutdown).start()
        with pytest.raises(SessionLostError):
            mailbox.accept(20)
