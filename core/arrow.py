"""Tables and record batches of pyarrow as values: Arrow's own stream format, written straight to where the value goes.

pyarrow's pickling costs microseconds for each column and takes along all bytes that a slice was cut from. A stream has
the rows of the value and no others, is written once, into the arena, and is read as views of it. The types of columns
that their users have defined travel beside it, so that they are known where it is read. A table with such a type that
is not registered is left to pyarrow's pickling.
"""

from __future__ import annotations

import pickle
import sys
from collections.abc import Callable, Iterator
from typing import Any

#: What a schema has where one of its columns, at any depth, is of an extension type.
_MARK = b"ARROW:extension:name"


class ArrowStream:
    """A table or record batch that is not written yet: ``nbytes`` as a stream."""

    __slots__ = ("_value", "nbytes")

    def __init__(self, value: Any) -> None:
        import pyarrow as pa

        self._value = value
        sink = pa.MockOutputStream()
        _write(sink, value)
        self.nbytes: int = sink.size()

    def write_into(self, target: memoryview) -> None:
        """Write the stream into ``target``, of ``nbytes`` bytes."""
        import pyarrow as pa

        _write(pa.FixedSizeBufferWriter(pa.py_buffer(target)), self._value)


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
        return (_load, (stand_in(stream), type(value) is kind, own_types))

    classes = kind, pa.RecordBatch  # type: ignore[union-attr]
    reducers.update(dict.fromkeys(classes, reduce))
    return classes


def _streamed(value: Any) -> tuple[ArrowStream, tuple[Any, ...]] | None:
    """The value as a stream, and the types of its users in it; None if it can be none."""
    import pyarrow as pa

    types: tuple[Any, ...] = ()
    try:
        schema = value.schema.serialize()
        if _MARK in schema.to_pybytes():
            types = tuple({kind.extension_name: kind for kind in _own_types(value.schema.types)}.values())
            if types and pa.ipc.read_schema(schema) != value.schema:
                return None
        return ArrowStream(value), types
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
    return _PICKLES[type(value).__name__ == "Table"], streamed[0]
