"""Tests of pure code begin no session."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

import hpc
from hpc.core.process.current import current


@pytest.fixture(autouse=True)
def no_session() -> Iterator[None]:
    """Fails a test that leaves this process connected: the next ones would run in its session."""
    yield
    if current.client is not None:
        hpc.shutdown()
        current.client = None
        pytest.fail("the test has begun a session, or left a client that stands in for one")
