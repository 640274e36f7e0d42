"""Ranks that hang, and ranks that are slow, noticed by the driver while it waits for reports.

Every few seconds each rank is asked how long it has waited for others. When one has waited for the limit, all are asked
what they are at in each of their groups. It follows whom they wait for, and those are asked for their stacks. A process
whose interpreter does not answer has its stack taken from outside, by a task on its node.
Nothing here waits: each look goes on where the last one ended.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import msgspec

import hpc
from hpc import spi
from hpc.train.errors import RankHangError
from hpc.train.rank_output import RankOutput
from hpc.train.stragglers import Stragglers
from hpc.util.scheduling_strategies import NodeAffinitySchedulingStrategy

#: Looks within the limit; and the longest and shortest time between two of them, in seconds.
LOOKS, MOST_S, LEAST_S = 5, 4.0, 0.2
#: How long ranks, and tasks on their nodes, may take to answer.
ANSWER_S, OUTSIDE_S = 2.0, 6.0
#: A look waits so long for answers, and then goes on at the next.
WAIT_S = 0.1

Steps = Generator[None, None, Any]


@dataclass
class Barrier:
    """What the driver knows of one kind of barrier, in which ranks wait until all of them have come."""

    world: int
    since: dict[int, float] = field(default_factory=dict)
    numbers: dict[int, int] = field(default_factory=dict)

    def come(self, rank: int, number: int) -> None:
        """A rank waits in the barrier of this number; the last one lets all go on."""
        self.since[rank], self.numbers[rank] = time.monotonic(), number
        if len(self.since) == self.world:
            self.since.clear()

    def longest_s(self) -> float:
        """How long a rank has waited."""
        return time.monotonic() - min(self.since.values()) if self.since else 0.0

    def rows(self, what: str) -> dict[int, spi.GroupRow]:
        """As a group of all ranks, of this name."""
        now, ranks, found = time.monotonic(), tuple(range(self.world)), {}
        for rank in ranks if self.since else ():
            number, since = self.numbers.get(rank, 0), self.since.get(rank)
            row = spi.GroupRow(what, rank, self.world, number, ranks=ranks)
            if since is not None:
                row = msgspec.structs.replace(row, first=number, operation=what, waits_s=now - since)
            found[rank] = row
        return found


class RankWatch:
    """``where``: of each rank its node for people, and the node's id. ``report_s``: a wait that is told; ``end_s``: one
    that ends the run, or None."""

    def __init__(
        self,
        actors: Sequence[Any],
        where: Sequence[tuple[str, str]],
        report_s: float,
        end_s: float | None,
        say: Callable[[str], None],
    ) -> None:
        self._barriers: dict[str, Barrier] = {}
        self._returned: set[int] = set()
        self._silent: set[int] = set()
        self._actors, self._where, self._say = list(actors), list(where), say
        self._report_s, self._end_s = report_s, end_s
        limits = [limit for limit in (report_s, end_s) if limit]
        self._every_s = max(LEAST_S, min([MOST_S, *(limit / LOOKS for limit in limits)]))
        self._told: spi.Hang | None = None
        self._cpu: dict[int, tuple[float, float]] = {}
        self._doing: dict[int, str] = {}
        self._stragglers = Stragglers()
        #: In words: ranks for which the others wait, and a wait that has no end.
        self.slow: list[str] = []
        self.hang = ""
        self._armed: dict[int, tuple[int, int, int, int]] = {}
        self._outputs: dict[int, tuple[str, str]] = {}
        self._steps = self._watch() if limits else None

    def come(self, rank: int, what: str, number: int) -> None:
        """A rank waits in a barrier of this kind that the driver holds."""
        self._barriers.setdefault(what, Barrier(len(self._actors))).come(rank, number)

    def returned(self, rank: int) -> None:
        """A rank's function has returned: it comes to nothing more."""
        self._returned.add(rank)

    def doing(self, rank: int) -> str:
        """What a rank is at, as far as the last look goes."""
        return self._doing.get(rank, "")

    def is_silent(self, rank: int) -> bool:
        """Whether its interpreter has not answered the last look."""
        return rank in self._silent

    def outputs(self) -> dict[str, list[RankOutput]]:
        """By node, the files in which what its ranks write is."""
        found: dict[str, list[RankOutput]] = {}
        for rank, (out, err) in self._outputs.items():
            found.setdefault(self._where[rank][1], []).append((rank, out, err))
        return found

    def look(self) -> None:
        """Go on looking. Raises RankHangError when ranks have waited for ``end_s``."""
        if self._steps is not None:
            next(self._steps)

    # -------------------------------------------------------------- the looks, one after the other

    def _watch(self) -> Steps:
        while True:
            if len(self._armed) < len(self._actors):
                for rank, (armed, outputs) in (
                    yield from self._ask("armed", range(len(self._actors)), ANSWER_S)
                ).items():
                    self._armed[rank], self._outputs[rank] = armed, outputs
            standing = yield from self._ask("standing", range(len(self._actors)), ANSWER_S)
            self._note(standing)
            here = [barrier.longest_s() for barrier in self._barriers.values()]
            longest_s = max([0.0, *here, *(one["waits_s"] for one in standing.values())])
            limit_s = min(limit for limit in (self._report_s, self._end_s) if limit)
            hang = None
            if longest_s >= limit_s:
                hang = yield from self._examine(limit_s)
            if hang is None or (self._told is not None and not hang.is_still(self._told)):
                self._resolved()
            if hang is not None:
                yield from self._tell(hang)
            until = time.monotonic() + self._every_s
            while time.monotonic() < until:
                yield

    def _note(self, standing: Mapping[int, Mapping[str, Any]]) -> None:
        """Remember how much each rank has computed since the last look."""
        now = time.monotonic()
        for rank, one in standing.items():
            before = self._cpu.get(rank)
            self._cpu[rank] = now, one["cpu_s"]
            if before is not None and now > before[0]:
                share = (one["cpu_s"] - before[1]) / (now - before[0])
                self._doing[rank] = f"it uses {100 * max(0.0, share):.0f} % of a core"
        self._silent = set(range(len(self._actors))) - set(standing)
        for rank in self._silent:
            self._doing[rank] = "its interpreter does not answer"
        for rank in self._returned:
            self._doing[rank] = "its function has returned"
        if len(standing) == len(self._actors) and self._report_s:
            for slow in self._stragglers.add({r: (one["samples"], one["waited"]) for r, one in standing.items()}):
                self.slow.append(f"rank {slow.rank} on {self._where[slow.rank][0]} is slow: it {slow.words()}")
                self._say(self.slow[-1])

    def _examine(self, limit_s: float) -> Generator[None, None, spi.Hang | None]:
        """Ask all what they are at; whom they wait for."""
        told = yield from self._ask("groups", self._answering(range(len(self._actors))), ANSWER_S)
        rows = {rank: list(its) for rank, its in told.items()}
        for what, barrier in self._barriers.items():
            for rank, row in barrier.rows(what).items():
                if rank in rows or row.first:
                    rows.setdefault(rank, []).append(row)
        return spi.find_hang(rows, limit_s)

    def _tell(self, hang: spi.Hang) -> Steps:
        waits_s = hang.longest.row.waits_s
        new = self._told is None
        ends = self._end_s is not None and waits_s >= self._end_s
        self._told = self._told or hang
        if not ends and not (new and self._report_s):
            return
        known = yield from self._culprits(hang)
        text = spi.describe_hang(hang, known)
        self.hang = text.splitlines()[0]
        if new and self._report_s:
            self._say(text)
        if ends:
            named = hang.culprits or tuple({wait.rank for wait in hang.waits})
            raise RankHangError(text, {rank: TimeoutError(text.splitlines()[0]) for rank in named})

    def _resolved(self) -> None:
        """What was told is over."""
        before, self._told, self.hang = self._told, None, ""
        if before is not None and self._report_s:
            row = before.longest.row
            self._say(f"{row.words()} goes on: it had waited for {spi.rank_numbers(before.culprits) or 'long'}")

    def _culprits(self, hang: spi.Hang) -> Generator[None, None, dict[int, spi.Sighting]]:
        """Where those ranks are, and at what."""
        asked = hang.culprits[: spi.MOST_STACKS]
        stacks = yield from self._ask("stack", self._answering(asked), ANSWER_S)
        silent = [rank for rank in asked if rank not in stacks and rank in self._armed]
        looks = {_look_at(self._where[rank][1], *self._armed[rank]): rank for rank in silent}
        seen = yield from self._gather(looks, OUTSIDE_S)
        for rank, (state, stack) in seen.items():
            stacks[rank] = stack
            if state == "T":
                self._doing[rank] = "its process is stopped (SIGSTOP, or a debugger)"
            elif stack:
                self._doing[rank] = "native code holds its interpreter"
        return {
            rank: spi.Sighting(self._where[rank][0], self._doing.get(rank, ""), stacks.get(rank, "")) for rank in asked
        }

    # -------------------------------------------------------------- questions

    def _answering(self, ranks: Iterable[int]) -> list[int]:
        return [rank for rank in ranks if rank not in self._silent]

    def _ask(self, what: str, ranks: Sequence[int] | range, limit_s: float) -> Generator[None, None, dict[int, Any]]:
        return (yield from self._gather({getattr(self._actors[r], what).remote(): r for r in ranks}, limit_s))

    def _gather(self, refs: dict[Any, int], limit_s: float) -> Generator[None, None, dict[int, Any]]:
        """The answers that come in time, by rank. A rank that has died is not our matter."""
        answers: dict[int, Any] = {}
        until = time.monotonic() + limit_s
        while refs:
            for ref in hpc.wait(list(refs), num_returns=len(refs), timeout=WAIT_S)[0]:
                rank = refs.pop(ref)
                try:
                    answers[rank] = hpc.get(ref)
                except Exception:
                    continue
            if time.monotonic() >= until:
                break
            if refs:
                yield
        return answers


def _look_at(node: str, pid: int, signum: int, fd: int, thread: int) -> Any:
    """A task on a node that takes the stack of a thread from outside its process."""
    look = hpc.remote(num_cpus=0)(spi.look_at)
    where = NodeAffinitySchedulingStrategy(node, soft=False)
    return look.options(scheduling_strategy=where).remote(pid, signum, fd, thread)
