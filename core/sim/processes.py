"""A simulated node and its processes: their machines, and what their shells would remember."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TypeVar

from hpc.core.ids import Address
from hpc.core.owner.machine import OwnerMachine
from hpc.core.raylet.machine import RayletMachine
from hpc.core.wire import Message

T = TypeVar("T")


class NoMemory:
    """An arena without bytes."""

    overflow_bytes = 1 << 30

    def readable(self, offset: int, size: int) -> memoryview:
        """As many zeros as were asked for."""
        return memoryview(bytes(size))

    def reserve(self, offset: int, size: int) -> str:
        """The disk has room."""
        return ""

    def discard(self, offset: int, size: int) -> None:
        """Nothing to give back."""


@dataclass
class Process:
    """A driver or worker: its machine, and what its shell would remember."""

    addr: Address
    machine: OwnerMachine
    on_message: Callable[[Address, Message], None]
    alive: bool = True
    direct: set[Address] = field(default_factory=set)
    #: What a worker's slot in the arena says that it runs.
    published: Callable[[], tuple[bytes, int]] = lambda: (b"", 0)
    #: What its shell does after a frame of messages, and from time to time while user code computes.
    on_frame: Callable[[], None] = lambda: None
    on_background: Callable[[float], None] = lambda now: None
    #: Whether its user code waits.
    waits: Callable[[], bool] = lambda: False


@dataclass
class NodeSim:
    """One node."""

    number: int
    machine: RayletMachine
    alive: bool = True
    processes: dict[int, Process] = field(default_factory=dict)


def has_left(machine: OwnerMachine) -> bool:
    """Whether its shell has something to do after a step: messages to send, waiters to wake, memory to let go of."""
    state = machine.state
    return bool(state.outbox or state.urgent or machine.woken or machine.unpinned or machine.pins.unviewed)


def taken(left: list[T]) -> list[T]:
    """What was left for the shell, which is empty then."""
    if not left:
        return left
    found = left[:]
    left.clear()
    return found
