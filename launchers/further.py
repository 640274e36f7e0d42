"""The further jobs of a session: what the policy decides is done, and it hears what has become of it.

`Growth` stands between the head's reports, the policy (elastic.py), the session's loop and a `JobSource`. That is where
the nodes of further jobs come from: a scheduler (batch_jobs.py), or this machine.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from hpc.core.events.kinds import EventKind
from hpc.launchers.elastic import DemandReport, Policy
from hpc.launchers.leave import leave
from hpc.launchers.local.group import LocalGroup
from hpc.launchers.loop import ComingNodes, LoopTimer, SessionLoop
from hpc.launchers.node_group import NodeGroup
from hpc.launchers.scheduler import Inquiry
from hpc.launchers.session_nodes import SessionNode
from hpc.launchers.timekeeper import ASK_S, Timekeeper

#: The head is asked to say what waits so often at most, and the policy is asked as often.
REPORT_S = 1.0
#: A node that had nothing to do may take so long to move the values that lie there.
MOVE_S = 3600.0
#: The nodes of a further job are told to end this long before its time is over.
MARGIN_S = 10.0


class JobSource(Protocol):
    """Where the nodes of further jobs come from."""

    def ask(self, name: str, size: int, left_s: float | None) -> ComingNodes:
        """Ask for a job with so many nodes, for a session that lasts `left_s`. Refusals come by the answer."""

    def told(self, name: str) -> str:
        """What is known of a job that has not come, for people."""

    def asks(self, name: str) -> Callable[[], Inquiry] | None:
        """What asks the scheduler about a job that runs; None where nobody can be asked."""

    def end(self, name: str) -> None:
        """The nodes of a job have ended: see to it that nothing of it stays."""

    def close(self) -> None:
        """The session has ended: nothing of any job stays. It may wait."""


class Growth:
    """Lets a session grow and shrink, from `begin` on.

    overrides: of the nodes of further jobs. drain_s: so long before the end of a further job its nodes drain.
    say: called with what people should know, in a line. grace_s: how long nodes may take to end. ask_s: how often a
    scheduler is asked for the time limit of a further job.
    """

    def __init__(
        self,
        loop: SessionLoop,
        policy: Policy,
        source: JobSource,
        *,
        overrides: Mapping[str, Any] | None = None,
        drain_s: float = 0.0,
        grace_s: float = 5.0,
        ask_s: float = ASK_S,
        left_s: Callable[[], float | None] = lambda: None,
        say: Callable[[str], object] = lambda text: None,
    ) -> None:
        self.loop, self.policy, self.source = loop, policy, source
        self.why = ""  # what is asked for
        self.refusal = ""  # why nothing comes, when it was last refused
        self.grown = 0  # jobs that have come so far
        self._overrides = dict(overrides or {})
        self._drain_s, self._grace_s, self._left_s, self._say = drain_s, grace_s, left_s, say
        self._ask_s = ask_s
        self._demand: DemandReport | None = None
        self._vacate: frozenset[int] = frozenset()
        self._names: dict[ComingNodes, str] = {}
        self._coming: dict[str, ComingNodes] = {}
        self._members: dict[str, set[int]] = {}  # nodes of each job that has come, and are not gone
        self._clocks: dict[str, Timekeeper] = {}
        self._asked = 0
        self._told: dict[str, Any] = {}
        self._timer: LoopTimer | None = None
        self._closed = False
        self._drains = False

    def begin(self) -> None:
        """From now on; the session is ready."""
        self.loop.session.on_demand = self._on_report
        self.loop.on_joined = self._on_joined
        self.loop.on_refused = self._on_refused
        self.loop.each_turn(self._look_for_ends)
        self.loop.session.tell_head({"op": "watch", "every_s": REPORT_S})
        self._turn()

    def close(self) -> None:
        """Nothing is asked for any more, and jobs in the queue are withdrawn; called before the session is stopped."""
        self._closed = True
        if self._timer is not None:
            self._timer.cancel()
        for clock in self._clocks.values():
            clock.close()
        self._withdraw_all()

    def drain(self) -> None:
        """The session drains, and that is not taken back: a node that came now could do nothing."""
        if not self._drains:
            self._drains = True
            self.why = ""
            self._withdraw_all()
            self._tell_facts()

    def _withdraw_all(self) -> None:
        for name, coming in self._coming.items():
            self.policy.withdrawn(name)
            self.loop.withdraw(coming)
        self._coming.clear()

    def end(self) -> None:
        """The session has ended. Nothing of any further job stays."""
        self._closed = True
        self.source.close()

    # -------------------------------------------------------------- what is known

    def facts(self) -> dict[str, Any]:
        """How it stands, as plain data, for `hpc status`."""
        limits = self.policy.limits
        asked = [
            {"job": name, "nodes": self.policy.jobs[name].size, "state": self.source.told(name)}
            for name in self._coming if name in self.policy.jobs
        ]  # fmt: skip
        facts = {"least": limits.least, "most": limits.most, "asked": asked, "why": self.why, "refusal": self.refusal}
        return facts

    def words(self) -> list[str]:
        """The same for a status line: empty where nothing is asked for."""
        facts = self.facts()
        asked = facts["asked"]
        if not asked:
            return [f"no more come: {self.refusal}"] if self.refusal and self.why else []
        nodes = sum(each["nodes"] for each in asked)
        return [f"{_nodes(nodes)} asked for ({asked[0]['state']}{', ...' if len(asked) > 1 else ''})"]

    # -------------------------------------------------------------- deciding

    def _on_report(self, report: Mapping[str, Any]) -> None:
        self._demand = DemandReport.of(report, time.monotonic())

    def _turn(self) -> None:
        if self._closed or self.loop.session.state != "ready":
            return
        self._timer = self.loop.at(time.monotonic() + REPORT_S, self._turn)
        if self._demand is None or self._drains:
            return
        now, left_s = time.monotonic(), self._left_s()
        decided = self.policy.decide(self._demand, now, left_s)
        self.why = decided.why
        for name in decided.cancel:
            self._say(f"hpc: nodes that were asked for are not needed any more: {self.source.told(name)} is withdrawn")
            self._happened("NODES_RETURNED", f"further job {name} is withdrawn: its nodes are not needed any more")
            self.policy.withdrawn(name)
            coming = self._coming.pop(name, None)
            if coming is not None:
                self.loop.withdraw(coming)
        for size in decided.ask:
            self._ask(size, left_s, now)
        if decided.vacate != self._vacate:
            self._vacate = decided.vacate
            self.loop.session.tell_head({"op": "vacate", "nodes": sorted(decided.vacate)})
        for name in decided.end:
            numbers = self._members.get(name, set())
            self._say(
                f"hpc: {_nodes(len(numbers))} had nothing to do and {'is' if len(numbers) == 1 else 'are'} given back"
            )
            gone = f"{_nodes(len(numbers))} of further job {name} had nothing to do: given back"
            self._happened("NODES_RETURNED", gone)
            for number in sorted(numbers):
                leave(self.loop, number, MOVE_S, "it had nothing to do", self._grace_s)
        self._tell_facts()

    def _happened(self, kind: EventKind, text: str) -> None:
        self.loop.session.tell_head({"op": "happened", "kind": kind, "text": text})

    def _tell_facts(self) -> None:
        facts = self.facts()
        if facts != self._told:
            self._told = facts
            self.loop.session.tell_head({"op": "growth", "facts": facts})

    def _ask(self, size: int, left_s: float | None, now: float) -> None:
        self._asked += 1
        name = str(self._asked)
        why = self.why or "there are fewer than there should be"
        self._say(f"hpc: asks for {_nodes(size)} more: {why}")
        self._happened("NODES_ASKED", f"further job {name} is asked for, with {_nodes(size)}: {why}")
        coming = self._coming[name] = self.source.ask(name, size, left_s)
        self._names[coming] = name
        self.policy.asked(name, size, now)
        self.loop.add(coming, overrides=self._overrides)

    # -------------------------------------------------------------- what has become of it

    def _on_refused(self, coming: ComingNodes, why: str) -> None:
        name = self._names.pop(coming, "")
        self._coming.pop(name, None)
        self.policy.refused(name, time.monotonic())
        self._happened("NODES_REFUSED", f"further job {name} does not come: {why}")
        if not self.refusal:
            self._say(f"hpc: further nodes do not come: {why}; the session goes on with those that it has")
        self.refusal = why
        self.source.end(name)

    def _on_joined(self, coming: ComingNodes, numbers: Sequence[int]) -> None:
        name = self._names.pop(coming, "")
        self._coming.pop(name, None)
        now, session = time.monotonic(), self.loop.session
        self.grown += 1
        came = ", ".join(map(str, numbers))
        self._happened("NODES_CAME", f"{_nodes(len(numbers))} of further job {name} came: {came}")
        self.refusal = ""
        left_s = session.nodes[numbers[0]].group.start_fields().get("time_left_s")
        self._members[name] = set(numbers)
        self.loop.at(now + session.start_timeout_s, lambda: self._give_up_late(numbers))
        self.policy.joined(name, numbers, None if left_s is None else now + left_s, now)
        if left_s is not None:
            session.tell_head({"op": "time", "left_s": left_s, "nodes": list(numbers)})
            clock = Timekeeper(
                self.loop, self.source.asks(name), left_s=left_s, ask_s=self._ask_s, nodes=numbers,
                on_change=lambda: self._on_new_limit(name),
            )  # fmt: skip
            self._clocks[name] = clock
            clock.before_end(min(MARGIN_S, 0.05 * left_s), lambda: self._let_end(name))
            if self._drain_s:
                clock.before_end(min(self._drain_s, 0.2 * left_s), lambda: self._drain(name))

    def _on_new_limit(self, name: str) -> None:
        job, clock = self.policy.jobs.get(name), self._clocks.get(name)
        if job is not None and clock is not None:
            job.ends_at = clock.limit.ends_at

    def _drain(self, name: str) -> None:
        """The time of a further job is nearly over: nothing new begins on its nodes."""
        left_s = self._clocks[name].left_s or 0.0
        for number in sorted(self._members.get(name, ())):
            leave(self.loop, number, left_s, "the time limit of its job comes near", self._grace_s)

    def _let_end(self, name: str) -> None:
        for number in sorted(self._members.get(name, ())):
            self.loop.session.remove_node(number, self._grace_s)

    def _give_up_late(self, numbers: Sequence[int]) -> None:
        """Nodes that have not answered for so long would keep others from being asked for."""
        session = self.loop.session
        for number in numbers:
            if session.state == "ready" and session.nodes[number].state in ("starting", "hello"):
                session.give_up(number, f"not ready within {session.start_timeout_s:g} s")

    def _on_lost(self, node: SessionNode) -> None:
        pause_s = self.policy.lost(node.node, time.monotonic())
        if pause_s and not self._closed and not self._drains:
            self.refusal = node.problem()
            self._say(f"hpc: nodes that had just come are gone: others are asked for in {pause_s:.0f} s, or later")

    def _look_for_ends(self) -> None:
        nodes = self.loop.session.nodes
        for name, numbers in list(self._members.items()):
            for number in [n for n in numbers if nodes[n].state == "gone" or nodes[n].refused]:
                numbers.discard(number)
                self._on_lost(nodes[number])
            if not numbers:
                del self._members[name]
                clock = self._clocks.pop(name, None)
                if clock is not None:
                    clock.close()
                self.source.end(name)


def _nodes(count: int) -> str:
    return f"{count} node{'' if count == 1 else 's'}"


# ---------------------------------------------------------------- nodes of this machine


class LocalJobs:
    """Further nodes on this machine, each `share`th of it: they are there at once."""

    def __init__(self, share: int) -> None:
        self.share = share

    def ask(self, name: str, size: int, left_s: float | None) -> ComingNodes:
        return _LocalNodes(LocalGroup(size, fork=True, share=self.share))

    def told(self, name: str) -> str:
        return "is being started"

    def asks(self, name: str) -> None:
        return None

    def end(self, name: str) -> None:
        """Nothing stays of a local node that has ended."""

    def close(self) -> None:
        """The session's end was theirs."""


@dataclass(eq=False)
class _LocalNodes:
    group: NodeGroup

    def poll(self) -> NodeGroup:
        return self.group

    def cancel(self) -> None:
        """They were not started."""
