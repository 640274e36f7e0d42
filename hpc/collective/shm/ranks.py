"""Collectives of all ranks: in the memory of each node, and over the network between nodes.

A large reduction has three parts. The ranks of a node reduce one slice each. The ranks with the same slice, one of each
node, reduce it over the network, all slices at the same time. Then the ranks of each node take the slices. So a byte
crosses the network as often as with one rank for each node, and every rank's connection is used.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from hpc.collective.ops import Combine, Reduction, what
from hpc.collective.shm.between import reduce_between
from hpc.collective.shm.callers import MESSAGE
from hpc.collective.shm.local import SMALL_BYTES, LocalRanks
from hpc.collective.shm.pairs import Pairs
from hpc.collective.shm.wires import Transfer, Wires

Flat = np.ndarray
#: The part of an array that is reduced on the node, between nodes, and spread, before the next one.
PART_BYTES = 8 << 20
#: The parts in which an array is passed on from node to node.
PASS_BYTES = 1 << 20


def as_bytes(flat: Flat) -> Flat:
    return flat.view(np.uint8)


class Ranks:
    """The collectives of one rank of a group. ``nodes``: the ranks of each node, in order; ``wires`` connects ranks of
    different nodes (None where there is one node). All ranks must call the same operations in the same order."""

    def __init__(self, rank: int, nodes: Sequence[Sequence[int]], local: LocalRanks, pairs: Pairs, wires: Wires | None):
        self.rank, self.nodes = rank, [tuple(node) for node in nodes]
        self.size = sum(len(node) for node in nodes)
        self._at = next(i for i, node in enumerate(self.nodes) if rank in node)
        self._node = self.nodes[self._at]
        self._index = self._node.index(rank)
        self._place = {r: (i, node.index(r)) for i, node in enumerate(self.nodes) for r in node}
        self._leaders = [node[0] for node in self.nodes]
        #: The ranks of each node that reduce slices between nodes.
        self._owners = min(len(node) for node in self.nodes)
        self._local, self._pairs = local, pairs
        self._net = wires
        self._alone = len(self.nodes) == 1

    @property
    def _wires(self) -> Wires:
        assert self._net is not None, "ranks of one node need no wires"
        return self._net

    def barrier(self) -> None:
        """Until all ranks are here."""
        word = what("barrier", 0)
        self._local.begin(word)
        self._local.barrier()
        if self._alone:
            return
        if self._index == 0:
            self._barrier_between(word)
        self._local.barrier()

    def _barrier_between(self, word: int) -> None:
        nothing, nodes, away = np.empty(0, np.uint8), len(self.nodes), 1
        while away < nodes:
            after, before = self._leaders[(self._at + away) % nodes], self._leaders[(self._at - away) % nodes]
            self._wires.exchange(word, [Transfer(after, nothing)], [Transfer(before, nothing)])
            away *= 2

    # -------------------------------------------------------------- with arithmetic

    def allreduce(self, flat: Flat, how: Reduction) -> None:
        """Combine the arrays of all ranks, in place on each."""
        word = what("allreduce", flat.nbytes, how.dtype, how.op)
        self._reduce(flat, how.combine, word, None)
        how.finish(flat, self.size)

    def reduce(self, flat: Flat, how: Reduction, root: int) -> None:
        """Combine the arrays of all ranks, in place on the root. The arrays of the others stay as they are."""
        word = what("reduce", flat.nbytes, how.dtype, how.op, root)
        if self.rank != root and (not self._alone or flat.nbytes <= SMALL_BYTES):
            flat = flat.copy()
        self._reduce(flat, how.combine, word, root)
        if self.rank == root:
            how.finish(flat, self.size)

    def _reduce(self, flat: Flat, combine: Combine, word: int, root: int | None) -> None:
        local = self._local
        local.begin(word)
        if flat.nbytes <= SMALL_BYTES:
            local.reduce_small(flat, combine)
            if not self._alone:
                if self._index == 0:
                    reduce_between(flat, combine, self._leaders, self._at, self._wires, word)
                local.broadcast(as_bytes(flat), 0)
        elif self._alone:
            local.reduce_all(flat, combine, root)
        else:
            step = PART_BYTES // flat.itemsize
            for at in range(0, flat.size, step):
                self._reduce_part(flat[at : at + step], combine, word)

    def _reduce_part(self, part: Flat, combine: Combine, word: int) -> None:
        width = -(-part.size // self._owners)
        slices = [part[i * width : (i + 1) * width] if i < self._owners else part[:0] for i in range(len(self._node))]
        mine = slices[self._index]
        self._local.reduce_scatter(mine, slices, combine)
        if self._index < self._owners:
            same = [node[self._index] for node in self.nodes]
            reduce_between(mine, combine, same, self._at, self._wires, word)
        self._local.all_gather([as_bytes(s) for s in slices], as_bytes(mine))

    def reducescatter(self, out: Flat, inputs: Sequence[Flat], how: Reduction) -> None:
        """``out`` becomes the combination of what all ranks have for this one. ``inputs``: one array for each rank."""
        word = what("reducescatter", out.nbytes, how.dtype, how.op)
        self._local.begin(word)
        if self._alone:
            self._local.reduce_scatter(out, inputs, how.combine)
        else:
            self._scatter_between(out, inputs, how.combine, word)
        how.finish(out, self.size)

    def _scatter_between(self, out: Flat, inputs: Sequence[Flat], combine: Combine, word: int) -> None:
        """What is for another node is reduced on this one first, by the rank with the number of its receiver."""
        own = np.empty_like(out)
        sends: list[Transfer] = []
        here = len(self._node)
        for at, node in enumerate(self.nodes):
            for first in range(0, len(node), here):
                pieces = [inputs[r] for r in node[first : first + here]]
                pieces += [out[:0]] * (here - len(pieces))
                mine = own if at == self._at else np.empty_like(pieces[self._index])
                self._local.reduce_scatter(mine, pieces, combine)
                if at != self._at and first + self._index < len(node):
                    sends.append(Transfer(node[first + self._index], as_bytes(mine)))
        parts = [own if at == self._at else np.empty_like(out) for at in range(len(self.nodes))]
        receives = [
            Transfer(node[self._index % len(node)], as_bytes(parts[at]))
            for at, node in enumerate(self.nodes)
            if at != self._at
        ]
        self._wires.exchange(word, sends, receives)
        combine(parts[0], parts[1], out)
        for part in parts[2:]:
            combine(out, part, out)

    # -------------------------------------------------------------- without: arrays of bytes

    def broadcast(self, data: Flat, root: int, dtype: str) -> None:
        """All ranks get the root's bytes."""
        word = what("broadcast", data.nbytes, dtype, root=root)
        self._local.begin(word)
        at, index = self._place[root]
        if self._alone:
            self._local.broadcast(data, index)
            return
        # The nodes in the order of a tree whose first is the root's. One rank of each passes on what comes.
        heads = [root if i == at else node[0] for i, node in enumerate(self.nodes)]
        order = heads[at:] + heads[:at]
        source = index if self._at == at else 0
        for low in range(0, max(1, data.size), PASS_BYTES):
            part = data[low : low + PASS_BYTES]
            if self.rank in order:
                self._pass_on(part, order, word)
            self._local.broadcast(part, source)

    def _pass_on(self, part: Flat, order: Sequence[int], word: int) -> None:
        """A binomial tree: the rank at place i gets it from the place without i's highest bit."""
        place = order.index(self.rank)
        if place:
            parent = order[place - (1 << place.bit_length() - 1)]
            self._wires.exchange(word, [], [Transfer(parent, part)])
        bit = 1 << place.bit_length()
        children = []
        while place + bit < len(order):
            children.append(order[place + bit])
            bit *= 2
        self._wires.exchange(word, [Transfer(child, part) for child in children], [])

    def allgather(self, outputs: Sequence[Flat], data: Flat, dtype: str) -> None:
        """Output r gets the bytes of rank r. All have as many."""
        word = what("allgather", data.nbytes, dtype)
        self._local.begin(word)
        if not self._alone:
            sends = [
                Transfer(node[self._index % len(node)], data) for at, node in enumerate(self.nodes) if at != self._at
            ]
            receives = [
                Transfer(r, outputs[r])
                for at, node in enumerate(self.nodes)
                if at != self._at
                for i, r in enumerate(node)
                if i % len(self._node) == self._index
            ]
            self._wires.exchange(word, sends, receives)
        self._local.all_gather([outputs[r] for r in self._node], data)
        for at, node in enumerate(self.nodes):
            for i, r in enumerate(node):
                if at != self._at:
                    self._local.broadcast(outputs[r], i % len(self._node))

    def gather(self, outputs: Sequence[Flat] | None, data: Flat, root: int, dtype: str) -> None:
        """On the root, output r gets the bytes of rank r. ``outputs`` is None on the others."""
        word = what("gather", data.nbytes, dtype, root=root)
        self._local.begin(word)
        at, index = self._place[root]
        if at != self._at:
            self._wires.exchange(word, [Transfer(root, data)], [])
            return
        self._local.gather(None if outputs is None else [outputs[r] for r in self._node], data, index)
        if outputs is not None and not self._alone:
            self._wires.exchange(word, [], [Transfer(r, outputs[r]) for r in range(self.size) if r not in self._node])

    def scatter(self, out: Flat, inputs: Sequence[Flat] | None, root: int, dtype: str) -> None:
        """Each rank gets the bytes that the root has for it. ``inputs`` is None on the others."""
        word = what("scatter", out.nbytes, dtype, root=root)
        self._local.begin(word)
        at, index = self._place[root]
        if at != self._at:
            self._wires.exchange(word, [], [Transfer(root, out)])
            return
        if inputs is not None and not self._alone:
            self._wires.exchange(word, [Transfer(r, inputs[r]) for r in range(self.size) if r not in self._node], [])
        self._local.scatter(out, None if inputs is None else [inputs[r] for r in self._node], index)

    def alltoall(self, outputs: Sequence[Flat], inputs: Sequence[Flat], dtype: str) -> None:
        """Output r gets the bytes that rank r has for this one. All have as many for each."""
        word = what("alltoall", inputs[self.rank].nbytes, dtype)
        self._local.begin(word)
        if not self._alone:
            far = [r for r in range(self.size) if r not in self._node]
            self._wires.exchange(word, [Transfer(r, inputs[r]) for r in far], [Transfer(r, outputs[r]) for r in far])
        self._local.all_to_all([outputs[r] for r in self._node], [inputs[r] for r in self._node])

    def send(self, data: Flat, destination: int, dtype: str, tag: int = 0) -> None:
        """Send bytes to a rank that calls `receive` for as many, with this tag."""
        word = what("send", data.nbytes, dtype, root=tag)
        at, index = self._place[destination]
        if at == self._at:
            self._pairs.send(data, index, word)
        else:
            self._wires.exchange(word, [Transfer(destination, data)], [], MESSAGE)

    def receive(self, data: Flat, source: int, dtype: str, tag: int = 0) -> None:
        """Receive what a rank sends to this one."""
        word = what("send", data.nbytes, dtype, root=tag)
        at, index = self._place[source]
        if at == self._at:
            self._pairs.receive(data, index, word)
        else:
            self._wires.exchange(word, [], [Transfer(source, data)], MESSAGE)
