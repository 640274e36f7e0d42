"""Tables and record batches of pyarrow as values: Arrow's own stream format, written straight to where the value goes.

pyarrow's pickling costs microseconds for each column and takes along all bytes that a slice was cut from. A stream has
the rows of the value and no others, is written once, into the arena, and is read as views of it. The types of columns
that their users have defined travel beside it, so that they are known where it is read. A table with such a type that
is not registered is left to pyarrow's pickling.
"""

from __future__ import annotations

import mmap
import pickle
import sys
from collections.abc import Callable, Iterator
from typing import Any

#: What a schema has where one of its columns, at any depth, is of an extension type.
_MARK = b"ARROW:extension:name"


#: What puts the bytes of a buffer into the place that it is given.
Fill = Callable[[memoryview], None]


class PlacedTable:
    """A table, some of whose buffers are made where the value goes, and nowhere before. It is read as a table.

    ``table`` has the columns and the rows, each column in one chunk. Buffers that `buffer` gave are empty
    of values: they tell sizes alone."""

    __slots__ = ("fills", "table")

    def __init__(self) -> None:
        self.table: Any = None
        #: By the address of the buffer.
        self.fills: dict[int, Fill] = {}

    def buffer(self, nbytes: int, fill: Fill) -> Any:
        """A buffer of so many bytes, above 0, that ``fill`` makes. It takes address space, and no memory."""
        import pyarrow as pa

        flags = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | _NO_RESERVE
        made = pa.py_buffer(mmap.mmap(-1, nbytes, flags, mmap.PROT_READ))
        self.fills[made.address] = fill
        return made


#: Pages that nobody writes to count for no limit of the system.
_NO_RESERVE = getattr(mmap, "MAP_NORESERVE", 0x4000)


class ArrowStream:
    """A table or record batch that is not written yet: ``nbytes`` as a stream. ``fills``: as a `PlacedTable` has it."""

    __slots__ = ("_fills", "_value", "nbytes")

    def __init__(self, value: Any, fills: dict[int, Fill] | None = None) -> None:
        import pyarrow as pa

        self._value, self._fills = value, fills
        sink = pa.MockOutputStream()
        _write(sink, value)
        self.nbytes: int = sink.size()

    def write_into(self, target: memoryview) -> None:
        """Write the stream into ``target``, of ``nbytes`` bytes."""
        import pyarrow as pa

        if self._fills is None:
            _write(pa.FixedSizeBufferWriter(pa.py_buffer(target)), self._value)
        else:
            with pa.PythonFile(_Sink(target, self._fills), mode="w") as sink:
                _write(sink, self._value)


class _Sink:
    """A file that is written into memory: buffers as they are, but for those that are made there."""

    closed = False

    def __init__(self, target: memoryview, fills: dict[int, Fill]) -> None:
        self._target, self._fills, self._at = target, fills, 0

    def write(self, data: Any) -> int:
        place = memoryview(data)
        size = place.nbytes
        to = self._target[self._at : self._at + size]
        fill = None if type(data) is bytes else self._fills.get(data.address)
        if fill is None:
            to[:] = place.cast("B")
        else:
            fill(to)
        self._at += size
        return size

    def flush(self) -> None:
        """Nothing is held back."""

    def close(self) -> None:
        self.closed = True


def _write(sink: Any, value: Any) -> None:
    import pyarrow as pa

    with pa.ipc.new_stream(sink, value.schema) as writer:
        writer.write(value)


def add_reducers(
    reducers: dict[type, Callable[[Any], Any]], stand_in: Callable[[ArrowStream], Any]
) -> tuple[type, ...]:
    """Have tables and record batches pickled as streams, if pyarrow is imported in this process. Returns their classes
    the first time. ``stand_in`` gives what stands for a stream in the pickle."""
    pa = sys.modules.get("pyarrow")
    kind = getattr(pa, "Table", None)
    if kind is None or kind in reducers or not hasattr(pa, "ipc"):
        return ()

    def reduce(value: Any) -> Any:
        streamed = _streamed(value)
        if streamed is None:
            return value.__reduce_ex__(5)
        stream, own_types = streamed
        return (_load, (stand_in(stream), type(value) is not pa.RecordBatch, own_types))  # type: ignore[union-attr]

    classes = kind, pa.RecordBatch, PlacedTable  # type: ignore[union-attr]
    reducers.update(dict.fromkeys(classes, reduce))
    return classes


def _streamed(value: Any) -> tuple[ArrowStream, tuple[Any, ...]] | None:
    """The value as a stream, and the types of its users in it; None if it can be none."""
    import pyarrow as pa

    types: tuple[Any, ...] = ()
    fills = None
    if type(value) is PlacedTable:
        value, fills = value.table, value.fills
    try:
        schema = value.schema.serialize()
        if _MARK in schema.to_pybytes():
            types = tuple({kind.extension_name: kind for kind in _own_types(value.schema.types)}.values())
            if types and pa.ipc.read_schema(schema) != value.schema:
                return None
        return ArrowStream(value, fills), types
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError):  # a type that streams do not know
        return None


def _own_types(types: list[Any]) -> Iterator[Any]:
    """The extension types that are not pyarrow's own, at any depth."""
    import pyarrow as pa

    for kind in types:
        if isinstance(kind, pa.BaseExtensionType):
            if type(kind).__module__ != "pyarrow.lib":
                yield kind
            yield from _own_types([kind.storage_type])
        elif pa.types.is_dictionary(kind):
            yield from _own_types([kind.value_type])
        else:
            yield from _own_types([kind.field(index).type for index in range(kind.num_fields)])


def _load(data: Any, is_table: bool, own_types: tuple[Any, ...]) -> Any:
    """The value again: views of ``data``."""
    import pyarrow as pa

    for kind in own_types:
        try:
            pa.register_extension_type(kind)
        except pa.ArrowKeyError:
            pass  # it is known, most likely since its module was imported to make it
    reader = pa.ipc.open_stream(pa.py_buffer(data))
    return reader.read_all() if is_table else reader.read_next_batch()


class _Loaded:
    """Is pickled as what `_load` makes of a stream beside the pickle."""

    def __init__(self, is_table: bool) -> None:
        self._is_table = is_table

    def __reduce__(self) -> Any:
        return _load, (pickle.PickleBuffer(b""), self._is_table, ())


#: The pickles of a record batch and of a table: all is in the stream.
_PICKLES = [pickle.dumps(_Loaded(is_table), 5, buffer_callback=lambda buffer: False) for is_table in (False, True)]


def stream_of(value: Any) -> tuple[bytes, ArrowStream] | None:
    """A pickle for a table or record batch, and the stream beside it. None for what has to be pickled otherwise."""
    streamed = _streamed(value)
    if streamed is None or streamed[1]:
        return None
    return _PICKLES[type(value).__name__ != "RecordBatch"], streamed[0]
