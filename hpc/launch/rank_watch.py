"""Ranks of a plain script that hang, noticed by the launcher: as `hpc.train` does for its own.

Ranks that have waited for others for a while say so. After the limit all are asked what they are at in their groups,
and it follows whom they wait for. Those have their stacks taken from outside, which works whatever they do.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import msgspec

from hpc.core.node.bootstrap import Message
from hpc.core.node.settings import setting
from hpc.core.policy.hangs import MOST_STACKS, GroupRow, Hang, Sighting, find_hang, numbers, report
from hpc.launch.report import Reporter
from hpc.launch.restarts import RestartedRanks
from hpc.launch.work import Ranks, Work
from hpc.launchers.loop import SessionLoop
from hpc.launchers.ranks_run import RanksRun
from hpc.launchers.session_nodes import SessionNode
from hpc.settings.options import Settings

#: How long ranks may take to say what they are at, and a stack to be taken.
ANSWER_S, STACK_S = 2.0, 4.0


class RankWatch:
    """``report_s``: a wait that is told; ``end_s``: one that ends the run; 0: never. ``say``: tells the user."""

    def __init__(self, report_s: float, end_s: float, say: Callable[[str], None]) -> None:
        self._report_s, self._end_s, self._say = report_s, end_s, say
        self._limit_s = min(limit for limit in (report_s, end_s) if limit)
        self._run: RanksRun | None = None
        self._where: dict[int, SessionNode] = {}
        self._armed: dict[int, list[int]] = {}
        self._waits: dict[int, tuple[float, float]] = {}  # by rank: when it was heard of, how long it had waited then
        self._rows: dict[int, list[GroupRow]] = {}
        self._stacks: dict[int, tuple[str, str]] = {}
        self._hang: Hang | None = None  # whose stacks are being taken
        self._told: Hang | None = None
        self._silent: set[int] = set()  # those that did not say what they are at
        self._asked_s = self._looked_s = 0.0

    def begin(self, run: RanksRun) -> None:
        """The ranks are started."""
        self._run = run

    def heard(self, rank: int, info: SessionNode, message: Message) -> None:
        """What a rank says of itself, or its stack."""
        self._where[rank] = info
        if message["op"] == "rank_stack":
            self._stacks[rank] = str(message["state"]), str(message["stack"])
            return
        for line in str(message["text"]).splitlines():
            try:
                self._take(rank, json.loads(line))
            except (ValueError, KeyError, TypeError):
                continue  # half a line of a process that was killed

    def _take(self, rank: int, told: dict[str, Any]) -> None:
        now = time.monotonic()
        if "armed" in told:
            self._armed[rank] = told["armed"]
            return
        self._waits[rank] = now, float(told["waits_s"])
        if "rows" in told:
            self._rows[rank] = msgspec.convert(told["rows"], list[GroupRow])

    def look(self) -> None:
        """Ask, find out, tell: whatever it is time for."""
        run, now = self._run, time.monotonic()
        if run is None:
            return
        if self._hang is not None:
            asked = self._culprits(self._hang)
            if all(rank in self._stacks for rank in asked if rank in self._armed) or now > self._asked_s + STACK_S:
                hang, self._hang = self._hang, None
                self._tell(hang, run)
        elif self._asked_s:
            alive = run.world - len(run.codes)
            if len(self._rows) >= alive or now > self._asked_s + ANSWER_S:
                self._asked_s = 0.0
                self._silent = set(range(run.world)) - set(self._rows)
                self._found(find_hang(self._rows, self._limit_s), run)
        elif self._longest_s(now, run) >= self._limit_s and now > self._looked_s + self._limit_s / 5:
            self._looked_s = self._asked_s = now
            self._rows.clear()
            run.session.send({"op": "rank_ask"})
        elif self._told is not None and self._longest_s(now, run) < self._limit_s:
            self._resolved()

    def _longest_s(self, now: float, run: RanksRun) -> float:
        """How long a rank has waited."""
        waits = [now - at + s for rank, (at, s) in self._waits.items() if s > 0 and rank not in run.codes]
        return max(waits, default=0.0)

    def _found(self, hang: Hang | None, run: RanksRun) -> None:
        if self._told is not None and (hang is None or not hang.is_still(self._told)):
            self._resolved()
        if hang is None:
            return
        ends = self._end_s and hang.longest.row.waits_s >= self._end_s
        if self._told is not None and not ends:
            return
        self._hang, self._asked_s = hang, time.monotonic()
        self._stacks.clear()
        for rank in self._culprits(hang):
            if rank in self._armed:
                pid, signum, fd, thread = self._armed[rank]
                run.session.send({"op": "rank_ask", "r": rank, "pid": pid, "sig": signum, "fd": fd, "thread": thread})

    def _tell(self, hang: Hang, run: RanksRun) -> None:
        self._asked_s = 0.0
        known = {rank: self._known(rank, run) for rank in self._culprits(hang)}
        text = report(hang, known)
        if self._report_s and self._told is None:
            self._say(text)
        self._told = self._told or hang
        if self._end_s and hang.longest.row.waits_s >= self._end_s:
            run.hung(text, min(hang.culprits, default=hang.longest.rank))

    def _known(self, rank: int, run: RanksRun) -> Sighting:
        info = self._where.get(rank)
        state, stack = self._stacks.get(rank, ("", ""))
        doing = ""
        if rank in run.codes:
            doing = "it has ended"
        elif state == "T":
            doing = "its process is stopped (SIGSTOP, or a debugger)"
        elif rank not in self._armed:
            doing = "its stack cannot be taken: it is no Python program, or one that was told to ignore PYTHONPATH"
        elif rank in self._silent:
            doing = "native code holds its interpreter"
        return Sighting(info.name if info is not None else "", doing, stack)

    def _resolved(self) -> None:
        told, self._told = self._told, None
        if told is not None and self._report_s:
            culprits = numbers(told.culprits) if told.culprits else "long"
            self._say(f"{told.longest.row.words()} goes on: it had waited for {culprits}")

    @staticmethod
    def _culprits(hang: Hang) -> tuple[int, ...]:
        return hang.culprits[:MOST_STACKS]


def rank_watch(report_s: float, end_s: float, say: Callable[[str], None]) -> RankWatch | None:
    """The watch that these limits mean; None for none."""
    return RankWatch(report_s, end_s, say) if report_s or end_s else None


def ranks_of(
    settings: Settings, loop: SessionLoop, argv: Sequence[str], env: Mapping[str, str], reporter: Reporter
) -> Work:
    """Start the script once per rank, watched as the options of the runtime say."""
    limits = [setting(name, settings.runtime, os.environ) for name in ("rank_hang_report_s", "rank_hang_end_s")]
    job = reporter.job.path if reporter.job is not None else None
    most = settings["max_restarts"] or 0

    def say(text: str) -> None:
        reporter.status.note(f"hpc: {text}")

    def begin(restarts: int) -> Ranks:
        return Ranks(
            loop, argv, settings["ranks_per_node"], env, job=job, watcher=rank_watch(limits[0], limits[1], say),
            restarts=restarts, max_restarts=most,
        )  # fmt: skip

    return RestartedRanks(begin, most, say) if most else begin(0)
