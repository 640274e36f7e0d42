"""Ranks of a plain script that are started again when one has failed: `--max-restarts K`, as under torchrun."""

from __future__ import annotations

import signal
from collections.abc import Callable

from hpc.launch.chain import EXIT_CONTINUE
from hpc.launch.work import Ranks
from hpc.launchers.ranks_run import SESSION_LOST

#: After one of these the ranks are to end.
ENDS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT, signal.SIGKILL)


class RestartedRanks:
    """All ranks, up to ``most`` times again. ``begin`` starts them, with the number of starts before. ``say``: tells.

    Some ends are final: a lost node, a signal to end, and an exit code that asks for the next job.
    """

    def __init__(self, begin: Callable[[int], Ranks], most: int, say: Callable[[str], object]) -> None:
        self._begin, self._most, self._say = begin, most, say
        self._count = 0
        self._ends = False
        self._ranks = begin(0)

    def poll(self) -> int | None:
        code = self._ranks.poll()
        failure = self._ranks.run.failure
        if not code or failure is None or self._ends or self._count >= self._most:
            return code
        if SESSION_LOST in self._ranks.run.codes.values() or code == EXIT_CONTINUE or not self._ranks.run.done:
            return code
        self._count += 1
        self._say(self._ranks.last_words())
        self._say(f"all ranks start again ({self._count} of {self._most})")
        self._ranks = self._begin(self._count)
        return None

    def signal(self, signum: int) -> None:
        self._ends |= signum in ENDS
        self._ranks.signal(signum)

    def handles(self, signum: int) -> bool:
        return self._ranks.handles(signum)

    def last_words(self) -> str:
        """Of the last start."""
        return self._ranks.last_words()
