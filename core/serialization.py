"""Values to bytes and back: pickle protocol 5 with large buffers out of band, cloudpickle where pickle is not enough.

Simple values (numbers, strings, bytes and small plain containers of them) take a path of one C call. Everything
else goes through cloudpickle, with numpy arrays and other buffer providers handed over without a copy. References
found inside a value are collected, because whoever stores or sends the value must keep them alive.

Layout of a value with buffers, all little-endian: magic byte 1, three zero bytes, u32 number of buffers, u64 length of
the pickle. Then come a u64 length of each buffer, the pickle, and each buffer aligned to 64 bytes. The pickle follows,
then each buffer aligned to 64 bytes. A value without buffers is the bare pickle (which begins with 0x80).

Classes may have serializers of their own (`register`). They hold in the process that serializes; what makes the value
again travels with it. Where there are none, nothing is looked up. Code objects go their own way (`hpc.core.code`).
"""

from __future__ import annotations

import io
import pickle
import struct
import sys
import threading
from collections import ChainMap
from collections.abc import Callable
from types import CodeType
from typing import Any

import cloudpickle

from hpc.core.arrow import ArrowStream, add_reducers, stream_of
from hpc.core.code import reduce_code
from hpc.core.exceptions import HpcError, SystemFailure
from hpc.core.serializability import explain, reducers
from hpc.core.tensors import add_reducer

_SIMPLE = frozenset({int, float, str, bytes, bool, type(None)})
#: How deep the containers of a simple value are: what contains itself is deeper, and so are graphs that a walk of all
#: their paths would never end with. Both go to the pickler, which knows what it has met.
_DEPTH = 5
_HEAD = struct.Struct("<B3xIQ")
_MAGIC = 1
ALIGN = 64
#: Buffers below this travel inside the pickle: an aligned piece of their own costs more than the copy.
MIN_BUFFER_BYTES = 1024


_pickle = pickle.dumps
#: How a pickle of protocol 5 begins.
PICKLED = 0x80


class _Context(threading.local):
    """What the current thread is pickling or unpickling: the references met on the way."""

    found: list[Any] | None = None
    #: What stands for a stream in the pickle that is being made, by its identity, and the stream.
    streams: dict[int, tuple[bytearray, ArrowStream]] | None = None
    outer: bytes | None = None
    met: list[bytes] | None = None


context = _Context()


def _simple(value: Any, depth: int = _DEPTH) -> bool:
    kind = type(value)
    if kind in _SIMPLE:
        return True
    if kind is tuple or kind is list:
        if len(value) > 16 or not depth:
            return False
        for one in value:  # noqa: SIM110 (a generator expression costs 0.4 µs to begin)
            if type(one) not in _SIMPLE and not _simple(one, depth - 1):
                return False
        return True
    if kind is dict:
        if len(value) > 16 or not depth:
            return False
        for key, one in value.items():
            if type(key) not in _SIMPLE or (type(one) not in _SIMPLE and not _simple(one, depth - 1)):
                return False
        return True
    return False


def dumps_simple(value: Any) -> bytes | None:
    """What `dumps` gives for a simple value, as bytes; None if it is not one."""
    return _pickle(value, 5) if type(value) in _SIMPLE or _simple(value) else None


