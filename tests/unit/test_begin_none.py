"""Threads that begin no session: what needs one raises an error there."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest

import hpc
from hpc import spi


def test_a_thread_that_begins_no_session_says_that_there_is_none():
    def late() -> None:
        spi.begin_none()
        spi.kv_delete("space", "key")

    with ThreadPoolExecutor(1) as threads, pytest.raises(RuntimeError, match=r"call hpc.init\(\) first"):
        threads.submit(late).result()
    assert not hpc.is_initialized()
