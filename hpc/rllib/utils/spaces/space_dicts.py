"""Gymnasium spaces as plain dicts, for messages."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np


def space_to_dict(space: gym.Space[Any]) -> dict[str, Any]:
    """A space as a dict of numbers, strings and arrays.

    Raises:
        TypeError: it is of another kind than Box, Discrete, MultiDiscrete, MultiBinary, Dict or Tuple.
    """
    if isinstance(space, gym.spaces.Box):
        shape = list(space.shape)
        return {"space": "box", "low": space.low, "high": space.high, "shape": shape, "dtype": space.dtype.str}
    if isinstance(space, gym.spaces.Discrete):
        return {"space": "discrete", "n": int(space.n), "start": int(space.start)}
    if isinstance(space, gym.spaces.MultiDiscrete):
        return {"space": "multi-discrete", "nvec": space.nvec, "dtype": space.dtype.str, "start": space.start}
    if isinstance(space, gym.spaces.MultiBinary):
        return {"space": "multi-binary", "n": np.asarray(space.n).tolist()}
    if isinstance(space, gym.spaces.Dict):
        return {"space": "dict", "spaces": [[key, space_to_dict(part)] for key, part in space.spaces.items()]}
    if isinstance(space, gym.spaces.Tuple):
        return {"space": "tuple", "spaces": [space_to_dict(part) for part in space.spaces]}
    raise TypeError(f"{space} cannot be sent: a Box, Discrete, MultiDiscrete, MultiBinary, Dict or Tuple space can")


def space_from_dict(found: dict[str, Any]) -> gym.Space[Any]:
    """The space of what `space_to_dict` made."""
    kind = found["space"]
    if kind == "box":
        return gym.spaces.Box(found["low"], found["high"], tuple(found["shape"]), np.dtype(found["dtype"]).type)
    if kind == "discrete":
        return gym.spaces.Discrete(found["n"], start=found["start"])
    if kind == "multi-discrete":
        return gym.spaces.MultiDiscrete(found["nvec"], dtype=np.dtype(found["dtype"]).type, start=found["start"])
    if kind == "multi-binary":
        return gym.spaces.MultiBinary(found["n"])
    if kind == "dict":
        return gym.spaces.Dict({key: space_from_dict(part) for key, part in found["spaces"]})
    if kind == "tuple":
        return gym.spaces.Tuple([space_from_dict(part) for part in found["spaces"]])
    raise ValueError(f"{kind!r} is no kind of space that can be received")
