"""Operators of several inputs, and those that give their input in another order."""

from __future__ import annotations

import random
from collections import deque
from typing import Any

from hpc.data.exec.operators import Operator
from hpc.data.exec.work import Block, Part, Work
from hpc.data.plan.beside import beside

#: An input that comes after the one at hand runs ahead by this much, so that there is no gap between them.
AHEAD_BYTES = 64 << 20


class UnionOperator(Operator):
    """All of its inputs, one after the other."""

    def __init__(self, name: str, ports: int) -> None:
        super().__init__(name, ports=ports)
        self._at = 0
        self.queues: list[deque[Block]] = [deque() for _ in range(ports)]
        self._bytes = [0] * ports

    def accept(self, port: int, block: Block) -> None:
        if port == self._at:
            self.pass_on(block)
        else:
            self.queues[port].append(block)
            self._bytes[port] += block.bytes

    def close_port(self, port: int) -> None:
        super().close_port(port)
        while self._at < self.ports and self.closed[self._at]:
            self._at += 1
            if self._at < self.ports:
                queue = self.queues[self._at]
                while queue:
                    self.pass_on(queue.popleft())
                self._bytes[self._at] = 0

    def needs(self, port: int) -> bool:
        return port == self._at

    def wants(self, port: int) -> bool:
        return port == self._at or (port == self._at + 1 and self._bytes[port] < AHEAD_BYTES)

    def drop_all(self) -> list[Block]:
        blocks = [block for queue in self.queues for block in queue]
        for queue in self.queues:
            queue.clear()
        return blocks


class ZipBody:
    """The columns of several tables side by side; ``note`` has (first row, rows) for each."""

    def __call__(self, inputs: list[Any], unit: Any, note: Any, task: Any) -> Any:
        yield beside([table.slice(first, rows) for table, (first, rows) in zip(inputs, note)])


class ZipOperator(Operator):
    """Row by row the columns of all inputs, as far as blocks of all are there: their borders need not agree."""

    def __init__(self, name: str, ports: int) -> None:
        super().__init__(name, ports=ports)
        self.bodies["main"] = ZipBody()
        self.queues: list[deque[Block]] = [deque() for _ in range(ports)]
        #: How many rows of the first block of each queue are used.
        self._used = [0] * ports
        self._rows = [0] * ports
        self.parts: deque[Part] = deque()

    def accept(self, port: int, block: Block) -> None:
        if not block.meta.rows:
            self.host.release(block)
            return
        self.queues[port].append(block)
        self._rows[port] += block.meta.rows
        self._pair()
        self._check()

    def close_port(self, port: int) -> None:
        super().close_port(port)
        self._check()

    def _pair(self) -> None:
        queues, used = self.queues, self._used
        while all(queues):
            heads = [queue[0] for queue in queues]
            rows = min(head.meta.rows - at for head, at in zip(heads, used))
            self.parts.append(Part(self.next_seq(), tuple(heads), None, tuple((at, rows) for at in used)))
            for port, head in enumerate(heads):
                used[port] += rows
                if used[port] == head.meta.rows:
                    queues[port].popleft()
                    used[port] = 0
                else:
                    head.users += 1

    def _check(self) -> None:
        """Once an input has ended and its rows are used up, no other may have more."""
        ended = [port for port in range(self.ports) if self.closed[port] and not self.queues[port]]
        if ended and self.error is None:
            most = self._rows[ended[0]]
            for port in range(self.ports):
                if self._rows[port] > most or (port in ended and self._rows[port] != most):
                    self.error = ValueError(
                        f"zip needs datasets with the same number of rows: one has {most}, and another "
                        f"{'' if self.closed[port] else 'at least '}{self._rows[port]}"
                    )

    def needs(self, port: int) -> bool:
        return not self.queues[port]

    def wants(self, port: int) -> bool:
        queues = self.queues
        return not queues[port] or all(queue or self.closed[at] for at, queue in enumerate(queues))

    def waiting(self) -> int:
        return len(self.parts)

    def take_work(self, most: int) -> Work:
        return Work(self, [self.parts.popleft() for _ in range(min(most, len(self.parts)))])

    def drop_all(self) -> list[Block]:
        blocks = [block for part in self.parts for block in part.blocks]
        self.parts.clear()
        blocks += [block for queue in self.queues for block in queue]
        for queue in self.queues:
            queue.clear()
        return blocks


class MixOperator(Operator):
    """Blocks of all inputs, so that their rows keep the proportion of the weights as far as blocks allow."""

    def __init__(self, name: str, weights: tuple[float, ...], stop_at_first: bool, given: tuple[int, ...] = ()) -> None:
        super().__init__(name, ports=len(weights))
        self._weights, self._stop_at_first = weights, stop_at_first
        self._given = list(given or [0] * self.ports)
        self._queues: list[deque[Block]] = [deque() for _ in range(self.ports)]
        self._ended = False

    def accept(self, port: int, block: Block) -> None:
        if self._ended:
            self.host.release(block)
            return
        self._queues[port].append(block)
        self._pass()

    def close_port(self, port: int) -> None:
        super().close_port(port)
        self._pass()

    def _next(self) -> int | None:
        """The input whose turn it is: the one that is furthest behind its share. Where the first that ends is the end,
        it must be known of all whether they have more."""
        if self._stop_at_first:
            for port in range(self.ports):
                if not self._queues[port] and not self.closed[port]:
                    return port
        live = [port for port in range(self.ports) if self._queues[port] or not self.closed[port]]
        if not live or (self._stop_at_first and len(live) < self.ports):
            return None
        return min(live, key=lambda port: (self._given[port] / self._weights[port], port))

    def _pass(self) -> None:
        while not self._ended:
            port = self._next()
            if port is None:
                if self._stop_at_first or all(self.closed):
                    self._end()
                return
            if not self._queues[port]:
                return
            block = self._queues[port].popleft()
            self._given[port] += block.meta.rows
            self.pass_on(block)

    def _end(self) -> None:
        self._ended = True
        for block in self.drop_all():
            self.host.release(block)
        if not all(self.closed):
            self.host.stop_inputs(self)

    def needs(self, port: int) -> bool:
        return self._next() == port

    def wants(self, port: int) -> bool:
        return len(self._queues[port]) < 4 or self._next() == port

    @property
    def is_over(self) -> bool:
        return self._ended or (super().is_over and not any(self._queues))

    def drop_all(self) -> list[Block]:
        blocks = [block for queue in self._queues for block in queue]
        for queue in self._queues:
            queue.clear()
        return blocks


class RandomizeOperator(Operator):
    """Its input's blocks in another order, when all of them are there."""

    hoards = True

    def __init__(self, name: str, seed: int, is_drawn: bool = False) -> None:
        super().__init__(name)
        self._seed = seed
        #: The seed is another one in each run.
        self.is_drawn = is_drawn
        self._blocks: list[Block] = []

    def accept(self, port: int, block: Block) -> None:
        self.host.forgo(block)
        self._blocks.append(block)

    def close_port(self, port: int) -> None:
        blocks, self._blocks = self._blocks, []
        random.Random(self._seed).shuffle(blocks)
        for block in blocks:
            self.pass_on(block)
        super().close_port(port)

    def drop_all(self) -> list[Block]:
        blocks, self._blocks = self._blocks, []
        return blocks
