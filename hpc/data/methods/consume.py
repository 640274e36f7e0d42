"""Methods that give all rows: iterators, batches, and the dataset that is in the object store."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any

from hpc.data.iterator import DataIterator, WholeIterator
from hpc.data.plan.nodes import BlockHandle
from hpc.data.planned import Planned


def iterator(self: Planned) -> DataIterator:
    """An iterator over this dataset, for a function that takes one. Each loop runs the dataset."""
    return WholeIterator(self)


def iter_rows(self: Planned) -> Iterable[dict[str, Any]]:
    """The rows, as dicts. Each loop runs the dataset."""
    return iterator(self).iter_rows()


def iter_batches(
    self: Planned,
    *,
    prefetch_batches: int = 1,
    batch_size: int | None = 256,
    batch_format: str | None = "default",
    drop_last: bool = False,
    local_shuffle_buffer_size: int | None = None,
    local_shuffle_seed: int | None = None,
) -> Iterable[Any]:
    """Batches, as `DataIterator.iter_batches` gives them. Each loop runs the dataset."""
    return iterator(self).iter_batches(**_given(locals()))


def iter_torch_batches(
    self: Planned,
    *,
    prefetch_batches: int = 1,
    batch_size: int | None = 256,
    dtypes: Any = None,
    device: Any = "auto",
    collate_fn: Callable[[Any], Any] | None = None,
    drop_last: bool = False,
    local_shuffle_buffer_size: int | None = None,
    local_shuffle_seed: int | None = None,
    pin_memory: bool = False,
) -> Iterable[Any]:
    """Batches of torch tensors, as `DataIterator.iter_torch_batches` gives them. Each loop runs the dataset."""
    return iterator(self).iter_torch_batches(**_given(locals()))


def iter_jax_batches(
    self: Planned,
    *,
    prefetch_batches: int = 1,
    batch_size: int = 256,
    dtypes: Any = None,
    collate_fn: Callable[[Any], Any] | None = None,
    drop_last: bool = False,
    local_shuffle_buffer_size: int | None = None,
    local_shuffle_seed: int | None = None,
    synchronize_batches: bool = False,
    paddings: Any = None,
) -> Iterable[Any]:
    """Batches of arrays of JAX, as `DataIterator.iter_jax_batches` gives them. Each loop runs the dataset."""
    return iterator(self).iter_jax_batches(**_given(locals()))


def iter_tf_batches(
    self: Planned,
    *,
    prefetch_batches: int = 1,
    batch_size: int | None = 256,
    dtypes: Any = None,
    drop_last: bool = False,
    local_shuffle_buffer_size: int | None = None,
    local_shuffle_seed: int | None = None,
) -> Iterable[Any]:
    """Batches of tensors of TensorFlow. Each loop runs the dataset."""
    return iterator(self).iter_tf_batches(**_given(locals()))


def to_tf(
    self: Planned,
    feature_columns: str | list[str],
    label_columns: str | list[str],
    *,
    additional_columns: str | list[str] | None = None,
    prefetch_batches: int = 1,
    batch_size: int = 1,
    drop_last: bool = False,
    local_shuffle_buffer_size: int | None = None,
    local_shuffle_seed: int | None = None,
    feature_type_spec: Any = None,
    label_type_spec: Any = None,
    additional_type_spec: Any = None,
) -> Any:
    """A ``tf.data.Dataset`` of features and labels, as `DataIterator.to_tf` gives it. Each loop runs the dataset."""
    return iterator(self).to_tf(**_given(locals()))


def _given(words: dict[str, Any]) -> dict[str, Any]:
    return {word: value for word, value in words.items() if word != "self"}


def materialize(self: Planned) -> Any:
    """The dataset with its blocks in the object store, for as long as it is there. It runs."""
    made = self.kept(self.handles())
    made._name, made._stats = self._name, self._stats
    return made


def iter_internal_ref_bundles(self: Planned) -> Iterator[BlockHandle]:
    """The blocks of a run: the reference of each, and what is known of it."""
    return self.handles()


def get_internal_block_refs(self: Planned) -> list[Any]:
    """References to the blocks. It runs."""
    return [handle.ref for handle in self.handles()]
