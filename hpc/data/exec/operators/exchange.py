"""The operator of exchanges: rows of all blocks go to their partitions, and partitions become the result.

It goes through phases. Blocks are collected until the plan can be made: at once, when the metas of all are known, or
when samples of all have come. Then map tasks cut the rows of some blocks each, and give one object for each *group* of
partitions, with offsets inside of it. A group is a range of partitions which one node should have: so M tasks give
M x groups objects, and not M x partitions. When the last has come, each partition is a reduce task over the objects of
its group. A plan that only gathers ranges of blocks has no map tasks. Where map tasks times groups are very many,
objects of a group are merged as they come. Those of neighbouring map tasks become one.

What is kept meanwhile counts for no budget: the store spills it. Objects of tasks are recomputed by the runtime.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, pairwise
from operator import itemgetter
from typing import Any

import numpy as np
import pyarrow as pa

from hpc.data.block.batch import Batcher
from hpc.data.block.compact import compact, in_one, nbytes
from hpc.data.block.cut import Cutter, blocks_of
from hpc.data.exec.operators import Operator, Piece
from hpc.data.exec.work import Block, Part, Work
from hpc.data.options import memory_text
from hpc.data.plan.nodes import Options
from hpc.data.shuffle.exchange import Exchange, Gather, Merger, Partitioner, Place, Reordering
from hpc.data.shuffle.moved import Run, moved, rows_of, table_of
from hpc.data.shuffle.reorder import Pieces, reordered
from hpc.data.transform.base import Transform
from hpc.exceptions import ObjectStoreFullError

MIB = 1 << 20
#: A partition has about so many bytes; where there are CPUs for more of them, at least so many.
PARTITION_BYTES, LEAST_PARTITION_BYTES = 128 * MIB, 1 * MIB
#: Where a task puts rows in order, it has partitions of about so many bytes, which fit a processor's caches. With more
#: partitions than this, cutting is slower.
ORDERED_BYTES, MOST_ORDERED = 4 * MIB, 256
#: A map task takes blocks of so many bytes together, at least and at most.
LEAST_BUNDLE, MOST_BUNDLE = 1 * MIB, 128 * MIB
#: Map tasks give no more objects than this in all, else a stage merges those of a group. It has so many of them
#: together, at least and at most.
MOST_OBJECTS, LEAST_MERGED, MOST_MERGED = 4096, 4, 256
#: Rows that are put in order and then go through further steps are so many bytes at a time.
CHAINED_BYTES = 32 * MIB
#: A task has several parts, if their inputs have no more bytes than this together.
MOST_TOGETHER = 8 * MIB
#: A group of partitions may fill one part in so many of a node's store: all of its objects are inputs of one task. All
#: of a node are one group if they fit in that. A map task reads its rows once for each: with two, a value took 3.1 ns
#: in place of 2.2.
GROUP_SHARE = 4


@dataclass(frozen=True)
class Target:
    """Where the tasks of a group should run. It stands in the place of a source's part."""

    node: str
    files: tuple[str, ...] = ()


class SampleBody:
    """Samples of blocks; ``note`` is the side."""

    def __init__(self, exchange: Exchange) -> None:
        self.exchange = exchange

    def __call__(self, inputs: list[Any], unit: Any, note: Any, task: Any) -> Iterator[Piece]:
        for table in inputs:
            sample = self.exchange.sample(note, table, task)
            if sample is not None:
                yield Piece(compact(sample), sample.num_rows, nbytes(sample))


class MapBody:
    """The rows of some blocks in the order of the partitions, one object for each group; ``note`` is the `Place`.

    bounds: the first partition of each group, and the number of partitions."""

    def __init__(self, partitioner: Partitioner, bounds: Sequence[int]) -> None:
        self.partitioner = partitioner
        self.bounds = tuple(bounds)

    def __call__(self, inputs: list[Any], unit: Any, note: Any, task: Any) -> Iterator[Piece]:
        yield from self.cut(Place(*note), iter(inputs), task)

    def cut(self, place: Place, tables: Iterator[pa.Table], task: Any) -> Iterator[Piece]:
        """The objects of all groups."""
        parts = self.partitioner.split(place, tables, task)
        for first, last in pairwise(self.bounds):
            value, rows, size = [], 0, 0
            for some in parts:
                made = some.stored(first, last)
                table = table_of(made)
                offsets = some.ends(first, last)
                value.append((in_one(table) if made is table else made, offsets))
                rows += table.num_rows
                size += nbytes(table) + offsets.nbytes
            yield Piece(value, rows, size)


