"""What runs in tasks and actors: the parts of a piece of work, one after the other.

A task tells one item after the other. The first says that it has begun, and on which node. Then come, again and again,
what blocks are next, and these blocks. Before the error of a part it tells its number. Its last word is how long the
parts took.

Blocks are told one by one, but for small ones of parts that are not the last. Several parts share a task only where all
of them take no time, so these wait for each other. Half of the items are saved by that, and most of what they cost.

What is told is bytes, few and the same in each attempt: which blocks are told together depends on the blocks alone. The
runtime compares what a retried task tells again, and the driver compares the rows before each block.
"""

from __future__ import annotations

import pickle
import time
import zlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import msgspec
import pyarrow as pa

from hpc import spi
from hpc.data.block.cells import FEW, Cells
from hpc.data.block.compact import nbytes
from hpc.data.block.cut import Cutter, RowSizes, blocks_of
from hpc.data.block.meta import BlockMeta
from hpc.data.exec.heap import Heap, use_jemalloc
from hpc.data.exec.operators import Body, Piece
from hpc.data.exec.small import SMALL_BYTES, sent
from hpc.data.exec.tally import LARGE_BYTES
from hpc.data.exec.warm import import_early
from hpc.data.io.source import SourceTask
from hpc.data.shuffle.moved import in_one_piece, table_of
from hpc.data.transform.base import TaskContext, Transform
from hpc.data.transform.maps import MapBatches, MapRows

#: The counter of the seconds of CPU that the thread of a task took.
CPU_S = "cpu seconds"
#: A part as it travels: its seq, how many of the task's inputs are its own, its unit and its note.
PartCall = tuple[int, int, Any, Any]
#: What a task is told beside its inputs: the number of its attempt, and its parts.
Header = tuple[int, list[PartCall]]


class Told(msgspec.Struct, frozen=True, array_like=True):
    """What is told of a block ahead of it: the number of its part in the task, its meta, and the pickled note."""

    part: int
    meta: BlockMeta
    note: bytes = b""


encode_told = msgspec.msgpack.Encoder().encode
decode_told = msgspec.msgpack.Decoder(list[Told]).decode
#: At most so many small blocks are told together, of so many bytes each.
TOLD_BLOCKS, TOLD_BYTES = 32, 2 << 10


class ChainBody:
    """A chain of transforms over the tables of a part, cut into blocks.

    target_bytes: the size of blocks; None makes one of all."""

    def __init__(self, transforms: Sequence[Transform], target_bytes: int | None) -> None:
        self.transforms = tuple(transforms)
        self.target_bytes = target_bytes
        self._takes_few = bool(transforms) and isinstance(transforms[0], (MapRows, MapBatches))
        #: Most parts have rows of one kind: what is learned of their sizes is learned once.
        self._sizes = RowSizes()

    def begin(self) -> None:
        """Make what classes of users are called by, ahead of the first call."""
        for transform in self.transforms:
            begin = getattr(transform, "begin", None)
            if begin is not None:
                begin()

    def _step(self) -> int:
        """The rows of the batches that the last transform makes: who takes the blocks often wants as many at once."""
        size = getattr(self.transforms[-1], "batch_size", None) if self.transforms else None
        return size if isinstance(size, int) else 1

    def __call__(self, inputs: list[Any], unit: Any, note: Any, task: TaskContext) -> Iterator[pa.Table | Cells]:
        task.row = note  # of those that draw random numbers for rows
        few, at = self._few(inputs, unit, task)
        if at == len(self.transforms) and isinstance(few, Cells) and self._is_block(few):
            return iter((few,))
        tables: Iterator[pa.Table]
        if few is not None:
            few = few.table() if isinstance(few, Cells) else few
            tables = iter((few,)) if isinstance(few, pa.Table) else few
        else:
            tables = iter(inputs) if unit is None else unit.read(task)
        for transform in self.transforms[at:]:
            tables = transform(tables, task)
        return blocks_of(tables, Cutter(self.target_bytes, step=self._step(), sizes=self._sizes))

    def _few(
        self, inputs: list[Any], unit: Any, task: TaskContext
    ) -> tuple[Cells | pa.Table | Iterator[pa.Table] | None, int]:
        """What the first transforms make of few rows, and how many of them did. None: it is to be begun with tables."""
        if not self._takes_few:
            return None, 0
        few: Cells | pa.Table | Iterator[pa.Table] | None
        if unit is not None:
            few = unit.cells(task) if isinstance(unit, SourceTask) else None
        else:
            few = inputs[0] if len(inputs) == 1 and 0 < inputs[0].num_rows <= FEW else None
        if few is None:
            return None, 0
        for at, transform in enumerate(self.transforms):
            if not isinstance(few, (Cells, pa.Table)) or not 0 < few.num_rows <= FEW:
                return few, at  # a function on a batch has given many rows, or none
            made = transform.few(few, task) if isinstance(transform, (MapRows, MapBatches)) else None
            if made is None:
                return few, at
            few = made
        return few, len(self.transforms)

    def _is_block(self, cells: Cells) -> bool:
        return cells.nbytes <= min(SMALL_BYTES, SMALL_BYTES if self.target_bytes is None else self.target_bytes)


