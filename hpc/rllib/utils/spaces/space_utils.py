"""Records of gymnasium spaces: batches of nested ones, one-hot vectors, flat vectors, actions between bounds."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import gymnasium as gym
import numpy as np

from hpc.rllib.utils.trees import leaves, map_tree


class BatchedNdArray(np.ndarray):
    """An array that has a batch axis already: `batch` joins such ones instead of stacking them."""

    def __new__(cls, input_array: Any) -> BatchedNdArray:
        """View an array, or what can be made one, as batched."""
        return np.asarray(input_array).view(cls)


def get_base_struct_from_space(space: Any) -> Any:
    """The space as plain dicts and tuples, with its primitive spaces as leaves."""
    if isinstance(space, gym.spaces.Tuple):
        return tuple(get_base_struct_from_space(part) for part in space.spaces)
    if isinstance(space, gym.spaces.Dict):
        return {key: get_base_struct_from_space(part) for key, part in space.spaces.items()}
    return space


def is_composite_space(space: gym.Space[Any]) -> bool:
    """Whether a space has parts: Dict or Tuple."""
    return isinstance(space, (gym.spaces.Dict, gym.spaces.Tuple))


def flatten_space(space: gym.Space[Any]) -> list[gym.Space[Any]]:
    """The primitive spaces of a space, in order."""
    return list(leaves(get_base_struct_from_space(space)))


def batch(list_of_structs: list[Any], *, individual_items_already_have_batch_dim: bool | str = False) -> Any:
    """One tree of arrays with a row for each record.

    Raises:
        ValueError: there is no record.
    """
    if not list_of_structs:
        raise ValueError("Input `list_of_structs` does not contain any items.")
    first = list_of_structs[0]
    joined = individual_items_already_have_batch_dim
    if joined == "auto":
        joined = isinstance(next(leaves(first)), BatchedNdArray)
    if joined:
        return map_tree(lambda *parts: np.concatenate(parts, axis=0), first, *list_of_structs[1:])
    return map_tree(lambda *parts: np.array(parts), first, *list_of_structs[1:])


def unbatch(batches_struct: Any) -> list[Any]:
    """A list of records from a tree of arrays with a row for each."""
    if isinstance(batches_struct, np.ndarray):
        return list(batches_struct)
    count = len(next(leaves(batches_struct)))
    return [map_tree(lambda leaf, i=i: leaf[i], batches_struct) for i in range(count)]


def flatten_to_single_ndarray(input_: Any) -> Any:
    """All numbers of nested lists, tuples and dicts in one flat array."""
    if not isinstance(input_, (list, tuple, dict)):
        return input_
    parts = input_.values() if isinstance(input_, dict) else input_
    return np.concatenate([np.ravel(flatten_to_single_ndarray(part)) for part in parts])


# ---------------------------------------------------------------- one-hot and flat vectors


def one_hot(values: Any, depth: int, *, start: int = 0, dtype: Any = np.float32) -> np.ndarray:
    """Vectors of ``depth`` numbers that are 1 at the value and 0 elsewhere."""
    values = np.asarray(values, dtype=np.int64) - start
    out = np.zeros(values.shape + (depth,), dtype)
    np.put_along_axis(out, values[..., None], 1, axis=-1)
    return out


def _one_hot_leaf(value: Any, space: Any) -> Any:
    if isinstance(space, gym.spaces.Discrete):
        return one_hot(value, int(space.n), start=int(space.start))
    if isinstance(space, gym.spaces.MultiDiscrete):
        value = np.asarray(value)
        start = np.asarray(getattr(space, "start", np.zeros_like(space.nvec)))
        parts = [one_hot(value[..., i], int(n), start=int(start[i])) for i, n in enumerate(space.nvec)]
        return np.concatenate(parts, axis=-1)
    return value


def one_hot_tree(value: Any, space: gym.Space[Any]) -> Any:
    """A record, its Discrete and MultiDiscrete parts as one-hot vectors."""
    return map_space(_one_hot_leaf, value, space)


def map_space(function: Any, value: Any, space: Any) -> Any:
    """Apply a function to each leaf of a record and its primitive space."""
    if isinstance(space, gym.spaces.Dict):
        return {key: map_space(function, value[key], part) for key, part in space.spaces.items()}
    if isinstance(space, gym.spaces.Tuple):
        return tuple(map_space(function, one, part) for one, part in zip(value, space.spaces))
    return function(value, space)


def filled(space: gym.Space[Any], fill: Any, count: int | None, one_hot_discrete: bool = False) -> Any:
    """Records of a space that hold one value everywhere: one, or ``count`` of them in arrays."""
    lead = () if count is None else (count,)

    def full(_: Any, part: Any) -> np.ndarray:
        if one_hot_discrete and isinstance(part, gym.spaces.Discrete):
            return np.full(lead + (int(part.n),), fill, np.float32)
        if one_hot_discrete and isinstance(part, gym.spaces.MultiDiscrete):
            return np.full(lead + (int(np.sum(part.nvec)),), fill, np.float32)
        return np.full(lead + tuple(part.shape or ()), fill, part.dtype)

    return map_space(full, get_base_struct_from_space(space), space)


def get_dummy_batch_for_space(
    space: gym.Space[Any],
    batch_size: int = 32,
    *,
    fill_value: Any = 0.0,
    time_size: int | None = None,
    time_major: bool = False,
    one_hot_discrete: bool = False,
) -> Any:
    """Records that fit a space: of one value, or drawn (``fill_value="random"``); one without batch axis for size 0."""
    rows = None if batch_size == 0 else batch_size * (time_size or 1)
    if fill_value == "random":
        made = space.sample() if rows is None else batch([space.sample() for _ in range(rows)])
        made = one_hot_tree(made, space) if one_hot_discrete else made
    else:
        made = filled(space, fill_value, rows, one_hot_discrete)
    if time_size is None:
        return made
    lead = (time_size, batch_size) if time_major else (batch_size, time_size)
    return map_tree(lambda leaf: np.reshape(leaf, lead + leaf.shape[1:]), made)


def _ordered(value: Any, space: Any) -> Iterator[tuple[Any, Any]]:
    """Leaves and their spaces, the keys of dicts sorted where they can be."""
    if isinstance(space, gym.spaces.Dict):
        try:
            keys = sorted(space.spaces)
        except TypeError:
            keys = list(space.spaces)
        for key in keys:
            yield from _ordered(value[key], space.spaces[key])
    elif isinstance(space, gym.spaces.Tuple):
        for one, part in zip(value, space.spaces):
            yield from _ordered(one, part)
    else:
        yield value, space


def flat_size(space: gym.Space[Any]) -> int:
    """How many numbers `flatten` makes of one record."""
    return sum(flatten(filled(space, 0, 1), space, lead=1).shape[1:])


def flatten(value: Any, space: gym.Space[Any], *, lead: int = 0) -> np.ndarray:
    """A record as one float32 vector, Discrete parts one-hot; the first ``lead`` axes stay."""
    parts = []
    for leaf, part in _ordered(value, space):
        hot = np.asarray(_one_hot_leaf(leaf, part), dtype=np.float32)
        parts.append(hot.reshape(hot.shape[:lead] + (-1,)))
    return parts[0] if len(parts) == 1 else np.concatenate(parts, axis=-1)


# ---------------------------------------------------------------- actions


def clip_action(action: Any, action_space: Any) -> Any:
    """An action with the parts of Box spaces clipped to their bounds; the space may be nested dicts and tuples."""
    return _map_struct(
        lambda a, s: np.clip(a, s.low, s.high) if isinstance(s, gym.spaces.Box) else a, action, action_space
    )


def unsquash_action(action: Any, action_space_struct: Any) -> Any:
    """An action that a module gave between -1 and 1, between the bounds of the space."""

    def unsquash(a: Any, s: Any) -> Any:
        if not isinstance(s, gym.spaces.Box) or not (np.all(s.bounded_below) and np.all(s.bounded_above)):
            return a
        if np.issubdtype(s.dtype, np.floating):
            return np.clip(s.low + (a + 1.0) * (s.high - s.low) / 2.0, s.low, s.high)
        return s.low + a if np.issubdtype(s.dtype, np.integer) else a

    return _map_struct(unsquash, action, action_space_struct)


def shift_action(action: Any, action_space_struct: Any) -> Any:
    """An action whose discrete parts begin at 0, as modules give them, from the start of each space on."""

    def shift(a: Any, s: Any) -> Any:
        if isinstance(s, gym.spaces.Discrete):
            return a + int(s.start)
        return a + np.asarray(s.start) if isinstance(s, gym.spaces.MultiDiscrete) else a

    return _map_struct(shift, action, action_space_struct)


def normalize_action(action: Any, action_space_struct: Any) -> Any:
    """An action of the environment between -1 and 1: the inverse of `unsquash_action`."""

    def normalise(a: Any, s: Any) -> Any:
        if isinstance(s, gym.spaces.Box) and np.issubdtype(s.dtype, np.floating):
            return (a - s.low) * 2.0 / (s.high - s.low) - 1.0
        return a

    return _map_struct(normalise, action, action_space_struct)


def _map_struct(function: Any, action: Any, struct: Any) -> Any:
    if isinstance(struct, (gym.spaces.Dict, gym.spaces.Tuple)):
        struct = get_base_struct_from_space(struct)
    if isinstance(struct, dict):
        return {key: _map_struct(function, action[key], part) for key, part in struct.items()}
    if isinstance(struct, tuple):
        return tuple(_map_struct(function, one, part) for one, part in zip(action, struct))
    return function(action, struct)
