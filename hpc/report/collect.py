"""Folds what looks at a session bring into the facts of a report. Pure, and bounded: a job of a week takes no more
memory and no larger file than one of an hour."""

from __future__ import annotations

import heapq
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from hpc.core.events.rows import EventRow, TaskRow
from hpc.core.resources import UNIT
from hpc.report.facts import (
    OTHERS,
    ActorFact,
    Facts,
    Happening,
    Named,
    NodeFact,
    One,
    Rect,
    RunFact,
    Use,
    WorkerFact,
)
from hpc.state.bulletins import Detail

#: Names that are told apart, tasks in a list, looks, rectangles, and others of a kind.
MAX_NAMES, MAX_ONES, MAX_USES, MAX_RECTS, MAX_ROWS = 200, 20, 600, 2000, 500
#: Runs of libraries that are told of.
MAX_RUNS = 30
#: Reasons for waiting that are told apart.
MAX_WAITS = 40
#: Bins for each doubling of a running time.
PER_OCTAVE = 4
#: Letters that are kept of a text.
LETTERS = 400

Row = Mapping[str, Any]


class Collector:
    """The facts so far."""

    def __init__(self, facts: Facts | None = None) -> None:
        self.facts = facts or Facts()
        self._named = {one.name: one for one in self.facts.named}
        self._nodes = {one.node: one for one in self.facts.nodes}
        self._actors = {one.actor: one for one in self.facts.actors}
        self._workers = {one.worker for one in self.facts.workers}
        self._runs = {one.run: one for one in self.facts.runs}
        #: Of the tasks that come each ``_each``-th is drawn.
        self._each, self._turn = 1, 0
        self._ended = self._failed = 0

    # -------------------------------------------------------------- what has run

    def take_tasks(self, rows: Iterable[TaskRow]) -> None:
        """Tasks and calls that have ended, each once."""
        facts = self.facts
        for row in rows:
            seconds = max(0.0, row.end_time_ms - row.start_time_ms) / 1e3
            failed = row.state == "FAILED"
            self._ended += 1
            self._failed += failed
            one = self._named.get(row.name)
            if one is None:
                one = self._new_name(row.name)
            one.count += 1
            one.failed += failed
            one.retried += row.attempt_number > 0
            one.seconds += seconds
            one.most_s = max(one.most_s, seconds)
            at = bin_of(seconds)
            one.bins[at] = one.bins.get(at, 0) + 1
            self._draw(row, seconds, failed)
            if len(facts.slowest) < MAX_ONES or seconds > facts.slowest[-1].seconds:
                facts.slowest.append(one_of(row, seconds))
                facts.slowest.sort(key=lambda task: -task.seconds)
                del facts.slowest[MAX_ONES:]
            if failed and len(facts.failed) < MAX_ONES:  # the first: those after them often follow from it
                facts.failed.append(one_of(row, seconds))

    def _new_name(self, name: str) -> Named:
        if len(self._named) >= MAX_NAMES:
            name = OTHERS
        one = self._named.get(name)
        if one is None:
            one = self._named[name] = Named(name[:LETTERS])
            self.facts.named.append(one)
        return one

    def _draw(self, row: TaskRow, seconds: float, failed: bool) -> None:
        rects = self.facts.rects
        self._turn += 1
        if self._turn % self._each == 0 and row.start_time_ms:
            rects.append(Rect(row.worker_id, row.start_time_ms / 1e3, seconds, failed, row.name[:80]))
            if len(rects) > MAX_RECTS:
                del rects[::2]
                self._each *= 2

    def unseen(self, ended_in_all: int) -> None:
        """The nodes say how many have ended in all: the others were not seen one by one."""
        self.facts.unseen = max(self.facts.unseen, ended_in_all - self._ended)

    # -------------------------------------------------------------- how it stands

    def take_use(self, use: Use) -> None:
        """One look at the amounts."""
        use.ended, use.failed = self._ended + self.facts.unseen, self._failed
        facts = self.facts
        facts.began_s = facts.began_s or use.time_s
        facts.seen_s = use.time_s
        facts.uses.append(use)
        if len(facts.uses) > MAX_USES:
            del facts.uses[1:-1:2]

    def take_nodes(self, rows: Sequence[Row], now_s: float) -> None:
        """The nodes as the head knows them: of each when it was seen first and last, and why it is gone."""
        for row in rows:
            if row["gateway"]:
                continue
            node = self._nodes.get(row["node"])
            if node is None:
                if len(self._nodes) >= 4 * MAX_ROWS:
                    continue
                node = self._nodes[row["node"]] = NodeFact(row["node"], str(row["host"]), first_s=now_s)
                node.resources = resources_of(row["totals"])
                self.facts.nodes.append(node)
            if row["alive"]:
                node.last_s = now_s
            elif node.alive:
                node.alive, node.why = False, str(row["why"])[:LETTERS]

    def take_actors(self, rows: Iterable[Row]) -> None:
        """The actors as their owners know them, and those that have ended as their nodes do."""
        for row in rows:
            actor = self._actors.get(row["actor_id"])
            if actor is None:
                if len(self._actors) >= MAX_ROWS:
                    continue
                actor = ActorFact(row["actor_id"], row["class_name"], row["name"], row["state"], 0, "")
                self._actors[actor.actor] = actor
                self.facts.actors.append(actor)
            actor.why, actor.restarts = str(row["death_cause"])[:LETTERS], int(row["num_restarts"])
            actor.state = row["state"]

    def take_workers(self, rows: Sequence[Row]) -> None:
        """Workers that have ended: those of them that did so unexpectedly."""
        for row in rows:
            if row["failed"] and row["worker_id"] not in self._workers and len(self._workers) < MAX_ROWS:
                fact = WorkerFact(row["worker_id"], row["end_time_ms"] / 1e3, str(row["exit_detail"])[:LETTERS])
                self._workers.add(fact.worker)
                self.facts.workers.append(fact)

    def take_runs(self, rows: Sequence[Row], now_s: float) -> list[str]:
        """Take runs of libraries as they stand now; the ids of those of which the detail is wanted."""
        wanted = []
        for row in rows:
            run = self._runs.get(row["run_id"])
            if run is None:
                run = self._runs[row["run_id"]] = RunFact(row["run_id"], row["kind"], row["name"], row["state"])
            elif run.ended_s and run.detail is not None:
                continue
            run.state, run.why, run.words = row["state"], str(row["why"])[:LETTERS], str(row["words"])[:LETTERS]
            run.began_s, run.seen_s = row["start_time_ms"] / 1e3, now_s
            run.ended_s = row["end_time_ms"] / 1e3 or (now_s if row["state"] == "LOST" else None)
            wanted.append(run.run)
        ended = sorted(self._runs.values(), key=lambda run: (run.state != "FINISHED", run.ended_s or now_s))
        for run in ended[: max(0, len(ended) - MAX_RUNS)]:
            del self._runs[run.run]
        self.facts.runs = list(self._runs.values())
        return [run for run in wanted if run in self._runs]

    def take_detail(self, run_id: str, detail: Detail | None) -> None:
        """All that is told of a run; of one that nobody knows any more what was told before stays."""
        if detail is not None:
            self._runs[run_id].detail = detail

    def take_waits(self, rows: Sequence[Row]) -> None:
        """What waits for workers now, and why: each kind of work counts once for each look."""
        waits = self.facts.waits
        wishes: dict[str, None] = {}
        for row in rows:
            if row["tasks"] or row["actors"]:
                names = ", ".join(row["names"]) or "work"
                wants = ", ".join(f"{name} {amount:g}" for name, amount in row["required_resources"].items())
                never = f"; {row['why']}" if row["is_infeasible"] else ""
                wishes[f"{names}: wants {wants or 'a worker'}{never}"[:LETTERS]] = None
        for wish in wishes:
            if wish in waits or len(waits) < MAX_WAITS:
                waits[wish] = waits.get(wish, 0) + 1

    def take_events(self, rows: Iterable[EventRow], missed: int = 0) -> None:
        """What the head tells of, each once, in its order."""
        facts = self.facts
        facts.events_missed = max(facts.events_missed, missed)
        for row in rows:
            facts.events_upto = max(facts.events_upto, row.number)
            facts.happenings.append(happening_of(row))
            if len(facts.happenings) > MAX_ROWS:
                _drop_one(facts.happenings)

    def happened(self, time_s: float, what: str, text: str = "") -> None:
        """Something that is told in the order of time; the oldest of too many go."""
        self.facts.happenings.append(Happening(time_s, what, text[:LETTERS]))
        if len(self.facts.happenings) > MAX_ROWS:
            _drop_one(self.facts.happenings)

    def missed(self) -> None:
        """A look at the session had no answer."""
        self.facts.missed += 1


