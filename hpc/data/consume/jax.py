"""Batches as arrays of JAX."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from hpc.data.consume.torch import numbers

Paddings = Any


def collate(batch: Mapping[str, np.ndarray], dtypes: Any = None) -> dict[str, Any]:
    """A dict of arrays of JAX, on its default device.

    dtypes: the dtype of all columns, or of some by their names. Raises TypeError and RuntimeError for values that no
    array of JAX holds, KeyError for a name in `dtypes` that is no column.
    """
    import jax.numpy as jnp

    if isinstance(dtypes, Mapping):
        missing = [name for name in dtypes if name not in batch]
        if missing:
            raise KeyError(f"dtypes has {missing}, and the columns are {list(batch)}")
    made = {}
    for name, array in batch.items():
        dtype = dtypes.get(name) if isinstance(dtypes, Mapping) else dtypes
        array = array if array.dtype.kind in "fiub" else numbers(array, name)
        # JAX may keep what it is given on a CPU, and a view ends with its block.
        made[name] = jnp.array(array, dtype=dtype, copy=True)
    return made


def pad(batch: Mapping[str, np.ndarray], rows: int, paddings: Paddings) -> dict[str, np.ndarray]:
    """The batch with rows of padding behind its own, until it has so many.

    paddings: one value for all columns, or one for each by name. Raises KeyError for a column without a value.
    """
    made = {}
    for name, array in batch.items():
        if isinstance(paddings, Mapping) and name not in paddings:
            raise KeyError(f"paddings has no value for the column {name!r}: it has {list(paddings)}")
        value = paddings[name] if isinstance(paddings, Mapping) else paddings
        array = array if array.dtype.kind in "fiub" else numbers(array, name)
        whole = np.full((max(rows, len(array)), *array.shape[1:]), value, dtype=array.dtype)
        whole[: len(array)] = array
        made[name] = whole
    return made