class MergeBody:
    """Objects of one group by several map tasks, as one: the rows of each partition lie together, in their order."""

    def __call__(self, inputs: list[Any], unit: Any, note: Any, task: Any) -> Iterator[Piece]:
        pieces = [one for value in inputs for one in value]
        known = [one for one in pieces if one[0].num_columns] or pieces[:1]
        tables, ends = [table for table, _ in known], [ends for _, ends in known]
        if any(table.schema != tables[0].schema for table in tables):
            # What their columns have in common is found where all are together.
            yield Piece(pieces, sum(map(len, tables)), sum(map(nbytes, tables)))
            return
        pieces_of = Pieces.of(ends)
        made = moved(tables, [Run(pieces_of.spans(place, place + 1)) for place in range(pieces_of.parts)])
        table = table_of(made)
        offsets = np.zeros((1, pieces_of.parts + 1), np.int64)
        np.cumsum(pieces_of.counts, out=offsets[0, 1:])
        value = in_one(table) if made is table else made
        yield Piece([(value, offsets)], table.num_rows, nbytes(table) + offsets.nbytes)


class ReduceBody:
    """The result of some partitions. ``note``: the first of them, the first behind them, the first of their group, and
    how many inputs each side has.

    rows: the most rows of a block; None: blocks are cut by bytes alone. chain: what is done with the rows then."""

    def __init__(
        self,
        merger: Merger,
        exact: bool,
        target_bytes: int | None,
        rows: int | None = None,
        chain: Sequence[Transform] = (),
    ) -> None:
        self.merger = merger
        self.chain = tuple(chain)
        self.exact = exact
        self.target_bytes = target_bytes
        self.rows = rows

    def __call__(self, inputs: list[Any], unit: Any, note: Any, task: Any) -> Iterator[Any]:
        first, last, base, counts = note
        begin, end = first - base, last - base
        parts = [[(table, ends[:, begin : end + 1]) for table, ends in value] for value in inputs]
        merger = self.merger
        if isinstance(merger, Reordering):
            yield from self._reordered(merger, [one for value in parts for one in value], first, task)
            return
        tables = chain.from_iterable(
            self._merge(parts, counts, partition, partition - first, task) for partition in range(first, last)
        )
        yield from self.cut(tables, task, columns=not first)

    def _reordered(
        self, merger: Reordering, pieces: list[tuple[pa.Table, Any]], first: int, task: Any
    ) -> Iterator[Any]:
        """Rows that are put in order go straight into blocks, unless more is done with them, or blocks are batches."""
        straight = self.rows is None and not self.chain
        size = None if self.exact else self.target_bytes if straight else CHAINED_BYTES
        sources, ends = [table for table, _ in pieces], [ends for _, ends in pieces]
        made = reordered(merger, sources, ends, first, size, here=not straight)
        if straight:
            # One block is enough to tell the columns.
            yield from (one for one in made if self.exact or rows_of(one) or not first)
        else:
            yield from self.cut(made, task, columns=not first)

    def _merge(self, parts: list[Any], counts: Sequence[int], partition: int, at: int, task: Any) -> Iterator[pa.Table]:
        tables = [
            [table.slice(start, stop - start) for table, ends in value for start, stop in ends[:, at : at + 2].tolist()]
            for value in parts
        ]
        sides = [[table for some in side for table in some] for side in _sides(tables, counts)]
        return self.merger.merge(sides, partition, task)

    def cut(self, tables: Iterator[pa.Table], task: Any, columns: bool) -> Iterator[pa.Table]:
        """The blocks of the result. ``columns``: see `blocks_of`."""
        if self.exact:
            for table in tables:
                yield from _through(self.chain, iter([table]), task)
            return
        tables = _through(self.chain, tables, task)
        cutter: Cutter | Batcher = Cutter(self.target_bytes) if self.rows is None else Batcher(self.rows)
        yield from blocks_of(tables, cutter, columns)


