"""Batches as tensors of TensorFlow."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import numpy as np
import pyarrow as pa

from hpc.data.block.batch import to_batch


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


def specs_of(schema: pa.Schema, columns: str | list[str]) -> Any:
    """What a batch of a column is in TensorFlow, or a dict of that for several.

    Raises ValueError for a name that is no column, and for tensors of different shapes, which need a type of yours.
    """
    wanted = [columns] if isinstance(columns, str) else list(columns)
    missing = [name for name in wanted if name not in schema.names]
    if missing:
        raise ValueError(f"the dataset has no column {missing[0]!r}: its columns are {schema.names}")
    made = {name: _spec(schema.field(name)) for name in wanted}
    return made[columns] if isinstance(columns, str) else made


def _spec(field: pa.Field) -> Any:
    import tensorflow as tf

    kind = field.type
    if pa.types.is_list(kind) or pa.types.is_large_list(kind):
        return tf.RaggedTensorSpec((None, None), dtype=tf.as_dtype(kind.value_type.to_pandas_dtype()))
    array = to_batch(pa.schema([field]).empty_table(), "numpy")[field.name]
    if array.dtype.kind in "mM":
        raise ValueError(f"the column {field.name!r} is of {kind}, and TensorFlow has no such type: make numbers of it")
    if array.dtype != object:
        return tf.TensorSpec((None, *array.shape[1:]), dtype=tf.as_dtype(array.dtype), name=field.name)
    if pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_binary(kind):
        return tf.TensorSpec((None,), dtype=tf.string, name=field.name)
    raise ValueError(f"the column {field.name!r} is of {kind}: give the tf.TypeSpec of what it shall be")


def of_spec(array: np.ndarray, spec: Any) -> Any:
    """The tensor of a column that its `tf.TypeSpec` describes."""
    import tensorflow as tf

    if isinstance(spec, tf.RaggedTensorSpec):
        return tf.ragged.constant([np.asarray(cell).tolist() for cell in array], dtype=spec.dtype)
    return tensor(array, spec.dtype)


def dataset(batches: Iterable[Mapping[str, np.ndarray]], parts: list[tuple[str | list[str], Any]]) -> Any:
    """A `tf.data.Dataset` of tuples: for each part the tensor of its column, or a dict of those of its columns."""
    import tensorflow as tf

    def each() -> Iterator[tuple[Any, ...]]:
        for batch in batches:
            yield tuple(
                of_spec(batch[columns], spec)
                if isinstance(columns, str)
                else {name: of_spec(batch[name], spec[name]) for name in columns}
                for columns, spec in parts
            )

    made = tf.data.Dataset.from_generator(each, output_signature=tuple(spec for _, spec in parts))
    options = tf.data.Options()
    # Each process has its own rows already: a strategy would leave out some of them.
    options.experimental_distribute.auto_shard_policy = tf.data.experimental.AutoShardPolicy.OFF
    return made.with_options(options)
