"""Nested observations and actions: one function over all leaves of dicts and tuples of arrays."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np


def map_tree(function: Callable[..., Any], tree: Any, *others: Any) -> Any:
    """Apply a function to each leaf of a tree, and to the leaves at the same place of other trees."""
    if isinstance(tree, dict):
        return {key: map_tree(function, tree[key], *(other[key] for other in others)) for key in tree}
    if isinstance(tree, tuple):
        parts = [map_tree(function, part, *(other[i] for other in others)) for i, part in enumerate(tree)]
        return type(tree)(*parts) if hasattr(tree, "_fields") else tuple(parts)
    return function(tree, *others)


def leaves(tree: Any) -> Iterator[Any]:
    """All leaves of a tree, in the order of its keys and places."""
    if isinstance(tree, dict):
        for part in tree.values():
            yield from leaves(part)
    elif isinstance(tree, tuple):
        for part in tree:
            yield from leaves(part)
    else:
        yield tree


def take(tree: Any, index: Any) -> Any:
    """The same rows of each leaf."""
    return tree[index] if isinstance(tree, np.ndarray) else map_tree(lambda leaf: leaf[index], tree)


def put(tree: Any, index: Any, value: Any) -> None:
    """Write rows into each leaf, in place."""
    if isinstance(tree, np.ndarray):
        tree[index] = value
    else:
        map_tree(lambda leaf, new: leaf.__setitem__(index, new), tree, value)


def stack(trees: list[Any], axis: int = 0) -> Any:
    """One tree of arrays with a new axis, from equally nested trees."""
    return map_tree(lambda *parts: np.stack(parts, axis=axis), trees[0], *trees[1:])


def concatenate(trees: list[Any], axis: int = 0) -> Any:
    """One tree of longer arrays, from equally nested trees."""
    return map_tree(lambda *parts: np.concatenate(parts, axis=axis), trees[0], *trees[1:])


def blank(tree: Any, lead: tuple[int, ...], skip: int = 1) -> Any:
    """Arrays of zeros like a tree's leaves, their first ``skip`` axes replaced by ``lead``."""
    return map_tree(lambda leaf: np.zeros(lead + leaf.shape[skip:], leaf.dtype), tree)
