"""Tensors of several libraries as flat numpy arrays of the same memory."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from hpc.collective.ops import DTYPES

_NUMBERS = frozenset(DTYPES) - {"bytes"}
#: Whether numpy takes memory by DLPack to write into it; before it only read.
_LENDS = tuple(int(part) for part in np.__version__.split(".")[:2]) >= (2, 1)


class Flat(NamedTuple):
    """``array`` is the tensor's memory, or a copy that ``put_back`` brings there. ``dtype``: as in `ops.DTYPES`."""

    array: np.ndarray
    dtype: str
    put_back: Callable[[], None] | None = None


def is_tensor(value: Any) -> bool:
    """Whether it is an array of numpy or a tensor of torch."""
    if isinstance(value, np.ndarray):
        return True
    torch = sys.modules.get("torch")
    return torch is not None and isinstance(value, torch.Tensor)


def check_tensor(value: Any) -> None:
    """Raise RuntimeError, as Ray does, for what is no tensor."""
    if not is_tensor(value):
        raise RuntimeError(f"Unrecognized tensor type '{type(value)}'. Supported types are: np.ndarray, torch.Tensor.")


def check_tensors(values: Any) -> None:
    """Raise RuntimeError for what is no list of tensors."""
    if not isinstance(values, list):
        raise RuntimeError(f"The input must be a list of tensors. Got '{type(values)}'.")
    if not values:
        raise RuntimeError("Got an empty list of tensors.")
    for value in values:
        check_tensor(value)


def flatten(tensor: Any, writes: bool) -> Flat:
    """The tensor as a flat array. ``writes``: whether the operation writes into it.

    Raises ValueError for types of numbers that cannot be sent, tensors on a GPU, and arrays that may not be written."""
    if isinstance(tensor, np.ndarray):
        return _numpy(tensor, writes)
    return _torch(tensor, writes)


def _numpy(array: np.ndarray, writes: bool) -> Flat:
    if type(array) is not np.ndarray:
        if isinstance(array, np.ma.MaskedArray):
            raise ValueError("a masked array cannot be sent: send its data and its mask")
        # A matrix stays one of two dimensions when it is reshaped.
        array = array.view(np.ndarray)
    dtype = array.dtype
    if dtype.name not in _NUMBERS or not dtype.isnative:
        raise ValueError(f"arrays of {dtype} cannot be sent: the types are {', '.join(sorted(_NUMBERS))}")
    if writes and not array.flags.writeable:
        raise ValueError(
            "the array is read-only, as what hpc.get returns: copy it first, since the result goes into it"
        )
    if array.flags.c_contiguous:
        return Flat(array if array.ndim == 1 else array.reshape(-1), dtype.name)
    copy = np.ascontiguousarray(array)
    return Flat(copy.reshape(-1), dtype.name, (lambda: np.copyto(array, copy)) if writes else None)


def _torch(tensor: Any, writes: bool) -> Flat:
    import torch

    if tensor.device.type != "cpu":
        raise ValueError(f"the tensor is on {tensor.device}: this backend works on memory of the CPU; use nccl")
    name = str(tensor.dtype).removeprefix("torch.")
    if name not in _NUMBERS:
        raise ValueError(f"tensors of {tensor.dtype} cannot be sent: the types are {', '.join(sorted(_NUMBERS))}")
    plain = tensor.detach()
    whole = plain if plain.is_contiguous() else plain.contiguous()
    words = whole.view(torch.int16) if name == "bfloat16" else whole
    flat = words.reshape(-1)
    # `numpy()` would forbid for good to resize the tensor's memory, as FullyShardedDataParallel does at each step.
    array = np.from_dlpack(flat) if _LENDS else flat.numpy()
    if name == "bfloat16":
        array = array.view(np.uint16)
    if whole is plain or not writes:
        return Flat(array, name)

    def put_back() -> None:
        plain.copy_(whole)

    return Flat(array, name, put_back)
