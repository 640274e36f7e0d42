"""The public names that Ray has under ``ray.internal``: freeing the memory of values by hand."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from hpc.core.owner.ref import ObjectRef


def free(object_refs: ObjectRef[Any] | Sequence[ObjectRef[Any]], local_only: bool = False) -> None:
    """Give up the values of these references now, although they are held: a later ``get`` raises ObjectFreedError.

    References that have no value yet are left alone. ``local_only`` has no effect: all copies go.
    Raises TypeError for anything but references.
    """
    refs = [object_refs] if isinstance(object_refs, ObjectRef) else list(object_refs)
    for ref in refs:
        if not isinstance(ref, ObjectRef):
            raise TypeError(f"free takes an ObjectRef or a list of them, not {type(ref).__name__}")
    if not refs:
        return
    refs[0]._client.free([ref._id for ref in refs])
