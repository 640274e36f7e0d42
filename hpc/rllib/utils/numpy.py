"""Functions on arrays that programs use in their own modules, connectors and losses."""

from __future__ import annotations

from typing import Any

import numpy as np

from hpc.rllib.utils.spaces.space_utils import one_hot as one_hot
from hpc.rllib.utils.trees import map_tree


def convert_to_numpy(x: Any, reduce_type: bool = True) -> Any:
    """Tensors within a nested structure as arrays. reduce_type: 64 bits become 32."""

    def convert(leaf: Any) -> Any:
        if isinstance(leaf, list):
            return [map_tree(convert, part) for part in leaf]
        array = leaf.detach().cpu().numpy() if hasattr(leaf, "detach") else np.asarray(leaf)
        if reduce_type and array.dtype in (np.float64, np.int64):
            array = array.astype(np.float32 if array.dtype == np.float64 else np.int32)
        return array

    return map_tree(convert, x)


def softmax(x: Any, axis: int = -1, epsilon: float | None = None) -> np.ndarray:
    """Probabilities along an axis. epsilon: none of them is less; None: 1e-6."""
    x = np.asarray(x, np.float64)
    powers = np.exp(x - x.max(axis=axis, keepdims=True))
    return np.maximum(powers / powers.sum(axis=axis, keepdims=True), 1e-6 if epsilon is None else epsilon)


def sigmoid(x: Any) -> np.ndarray:
    """1 / (1 + exp(-x))."""
    return 1.0 / (1.0 + np.exp(-np.asarray(x)))


def huber_loss(x: Any, delta: float = 1.0) -> np.ndarray:
    """Half the square, and a line with slope delta where x is further than delta."""
    x = np.abs(np.asarray(x))
    return np.where(x < delta, 0.5 * x**2, delta * (x - 0.5 * delta))