def happening_of(row: EventRow) -> Happening:
    """An event as a report has it."""
    what = row.kind.lower().replace("_", " ")
    return Happening(row.time_s, what, row.text[:LETTERS], row.severity, row.advice)


def _drop_one(happenings: list[Happening]) -> None:
    """The oldest of those that say least goes; the first of all stays."""
    for severity in ("INFO", "", "WARNING"):
        for at in range(1, len(happenings) // 2):
            if happenings[at].severity == severity:
                del happenings[at]
                return
    del happenings[1]


def resources_of(totals: Mapping[str, int]) -> str:
    """A node's resources for people; those that only name it are left out."""
    parts = []
    for name, units in sorted(totals.items()):
        amount = units / UNIT
        if ":" not in name:
            parts.append(f"{amount / 1e9:.1f} GB {name}" if name.endswith("memory") else f"{amount:g} {name}")
    return ", ".join(parts)


def one_of(row: TaskRow, seconds: float) -> One:
    """A task to be shown by itself."""
    began_s = row.start_time_ms / 1e3
    return One(row.name[:LETTERS], row.task_id, row.worker_id, began_s, seconds, row.state, row.why[:LETTERS])


def bin_of(seconds: float) -> int:
    """The bin of a running time."""
    return int(PER_OCTAVE * math.log2(max(1.0, seconds * 1e6)))


def quantile(bins: Mapping[int, int], share: float) -> float:
    """The running time below which this share of all were, in seconds, to a fifth of itself."""
    left = share * sum(bins.values())
    for at in sorted(bins):
        left -= bins[at]
        if left < 1e-9:
            return float(2 ** ((at + 0.5) / PER_OCTAVE) / 1e6)
    return 0.0


def largest(facts: Facts, count: int) -> list[Named]:
    """The names that took most time."""
    return heapq.nlargest(count, facts.named, key=lambda one: (one.seconds, one.count))
