"""The timeout of a get is for all values together."""

from __future__ import annotations

import threading
import time
import types

import pytest

from hpc.core import exceptions, serialization
from hpc.core.ids import Address, make_id
from hpc.core.owner.machine import OwnerMachine
from hpc.core.owner.shell.values import Values
from hpc.core.wire import STORED, Result

STEP_S = 0.2


class SlowMemory:
    """Another node's objects, of which each takes a while to come."""

    def __init__(self):
        self.pins = {}
        self.arena = types.SimpleNamespace(size_bytes=1 << 30)
        self.read = 0

    def bring(self, wanted):
        pass

    def view(self, ident, result, until):
        if until is not None and until - time.monotonic() < STEP_S:
            time.sleep(max(0.0, until - time.monotonic()))
            raise exceptions.GetTimeoutError("not in time")
        time.sleep(STEP_S)
        self.read += 1
        return memoryview(serialization.dumps(self.read).to_bytes())


class Reader:
    """Values of a process that has nobody to speak to."""

    def __init__(self):
        self.machine = OwnerMachine(Address(1, 1))
        self.arena_use = SlowMemory()
        self.values = Values(types.SimpleNamespace(machine=self.machine, lock=threading.Lock()), self.arena_use)

    def refs(self, count):
        idents = [make_id(Address(1, 1), number) for number in range(1, count + 1)]
        for ident in idents:
            self.machine.objects.own(ident).result = Result(STORED, b"", 1 << 20, (2,))
        return [types.SimpleNamespace(_id=ident) for ident in idents]


def test_values_that_come_one_after_the_other_have_to_be_here_in_the_same_time():
    reader = Reader()
    with pytest.raises(exceptions.GetTimeoutError):
        reader.values.get(reader.refs(10), 3.5 * STEP_S)
    assert 1 <= reader.arena_use.read <= 3


def test_without_a_timeout_all_are_waited_for():
    reader = Reader()
    assert reader.values.get(reader.refs(4), None) == [1, 2, 3, 4]
