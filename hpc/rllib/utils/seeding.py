"""Seeds of a runner: for its environments, for drawing actions and for torch, none shared with another runner."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Seeds:
    """The seeds of one runner in one life. Each is None where no seed was given: fresh entropy is used then."""

    #: Of the vector environment: an int below 2**31, or None.
    env: int | None
    #: Of the torch module's first weights and noise.
    torch: int | None
    #: Draws actions.
    actions: np.random.Generator


def runner_seeds(seed: int | None, runner: int = 0, restarts: int = 0) -> Seeds:
    """The seeds of a runner by the job's seed, its index, and how often it was started anew.

    All pairs of index and restarts give streams that are independent, so that no two runners see the same episodes.

    Raises:
        ValueError: the seed is negative.
    """
    if seed is None:
        return Seeds(None, None, np.random.default_rng())
    if seed < 0:
        raise ValueError(f"seed={seed}: a seed is an int of 0 or more, or None for fresh entropy")
    sequence = np.random.SeedSequence(entropy=seed, spawn_key=(runner, restarts))
    env, torch = (int(word) >> 1 for word in sequence.generate_state(2))
    return Seeds(env, torch, np.random.Generator(np.random.PCG64(sequence.spawn(1)[0])))