class Serialized:
    """A value as pieces: ``pickled`` and its out-of-band ``buffers``; ``refs`` are the references inside."""

    __slots__ = ("buffers", "pickled", "refs", "size")

    def __init__(self, pickled: bytes, buffers: list[memoryview | ArrowStream], refs: list[Any]) -> None:
        self.pickled = pickled
        self.buffers = buffers
        self.refs = refs
        self.size = len(pickled) if not buffers else _layout(pickled, buffers)[-1]

    def to_bytes(self) -> bytes:
        """The value in one piece."""
        if not self.buffers:
            return self.pickled
        out = bytearray(self.size)
        self.write_into(memoryview(out), _copy_slice)
        return bytes(out)

    def write_into(self, target: memoryview, copy: Callable[[memoryview, memoryview], None]) -> None:
        """Write the value into ``target`` (of at least ``size`` bytes); ``copy(to, from)`` moves large pieces."""
        if not self.buffers:
            target[: len(self.pickled)] = self.pickled
            return
        *places, _ = _layout(self.pickled, self.buffers)
        head = _HEAD.pack(_MAGIC, len(self.buffers), len(self.pickled))
        head += struct.pack(f"<{len(self.buffers)}Q", *(b.nbytes for b in self.buffers))
        target[: len(head)] = head
        target[len(head) : len(head) + len(self.pickled)] = self.pickled
        for place, buffer in zip(places, self.buffers):
            if type(buffer) is ArrowStream:
                buffer.write_into(target[place : place + buffer.nbytes])
            else:
                copy(target[place : place + buffer.nbytes], buffer)  # type: ignore[arg-type]


def bytes_in_place(nbytes: int) -> tuple[bytes, int, int]:
    """An array of so many bytes as it lies in the arena, without the bytes. Returns what stands before them, where they
    begin, and the size of it all."""
    import numpy as np

    pickled = pickle.dumps(_Array(np.frombuffer), 5, buffer_callback=lambda buffer: False)
    head = _HEAD.pack(_MAGIC, 1, len(pickled)) + struct.pack("<Q", nbytes) + pickled
    place = (len(head) + ALIGN - 1) // ALIGN * ALIGN
    return head, place, place + nbytes


class _Array:
    """Is pickled as an array of a buffer beside the pickle, which ``make`` makes."""

    def __init__(self, make: Callable[..., Any]) -> None:
        self._make = make

    def __reduce__(self) -> tuple[Any, ...]:
        return self._make, (pickle.PickleBuffer(b""), "u1")


def _copy_slice(to: memoryview, source: memoryview) -> None:
    to[:] = source


def _layout(pickled: bytes, buffers: list[memoryview | ArrowStream]) -> list[int]:
    """Offsets of the buffers, then the total size."""
    at = _HEAD.size + 8 * len(buffers) + len(pickled)
    places = []
    for buffer in buffers:
        at = (at + ALIGN - 1) // ALIGN * ALIGN
        places.append(at)
        at += buffer.nbytes
    return [*places, at]


#: Pickle writes these (and what is a subclass of none but these) by itself and asks nobody.
_BUILT_IN = _SIMPLE | {tuple, list, dict, set, frozenset, bytearray, pickle.PickleBuffer}
#: Errors of these classes are raised again with a longer text; others are the user's own and stay as they are.
_PLAIN_ERRORS = frozenset({TypeError, AttributeError, pickle.PicklingError, NotImplementedError})


_tables = getattr(cloudpickle.CloudPickler.dispatch_table, "maps", [cloudpickle.CloudPickler.dispatch_table])


class _Pickler(cloudpickle.CloudPickler):  # type: ignore[misc]
    """cloudpickle's, with our own way for code objects (see `hpc.core.code`)."""

    dispatch_table = ChainMap({CodeType: reduce_code}, *_tables)


#: How values are pickled, as opposed to code. numpy's arrays join once numpy is imported.
_value_reducers: dict[type, Callable[[Any], Any]] = {CodeType: reduce_code}


class _ValuePickler(_Pickler):
    """The pickler of values, as opposed to code: their arrays are read-only on the other side, whatever their size."""

    dispatch_table = ChainMap(_value_reducers, *_tables)


class _OwnPickler(_Pickler):
    """The pickler of code where serializers are registered: they come before all others."""

    dispatch_table = ChainMap(reducers, *_Pickler.dispatch_table.maps)


class _OwnValuePickler(_Pickler):
    """The pickler of values where serializers are registered."""

    dispatch_table = ChainMap(reducers, *_ValuePickler.dispatch_table.maps)


