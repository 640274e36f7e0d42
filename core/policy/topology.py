"""Where nodes are: domains (switches, racks, NVLink domains, TPU slices) from their labels, as columns over the nodes.

A label that several nodes share says that they are near each other. The labels that the runtime knows make a tree, from
the top of the network down to what few nodes share. Any other label can be named by a request. Pure functions.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from hpc.core.natural import natural
from hpc.core.policy.labels import NVLINK_DOMAIN, SWITCH, SWITCH_ABOVE, SWITCH_LEVELS, TPU_SLICE

Column = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Level:
    """One label over all nodes. ``names`` are its values as people count (s2 before s10). ``codes[i]`` is the index of
    the value of the node in row i, -1 where it has no such label."""

    key: str
    codes: Column
    names: list[str]


def level_of(key: str, labels: Sequence[Mapping[str, str]]) -> Level:
    """The level of a label, from the labels of each row."""
    values = [row.get(key, "") for row in labels]
    names = sorted({*values} - {""}, key=natural)
    index = {name: at for at, name in enumerate(names)}
    index[""] = -1
    return Level(key, np.array([index[value] for value in values], dtype=np.int64), names)


def tree_of(labels: Sequence[Mapping[str, str]]) -> list[Level]:
    """The levels of the labels that the runtime knows, from the top down, as far as any node has them."""
    levels: list[Level] = []
    for key in (SWITCH, *(f"{SWITCH_ABOVE}{n}" for n in range(1, SWITCH_LEVELS))):
        level = level_of(key, labels)
        if not level.names:
            break
        levels.insert(0, level)
    levels += [level_of(key, labels) for key in (TPU_SLICE, NVLINK_DOMAIN)]
    return [level for level in levels if level.names]


def along(levels: Sequence[Level], size: int) -> Column:
    """The rows in the order of the tree: those that share a domain are next to each other, then by their numbers."""
    if not levels:
        return np.arange(size, dtype=np.int64)
    return np.lexsort([np.arange(size), *(level.codes for level in reversed(levels))]).astype(np.int64)


def together(levels: Sequence[Level]) -> Column:
    """One code for the domains of several labels at once; -1 where one of them is missing."""
    codes = levels[0].codes
    for level in levels[1:]:
        codes = np.where((codes < 0) | (level.codes < 0), -1, codes * len(level.names) + level.codes)
    return codes
