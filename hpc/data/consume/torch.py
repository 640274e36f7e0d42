"""Batches as tensors of PyTorch: pictures share the pages of their block until they are written to, others are copied
once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from hpc import spi

Dtypes = Any


def collate(batch: Mapping[str, np.ndarray], dtypes: Dtypes = None, pin_memory: bool = False) -> dict[str, Any]:
    """A dict of tensors of a dict of arrays. An array that owns its memory, and may be written to, becomes the tensor.

    dtypes: the dtype of all columns, or of some by their names. Raises TypeError for texts and other values that no
    tensor holds, and RuntimeError for cells of different shapes. A name in `dtypes` that is no column is a KeyError.
    """
    if dtypes is None and not pin_memory:
        from torch import from_numpy

        return {
            name: from_numpy(owned(array)) if array.dtype.kind in "fiub" else tensor(array, name=name)
            for name, array in batch.items()
        }
    if isinstance(dtypes, Mapping):
        for name in dtypes:
            if name not in batch:
                raise KeyError(f"dtypes has {name!r}, and the columns are {list(batch)}")
        return {name: tensor(array, dtypes.get(name), pin_memory, name) for name, array in batch.items()}
    return {name: tensor(array, dtypes, pin_memory, name) for name, array in batch.items()}


#: Fewer bytes of a column are copied: a mapping costs as much then, and would keep the whole block for few of its rows.
PRIVATE_FROM_BYTES = 1 << 20
#: Pictures are converted, seldom written to: a mapping takes half of the time of a copy. Writing to all of its pages
#: takes five times as long as to a copy, which floats, scaled in place, would pay.
PRIVATE_KINDS = (np.dtype(np.uint8),)


def owned(array: np.ndarray) -> np.ndarray:
    """The array as one that may be written to, and that nobody else has.

    What was put together of several blocks is one already. Large pictures share the pages of their block until they
    are written to. Others are copied."""
    if array.flags.owndata and array.flags.writeable:
        return array
    large = array.nbytes >= PRIVATE_FROM_BYTES and array.dtype in PRIVATE_KINDS
    own = spi.private(array) if large else None
    return np.array(array) if own is None else own


def tensor(array: np.ndarray, dtype: Any = None, pin_memory: bool = False, name: str = "") -> Any:
    """A tensor with memory of its own. Raises as `collate` does."""
    import torch

    if array.dtype.kind not in "fiub":
        array = numbers(array, name)
    wanted = array.dtype if dtype is None else NUMPY.get(str(dtype).removeprefix("torch."))
    if wanted is None and not isinstance(dtype, torch.dtype):
        raise TypeError(f"dtypes has {dtype!r}, which is no dtype of torch")
    if pin_memory:
        source = torch.from_numpy(array if array.flags.writeable else owned(array))
        return source.to(dtype=dtype or source.dtype).pin_memory()
    if wanted is not None and wanted == array.dtype and array.flags.c_contiguous:
        return torch.from_numpy(owned(array))
    if wanted is not None:
        # The copy and the conversion are one pass; the array may be a view that nobody may write to.
        return torch.from_numpy(np.array(array, dtype=wanted, order="C"))
    return torch.from_numpy(np.array(array, order="C")).to(dtype)


#: The dtypes of torch that numpy has too, by name.
ALIASES = {
    "half": "float16",
    "float": "float32",
    "double": "float64",
    "long": "int64",
    "int": "int32",
    "short": "int16",
}
INTEGERS = [f"{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64)]
NUMPY = {name: np.dtype(name) for name in ("bool", "float16", "float32", "float64", *INTEGERS)}
NUMPY |= {alias: np.dtype(name) for alias, name in ALIASES.items()}


def numbers(array: np.ndarray, name: str = "") -> np.ndarray:
    """An array of arrays as one array of numbers, if their shapes agree."""
    column = f"the column {name!r}" if name else "an array"
    if array.dtype == object and all(cell is None for cell in array):
        return np.full(len(array), np.nan, dtype=np.float32)
    if array.dtype == object and len(array) and all(isinstance(cell, np.ndarray) for cell in array):
        if any(cell.shape != array[0].shape for cell in array):
            raise RuntimeError(
                f"{column} has cells of different shapes, which are no tensor: make them equal before, or give a "
                "collate_fn that pads them"
            )
        array = np.stack(list(array))
    if array.dtype == object and len(array) and isinstance(array[0], bool):
        raise TypeError(f"{column} has nulls among its truth values, which no tensor holds: fill them before")
    if array.dtype.kind not in "fiubc":
        first = array.flat[0] if array.size else None
        raise TypeError(
            f"{column} is of {array.dtype if array.dtype != object else type(first).__name__}, which no tensor holds: "
            "leave it out with select_columns, or give a collate_fn"
        )
    return array


def to_device(batch: Any, device: Any, non_blocking: bool = False) -> Any:
    """The batch with its tensors on a device. Dicts, lists and tuples keep their shape; anything else is as it was."""
    import torch

    if device is None:
        return batch
    if isinstance(batch, torch.Tensor):
        return batch.to(device, non_blocking=non_blocking)
    if isinstance(batch, Mapping):
        return {name: to_device(one, device, non_blocking) for name, one in batch.items()}
    if isinstance(batch, tuple):
        moved = (to_device(one, device, non_blocking) for one in batch)
        return type(batch)(*moved) if hasattr(batch, "_fields") else tuple(moved)
    if isinstance(batch, list):
        return [to_device(one, device, non_blocking) for one in batch]
    return batch


def features_and_label(
    batch: Mapping[str, np.ndarray],
    label_column: str | None,
    feature_columns: Any,
    label_dtype: Any = None,
    feature_dtypes: Any = None,
    unsqueeze_label: bool = True,
    unsqueeze_features: bool = True,
) -> tuple[Any, Any]:
    """The pair (features, label) of `to_torch`.

    feature_columns: names give one tensor with a column for each. A list of lists gives a list of tensors, and a dict
    of lists gives a dict. None stands for all columns but the label.
    """
    import torch

    def joined(names: Sequence[str], dtype: Any) -> Any:
        parts = []
        for place, name in enumerate(names):
            one = tensor(batch[name], dtype[place] if isinstance(dtype, (list, tuple)) else dtype, name=name)
            parts.append(one.unsqueeze(1) if unsqueeze_features and one.dim() == 1 else one)
        return torch.cat(parts, dim=1) if len(parts) > 1 else parts[0]

    label = None
    if label_column is not None:
        label = tensor(batch[label_column], label_dtype, name=label_column)
        label = label.unsqueeze(1) if unsqueeze_label and label.dim() == 1 else label
    names = feature_columns or [name for name in batch if name != label_column]
    if isinstance(names, Mapping):
        kinds = feature_dtypes if isinstance(feature_dtypes, Mapping) else dict.fromkeys(names, feature_dtypes)
        return {key: joined(columns, kinds.get(key)) for key, columns in names.items()}, label
    if names and not isinstance(names[0], str):
        some = feature_dtypes if isinstance(feature_dtypes, (list, tuple)) else [feature_dtypes] * len(names)
        return [joined(columns, kind) for columns, kind in zip(names, some)], label
    return joined(names, feature_dtypes), label
