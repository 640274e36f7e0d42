"""What ranks may do with numbers, and the word by which they tell each other what they do."""

from __future__ import annotations

import enum
import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

#: The operations. The place in this list is what ranks tell each other.
OPERATIONS = (
    "nothing",
    "allreduce",
    "reduce",
    "broadcast",
    "allgather",
    "reducescatter",
    "alltoall",
    "gather",
    "scatter",
    "barrier",
    "send",
)
_CODES = {name: code for code, name in enumerate(OPERATIONS)}


class ReduceOp(enum.Enum):
    """How values of several ranks become one. AVERAGE is the sum divided by the number of ranks, for real and complex
    floating-point numbers. It is beyond Ray, which has the others."""

    SUM = 0
    PRODUCT = 1
    MIN = 2
    MAX = 3
    AVERAGE = 4


_UFUNCS: dict[ReduceOp, Any] = {
    ReduceOp.SUM: np.add,
    ReduceOp.PRODUCT: np.multiply,
    ReduceOp.MIN: np.minimum,
    ReduceOp.MAX: np.maximum,
    ReduceOp.AVERAGE: np.add,
}
#: The types of numbers, by numpy's names, and torch's for those that numpy does not have.
DTYPES = (
    "bytes",
    "bool",
    "int8",
    "uint8",
    "int16",
    "uint16",
    "int32",
    "uint32",
    "int64",
    "uint64",
    "float16",
    "float32",
    "float64",
    "complex64",
    "complex128",
    "bfloat16",
)
_DTYPE_CODES = {name: code for code, name in enumerate(DTYPES)}
Combine = Callable[[np.ndarray, np.ndarray, np.ndarray], Any]


def what(operation: str, nbytes: int, dtype: str = "bytes", op: ReduceOp | None = None, root: int = 0) -> int:
    """The word for an operation, equal on all ranks that do the same: 64 bits. ``root`` of a message is its tag."""
    reduction = 7 if op is None else op.value
    return _CODES[operation] | reduction << 4 | _DTYPE_CODES[dtype] << 7 | (root & 0xFFFF) << 12 | nbytes << 28


def describe(word: int) -> str:
    """Such a word in words, for errors."""
    operation, reduction = OPERATIONS[word & 15], word >> 4 & 7
    dtype, root, nbytes = DTYPES[word >> 7 & 31], word >> 12 & 0xFFFF, word >> 28
    text = operation
    if nbytes or operation not in ("barrier", "nothing"):
        text += f" of {nbytes} bytes" + ("" if dtype == "bytes" else f" of {dtype}")
    if reduction != 7:
        text += f" by {ReduceOp(reduction).name}"
    if operation in ("reduce", "broadcast", "gather", "scatter"):
        text += f" with rank {root}"
    if operation == "send" and root:
        text += f" tagged {root}"
    return text


class Reduction(NamedTuple):
    """How arrays of a type become one. ``combine`` takes (a, b, out)."""

    op: ReduceOp
    dtype: str
    combine: Combine

    def finish(self, flat: np.ndarray, ranks: int) -> None:
        """What is left to do once all are combined, in place."""
        if self.op is ReduceOp.AVERAGE:
            _divide(flat, self.dtype, ranks)


@functools.cache
def reduction(dtype: str, op: ReduceOp) -> Reduction:
    """How arrays of this type become one by this operation.

    Raises ValueError for an average of whole numbers, and for what the type does not have."""
    return Reduction(op, dtype, _combine(dtype, op))


def _combine(dtype: str, op: ReduceOp) -> Combine:
    if op is ReduceOp.AVERAGE and not dtype.startswith(("float", "complex", "bfloat")):
        raise ValueError(f"an average of {dtype} is no {dtype}: use SUM and divide")
    if dtype.startswith("complex") and op in (ReduceOp.MIN, ReduceOp.MAX):
        raise ValueError(f"{dtype} has no order, so no {op.name}")
    if dtype == "bfloat16":
        return _bfloat16(op)
    ufunc: Combine = _UFUNCS[op]
    return ufunc


def _bfloat16(op: ReduceOp) -> Combine:
    """numpy has no bfloat16: torch combines what numpy holds as 16-bit words."""
    import torch

    combine: dict[ReduceOp, Any] = {
        ReduceOp.SUM: torch.add,
        ReduceOp.PRODUCT: torch.mul,
        ReduceOp.MIN: torch.minimum,
        ReduceOp.MAX: torch.maximum,
        ReduceOp.AVERAGE: torch.add,
    }
    function = combine[op]

    def tensor(words: np.ndarray) -> torch.Tensor:
        return torch.from_numpy(words.view(np.int16)).view(torch.bfloat16)

    def call(a: np.ndarray, b: np.ndarray, out: np.ndarray) -> None:
        function(tensor(a), tensor(b), out=tensor(out))

    return call


def _divide(flat: np.ndarray, dtype: str, by: int) -> None:
    """Make an average of a sum, in place."""
    if dtype == "bfloat16":
        import torch

        torch.from_numpy(flat.view(np.int16)).view(torch.bfloat16).div_(by)
    else:
        np.divide(flat, by, out=flat)