def run_parts(body: Body, op: str, context: Any, header: Header, values: Sequence[Any]) -> Iterator[Any]:
    """The items of a task: see the top of this file."""
    clock, cpu = time.perf_counter, time.thread_time()
    attempt, parts = header
    use_jemalloc()
    heap = Heap() if _is_large(parts, values) else None
    yield (clock(), str(spi.whoami().process.node))
    seconds, at, final = 0.0, 0, len(parts) - 1
    schemas = _Schemas()
    counters: dict[str, float] = {}
    told: list[Told] = []
    values_told: list[Any] = []
    for number, part in enumerate(parts):
        seq, count, unit, note = part
        task = TaskContext(op=op, index=seq, attempt=attempt, context=context)
        files = _files(unit)
        pieces: Iterator[Any] | None = None
        rows, digest, last = 0, 0, clock()
        while True:
            try:
                if pieces is None:
                    pieces = iter(body(list(values[at : at + count]), unit, note, task))
                made = next(pieces, None)
                if made is None:
                    break
                value, meta = _told(made, files, rows, digest, schemas)
            except Exception:
                if told:
                    yield encode_told(told)
                    yield from values_told
                yield number  # which of the parts it was
                raise
            rows += meta.rows
            digest = meta.digest
            told.append(Told(number, meta, _note(made)))
            values_told.append(value)
            if number < final and meta.nbytes <= TOLD_BYTES and len(told) < TOLD_BLOCKS:
                continue
            seconds += clock() - last
            yield encode_told(told)
            yield from values_told
            told, values_told = [], []
            last = clock()
        seconds += clock() - last
        at += count
        for name, amount in task.counters.items():
            counters[name] = counters.get(name, 0.0) + amount
    if told:
        yield encode_told(told)
        yield from values_told
    peak = 0 if heap is None else heap.peak()
    counters[CPU_S] = max(0.0, time.thread_time() - cpu)
    yield (seconds, peak, counters)
    if heap is not None:
        heap.give_back(peak)
    import_early()


def _is_large(parts: list[PartCall], values: Sequence[Any]) -> bool:
    """Whether the memory of a task is worth measuring. Several parts share a task where each takes little."""
    if len(parts) > 1:
        return False
    unit = parts[0][2]
    size = 0 if unit is None else getattr(unit, "nbytes", None)
    if size is None or not all(isinstance(value, pa.Table) for value in values):
        return True
    return size + sum(value.get_total_buffer_size() for value in values) >= LARGE_BYTES


class _Schemas:
    """The schema of the blocks of a task so far, serialized once. It is told with the first block, and where it
    changes."""

    def __init__(self) -> None:
        self._last: pa.Schema | None = None
        self._data = b""

    def of(self, table: pa.Table) -> tuple[bytes, bytes]:
        """The serialized schema of a table, and what is to be told of it."""
        schema = table.schema
        if self._last is not None and (schema is self._last or schema.equals(self._last, check_metadata=True)):
            return self._data, b""
        self._last, self._data = schema, schema.serialize().to_pybytes()
        return self._data, self._data

    def of_cells(self, cells: Cells) -> bytes:
        """What is to be told of the schema of some cells."""
        data = cells.schema
        if data is self._data:
            return b""
        self._last, self._data = None, data
        return data


def _told(made: Any, files: tuple[str, ...], rows: int, digest: int, schemas: _Schemas) -> tuple[Any, BlockMeta]:
    table = made.value if isinstance(made, Piece) else made
    value: Any
    if isinstance(table, Cells):
        value, count, size, told = table, table.num_rows, table.nbytes, schemas.of_cells(table)
    elif isinstance(table, (pa.Table, spi.PlacedTable)):
        stored = in_one_piece(table) if isinstance(table, pa.Table) else table
        table = table_of(stored)
        count, size = table.num_rows, nbytes(table)
        schema, told = schemas.of(table)
        value = sent(table, size, schema) if stored is table else stored
    else:
        value, count, size, told = table, made.rows, made.nbytes, b""
    digest = zlib.crc32(count.to_bytes(8, "little"), digest)
    return value, BlockMeta(count, size, told, files, rows, digest)


def _files(unit: Any) -> tuple[str, ...]:
    """The files of a part, as far as they are worth telling."""
    files = getattr(unit, "files", ())
    return tuple(files) if len(files) <= 8 else ()


def _note(made: Any) -> bytes:
    return pickle.dumps(made.note) if isinstance(made, Piece) and made.note is not None else b""


def task_function(body: Body, op: str, context: Any) -> Callable[..., Iterator[Any]]:
    """The function of an operator's tasks. It is sent to each worker once, with the body in it."""

    def run(header: Header, *values: Any) -> Iterator[Any]:
        yield from run_parts(body, op, context, header, values)

    run.__name__ = op
    return run


class PoolActor:
    """An actor of a pool: it has the bodies, and what users' classes have made, for all of its calls."""

    def __init__(self, bodies: dict[str, Body], op: str, context: Any) -> None:
        self._bodies, self._op, self._context = bodies, op, context
        for body in bodies.values():
            begin = getattr(body, "begin", None)
            if begin is not None:
                begin()

    def ready(self) -> str:
        """On which node it is."""
        return str(spi.whoami().process.node)

    def run(self, body: str, header: Header, *values: Any) -> Iterator[Any]:
        """One piece of work."""
        yield from run_parts(self._bodies[body], self._op, self._context, header, values)