def _reduce_array(array: Any) -> Any:
    """How an array of numpy is pickled: as numpy does it, but what travels inside of the pickle is read-only too."""
    reduced = array.__reduce_ex__(5)
    arguments = reduced[1]
    if not arguments or type(arguments[0]) is not pickle.PickleBuffer:
        return reduced
    raw = arguments[0].raw()
    if raw.nbytes >= MIN_BUFFER_BYTES or raw.readonly:
        return reduced
    return (reduced[0], (pickle.PickleBuffer(raw.toreadonly()), *arguments[1:]), *reduced[2:])


def _stand_in(stream: ArrowStream) -> pickle.PickleBuffer:
    """What stands for a stream in a pickle: `dumps` knows it again."""
    token = bytearray(1)
    if context.streams is None:
        context.streams = {}
    context.streams[id(token)] = token, stream
    return pickle.PickleBuffer(token)


#: Kinds of arrays that pickle alone makes the same of, because nothing inside has reducers.
_PLAIN_KINDS = frozenset("biufcmM")


def _quick_array(array: Any) -> Serialized | None:
    """What `dumps` gives for an array of numbers that is not small, without a pickler that calls Python."""
    if array.dtype.kind not in _PLAIN_KINDS or array.nbytes < MIN_BUFFER_BYTES:
        return None
    buffers: list[memoryview | ArrowStream] = []
    return Serialized(_pickle(array, 5, buffer_callback=lambda one: buffers.append(one.raw())), buffers, [])


def _quick_stream(table: Any) -> Serialized | None:
    """What `dumps` gives for a table or a record batch, without any pickler."""
    streamed = stream_of(table)
    return None if streamed is None else Serialized(streamed[0], [streamed[1]], [])


#: How values of exactly these classes are made pieces, where they are nothing special; else the result is None.
_quick: dict[type, Callable[[Any], Serialized | None]] = {}


def _quick_plain(value: Any) -> Serialized:
    return Serialized(pickle.dumps(value, 5), [], [])


def register_plain(cls: type) -> None:
    """Instances of exactly this class need no pickler of ours: they hold no references, no large buffers, and nothing
    that pickle alone cannot do."""
    _quick[cls] = _quick_plain


def register(cls: type, serializer: Callable[[Any], Any], deserializer: Callable[[Any], Any]) -> None:
    """From now on instances of exactly this class are what ``serializer(instance)`` gives, and ``deserializer`` makes
    them again on the other side. Raises TypeError for what is not a class, or one that pickle handles by itself."""
    if not isinstance(cls, type):
        raise TypeError(f"a serializer is for a class, not for {cls!r}")
    if cls in _BUILT_IN or issubclass(cls, type) or cls.__name__ == "function":
        raise TypeError(f"{cls.__name__} is pickled by Python itself and can have no serializer of its own")
    if not callable(serializer) or not callable(deserializer):
        raise TypeError("serializer and deserializer must be functions of one argument")
    reducers[cls] = lambda value: (deserializer, (serializer(value),))


def deregister(cls: type) -> None:
    """Instances of this class are pickled as they were before `register`. Does nothing if it was not called."""
    reducers.pop(cls, None)


def can_pickle(value: Any) -> bool:
    """Whether `dumps` would take the value."""
    try:
        _dump(value, None)
    except Exception:
        return False
    return True


def _dump(value: Any, keep: Callable[[pickle.PickleBuffer], Any] | None) -> tuple[bytes, list[Any]]:
    outer, context.found = context.found, []
    try:
        stream = io.BytesIO()
        if "torch" in sys.modules:
            add_reducer(reducers)
        if keep is None:
            pickler = _OwnPickler if reducers else _Pickler
        else:
            array = getattr(sys.modules.get("numpy"), "ndarray", None)
            if array is not None and array not in _value_reducers:
                _value_reducers[array] = _reduce_array
                _quick[array] = _quick_array
            if "pyarrow" in sys.modules:
                _quick.update(dict.fromkeys(add_reducers(_value_reducers, _stand_in), _quick_stream))
            pickler = _OwnValuePickler if reducers else _ValuePickler
        pickler(stream, protocol=5, buffer_callback=keep).dump(value)
        return stream.getvalue(), context.found
    finally:
        context.found = outer