class GatherBody(ReduceBody):
    """The result of a partition from ranges of blocks. ``note``: its number, the counts of the sides, the ranges."""

    def __call__(self, inputs: list[Any], unit: Any, note: Any, task: Any) -> Iterator[pa.Table]:
        partition, counts, ranges = note
        tables = [table.slice(start, stop - start) for table, (start, stop) in zip(inputs, ranges)]
        yield from self.cut(self.merger.merge(_sides(tables, counts), partition, task), task, columns=not partition)


def _sides(tables: list[Any], counts: Sequence[int]) -> list[list[Any]]:
    found, at = [], 0
    for count in counts:
        found.append(tables[at : at + count])
        at += count
    return found


def _through(chain: Sequence[Transform], tables: Iterator[pa.Table], task: Any) -> Iterator[pa.Table]:
    for transform in chain:
        tables = transform(tables, task)
    return tables


def _bytes(part: Part) -> int:
    return sum(block.meta.nbytes for block in part.blocks)


class ExchangeOperator(Operator):
    """See the top of this file.

    partitions: so many, or None: by bytes and CPUs. estimate: bytes of the input, if they are known ahead; otherwise
    all of the input is waited for. store: bytes of the store of a node. chain: what its last tasks do with the rows."""

    hoards = True

    def __init__(
        self,
        name: str,
        exchange: Exchange,
        ports: int,
        *,
        partitions: int | None = None,
        options: Options | None = None,
        target_bytes: int | None = None,
        nodes: Sequence[str] = ("",),
        cpus: float = 1,
        store: int = 1 << 40,
        estimate: int | None = None,
        least_bytes: int = LEAST_BUNDLE,
        most_objects: int = MOST_OBJECTS,
        chain: Sequence[Transform] = (),
    ) -> None:
        super().__init__(name, options, ports=ports)
        self._chain = tuple(chain)
        self.error: Exception | None = None
        self._partitions = exchange.partitions if exchange.partitions is not None else partitions
        self._target_bytes, self._nodes = target_bytes, list(nodes) or [""]
        self._cpus, self._estimate, self._store = max(1.0, cpus), estimate, store
        self._least, self._most_objects = least_bytes, most_objects
        self.exchange = exchange.fitted(store, max(least_bytes, self._room()), len(self._nodes))
        #: Blocks of each side that no map task has taken, and how many blocks and rows came before them.
        self._kept: list[list[Block]] = [[] for _ in range(ports)]
        self._bytes = [0] * ports
        self._place = [(0, 0)] * ports
        self._seen_bytes = self._seen_blocks = 0
        self.samples: list[list[list[Any]]] = [[] for _ in range(ports)]
        self._plan: Partitioner | Gather | None = None
        #: The partitions of each group, and of each reduce task: the first, and at the end their number.
        self._bounds: list[int] = []
        self._tasks: list[int] = []
        #: The objects of each group: (side, number of the map task, block).
        self._pieces: list[list[tuple[int, int, Block]]] = []
        self._parts: deque[Part] = deque()
        #: Merges that are to be done, and the objects of each (group, side, number of the merge) that have come. 0: an
        #: object is not merged.
        self._merges: deque[Part] = deque()
        self._unmerged: dict[tuple[int, int, int], list[tuple[int, Block]]] = {}
        self._merged = 0
        self._body = "sample" if exchange.needs == "samples" else "map"
        #: Parts of the phase at hand that were made and have not ended.
        self._open = 0
        self._number = 0
        #: The partitions of a group: each takes its part of the group's objects.
        self._spread = 1
        #: The numbers of the map tasks of each side, in their order.
        self._numbers: list[list[int]] = [[] for _ in range(ports)]
        self._reducing = False
        #: The tasks that cut its rows as they read them; 0: its own tasks cut them.
        self._cut_parts = 0
        if exchange.needs == "samples":
            self.bodies["sample"] = SampleBody(exchange)

    # -------------------------------------------------------------- blocks come

    def accept(self, port: int, block: Block) -> None:
        self.host.forgo(block)
        if self._reducing:  # the plan failed
            self.host.release(block)
            return
        self._kept[port].append(block)
        self._bytes[port] += block.meta.nbytes
        self._seen_bytes += block.meta.nbytes
        self._seen_blocks += bool(block.meta.rows)
        if self.exchange.needs == "samples":
            if not self._is_few():
                self._sample()
        elif self._plan is not None:
            self._bundle(port)
        elif self.exchange.needs == "nothing" and self._estimate is not None:
            self._make_plan()

    def _is_few(self) -> bool:
        """Whether blocks are of so few bytes that they need no samples."""
        return 0 < self.exchange.few_bytes >= self._seen_bytes

    def _sample(self) -> None:
        """Have samples made of the blocks that have none yet."""
        for port, blocks in enumerate(self._kept):
            for block in blocks[len(self.samples[port]) :]:
                block.users += 1
                self._parts.append(Part(len(self.samples[port]), (block,), None, port))
                self.samples[port].append([])
                self._open += 1

    def close_port(self, port: int) -> None:
        super().close_port(port)
        if self._plan is not None:
            self._bundle(port)
        self._go_on()

    def _go_on(self) -> None:
        """Go to the next phase, if this one is over."""
        if self._open or not all(self.closed) or self.error is not None:
            return
        if self._plan is None:
            self._make_plan()
        if not self._open and not self._reducing and self.error is None:
            self._reduce()

    # -------------------------------------------------------------- the plan, and map tasks

    def _make_plan(self) -> None:
        size = max(self._seen_bytes, 0 if all(self.closed) else self._estimate or 0)
        self._estimate = size
        metas = [[block.meta for block in blocks] for blocks in self._kept]
        samples = [[sample for some in side for sample in some] for side in self.samples]
        count = self._count(size)
        few = self.exchange.needs == "samples" and self._is_few()
        try:
            plan: Partitioner | Gather
            if few:
                plan = self.exchange.few(metas)
            else:
                plan = self.exchange.plan(samples, metas, count * self._fineness(count, size))
        except Exception as error:
            self.error = error
            return
        self._plan, self._body = plan, "map"
        if isinstance(plan, Gather):
            return
        least = -(-size * GROUP_SHARE // max(1, self._store))
        tasks = min(count, plan.parts) if self.exchange.reorders else plan.parts
        self._tasks = [task * plan.parts // tasks for task in range(tasks + 1)]
        groups = max(1, min(tasks, max(len(self._nodes), least)))
        self._bounds = [self._tasks[group * tasks // groups] for group in range(groups + 1)]
        self._pieces = [[] for _ in range(groups)]
        self.bodies["map"] = MapBody(plan, self._bounds)
        maps = self._cut_parts or self.map_tasks(size)
        if maps * groups > self._most_objects:
            self._merged = max(LEAST_MERGED, min(MOST_MERGED, maps * groups // self._most_objects))
            self.bodies["merge"] = MergeBody()
        for port in range(self.ports):
            self._bundle(port)

    def _count(self, size: int) -> int:
        if self._partitions is not None:
            return self._partitions
        most = max(LEAST_PARTITION_BYTES, min(PARTITION_BYTES, self._room()))
        return max(1, -(-size // most), int(min(2 * self._cpus, size // LEAST_PARTITION_BYTES)))

    def _fineness(self, count: int, size: int) -> int:
        """Into how many partitions each reduce task's part is cut."""
        if not self.exchange.reorders or self._partitions is not None:
            return 1
        each = self._target_bytes or PARTITION_BYTES if self.exchange.sorts_pieces else ORDERED_BYTES
        return max(1, min(MOST_ORDERED // count, size // (count * each)))

    def _room(self) -> int:
        """The most bytes that should come into a task. The inputs of all that run at a time fill a part of the store,
        and what they make fills another."""
        return int(self._store * len(self._nodes) / (GROUP_SHARE * self._cpus))

    def _bundle(self, port: int) -> None:
        """Make parts of the map tasks of blocks that are there; of few bytes only if no more come."""
        if isinstance(self._plan, Gather):
            return
        least = self._bundle_bytes()
        bundle: list[Block] = []
        size = 0
        for block in self._kept[port]:
            bundle.append(block)
            size += block.meta.nbytes
            if size >= least:
                self._map(port, bundle)
                bundle, size = [], 0
        if bundle and self.closed[port]:
            self._map(port, bundle)
            bundle = []
        self._kept[port], self._bytes[port] = bundle, size

    def _bundle_bytes(self) -> int:
        """A map task takes blocks of so many bytes, or a little more."""
        return max(self._least, min(MOST_BUNDLE, self._room(), int((self._estimate or 0) / (4 * self._cpus))))

    def map_tasks(self, size: int) -> int:
        """Into how many map tasks so many bytes go."""
        return max(1, -(-size // self._bundle_bytes()))

    def _merge(self, group: int, side: int, number: int, block: Block) -> None:
        """An object of a group has come of the map task of this number on its side. Those of tasks that follow each
        other are merged once all are there; the last ones are too few for that."""
        key = (group, side, number // self._merged)
        some = self._unmerged.setdefault(key, [])
        some.append((number, block))
        if len(some) == self._merged:
            del self._unmerged[key]
            blocks = tuple(block for _, block in sorted(some, key=itemgetter(0)))
            target = Target(self._nodes[group * len(self._nodes) // len(self._pieces)])
            self._merges.append(Part(number, blocks, target, key))
            self._open += 1

    def _map(self, port: int, blocks: list[Block]) -> None:
        number, (block, row) = self._number, self._place[port]
        self._parts.append(Part(number, tuple(blocks), None, (port, block, row)))
        self._numbers[port].append(number)
        self._place[port] = (block + len(blocks), row + sum(one.meta.rows for one in blocks))
        self._number += 1
        self._open += 1

    # -------------------------------------------------------------- reduce tasks

    def _reduce(self) -> None:
        self._reducing, self._body, plan = True, "reduce", self._plan
        assert plan is not None
        for (group, side, _), left in self._unmerged.items():
            self._pieces[group] += [(side, number, block) for number, block in left]
        self._unmerged = {}
        if isinstance(plan, Gather):
            self._gather(plan)
            return
        rows = self._rows_of_block(block.meta.rows for pieces in self._pieces for _, _, block in pieces)
        self.bodies["reduce"] = ReduceBody(plan, self.exchange.exact, self._target_bytes, rows, self._chain)
        groups = len(self._pieces)
        self._spread = max(1, (len(self._tasks) - 1) // groups)
        for group, pieces in enumerate(self._pieces):
            pieces.sort(key=lambda one: one[:2])
            sides = [[block for side, _, block in pieces if side == port] for port in range(self.ports)]
            first, last = self._bounds[group], self._bounds[group + 1]
            target = Target(self._nodes[group * len(self._nodes) // groups])
            divided = self._divided(sides)
            tasks = [bound for bound in self._tasks if first <= bound <= last]
            for begin, end in pairwise(tasks):
                for some in divided:
                    blocks = tuple(block for side in some for block in side)
                    for block in blocks:
                        block.users += 1
                    note = (begin, end, first, [len(side) for side in some])
                    self._parts.append(Part(self.next_seq(), blocks, target, note))
            for _, _, block in pieces:
                block.users -= 1  # the operator's own use is over
        self._pieces = []

    def _divided(self, sides: list[list[Block]]) -> list[list[list[Block]]]:
        """The objects of a group for each task of a partition. One task has all of them. Where they are too many bytes
        for that, as those of a very frequent key, it is otherwise. Several have some of the largest
        side, and all of the others."""
        sizes = [sum(block.meta.nbytes for block in side) for side in sides]
        side = max(self.exchange.divisible, key=sizes.__getitem__, default=None)
        if side is None or sum(sizes) <= self._store // 2:
            return [sides]
        found: list[list[Block]] = []
        size, most = 0, max(self._least, self._room())
        for block in sides[side]:
            if not found or size + block.meta.nbytes > most:
                found.append([])
                size = 0
            found[-1].append(block)
            size += block.meta.nbytes
        return [[some if port == side else all_of for port, all_of in enumerate(sides)] for some in found] or [sides]

    def _rows_of_block(self, rows: Iterable[int]) -> int | None:
        """Few bytes come in few partitions, but their rows may cost the next step much time. So as many CPUs should
        have some as had blocks before. The order of the rows does not depend on that."""
        wanted = max(1, min(int(self._cpus), self._seen_blocks))
        small = self._target_bytes is None or self._seen_bytes <= wanted * self._target_bytes
        if self._partitions is not None or not self.exchange.keeps_rows or len(self._tasks) > wanted or not small:
            return None
        return max(1, -(-sum(rows) // wanted))

    def _gather(self, plan: Gather) -> None:
        few = self.exchange.needs == "samples"
        rows = self._rows_of_block(block.meta.rows for blocks in self._kept for block in blocks) if few else None
        self.bodies["reduce"] = GatherBody(plan.merger, self.exchange.exact, self._target_bytes, rows, self._chain)
        if all(ranges is plan.ranges[0] for ranges in plan.ranges):
            self._spread = plan.parts  # each has its part of the same blocks
        kept, self._kept = self._kept, [[] for _ in range(self.ports)]
        for blocks in kept:
            for block in blocks:
                block.users = 1
        for partition, sides in enumerate(plan.ranges):
            blocks, counts, ranges = [], [], []
            for side, some in enumerate(sides):
                counts.append(len(some))
                for one in some:
                    block = kept[side][one.block]
                    block.users += 1
                    blocks.append(block)
                    ranges.append((one.start, one.stop))
            self._parts.append(Part(self.next_seq(), tuple(blocks), None, (partition, counts, ranges)))
        for blocks_of_side in kept:
            for block in blocks_of_side:
                self.host.release(block)  # what no range has is not needed

    # -------------------------------------------------------------- work

    def waiting(self) -> int:
        return len(self._parts) + len(self._merges)

    def head_part(self) -> Part | None:
        parts = self._merges or self._parts
        return parts[0] if parts else None

    @property
    def next_body(self) -> str:
        return "merge" if self._merges else self._body

    def needed_bytes(self, part: Part, body: str) -> int:
        return part.bytes // self._spread if body == "reduce" else part.bytes

    def take_work(self, most: int) -> Work:
        if self._merges:  # ahead of all that makes more objects
            return Work(self, [self._merges.popleft()], "merge")
        parts = [self._parts.popleft()]
        size = _bytes(parts[0])
        while self._parts and len(parts) < most and size + _bytes(self._parts[0]) <= MOST_TOGETHER:
            size += _bytes(self._parts[0])
            parts.append(self._parts.popleft())
        return Work(self, parts, self._body, self._body == "sample")

    def made(self, work: Work, block: Block) -> None:
        if work.body == "reduce":
            super().made(work, block)
            return
        self.host.forgo(block)
        part = work.part
        if work.body == "sample":
            self.samples[part.note][part.seq].append(block.value)
            self.host.release(block)
        elif work.body == "merge":
            group, side, number = part.note
            self._pieces[group].append((side, number * self._merged, block))
        else:
            self.cut_off(work.seen - 1, part.note[0], part.seq, block)

    def cut_off(self, at: int, side: int, number: int, block: Block) -> None:
        """An object has come of the map task of this number on its side, for a group."""
        group = at % len(self._pieces)
        if self._merged:
            self._merge(group, side, bisect_left(self._numbers[side], number), block)
        else:
            self._pieces[group].append((side, number, block))

    def part_over(self, work: Work, part: Part) -> None:
        if work.body == "reduce":
            super().part_over(work, part)
            return
        self._open -= 1
        self._go_on()

    def is_head(self, work: Work) -> bool:
        return work.body != "reduce" or super().is_head(work)

    def explained(self, part: Part, error: BaseException) -> BaseException:
        if not isinstance(error, ObjectStoreFullError) or not self._reducing or self._plan is None:
            return error
        made = ObjectStoreFullError(
            f"{self.name}: {memory_text(_bytes(part))} of rows come to one task, and the object store of its node has "
            f"no room for them and for what is made of them. {self.exchange.must_fit} Or give nodes a larger store "
            "(object_store_memory=). What the runtime says of it is its cause."
        )
        made.__cause__ = error
        return made

    @property
    def is_over(self) -> bool:
        return self._reducing and super().is_over

    def drop_all(self) -> list[Block]:
        dropped = [block for blocks in self._kept for block in blocks]
        dropped += [block for parts in (self._parts, self._merges) for part in parts for block in part.blocks]
        dropped += [block for some in self._unmerged.values() for _, block in some]
        dropped += [block for pieces in self._pieces for _, _, block in pieces]
        self._kept = [[] for _ in range(self.ports)]
        self._parts.clear()
        self._merges.clear()
        self._pieces, self._unmerged = [], {}
        return dropped
