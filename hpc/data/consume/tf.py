"""Batches as tensors of TensorFlow."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np


def collate(batch: Mapping[str, np.ndarray], dtypes: Any = None) -> dict[str, Any]:
    """A dict of tensors. Texts are tensors of strings, cells of different shapes ragged tensors.

    dtypes: the dtype of all columns, or of some by their names. Raises KeyError for a name that is no column.
    """
    if isinstance(dtypes, Mapping):
        missing = [name for name in dtypes if name not in batch]
        if missing:
            raise KeyError(f"dtypes has {missing}, and the columns are {list(batch)}")
        return {name: tensor(array, dtypes.get(name)) for name, array in batch.items()}
    return {name: tensor(array, dtypes) for name, array in batch.items()}


def tensor(array: np.ndarray, dtype: Any = None) -> Any:
    """A tensor with memory of its own."""
    import tensorflow as tf

    if array.dtype == object and len(array) and all(isinstance(cell, np.ndarray) for cell in array):
        if any(cell.shape != array[0].shape for cell in array):
            made = tf.ragged.stack([tf.convert_to_tensor(cell) for cell in array])
            return made if dtype is None else tf.cast(made, dtype)
        array = np.stack(list(array))
    if array.dtype == object:
        array = array.tolist()
    made = tf.convert_to_tensor(array)
    return made if dtype is None or made.dtype == dtype else tf.cast(made, dtype)


def columns_of(batch: Mapping[str, Any], columns: str | list[str]) -> Any:
    """The tensor of one column, or a dict of tensors of several."""
    if isinstance(columns, str):
        return batch[columns]
    return {name: batch[name] for name in columns}
