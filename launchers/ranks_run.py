"""The launcher's side of ranks mode: starts the ranks, shows their output, ends all when one fails.

    session = Session(LocalGroup(2), mode="ranks", ...)
    code = RanksRun(session, ["train.py", "--epochs", "3"], per_node=2).run()

Every line comes with its rank, `[rank 3] text`. After the first rank that fails the others get SIGTERM and 4 s later
SIGKILL. `RanksRun.failure` is what is shown last: the failure that was the first, with what that rank has raised or
last wrote to stderr. Ranks that fail because another has gone may be heard of sooner than that one. What others write
once a rank has failed can be kept aside (`aside`).
"""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from hpc.core.node.bootstrap import Message
from hpc.core.node.reap import describe_code
from hpc.core.policy.first_failure import FailedRank, in_order
from hpc.launchers.loop import SessionLoop
from hpc.launchers.node_program import NodeProgram, send_program
from hpc.launchers.rank_lines import HOLD_S, HeldLines
from hpc.launchers.session import Session
from hpc.launchers.session_errors import SessionError
from hpc.launchers.session_nodes import SessionNode

TERM_GRACE_S = 4.0
KILLED_WAIT_S = 10.0  # between SIGKILL and the last rank's report
SESSION_LOST = 123
#: How ranks end that are ended because another has failed: by the signals, or as a shell says it.
ENDED_BY_US = frozenset(code for signum in (signal.SIGTERM, signal.SIGKILL) for code in (-signum, 128 + signum))


class RankWatcher(Protocol):
    """What looks for ranks that hang."""

    def begin(self, run: RanksRun) -> None:
        """The ranks are started."""

    def heard(self, rank: int, info: SessionNode, message: Message) -> None:
        """A `rank_watch` or `rank_stack` message of a rank has come."""

    def look(self) -> None:
        """Time has passed."""


@dataclass(frozen=True, slots=True)
class RankFailure:
    """A rank that failed. `code` is an exit code, -N for a signal; `at`: when, by the clock of its machine.

    `raised`: the traceback in its error file. `oom`: the kernel ended a process there for want of memory. `hangs`: it
    did not end, but others waited for it for too long, as `raised` says.
    """

    rank: int
    node: SessionNode
    code: int
    tail: tuple[str, ...]
    at: float = 0.0
    raised: str = ""
    oom: bool = False
    hangs: bool = False

    @property
    def exit_code(self) -> int:
        """As a shell would have it."""
        return 128 - self.code if self.code < 0 else self.code

    def text(self, said: Sequence[str] = ()) -> str:
        """What to show last: which rank failed, and what it has raised, has ``said``, or last wrote to stderr."""
        if self.hangs:
            return self.raised
        lines = [f"rank {self.rank} on {self.node.name} {self._ended()}"]
        said = self.raised.splitlines() or said or self.tail
        return "\n".join(lines + [f"    | {line}" for line in said])

    def words(self) -> str:
        """What it said last."""
        return self.raised or "\n".join(self.tail)

    def _ended(self) -> str:
        text = describe_code(self.code)
        if self.oom:
            return f"{text}: the kernel ended it for want of memory"
        if self.code == -signal.SIGKILL:
            return f"{text} (out of memory?)"
        if 128 < self.code < 128 + signal.NSIG and self.code - 128 in set(signal.Signals):
            return f"{text}, as a shell says of a program that {describe_code(128 - self.code)}"
        return text


def print_line(fd: int, line: str) -> None:
    """Write a line to this process's own stdout or stderr."""
    stream = sys.stdout if fd == 1 else sys.stderr
    stream.write(line)
    stream.flush()


