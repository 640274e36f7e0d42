"""A group of the backend "shm": how its ranks find each other's memory and addresses, and how it ends."""

from __future__ import annotations

import contextlib
import os
import secrets
import socket
import weakref
from pathlib import Path
from typing import Any

import msgspec

from hpc.collective.errors import CollectiveError
from hpc.collective.meeting import Meeting
from hpc.collective.shm.local import LocalRanks, buffer_bytes
from hpc.collective.shm.pairs import PAIR_BYTES, Pairs
from hpc.collective.shm.ranks import Ranks
from hpc.collective.shm.segment import Segment, Shape
from hpc.collective.shm.steps import SPINS, Steps
from hpc.collective.shm.watch import Peer, Watch
from hpc.collective.shm.wires import Wires, listen

#: Ranks with different values here do not share memory, as if they were on different machines.
NODE_VARIABLE = "HPC_COLLECTIVE_NODE"


class _Hello(msgspec.Struct, array_like=True):
    """What a rank tells the others."""

    machine: str
    pid: int
    host: str
    address: str
    port: int
    key: bytes


class _Memory(msgspec.Struct, array_like=True):
    """The descriptor of a node's memory in its first rank's process; or why there is none."""

    fd: int = -1
    why: str = ""


def machine() -> str:
    """What processes that can share memory have in common: the machine, and its space of process numbers."""
    boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    return f"{boot} {os.stat('/proc/self/ns/pid').st_ino} {os.environ.get(NODE_VARIABLE, '')}"


class ShmGroup:
    """One rank's part of a group. ``ranks`` has its operations.

    ``address`` is this node's, at which ranks of other nodes reach it. ``timeout_s`` is the longest wait for a rank."""

    def __init__(self, meeting: Meeting, rank: int, size: int, address: str, timeout_s: float) -> None:
        self.rank, self.size, self.timeout_s = rank, size, timeout_s
        self._closers: list[Any] = []
        self.reason: str | None = None
        _here.add(self)
        try:
            self.ranks = self._join(meeting, address)
        except BaseException:
            self.close("")
            raise

    def _join(self, meeting: Meeting, address: str) -> Ranks:
        listener = listen(address)
        self._closers.append(listener.close)
        key = secrets.token_bytes(32) if self.rank == 0 else b""
        hello = _Hello(machine(), os.getpid(), socket.gethostname(), address, listener.getsockname()[1], key)
        hellos = [msgspec.msgpack.decode(h, type=_Hello) for h in meeting.exchange(msgspec.msgpack.encode(hello))]
        names = [f"rank {r} ({h.host})" for r, h in enumerate(hellos)]
        nodes: dict[str, list[int]] = {}
        for r, h in enumerate(hellos):
            nodes.setdefault(h.machine, []).append(r)
        node = nodes[hello.machine]
        segment = self._memory(meeting, node, hellos)
        peers = []
        for index, r in enumerate(node):
            if r != self.rank:
                peers.append(Peer(index, hellos[r].pid, names[r]))
                self._closers.append(peers[-1].close)
        self.watch = Watch(segment, names[self.rank], peers, self.timeout_s)
        steps = Steps(segment, self.watch, SPINS if len(node) <= len(os.sched_getaffinity(0)) else 0)
        wires = None
        if len(nodes) > 1:
            addresses = [(h.address, h.port) for h in hellos]
            check, end = self.watch.check, segment.end
            wires = Wires(self.rank, listener, hellos[0].key, addresses, names, self.timeout_s, check, end)
            self._wires: Wires | None = wires
        else:
            self._wires = None
            listener.close()
        self._segment = segment
        # Nobody acts before all can, and the first rank keeps its descriptor until then.
        failures = [f for f in meeting.exchange(b"") if f]
        if failures:
            raise CollectiveError(failures[0].decode())
        return Ranks(self.rank, list(nodes.values()), LocalRanks(segment, steps), Pairs(segment, self.watch), wires)

    def _memory(self, meeting: Meeting, node: list[int], hellos: list[_Hello]) -> Segment:
        shape = Shape(len(node), buffer_bytes(len(node)), PAIR_BYTES)
        first = node[0]
        mine, told = None, _Memory()
        if self.rank == first:
            mine, fd = Segment.create(shape)
            self._closers.append(lambda: os.close(fd))
            told = _Memory(fd)
        memories = [msgspec.msgpack.decode(m, type=_Memory) for m in meeting.exchange(msgspec.msgpack.encode(told))]
        why = b""
        if mine is None:
            try:
                mine = Segment.open(hellos[first].pid, memories[first].fd, node.index(self.rank), shape)
            except OSError as error:
                why = (
                    f"rank {self.rank} cannot open the memory of rank {first} on {hellos[first].host}: {error}".encode()
                )
        failures = [f for f in meeting.exchange(why) if f]
        if failures or mine is None:
            raise CollectiveError(failures[0].decode())
        return mine

    def ended(self) -> str | None:
        """Why the group cannot be used any more; None as long as it can."""
        return self.reason or self._segment.ended()

    def broken(self, error: BaseException, operation: str) -> None:
        """An operation has raised: the group cannot be used any more, and the others are told why."""
        if isinstance(error, CollectiveError):
            reason = str(error)
        else:
            reason = f"{self.watch.names[self._segment.rank]} was interrupted in {operation}: {type(error).__name__}"
        self.reason = self._segment.end(reason)
        if self._wires is not None:
            self._wires.close(self.reason)

    def close(self, reason: str | None = None) -> None:
        """Leave the group."""
        if self.reason is None:
            self.reason = reason or "this process has left the group"
            segment = getattr(self, "_segment", None)
            if segment is not None:
                segment.leave()
            wires = getattr(self, "_wires", None)
            if wires is not None:
                wires.close()
        self._give_back()

    def _give_back(self) -> None:
        closers, self._closers = self._closers, []
        for close in closers:
            with contextlib.suppress(OSError):
                close()

    def abandon(self) -> None:
        """In a forked child, which is no rank: give back its copies of what the group has. Nobody notices."""
        self.reason = "this process was forked by a rank, and is none itself"
        wires = getattr(self, "_wires", None)
        if wires is not None:
            wires.abandon()
        self._give_back()


_here: weakref.WeakSet[ShmGroup] = weakref.WeakSet()


def _in_child() -> None:
    for group in list(_here):
        group.abandon()


os.register_at_fork(after_in_child=_in_child)
