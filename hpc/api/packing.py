"""What remote functions and actor methods have in common: packing arguments, resource shapes, exported code."""

from __future__ import annotations

import hashlib
from typing import Any

from hpc.core import serialization
from hpc.core.arguments import ArgSlot
from hpc.core.ids import return_id
from hpc.core.owner.generator import ObjectRefGenerator
from hpc.core.owner.ports import Holder
from hpc.core.owner.ref import ObjectRef
from hpc.core.owner.shell.client import Client
from hpc.core.owner.shell.values import INLINE_BYTES
from hpc.core.owner.strangers import check_refs
from hpc.core.owner.tables import Shape
from hpc.core.serializability import ARGUMENTS, explain
from hpc.core.wire import DYNAMIC, MAX_FRAME_BYTES, MAX_VALUES_BYTES, NO_ARGUMENTS, STREAMING

#: Code larger than this is most likely data that a function has captured.
LARGE_CODE_BYTES = 1 << 20
MAX_CODE_BYTES = MAX_FRAME_BYTES // 4 * 3

Packed = tuple[bytes, tuple[bytes, ...], tuple[bytes, ...], list[ObjectRef[Any]]]


def pack_arguments(client: Holder, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Packed:
    """Arguments as bytes, the top-level references in order, the references deeper inside.

    The last element keeps objects alive until the machine has taken its holds.
    """
    if not args and not kwargs:
        return NO_ARGUMENTS, (), (), []
    simple = serialization.dumps_simple((args, kwargs))
    if simple is not None and len(simple) <= INLINE_BYTES:
        return simple, (), (), []
    refs: list[ObjectRef[Any]] = []
    for value in args:
        if type(value) is ObjectRef:
            args, kwargs = _take_refs(args, kwargs, refs)
            break
    else:
        for value in kwargs.values():
            if type(value) is ObjectRef:
                args, kwargs = _take_refs(args, kwargs, refs)
                break
    data = serialization.dumps((args, kwargs), ARGUMENTS)
    if data.size > INLINE_BYTES:
        args, kwargs = _store_large(client, args, kwargs, refs)
        data = serialization.dumps((args, kwargs), ARGUMENTS)
        if data.size > MAX_VALUES_BYTES:  # many small ones: all of them are one object
            refs.append(client.values.put((args, kwargs)))
            data = serialization.dumps(ArgSlot(len(refs) - 1))
    alive = refs + data.refs
    check_refs(alive, client)
    return data.to_bytes(), tuple([ref._id for ref in refs]), tuple([ref._id for ref in data.refs]), alive


def _take_refs(
    args: tuple[Any, ...], kwargs: dict[str, Any], refs: list[ObjectRef[Any]]
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    def slot(value: Any) -> Any:
        if type(value) is not ObjectRef:
            return value
        refs.append(value)
        return ArgSlot(len(refs) - 1)

    return tuple(slot(v) for v in args), {k: slot(v) for k, v in kwargs.items()}


def _store_large(
    client: Holder, args: tuple[Any, ...], kwargs: dict[str, Any], refs: list[ObjectRef[Any]]
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Arguments that are too large for a message go through the object store."""

    def slot(value: Any) -> Any:
        if type(value) is ArgSlot or serialization.dumps(value).size <= INLINE_BYTES:
            return value
        refs.append(client.values.put(value))
        return ArgSlot(len(refs) - 1)

    return tuple(slot(v) for v in args), {k: slot(v) for k, v in kwargs.items()}


def shape_of(
    client: Client,
    held: dict[str, int],
    placement: dict[str, int],
    strategy: Any,
    env: dict[str, str],
    actor: bool,
    time_s: float = 0.0,
) -> Shape:
    """The client's shape for these requirements, made on first use (the client's lock is not held)."""
    key = (
        tuple(sorted(held.items())),
        tuple(sorted(placement.items())),
        repr(strategy),
        tuple(sorted(env.items())),
        actor,
        time_s,
    )
    return client.shape(key, lambda: Shape(held, placement, strategy, env, actor, time_s))


def export(client: Client, code: Any, name: str) -> bytes:
    """Make code known to the session; returns its id. References in it are held until the session ends."""
    try:
        blob, found = serialization.dump_code(code)
    except Exception as error:
        text = explain(code[0] if isinstance(code, tuple) else code, name, error, serialization.can_pickle)
        raise TypeError(
            f"{name} cannot be pickled, so it cannot run in another process: {text}. "
            "hpc.util.inspect_serializability() shows all of what is in the way"
        ) from error
    check_refs(found, client)
    if len(blob) > MAX_CODE_BYTES:
        raise ValueError(
            f"{name} takes {len(blob) >> 20} MiB pickled, more than fits into a message: it has captured data. Put "
            "that into the object store with hpc.put() and pass the reference as an argument"
        )
    if len(blob) > LARGE_CODE_BYTES:
        client.warn(f"{name} takes {len(blob) >> 20} MiB pickled: it has captured data; pass it by hpc.put() instead")
    ident = hashlib.blake2b(blob, digest_size=16).digest()
    client.export(ident, blob, found)
    return ident


def references_to(client: Holder, task: bytes, num_returns: int) -> Any:
    """What a program gets for a task or call that has another number of return values than one."""
    if num_returns == DYNAMIC:
        return ObjectRef(task, client)
    if num_returns == STREAMING:
        return ObjectRefGenerator(task, client)
    return [ObjectRef(return_id(task, index), client) for index in range(num_returns)] if num_returns else None
