"""as_completed and map_unordered: results in the order in which they are there."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import hpc

CHUNK_SIZE = 10
BACKPRESSURE_SIZE = 100


def as_completed(
    refs: Sequence[hpc.ObjectRef[Any]], *, chunk_size: int = CHUNK_SIZE, yield_obj_refs: bool = False, **kwargs: Any
) -> Iterator[Any]:
    """The values of the references (with ``yield_obj_refs`` the references themselves) as they become ready.

    chunk_size: how many are waited for at a time: 1 gives each as soon as it is there, more cost less.
    kwargs: further options of `hpc.wait`: ``timeout``, ``fetch_local``.
    Raises ValueError for a chunk size below 1; iterating raises what a task raised.
    """
    _check(chunk_size, kwargs)
    return _drain(list(refs), chunk_size, yield_obj_refs, kwargs)


def map_unordered(
    fn: Any,
    items: Iterable[Any],
    *,
    backpressure_size: int | None = BACKPRESSURE_SIZE,
    chunk_size: int = CHUNK_SIZE,
    yield_obj_refs: bool = False,
    **kwargs: Any,
) -> Iterator[Any]:
    """The results of the remote function for every item, as they become ready. Submits while it is iterated over.

    backpressure_size: how many tasks may be submitted and not taken yet; None for all of them at once.
    chunk_size, yield_obj_refs, kwargs: as for `as_completed`.
    Raises TypeError if ``fn`` is not remote, ValueError for sizes below 1; iterating raises what a task raised.
    """
    if not callable(getattr(fn, "remote", None)):
        raise TypeError(f"map_unordered takes a remote function or an actor's method, not {type(fn).__name__}")
    if backpressure_size is not None and backpressure_size < 1:
        raise ValueError(f"backpressure_size must be at least 1, or None, not {backpressure_size}")
    _check(chunk_size, kwargs)
    return _submit(fn, items, backpressure_size, chunk_size, yield_obj_refs, kwargs)


def _check(chunk_size: int, kwargs: dict[str, Any]) -> None:
    if chunk_size < 1:
        raise ValueError(f"chunk_size must be at least 1, not {chunk_size}")
    if "num_returns" in kwargs:
        raise ValueError("say chunk_size instead of num_returns")
    unknown = sorted(set(kwargs) - {"timeout", "fetch_local"})
    if unknown:
        raise TypeError(f"hpc.wait() has no option {', '.join(unknown)}")


def _submit(
    fn: Any, items: Iterable[Any], limit: int | None, chunk_size: int, as_refs: bool, options: dict[str, Any]
) -> Iterator[Any]:
    refs: list[hpc.ObjectRef[Any]] = []
    for item in items:
        refs.append(fn.remote(item))
        while limit is not None and len(refs) >= limit:
            ready, refs = hpc.wait(refs, num_returns=min(chunk_size, len(refs)), **options)
            yield from ready if as_refs else hpc.get(ready)
    yield from _drain(refs, chunk_size, as_refs, options)


def _drain(refs: list[hpc.ObjectRef[Any]], chunk_size: int, as_refs: bool, options: dict[str, Any]) -> Iterator[Any]:
    while refs:
        ready, refs = hpc.wait(refs, num_returns=min(chunk_size, len(refs)), **options)
        yield from ready if as_refs else hpc.get(ready)


__all__ = ["as_completed", "map_unordered"]
