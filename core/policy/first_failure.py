"""Which of several ranks failed first: the others may only have noticed that it was gone. No I/O.

Ranks of different nodes are compared by the clocks of their machines, which may differ by more than a connection takes
to break. So words that say "the other side has gone" count for more than the time.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import NamedTuple

#: What libraries say when another rank has gone: the kernel, gloo, NCCL, torch's store, and our own collectives.
_FOLLOWS = re.compile(
    r"connection (was )?(reset|closed|refused|aborted)|broken pipe|peer closed|end of file|recv(Value|Bytes)? failed"
    r"|remote process exited|ncclRemoteError|store is down|failed to recv, got 0 bytes|transport endpoint"
    r"|rank \d+ \(.*\) has (died|left)|interrupted in \w+:",
    re.IGNORECASE,
)
#: An exception is named in the last lines of what is written of it.
_LAST_LINES = 3


class FailedRank(NamedTuple):
    """One rank's end. ``at``: when, by the clock of its machine. ``words``: the end of what it said of it."""

    rank: int
    at: float
    words: str = ""


def follows(words: str) -> bool:
    """Whether the last words of a rank say that another one has gone."""
    lines = [line for line in words.splitlines() if line.strip()]
    return any(_FOLLOWS.search(line) for line in lines[-_LAST_LINES:])


def in_order(failed: Sequence[FailedRank]) -> list[FailedRank]:
    """The first failure first: causes by their time, and then those that only follow, by theirs."""
    return sorted(failed, key=lambda one: (follows(one.words), one.at, one.rank))
