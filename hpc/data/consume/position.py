"""Where a pass over a dataset is: small enough for every checkpoint, and of no number of ranks."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

VERSION = 1


class Position(NamedTuple):
    """``rows`` of the order of an ``epoch`` have been taken by all ranks together. ``fingerprint``: of what data.

    drawn: the number that the orders of this epoch without a seed come of; None before the epoch has begun."""

    fingerprint: str
    seed: int | None
    epoch: int
    rows: int
    drawn: int | None = None

    def next_epoch(self) -> Position:
        """The beginning of the next epoch."""
        return self._replace(epoch=self.epoch + 1, rows=0, drawn=None)

    def state(self) -> dict[str, Any]:
        """For a checkpoint."""
        return {**self._asdict(), "version": VERSION}


def position_of(state: Mapping[str, Any]) -> Position:
    """The position that `Position.state` has written. Raises ValueError for another version, or no such state."""
    if state.get("version") != VERSION:
        raise ValueError(f"this is no position of version {VERSION} in a dataset: {dict(state)!r:.200}")
    try:
        drawn = state.get("drawn")
        return Position(str(state["fingerprint"]), state["seed"], int(state["epoch"]), int(state["rows"]), drawn)
    except KeyError as error:
        raise ValueError(f"this is no position in a dataset: it has no {error}") from None


def fingerprint(words: Iterable[str]) -> str:
    """A short text that is another one for other pieces, or another order of them."""
    digest = hashlib.blake2b(digest_size=12)
    for word in words:
        digest.update(word.encode())
        digest.update(b"\0")
    return digest.hexdigest()
