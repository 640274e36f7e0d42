"""Rows of fixed length that episodes are stitched into, as world models train on them."""

from __future__ import annotations

from typing import Any

import numpy as np

from hpc.rllib.core.columns import Columns
from hpc.rllib.utils.replay_buffers.storage import TransitionStorage
from hpc.rllib.utils.trees import stack, take


def stitched(storage: TransitionStorage, rng: np.random.Generator, rows: int, length: int) -> dict[str, Any]:
    """`rows` rows of `length` records [B, T]. Where an episode ends, another one goes on from its start.

    A record has an observation, the reward that came with it (0 at the start of an episode) and the action that was
    taken then. The record of an episode's last observation repeats the action before.
    """
    out = [_row(storage, rng, length) for _ in range(rows)]
    return {name: stack([stack([record[name] for record in row]) for row in out]) for name in out[0][0]}


def _row(storage: TransitionStorage, rng: np.random.Generator, length: int) -> list[dict[str, Any]]:
    records: list[dict[str, Any]] = []
    place = int(rng.integers(0, len(storage)))
    begins = bool(storage.firsts[place])
    while len(records) < length:
        if begins:
            records.append(_record(storage, place, reward=0.0, first=True))
        records += _after(storage, place, length - len(records))
        starts = np.flatnonzero(storage.firsts[: len(storage)])
        # Without a start in the buffer, any step does.
        place = int(rng.choice(starts)) if len(starts) else int(rng.integers(0, len(storage)))
        begins = True
    return records[:length]


def _after(storage: TransitionStorage, place: int, count: int) -> list[dict[str, Any]]:
    """Records of what this step and those after it led to."""
    records = []
    for _ in range(count):
        reward = float(storage.columns[Columns.REWARDS][place])
        if not storage.goes_on(np.array([place]))[0]:
            last = _record(storage, place, reward=reward, first=False)
            last[Columns.OBS] = take(storage.led_to(np.array([place]))[Columns.NEXT_OBS], 0)
            last["is_last"] = True
            last["is_terminated"] = bool(storage.columns[Columns.TERMINATEDS][place])
            last["is_truncated"] = bool(storage.columns[Columns.TRUNCATEDS][place])
            records.append(last)
            break
        place = storage.next_of(place)
        records.append(_record(storage, place, reward=reward, first=False))
    return records


def _record(storage: TransitionStorage, place: int, *, reward: float, first: bool) -> dict[str, Any]:
    return {
        Columns.OBS: take(storage.columns[Columns.OBS], place),
        Columns.ACTIONS: take(storage.columns[Columns.ACTIONS], place),
        Columns.REWARDS: np.float32(reward),
        "is_first": first,
        "is_last": False,
        "is_terminated": False,
        "is_truncated": False,
    }