def dump_code(code: Any) -> tuple[bytes, list[Any]]:
    """Pickled code (a function, or a class, and what belongs to it) for ``pickle.loads``, and its references."""
    return _dump(code, None)


def dump_plain(value: Any) -> bytes:
    """A value in one piece for ``pickle.loads``. Raises whatever the value's own pickling raises, and TypeError where
    there are references inside, which nobody would keep alive."""
    data, found = _dump(value, None)
    if found:
        raise TypeError("references cannot be sent inside of this value")
    return data


def dumps(value: Any, name: str = "the value") -> Serialized:
    """Serialize any value. Raises whatever the value's own pickling raises, and TypeError for what cannot be pickled.
    The message says which part of the value it is; the value is called ``name`` there."""
    if _simple(value):
        return Serialized(pickle.dumps(value, 5), [], [])
    quick = _quick.get(type(value))
    if quick is not None and type(value) not in reducers and (made := quick(value)) is not None:
        return made
    buffers: list[memoryview | ArrowStream] = []

    def keep(buffer: pickle.PickleBuffer) -> bool:
        raw = buffer.raw()
        if raw.nbytes < MIN_BUFFER_BYTES:
            known = context.streams and context.streams.get(id(raw.obj))
            if not known:
                return True
            buffers.append(known[1])
        else:
            buffers.append(raw)
        return False

    outer, context.streams = context.streams, None
    try:
        pickled, refs = _dump(value, keep)
    except Exception as error:
        if type(error) in _PLAIN_ERRORS:
            raise type(error)(explain(value, name, error, can_pickle)) from error
        raise
    finally:
        context.streams = outer
    return Serialized(pickled, buffers, refs)


def loads(data: Any, outer: bytes | None = None) -> Any:
    """The value again. ``data`` is bytes-like; buffers of the value are views into it, without a copy.

    ``outer`` is the id of the object that the value belongs to: references found inside keep it alive until their
    owners know of this process. Raises SystemFailure for a value that cannot be made again, with the reason behind it.
    """
    try:
        if data[0] != _MAGIC:
            if outer is None or len(data) < 64:
                return pickle.loads(data)
            return _with_outer(outer, lambda: pickle.loads(data))
        return _load_parts(data, outer)
    except Exception as error:
        raise not_loaded(error) from error


def not_loaded(error: Exception) -> HpcError:
    """What is raised from the error that making a value again has raised. Its class, its module or what it needs is
    wrong here, and not the code that wanted the value. An error of the runtime says so itself."""
    if isinstance(error, HpcError):
        return error
    try:
        text = f"{type(error).__name__}: {error}"
    except Exception:  # the error's own code
        text = type(error).__name__
    return SystemFailure(f"the value cannot be loaded here: {text}")


def _load_parts(data: Any, outer: bytes | None) -> Any:
    view = memoryview(data)
    _, count, length = _HEAD.unpack_from(view)
    sizes = struct.unpack_from(f"<{count}Q", view, _HEAD.size)
    start = _HEAD.size + 8 * count
    at = start + length
    parts = []
    for size in sizes:
        at = (at + ALIGN - 1) // ALIGN * ALIGN
        parts.append(view[at : at + size])
        at += size
    pickled = view[start : start + length]
    return _with_outer(outer, lambda: pickle.loads(pickled, buffers=parts))


def _with_outer(outer: bytes | None, load: Callable[[], Any]) -> Any:
    before, context.outer = context.outer, outer
    try:
        return load()
    finally:
        context.outer = before
