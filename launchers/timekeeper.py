"""How long a job lasts still: asked of its scheduler again and again, because users and admins change limits.

`TimeLimit` is pure: what is known, and when to ask. `Timekeeper` asks, in a session's loop. It tells the session's
nodes the seconds that remain, and does what is to be done so and so long before the end. Nothing is done on an old
answer, unless the scheduler does not give a new one. (A job that was suspended has more time left than its clock says.)

Rejected: the end as a time of day, for clocks of nodes differ, and a suspension moves it. Rejected too: waiting for the
scheduler's own signal. Not all send one, and none tells that a limit was extended.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from hpc.launchers.loop import LoopTimer, SessionLoop
from hpc.launchers.scheduler import Inquiry, JobInfo

#: The scheduler is asked again after so long, and not more often than after the second, whatever was asked for.
ASK_S, ASK_LEAST_S = 60.0, 1.0
#: Ahead of each moment at which something is to be done it is asked so early; an answer of that age counts as new.
LEAD_S = 5.0
FRESH_S = 10.0
#: When something is due and the answer does not come, this is how long to wait for it.
PATIENCE_S = 3.0
#: Schedulers count in whole seconds: a smaller change is none.
CHANGE_S = 2.5
POLL_S = 0.1


@dataclass(eq=False)
class Moment:
    """Something to be done once, `before_s` ahead of the end."""

    before_s: float
    call: Callable[[], object]


@dataclass
class TimeLimit:
    """When a job ends, as far as is known; all times are of one clock, in seconds."""

    ask_s: float = ASK_S
    ends_at: float | None = None
    asked_at: float = float("-inf")  # when the last question was asked that has got its answer, or never will
    moments: list[Moment] = field(default_factory=list)

    def learn(self, left_s: float | None, now: float) -> bool:
        """An answer; whether it is news."""
        old = self.ends_at
        new = None if left_s is None else now + left_s
        if old is not None and new is not None and abs(new - old) < CHANGE_S:
            return False
        self.ends_at = new
        return old != new

    def due(self, now: float) -> list[Moment]:
        """The moments that have come, if the end is where it is thought to be."""
        ends_at = self.ends_at
        return [] if ends_at is None else [m for m in self.moments if now >= ends_at - m.before_s]

    def is_fresh(self, now: float) -> bool:
        """Whether what is known is new enough to act upon."""
        return now - self.asked_at <= FRESH_S

    def ask_at(self) -> float:
        """When to ask next."""
        at = self.asked_at + self.ask_s
        for moment in self.moments if self.ends_at is not None else ():
            assert self.ends_at is not None
            early = self.ends_at - moment.before_s - LEAD_S
            if early > self.asked_at:
                at = min(at, early)
        return at

    def look_at(self, now: float, asks: bool) -> float | None:
        """When there is something to do next: to ask, if somebody can be asked, or a moment has come. None: never."""
        ends_at = self.ends_at
        moments = [] if ends_at is None else [ends_at - m.before_s for m in self.moments]
        times = [self.ask_at(), *moments] if asks else moments
        return max(now, min(times)) if times else None


class Timekeeper:
    """Keeps the time of the job of a session's first nodes.

    ask: asks the scheduler about the job; None where nobody can be asked. left_s: what is known at the start.
    on_change: called when the limit is another than it was. nodes: the job is that of these nodes only.
    """

    def __init__(
        self,
        loop: SessionLoop,
        ask: Callable[[], Inquiry] | None,
        *,
        left_s: float | None = None,
        ask_s: float = ASK_S,
        on_change: Callable[[], object] | None = None,
        nodes: Sequence[int] | None = None,
    ) -> None:
        now = time.monotonic()
        self.loop = loop
        self.limit = TimeLimit(max(ASK_LEAST_S, ask_s))
        self.on_change = on_change
        self._nodes = {} if nodes is None else {"nodes": list(nodes)}
        self._ask = ask
        self._question: Inquiry | None = None
        self._began = 0.0  # when it was asked
        self._timer: LoopTimer | None = None
        if left_s is not None:
            self.limit.learn(left_s, now)
            self.limit.asked_at = now
        self._look()

    @property
    def left_s(self) -> float | None:
        """Seconds until the scheduler ends the job; None where it does not, or nothing is known."""
        ends_at = self.limit.ends_at
        return None if ends_at is None else max(0.0, ends_at - time.monotonic())

    def before_end(self, before_s: float, call: Callable[[], object]) -> Moment:
        """Have something done so long before the end, once; it may be moved, by its ``before_s``, in `on_change`."""
        moment = Moment(before_s, call)
        self.limit.moments.append(moment)
        self._look()
        return moment

    def learn(self, info: JobInfo) -> None:
        """Somebody else has asked, just now."""
        now = time.monotonic()
        self.limit.asked_at = now
        self._learn(info, now)
        self._look()

    def _learn(self, info: JobInfo, now: float) -> None:
        if info.phase == "running" and self.limit.learn(info.time_left_s, now):
            self.loop.session.tell_head({"op": "time", "left_s": info.time_left_s, **self._nodes})
            if self.on_change is not None:
                self.on_change()

    def close(self) -> None:
        """Nothing more is asked or done."""
        self.limit.moments.clear()
        self._ask = None
        self._end_question()
        if self._timer is not None:
            self._timer.cancel()

    def _look(self) -> None:
        """Do what is due, and come back when something is."""
        now, limit = time.monotonic(), self.limit
        if self._question is not None:
            self._hear(self._question, now)
        if self._question is None and self._ask is not None and now >= limit.ask_at():
            self._begin(now)
        for moment in limit.due(now):
            if self._ask is None or limit.is_fresh(now) or (self._question and now - self._began >= PATIENCE_S):
                limit.moments.remove(moment)
                moment.call()
            elif self._question is None:
                self._begin(now)
        if self._timer is not None:
            self._timer.cancel()
        at = limit.look_at(now, self._ask is not None) if self._question is None else now + POLL_S
        self._timer = self.loop.at(at, self._look) if at is not None else None

    def _begin(self, now: float) -> None:
        if self._ask is not None:
            self._question, self._began = self._ask(), now

    def _hear(self, question: Inquiry, now: float) -> None:
        news = question.poll()
        info = news.info if news is not None else None
        if info is not None:
            self._learn(info, now)
        if question.over:
            self.limit.asked_at = self._began
            self._end_question()

    def _end_question(self) -> None:
        question, self._question = self._question, None
        if question is not None:
            question.close()
