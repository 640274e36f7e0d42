"""get, put, wait, cancel: objects as the user meets them."""

from __future__ import annotations

from operator import attrgetter
from typing import Any

from hpc.api.connection import ensure_client
from hpc.core.owner.generator import ObjectRefGenerator, Peek
from hpc.core.owner.ref import ObjectRef
from hpc.core.owner.strangers import check_refs
from hpc.core.process.current import current

ident_of = attrgetter("_id")
ONLY_REFS = {ObjectRef}


class _Missing:
    def __repr__(self) -> str:
        return "<not given>"


#: A parameter that was not given: None would be one that was.
MISSING: Any = _Missing()


def get(object_refs: Any, *, timeout: float | None = None) -> Any:
    """The value of a reference, or the values of a list of references in the same order.

    Waits for them, at most ``timeout`` seconds in all (then GetTimeoutError). Raises the exception of the task that
    failed: an instance of both TaskError and the cause's own class. Arrays are read-only views of shared memory.
    A generator's object is its own value.
    """
    if isinstance(object_refs, ObjectRefGenerator):
        return object_refs  # a program that gets whatever it was given need not know
    if isinstance(object_refs, ObjectRef):
        client = object_refs._client
        if client is not current.client:
            check_refs([object_refs], current.client)
        return client.values.get((object_refs,), timeout)[0]
    if not isinstance(object_refs, (list, tuple)):
        raise ValueError(f"hpc.get takes an ObjectRef or a list of them, not {type(object_refs).__name__}")
    for ref in object_refs:
        if not isinstance(ref, ObjectRef):
            raise TypeError(f"hpc.get takes ObjectRefs; the list has an element of type {type(ref).__name__}")
    if not object_refs:
        return []
    check_refs(object_refs, current.client)
    return object_refs[0]._client.values.get(object_refs, timeout)


def put(value: Any) -> ObjectRef[Any]:
    """Store a value and return a reference to it. Large values go into the node's shared memory."""
    if isinstance(value, ObjectRef):
        raise TypeError("hpc.put of an ObjectRef is not allowed: it already is a reference. Put it in a list if needed")
    return ensure_client().values.put(value)


def _either(given: Any, older: Any, both: str, none: str) -> Any:
    """The argument that was given, by either of its names. Raises TypeError for ``both``, and for ``none``."""
    if given is not MISSING and older is not MISSING:
        raise TypeError(both)
    found = older if given is MISSING else given
    if found is MISSING:
        raise TypeError(none)
    return found


def wait(
    ray_waitables: list[ObjectRef[Any]] = MISSING,
    *,
    num_returns: int = 1,
    timeout: float | None = None,
    fetch_local: bool = True,
    object_refs: list[ObjectRef[Any]] = MISSING,
) -> tuple[list[ObjectRef[Any]], list[ObjectRef[Any]]]:
    """Wait until ``num_returns`` of the references have values, or the timeout (seconds) has passed.

    Returns (ready, not ready), each in the order of the list; the first has at most ``num_returns`` elements. Of an
    empty list both are empty. Raises TypeError if it is given no list or other things than references. Raises
    ValueError if one is twice in the list, or ``num_returns`` is below 1 or above their number. With ``fetch_local``
    large values are brought to this node, and are ready when they are there; without, it is enough that they exist
    somewhere. ``object_refs`` is an older name of the list.
    """
    object_refs = _either(
        ray_waitables, object_refs, "hpc.wait takes one list: ray_waitables or object_refs, not both",
        "hpc.wait needs a list of ObjectRefs",
    )  # fmt: skip
    if isinstance(object_refs, (ObjectRef, ObjectRefGenerator)):
        raise TypeError("hpc.wait takes a list of ObjectRefs, not a single one")
    if not isinstance(object_refs, list):
        raise TypeError(f"hpc.wait takes a list of ObjectRefs, not a {type(object_refs).__name__}")
    if timeout is not None and timeout < 0:
        raise ValueError(f"timeout must not be negative, and is {timeout}")
    if not object_refs:
        return [], []
    refs = list(object_refs)
    generators = False
    if set(map(type, refs)) == ONLY_REFS:
        unique = len(set(map(ident_of, refs))) == len(refs)  # programs call this once for each of a thousand
    else:
        for ref in refs:
            if isinstance(ref, ObjectRefGenerator):
                generators = True
            elif not isinstance(ref, ObjectRef):
                raise TypeError(f"hpc.wait takes ObjectRefs; the list has an element of type {type(ref).__name__}")
        unique = len(set(refs)) == len(refs)
    if not unique:
        raise ValueError("hpc.wait needs a list of unique ObjectRefs")
    if num_returns <= 0:
        raise ValueError("num_returns must be at least 1")
    if num_returns > len(refs):
        raise ValueError(f"num_returns is {num_returns}, but there are only {len(refs)} references")
    check_refs(refs, current.client)
    client = refs[0]._client
    if not generators:
        return client.values.wait(refs, num_returns, timeout, fetch_local)
    by_id = {(ref.peek() if isinstance(ref, ObjectRefGenerator) else ref)._id: ref for ref in refs}
    peeks = [Peek(ident) for ident in by_id]
    ready, rest = client.values.wait(peeks, num_returns, timeout, fetch_local)
    return [by_id[one._id] for one in ready], [by_id[one._id] for one in rest]


def cancel(
    ray_waitable: ObjectRef[Any] | ObjectRefGenerator = MISSING,
    *,
    force: bool = False,
    recursive: bool = True,
    object_ref: ObjectRef[Any] | ObjectRefGenerator = MISSING,
) -> None:
    """Cancel the task or call that makes the object (any of its return values, or its generator), wherever it was
    submitted. Getting it then raises TaskCancelledError.

    What has not begun never does. In a task that runs KeyboardInterrupt is raised, in its main thread; if its code
    catches that and returns, its value stands. ``force`` ends its worker. In a coroutine of an actor it is
    asyncio.CancelledError. Other calls of actors run on, except where they wait for a reference or yield an item. They
    can ask `is_canceled` of the runtime context, and what they return is dropped. ``recursive`` cancels what they have
    submitted too. Finished tasks are left alone. Raises ValueError for ``force`` with an actor's call, and for a
    reference of an earlier session. ``object_ref`` is an older name of the reference.
    """
    object_ref = _either(
        ray_waitable, object_ref, "hpc.cancel takes one reference: ray_waitable or object_ref, not both",
        "hpc.cancel needs an ObjectRef or a generator's object",
    )  # fmt: skip
    if isinstance(object_ref, ObjectRefGenerator):
        object_ref = object_ref.completed()
    if not isinstance(object_ref, ObjectRef):
        raise TypeError(
            f"hpc.cancel takes an ObjectRef or a generator's object, not {type(object_ref).__name__}; "
            "an actor is ended with hpc.kill()"
        )
    check_refs([object_ref], current.client)
    object_ref._client.cancel(object_ref._id, force, recursive)
