"""Looking in: what nodes and processes know, their logs, and the cluster as the head sees it."""

from __future__ import annotations

from typing import Literal

from hpc.core.wire.base import Message

#: The tags of the messages of this file.
TAGS = range(176, 192)
#: Nobody tells more rows than this, whatever is asked for.
MOST_ROWS = 1 << 31


class StateQuery(Message, tag=176):
    """To a raylet or a process: tell what you know of ``what`` ("tasks", "workers", ...), at most ``limit`` rows."""

    req: int
    what: str
    limit: int

    @property
    def most(self) -> int:
        """The limit, where it is a number of rows: any process of the session can send any number."""
        return min(max(0, self.limit), MOST_ROWS)


class StateAnswer(Message, tag=177):
    """Rows, as a msgpack list of maps. ``left_out`` more had no room in the message."""

    req: int
    data: bytes
    left_out: int = 0


class ClusterQuery(Message, tag=179):
    """Ask the head for a view of the cluster, as JSON."""

    req: int
    what: Literal["nodes", "session"]


class LogQuery(Message, tag=180):
    """To a raylet: at most ``size`` bytes of one of its node's log files, from ``at`` on (below 0: from so far before
    its end). The Answer is msgpack, see raylet/logfiles."""

    req: int
    file: str
    at: int
    size: int


class LogSearch(Message, tag=184):
    """To a raylet: which lines of a log file of its node have ``text`` in them, without regard to case. These are the
    last ones from ``begin`` to ``end`` (below 0: its end). The Answer is msgpack, see raylet/logfiles."""

    req: int
    file: str
    begin: int
    end: int
    text: bytes


class LogLines(Message, tag=181):
    """What a worker wrote: for the terminal of the driver whose work it does. ``size`` bytes of its file are in it."""

    node: int
    pid: int
    name: str
    lines: list[str]
    is_err: bool
    size: int = 0


class LogsSeen(Message, tag=182):
    """Driver to raylet: so many bytes of `LogLines` were shown, and more may come."""

    size: int


class FlushLogs(Message, tag=183):
    """To a raylet: the driver leaves: send it what its workers have printed, then an Answer. To a worker: write out
    what was printed without an end of line, then an Answer: the nodes where the workers had something done."""

    req: int
