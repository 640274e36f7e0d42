"""Random numbers that belong to the number of a row: the same ones, whatever task computes them."""

from __future__ import annotations

import numpy as np

_STEP = np.uint64(0x9E3779B97F4A7C15)
_MIX = np.uint64(0xD6E8FEB86659FD93)
_HALF = np.uint64(32)
#: Words are mixed so many at a time, which the caches of the processor have: twice as fast.
_CHUNK = 1 << 14
#: The bits of a number that a float between 0 and 1 has no room for, and what one of the others is worth.
_BELOW, _UNIT = np.uint64(11), 2.0**-53


def mixed(words: np.ndarray) -> np.ndarray:
    """A bijection of uint64 in place, whose upper bits depend on all bits of its argument."""
    scratch = np.empty(min(len(words), _CHUNK), np.uint64)
    for start in range(0, len(words), _CHUNK):
        some = words[start : start + _CHUNK]
        shifted = scratch[: len(some)]
        for _ in range(2):
            some ^= np.right_shift(some, _HALF, out=shifted)
            some *= _MIX
    return words


def draws(seed: int, first: int, count: int) -> np.ndarray:
    """`count` random uint64, from the one of number `first` on: every row's is its own, whatever task computes it."""
    words = np.arange(first, first + count, dtype=np.uint64)
    words += mixed(np.array([seed], np.uint64))
    words *= _STEP
    return mixed(words)


def fractions(seed: int, first: int, count: int) -> np.ndarray:
    """The same as numbers from 0 to 1, which is not reached."""
    words = draws(seed, first, count)
    words >>= _BELOW
    return words * _UNIT


def key_of(*words: int | None) -> int:
    """A seed of 64 bits out of several numbers; another one each time where one of them is None."""
    known = [word for word in words if word is not None]
    entropy = [*map(abs, known), *(word < 0 for word in known)] if len(known) == len(words) else None
    return int(np.random.SeedSequence(entropy).generate_state(1, np.uint64)[0])