@dataclass
class RanksRun:
    """One run of a script, once per rank, on all nodes of a session in ranks mode.

    argv: the program; a script that ends in .py is given to this Python.
    env: variables for the ranks (None unsets).  cwd: on the nodes, by default the current directory.
    write: gets 1 or 2 and a line with its end.  prefix: whether lines say their rank.
    each: what each node runs instead, once, where that differs; it is asked when the nodes are there.
    least: so many nodes are enough, the first among them: the end of any other is no failure.
    aside: gets what other ranks write after one has failed: the rank, and a line.
    watcher: is told what ranks are at, and looked at every turn of the loop.
    restarts, max_restarts: how often the ranks were started before this run, and how often they may be, for them.
    said: the traceback of the first failure, which was not written yet, once all have ended.
    """

    session: Session
    argv: Sequence[str]
    per_node: int = 1
    cwd: str | None = None
    env: Mapping[str, str | None] = field(default_factory=dict)
    write: Callable[[int, str], None] = print_line
    prefix: bool = True
    each: Callable[[Sequence[SessionNode]], Sequence[NodeProgram]] | None = None
    least: int | None = None
    aside: Callable[[int, str], None] | None = None
    watcher: RankWatcher | None = None
    restarts: int = 0
    max_restarts: int = 0
    codes: dict[int, int] = field(default_factory=dict)
    failures: list[RankFailure] = field(default_factory=list)
    said: tuple[str, ...] = ()
    _nodes: list[SessionNode] = field(default_factory=list)
    _partial: dict[tuple[int, int], str] = field(default_factory=dict)
    _held: HeldLines = field(default_factory=HeldLines)
    _loop: SessionLoop | None = None  # that the session is driven by, from the start

    @property
    def world(self) -> int:
        """How many ranks there are (0 before the start)."""
        return len(self._nodes) * self.per_node

    @property
    def done(self) -> bool:
        """Whether every rank has ended, or is lost."""
        return bool(self._nodes) and len(self.codes) == self.world

    @property
    def failure(self) -> RankFailure | None:
        """The failure that was the first, as far as is known now."""
        order = in_order([FailedRank(one.rank, one.at, one.words()) for one in self.failures])
        return next((one for one in self.failures if one.rank == order[0].rank), None) if order else None

    @property
    def exit_code(self) -> int:
        """0, or the first failing rank's (128+N for a signal, 123 for a lost node)."""
        return self.failure.exit_code if self.failure else 0

    def start(self, loop: SessionLoop) -> None:
        """Start the ranks on all nodes; all must be ready, since the ranks are numbered by node (unless `least`)."""
        ready = self.session.wait_ready()
        missing = [info for info in self.session.missing() if not info.gateway]
        if missing and self.least is None:
            raise SessionError("ranks need all nodes", missing)
        self._nodes = sorted(ready, key=lambda info: info.rank)
        hello = self._nodes[0].hello
        self._loop = loop
        loop.each_turn(self._check)
        self.session.on_output = self.on_output
        if self.each is not None:
            for info, program in zip(self._nodes, self.each(self._nodes), strict=True):
                env = {**program.env, **self.env}
                send_program(info, NodeProgram(program.argv, env), self.cwd or os.getcwd())
            return
        argv = list(self.argv)
        if argv[0].endswith(".py"):
            argv.insert(0, sys.executable)
        self.session.send(
            {
                "op": "ranks",
                "argv": argv,
                "cwd": self.cwd or os.getcwd(),
                "env": dict(self.env),
                "per_node": self.per_node,
                "nodes": len(self._nodes),
                "master_addr": hello["addr"],
                "master_port": hello["free_port"],
                "watch": self.watcher is not None,
                "restarts": self.restarts,
                "max_restarts": self.max_restarts,
            }
        )
        if self.watcher is not None:
            self.watcher.begin(self)

    def run(self, timeout_s: float | None = None) -> int:
        """Start the ranks, wait for all to end and stop the session; return the exit code.

        At `timeout_s` the ranks are ended as if one had failed (exit code 124).
        """
        loop = SessionLoop(self.session)
        if timeout_s is not None:
            loop.at(time.monotonic() + timeout_s, lambda: self._time_over(timeout_s))
        self.start(loop)
        loop.until(lambda: self.done or self.session.state == "ended")
        loop.close()
        self.session.stop(why="the ranks have ended")
        self._flush_partial()
        self.settle()
        return self.exit_code

    def signal(self, signum: int) -> None:
        """Send a signal to the process groups of all ranks."""
        self.session.send({"op": "signal", "sig": signum})

    def hung(self, text: str, rank: int) -> None:
        """Ranks hang, and that ends the run as if this rank had failed: the text is shown last."""
        if not self.failures and not self.done:
            self._fail(RankFailure(rank, self._nodes[rank // self.per_node], 1, (), time.time(), text, hangs=True))

    def _check(self) -> None:
        """Notice lost nodes."""
        if self.watcher is not None and not self.failures:
            self.watcher.look()
        for info in self._nodes:
            if info.state == "gone":
                for rank in range(info.rank * self.per_node, (info.rank + 1) * self.per_node):
                    if rank not in self.codes and self._does_without(info):
                        self.codes[rank] = SESSION_LOST
                    elif rank not in self.codes:
                        self._ended(RankFailure(rank, info, SESSION_LOST, (info.problem(),), time.time()))

    def _does_without(self, gone: SessionNode) -> bool:
        left = sum(info.state != "gone" for info in self._nodes)
        return self.least is not None and left >= self.least and gone is not self._nodes[0]

    def _time_over(self, timeout_s: float) -> None:
        if not self.failures and not self.done:
            self._fail(RankFailure(0, self._nodes[0], 124, (f"the time allowed ({timeout_s:g} s) is over",)))

    def on_output(self, info: SessionNode, message: Message) -> None:
        """Take an `out` or `rank_exit` message of the session."""
        rank = int(message["r"])
        if message["op"] == "out":
            self._show(rank, int(message["fd"]), str(message["text"]))
        elif message["op"] != "rank_exit":
            if self.watcher is not None:
                self.watcher.heard(rank, info, message)
        else:
            self._flush_partial(rank)
            told = message.get("error") or {}
            failure = RankFailure(
                rank, info, int(message["code"]), tuple(message.get("tail", ())), float(message.get("at", 0.0)),
                str(told.get("text", "")), bool(message.get("oom")),
            )  # fmt: skip
            self._ended(failure)

    def _ended(self, end: RankFailure) -> None:
        rank, code = end.rank, end.code
        if rank in self.codes:
            return
        self.codes[rank] = code
        if code:
            self._held.keep(rank)
        else:
            for line in self._held.all_of(rank):
                self._put(rank, 2, line)
        if self.least is not None and not code and self._loop is not None and len(self.codes) >= self.least:
            self._loop.at(time.monotonic() + TERM_GRACE_S, self._do_without_the_silent)
        if code and not (self.failures and code in ENDED_BY_US):
            self._fail(end)
        if self.done:
            self.settle()

    def _do_without_the_silent(self) -> None:
        """All that had to stay have ended well together: a node that has not said so by now is lost, unnoticed yet."""
        for info in self._nodes:
            self.codes.setdefault(info.rank * self.per_node, SESSION_LOST)

    def _fail(self, failure: RankFailure) -> None:
        self.failures.append(failure)
        if len(self.failures) > 1:
            return
        self.signal(signal.SIGTERM)
        if self._loop is not None:
            self._loop.at(time.monotonic() + TERM_GRACE_S, self._kill)

    def _kill(self) -> None:
        """What outlives the grace period. Once all have ended, those of a later run may be at work."""
        if self.done:
            return
        self.signal(signal.SIGKILL)
        if self._loop is not None:
            self._loop.at(time.monotonic() + KILLED_WAIT_S, self._give_up)

    def _give_up(self) -> None:
        if not self.done:
            self.session.begin_stop(0.0, "ranks could not be ended")

    def _show(self, rank: int, fd: int, text: str) -> None:
        *lines, rest = (self._partial.pop((rank, fd), "") + text).split("\n")
        if rest:
            self._partial[rank, fd] = rest
        for line in lines:
            self._line(rank, fd, line)

    def _line(self, rank: int, fd: int, line: str) -> None:
        now = time.monotonic()
        if self.prefix and self._held.take(rank, fd, line, now):
            if self._loop is not None and self._held.has_begun(rank):
                self._loop.at(now + HOLD_S, self._release)
            return
        self._put(rank, fd, line)

    def _release(self) -> None:
        """Show the tracebacks of ranks that go on."""
        for rank, line in self._held.due(time.monotonic()):
            self._put(rank, 2, line)

    def settle(self) -> None:
        """All have ended: the first failure is shown by whoever runs this; what else is held back is noise."""
        first = self.failure
        for rank in self._held.ranks():
            lines = self._held.all_of(rank)
            if first is not None and rank == first.rank:
                self.said = tuple(lines)
                continue
            for line in lines:
                self._put(rank, 2, line)

    def _put(self, rank: int, fd: int, line: str) -> None:
        first = self.failure if self.aside is not None else None
        if self.aside is not None and first is not None and rank != first.rank:
            self.aside(rank, line)
            return
        self.write(fd, f"[rank {rank}] {line}\n" if self.prefix else f"{line}\n")

    def _flush_partial(self, only: int | None = None) -> None:
        for rank, fd in sorted(self._partial):
            if only is None or rank == only:
                self._line(rank, fd, self._partial.pop((rank, fd)))
