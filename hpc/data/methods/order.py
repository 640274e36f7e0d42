"""Methods that change the order of rows or blocks, or leave rows out: sort, shuffle, repartition, sample, limit."""

from __future__ import annotations

from typing import Any

from hpc.data.options import RandomSeedConfig
from hpc.data.plan import nodes
from hpc.data.planned import D
from hpc.data.transform.sample import RandomSample


def seed_of(seed: int | RandomSeedConfig | None) -> Any:
    """A seed for a node of a plan: a number, None, or what gives another one for each run."""
    config = RandomSeedConfig.create_seed_config(seed)
    return config if config.seed is not None and config.reseed_after_execution else config.seed


def randomize_block_order(self: D, *, seed: int | RandomSeedConfig | None = None) -> D:
    """The blocks in a random order; the rows of a block stay as they are."""
    return self.derived(nodes.RandomizeBlocks(self.plan, seed_of(seed)))


def limit(self: D, limit: int) -> D:
    """The first rows: what comes behind them is not read."""
    if isinstance(limit, bool) or not isinstance(limit, int):
        raise TypeError(f"limit takes a number of rows, not {limit!r}")
    return self.derived(nodes.Limit(self.plan, max(limit, 0)))


def random_sample(self: D, fraction: float, *, seed: int | RandomSeedConfig | None = None) -> D:
    """Each row with this probability. Raises ValueError for a fraction that is not between 0 and 1."""
    if not 0 <= fraction <= 1:
        raise ValueError("Fraction must be between 0 and 1.")
    config = RandomSeedConfig.create_seed_config(seed)
    sample = RandomSample(fraction, config.seed, config.reseed_after_execution)
    return self.derived(nodes.Apply(self.plan, sample))
