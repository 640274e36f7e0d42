"""torch's CPU tensors as values: their memory is handed over as it is, and read without a copy.

torch knows no read-only tensors: writing to one that lies in read-only memory would end the process. So a tensor that
comes out of the arena gets a private mapping of its pages. Reading shares them with everyone on the node; writing
copies the page for this process alone. Tensors that are not plain are left to torch's own pickling: on a device,
sparse, quantized, with a history of gradients, of their own class. Strides stay as they are: a memory format is kept,
and what is expanded takes the room of one row.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

from hpc.core.process.current import current

_DEVICE = "cpu"


def add_reducer(reducers: dict[type, Callable[[Any], Any]]) -> None:
    """Have tensors pickled this way, if torch is imported in this process; costs nothing where it is not."""
    torch = sys.modules.get("torch")
    kind = getattr(torch, "Tensor", None)
    if kind is not None and kind not in reducers:
        reducers[kind] = reduce_tensor


#: A tensor that has gaps takes along what lies in them, so that its strides stay; up to this many times its own size.
MAX_SPAN = 4


def reduce_tensor(tensor: Any) -> Any:
    """How a tensor is pickled."""
    import torch

    plain = (
        tensor.device.type == _DEVICE
        and tensor.layout is torch.strided
        and not tensor.is_nested
        and not tensor.is_quantized
        and (tensor.is_leaf or not tensor.requires_grad)
        and not tensor.is_conj()
        and not tensor.is_neg()
        and tensor.numel()
        and not tensor.__dict__
        and not (tensor.is_leaf and tensor.grad is not None)
    )
    if not plain:
        return tensor.__reduce_ex__(5)
    bare, shape, strides = tensor.detach(), tuple(tensor.shape), tuple(tensor.stride())
    span = 1 + sum((length - 1) * step for length, step in zip(shape, strides))
    if span > MAX_SPAN * tensor.numel():
        bare = bare.contiguous()
        span, strides = bare.numel(), tuple(bare.stride())
    flat = bare.as_strided((span,), (1,)).view(torch.uint8).numpy()
    return rebuild_tensor, (flat, str(tensor.dtype).removeprefix("torch."), shape, strides, tensor.requires_grad)


def rebuild_tensor(flat: Any, dtype: str, shape: tuple[int, ...], strides: tuple[int, ...], requires_grad: bool) -> Any:
    """The tensor again."""
    import numpy as np
    import torch

    client = current.client
    own = client.arena.private(flat) if client is not None else None
    if own is None:
        own = np.array(flat)
    tensor = torch.from_numpy(own).view(getattr(torch, dtype)).as_strided(shape, strides)
    return tensor.requires_grad_() if requires_grad else tensor
