"""The program of a node: it parents raylet, zygote and, on one node, the head, and ends everything.

One thread, one loop over the launcher's commands on stdin, the control sockets of its children and signals (SIGCHLD
among them). Five things lead to the same orderly end. They are the launcher's end of file, SIGTERM, SIGINT or SIGHUP, a
stop message, and the unexpected end of a child. The children are told and given a grace period. Then whatever is left
below is killed until wait() proves that nothing is, the directory is removed, and `bye` goes out.

SIGTERM is what schedulers send to the nodes of a job that they are about to take away, minutes before or seconds. The
launcher is asked first: it may have the node `stay` and end it later. Without its answer, and at a second SIGTERM, the
node ends.

Children are forked, not executed: this process has imported what they need, once per node. It has no
ZeroMQ context, no threads and no state that a child could not inherit. It runs inside a `keeper`, which clears up
should the supervisor itself be killed.

Children are waited for by SIGCHLD and waitpid(-1), not by a pidfd each. The orphans that a subreaper inherits have no
descriptor, and one way to learn of an end is simpler than two.
"""

from __future__ import annotations

import os
import selectors
import signal
import socket
import sys
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from types import FrameType
from typing import Any, NoReturn

import msgspec

from hpc.core.node import left_names, rundir, surroundings, survey
from hpc.core.node.address import InterfaceError
from hpc.core.node.control import Control, ControlError, control_pair
from hpc.core.node.head_restart import HeadRestart
from hpc.core.node.held_port import hold_port
from hpc.core.node.imports import keep_all
from hpc.core.node.keeper import become, keep
from hpc.core.node.process import fork_child, open_pidfd
from hpc.core.node.programs import CHILDREN, ChildMain, Children
from hpc.core.node.pulse import Pulse, answered, pulse_of
from hpc.core.node.rank_processes import Order, Ranks, without_ranks
from hpc.core.node.reap import descendants, describe_code, exit_code, reap_ended, signal_all
from hpc.core.node.settings import setting
from hpc.core.node.spec import NodeSpec, Start, parse_start
from hpc.core.node.tail import last_lines
from hpc.core.node.uplink import Uplink

OUTPUT_HIGH_BYTES = 1 << 20  # above, ranks are not read
OUTPUT_LOW_BYTES = 1 << 18
EOF_GRACE_S = 1.0
FAILURE_GRACE_S = 2.0
KILL_TIMEOUT_S = 15.0
TICK_S = 0.05
#: The launcher's answer to a SIGTERM is waited for so long; a second one counts as such after this time.
ANSWER_S, AGAIN_S = 2.0, 1.0
#: How long to wait for the raylet's end after its zygote has ended well: the zygote ends because the raylet did.
CAUSE_S = 1.0


class _Child(msgspec.Struct):
    """A child that this supervisor made."""

    name: str
    pid: int
    control: Control
    bound: dict[str, Any] | None = None
    pulse: Pulse | None = None
    ended: bool = False
    hung: str = ""


class Supervisor:
    """One node. `run` returns the exit code when nothing of the node is left."""

    def __init__(
        self,
        rank: int,
        stdin_fd: int,
        stdout_fd: int,
        paths_fd: int,
        *,
        children: Children = CHILDREN,
        launcher_pid: int | None = None,
    ) -> None:
        self.rank = rank
        self.stdin_fd = stdin_fd
        self.paths_fd = paths_fd
        self.programs = children
        self.launcher_pid = launcher_pid
        self.keeper_pid = os.getppid()
        self.code = 0
        self.spec: NodeSpec | None = None
        self.run_dir: rundir.RunDir | None = None
        self.children: dict[int, _Child] = {}
        self.head: HeadRestart | None = None
        self.ranks: Ranks | None = None
        self.port_holder: socket.socket | None = None
        self.prepared = surroundings.Prepared({})
        self.hello_sent = False
        self.stopping = False
        self.when_abandoned: list[str] = []
        self.abandoned = False
        self.ended_by = ""
        self.warned_at: float | None = None  # of the first SIGTERM
        self.killing = False
        self.done = False
        self.deadline: float | None = None  # of binding, then of the grace period, then of killing
        self.left = False  # children that waitpid knows of
        self._signals: list[int] = []
        self._selector = selectors.PollSelector()  # epoll refuses files and /dev/null as stdin
        self.uplink = Uplink(rank, stdin_fd, stdout_fd, self._selector)
        self.report = self.uplink.report
        self._handlers: dict[str, Callable[[dict[str, Any]], None]] = {
            "start": self._on_start,
            "welcome": lambda message: self._tell("raylet", message),
            **dict.fromkeys(("admit", "lost", "time", "watch", "vacate", "growth", "happened"), self._on_mail),
            "ranks": self._on_ranks,
            "signal": self._on_signal_message,
            "rank_ask": lambda message: self.ranks.on_ask(message) if self.ranks is not None else None,
            "stop": self._on_stop_message,
            "stay": lambda message: self._on_stay(),
        }

    # -------------------------------------------------------------- the loop

    def run(self) -> int:
        """Run until the node has ended."""
        try:
            self._listen()
            while not self.done:
                self._turn()
        except Exception:
            traceback.print_exc()
            self.code = 1
            self.report("error", why=f"the supervisor failed: {traceback.format_exc(limit=-3)}")
        finally:
            self._clean_up()
        return self.code

    def _listen(self) -> None:
        wake_read, wake_write = os.pipe()
        os.set_blocking(wake_read, False)
        os.set_blocking(wake_write, False)
        for signum in (signal.SIGCHLD, signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(signum, self._note_signal)
        signal.set_wakeup_fd(wake_write, warn_on_full_buffer=False)
        self._watch(wake_read, lambda: self._on_wake(wake_read))
        self._watch(self.stdin_fd, self._on_stdin)
        if self.launcher_pid is not None:
            self._watch_launcher(self.launcher_pid)
        if os.getppid() != self.keeper_pid:
            self._begin_stop(EOF_GRACE_S, "the keeper of this node is gone")

    def _turn(self) -> None:
        timeout = None if self.deadline is None else max(0.0, self.deadline - time.monotonic())
        waiting = [child.control for child in self.children.values() if child.control.wants_write]
        for child in self.children.values():
            if child.pulse is not None and not self.stopping:
                until = max(0.0, child.pulse.next_at - time.monotonic())
                timeout = until if timeout is None else min(timeout, until)
        if self.killing or waiting:
            timeout = TICK_S
        for key, _events in self._selector.select(timeout):
            if self._selector.get_map().get(key.fd) == key:  # an earlier callback may have closed it
                key.data()
        for control in waiting:  # rare: a child that has not read for 200 KB
            control.flush()
        if self.ranks is not None:
            self._pause_ranks(self.ranks)
        self._feel_pulses()
        if self.killing:
            self._kill_turn()
        elif self.deadline is not None and time.monotonic() >= self.deadline:
            self._on_deadline()

    def _feel_pulses(self) -> None:
        """Ask the children whether they still turn their loops; what follows if they do not."""
        now = time.monotonic()
        for child in list(self.children.values()):
            if child.pulse is None or child.ended or self.stopping:
                continue
            what = child.pulse.turn(now)
            if what == "ask":
                self._tell(child.name, {"op": "ping"})
            elif what == "hung":
                child.hung = f"it has not answered for {child.pulse.limit_s:g} s"
                child.pulse = None
                if child.name == "head":
                    os.kill(child.pid, signal.SIGKILL)  # its end is noticed as any other
                else:
                    self._fail(f"the {child.name} hangs: {child.hung}", 0.0)

    def _watch(self, fd: int, callback: Callable[[], object]) -> None:
        self._selector.register(fd, selectors.EVENT_READ, callback)

    def _unwatch(self, fd: int) -> None:
        if fd >= 0 and fd in self._selector.get_map():
            self._selector.unregister(fd)

    def _pause_ranks(self, ranks: Ranks) -> None:
        if self.uplink.pending_bytes > OUTPUT_HIGH_BYTES:
            ranks.pause(True)
        elif self.uplink.pending_bytes < OUTPUT_LOW_BYTES:
            ranks.pause(False)

    # -------------------------------------------------------------- the launcher

    def _watch_launcher(self, pid: int) -> None:
        """Its end of stdin may live on in a process that it forked, so its death is watched as well."""
        try:
            fd = open_pidfd(pid)
        except ProcessLookupError:
            self._begin_stop(EOF_GRACE_S, "the launcher is gone")
            return
        if fd is not None:  # without one, end of file has to do
            self._watch(fd, lambda: self._launcher_gone(fd))

    def _launcher_gone(self, fd: int) -> None:
        self._unwatch(fd)
        os.close(fd)
        self._begin_stop(EOF_GRACE_S, "the launcher is gone")

    def _on_stdin(self) -> None:
        for message in self.uplink.read():
            only = message.get("only")  # some ranks of the group, not all
            if isinstance(only, list) and self.rank not in only:
                continue
            handler = self._handlers.get(message["op"])
            if handler is not None:
                try:
                    handler(message)
                except (ValueError, KeyError, TypeError) as error:  # msgspec's validation included
                    self._fail(f"the message {message['op']!r} of the launcher is wrong: {error}")
        if self.uplink.eof:
            self._unwatch(self.stdin_fd)
            self.abandoned |= not self.stopping
            self._begin_stop(EOF_GRACE_S, "the launcher closed the session")

    # -------------------------------------------------------------- start

    def _on_start(self, message: dict[str, Any]) -> None:
        if self.spec is not None or self.stopping:
            return
        start = parse_start(message)
        self.uplink.node = start.first_node + self.rank
        if self.rank in (1, 2, 3, start.world - 1) and self.rank != start.head_rank:
            self.when_abandoned = start.when_abandoned  # some are enough: all would be a crowd
        try:
            spec = self._make_spec(start)
        except (rundir.RunDirError, InterfaceError, OSError, ValueError) as error:
            self._fail(str(error))
            return
        self.spec = spec
        environ = without_ranks(os.environ, start.strip)
        for name in set(os.environ) - set(environ):
            del os.environ[name]
        self.prepared = surroundings.prepare(spec, os.environ)
        if start.mode == "ranks":
            self.ranks = Ranks(spec, self.report, self._watch, self._unwatch)
            self._say_hello(spec)
            self.report("ready")
            return
        self.deadline = time.monotonic() + setting("bind_timeout_s", start.config)
        try:
            self.programs.preload(spec.has_head)
            self._fork_children(spec)
        except OSError as error:
            self._fail(f"cannot start the processes of the node: {error}")

    def _make_spec(self, start: Start) -> NodeSpec:
        interface = survey.find_interface(start)
        node = self.uplink.node
        base = rundir.choose_base(start.session, node, start.base_dir, os.environ)
        self.run_dir = rundir.make(base, start.session, node)
        os.write(self.paths_fd, os.fsencode(self.run_dir.path) + b"\n")
        return survey.make_spec(start, self.rank, self.run_dir.path, interface)

    def _fork_children(self, spec: NodeSpec) -> None:
        """Head and raylet first: the launcher waits for their addresses, not for the zygote's imports."""
        raylet_end, zygote_end = control_pair()
        with raylet_end, zygote_end:
            if spec.has_head:
                self.head = HeadRestart(spec)
                self._fork("head", self.programs.head, self.head.spec)
            if spec.gateway:
                self._fork("raylet", self.programs.raylet, spec)
                return
            with_zygote = msgspec.structs.replace(spec, zygote_fd=raylet_end.fileno())
            self._fork("raylet", self.programs.raylet, with_zygote)
            with_raylet = msgspec.structs.replace(spec, zygote_fd=zygote_end.fileno())
            self._fork("zygote", self.programs.zygote, with_raylet)

    def _fork(self, name: str, program: ChildMain, spec: NodeSpec) -> None:
        ours, theirs = control_pair()
        keep_fds = [theirs.fileno(), *(fd for fd in (spec.zygote_fd, spec.head_fd) if fd >= 0)]
        log = spec.log_path(f"{name}.log")
        with theirs:
            pid = fork_child(lambda: _deaf(program, spec, theirs), name=f"hpc-{name}", keep=keep_fds, log=(log, log))
        child = _Child(name, pid, Control(ours))
        self.children[pid] = child
        self.left = True
        self._watch(ours.fileno(), lambda: self._on_control(child))

    def _on_control(self, child: _Child) -> None:
        fd = child.control.fileno()
        child.control.flush()
        for message in child.control.receive():
            op = message.get("op")
            if op == "bound":
                if child.name == "head" and self.head is not None:
                    self.head.on_bound(message)
                child.bound = message
                child.pulse = pulse_of(child.name, self.spec.config if self.spec else {}, time.monotonic())
                self.deadline = None if self.hello_sent and not self.stopping else self.deadline
                self._hello_if_bound()  # before a "ready" that came with it
            elif op == "pong" and self.spec is not None:
                child.pulse = answered(child.pulse, child.name, self.spec.config, time.monotonic())
            elif op == "fenced" and not self.stopping:  # the head may believe it dead: nothing here may go on
                self.abandoned = True
                self._fail(str(message.get("why")), 0.0)
            elif op == "ready" and child.name == "raylet":
                self.report("ready")
            elif op in ("node_lost", "drained", "left") or (
                op == "demand" and self.uplink.pending_bytes < OUTPUT_LOW_BYTES
            ):
                self.report(**message)
            elif op == "no_restart" and self.head is not None:
                self.head.no_restart = str(message.get("why"))
            elif op == "error" and not self.stopping:
                self._fail(f"{child.name}: {message.get('why', 'failed')}")
        if child.control.eof:
            self._unwatch(fd)
            child.control.close()

    def _hello_if_bound(self) -> None:
        waited = [child for child in self.children.values() if child.name != "zygote"]
        if self.hello_sent or self.stopping or self.spec is None or not waited:
            return
        if any(child.bound is None for child in waited):
            return
        self.deadline = None
        self._say_hello(self.spec, {child.name: child.bound or {} for child in waited})

    def _say_hello(self, spec: NodeSpec, bound: Mapping[str, Mapping[str, Any]] | None = None) -> None:
        hello = survey.hello_facts(spec)
        if self.prepared.problem:
            hello["problem"] = self.prepared.problem
        if bound is not None:
            hello.update((key, value) for key, value in bound["raylet"].items() if key != "op")
            if "head" in bound:
                hello.update(head_ep=bound["head"].get("ep"), head_pk=bound["head"].get("pk"))
        elif self.rank == 0:
            self.port_holder = hold_port(spec.interface_addr)
            hello["free_port"] = self.port_holder.getsockname()[1]
        rundir.describe(spec.dir, survey.session_facts(spec, hello, self.prepared.added))
        self.hello_sent = True
        self.report("hello", **hello)
        rundir.sweep(os.path.dirname(spec.dir))
        left_names.sweep()

    # -------------------------------------------------------------- ranks mode

    def _on_ranks(self, message: dict[str, Any]) -> None:
        if self.ranks is None or self.stopping:
            return
        order = msgspec.convert(message, Order)
        try:
            self.ranks.start(order)
        except OSError as error:
            self._fail(f"cannot start the ranks: {error}")
        self.left = True

    def _on_signal_message(self, message: dict[str, Any]) -> None:
        if self.ranks is not None:
            self.ranks.signal(int(message["sig"]))

    # -------------------------------------------------------------- the end

    def _fail(self, why: str, grace_s: float = FAILURE_GRACE_S) -> None:
        """The node cannot be: says why, then ends."""
        self.code = 1
        self.report("error", why=why)
        self._begin_stop(grace_s, why)

    def _on_stop_message(self, message: dict[str, Any]) -> None:
        alone = "only" in message
        self._begin_stop(float(message.get("grace_s", FAILURE_GRACE_S)), str(message.get("why", "")), alone)

    def _begin_stop(self, grace_s: float, why: str, alone: bool = False) -> None:
        """Tell the children and start the grace period; a second stop can only shorten it. ``alone``: others go on."""
        deadline = time.monotonic() + grace_s
        if self.stopping:
            if not self.killing and self.deadline is not None:
                self.deadline = min(self.deadline, deadline)
            return
        self.stopping = True
        self.deadline = deadline
        for name in ("raylet", "head"):
            self._tell(name, {"op": "stop", "grace_s": grace_s, "why": why, "alone": alone})
        if self.ranks is not None:
            self.ranks.end()
        self._reap()

    def _tell(self, name: str, message: dict[str, Any]) -> None:
        for child in self.children.values():
            if child.name == name and not child.control.eof:
                try:
                    child.control.send(message)
                except ControlError as error:
                    self._fail(f"{name}: {error}")

    def _note_signal(self, signum: int, _frame: FrameType | None) -> None:
        self._signals.append(signum)

    def _on_wake(self, fd: int) -> None:
        try:
            os.read(fd, 4096)
        except BlockingIOError:
            pass
        noted, self._signals = self._signals, []
        for signum in noted:
            if signum != signal.SIGCHLD:
                gone = os.getppid() != self.keeper_pid
                why = "the keeper of this node is gone" if gone else signal.Signals(signum).name
                if signum == signal.SIGTERM and not gone and self._may_stay():
                    continue
                self.ended_by = self.ended_by or ("" if gone else f"it was told to end by {why}")
                self._begin_stop(FAILURE_GRACE_S, why)
        self._reap()

    def _may_stay(self) -> bool:
        """Whether the launcher decides about the SIGTERM that has come: it is told of the first one."""
        now = time.monotonic()
        if self.warned_at is not None:
            return now < self.warned_at + AGAIN_S
        if self.stopping or not self.hello_sent or self.ranks is not None or self.uplink.eof:
            return False
        self.warned_at, self.deadline = now, now + ANSWER_S
        self.report("warned", signal=signal.Signals(signal.SIGTERM).name)
        return True

    def _on_stay(self) -> None:
        """The launcher ends the node when it is time."""
        if self.warned_at is not None and not self.stopping:
            self.deadline = None

    def _reap(self) -> None:
        ended, self.left = reap_ended()
        deadline = time.monotonic() + CAUSE_S
        while self._ended_after_another(ended) and time.monotonic() < deadline:
            time.sleep(TICK_S)  # rare, and this node is about to end
            more, self.left = reap_ended()
            ended += more
        # Whoever ended well did so because another was killed: that one is the cause, whatever the order says.
        for pid, status in sorted(ended, key=lambda one: exit_code(one[1]) == 0):
            child = self.children.get(pid)
            if child is not None:
                self._child_ended(child, exit_code(status))
            elif self.ranks is not None:
                self.ranks.on_exit(pid, status)
        if self.stopping and not self.killing and self._all_ended():
            self._start_killing()

    def _ended_after_another(self, ended: list[tuple[int, int]]) -> bool:
        """Whether the zygote has ended because the raylet, which has not been seen to end, closed its socket."""
        gone = {pid: exit_code(status) for pid, status in ended}
        zygote = any(c.name == "zygote" and gone.get(c.pid) == 0 for c in self.children.values())
        raylet = any(c.name == "raylet" and not c.ended and c.pid not in gone for c in self.children.values())
        return zygote and raylet and not self.stopping

    def _child_ended(self, child: _Child, code: int) -> None:
        child.ended = True
        if child.control.fileno() >= 0:
            self._on_control(child)  # its last words
        if self.stopping:
            return
        restarted, why_not = self._restart_head(child, code)
        if restarted:
            return
        self.code = 1
        tail = last_lines(self.spec.log_path(f"{child.name}.log")) if self.spec else []
        self.report("exit", what=child.name, code=code, tail=tail, not_restarted=why_not)
        self._begin_stop(FAILURE_GRACE_S, f"the {child.name} {describe_code(code)}")

    def _on_mail(self, message: dict[str, Any]) -> None:
        if self.head is not None:
            self.head.on_mail(message)
            self._tell("head", message)

    def _restart_head(self, child: _Child, code: int) -> tuple[bool, str]:
        """Put another head in the place of one that was killed: (True, ""); or says why not. A node goes on without
        no other child, which goes without saying."""
        if child.name != "head" or self.head is None:
            return False, ""
        killed = code == -signal.SIGKILL and not child.hung
        why_not = self.head.why_not(code, killed)
        if why_not:
            return False, why_not
        del self.children[child.pid]
        if child.control.fileno() >= 0:
            self._unwatch(child.control.fileno())
            child.control.close()
        self.report("restarted", what="head", code=code, more=child.hung)
        try:
            self._fork("head", self.programs.head, self.head.spec)
        except OSError as error:
            return False, str(error)
        if self.hello_sent:
            self.deadline = time.monotonic() + setting("bind_timeout_s", {})
        for message in self.head.mail:
            self._tell("head", message)
        return True, ""

    def _all_ended(self) -> bool:
        """Whether nothing is left that the grace period is for."""
        if self.ranks is not None:
            return not self.left
        return all(child.ended for child in self.children.values())

    def _on_deadline(self) -> None:
        if self.stopping:
            self._start_killing()
        elif self.warned_at is not None:
            self.ended_by = self.ended_by or "it was told to end by SIGTERM"
            self._begin_stop(FAILURE_GRACE_S, "SIGTERM")
        else:
            silent = [c.name for c in self.children.values() if c.bound is None and c.name != "zygote"]
            self._fail(f"not listening within the time allowed: {', '.join(silent)}")

    def _start_killing(self) -> None:
        self.killing = True
        self.deadline = time.monotonic() + KILL_TIMEOUT_S

    def _kill_turn(self) -> None:
        self._reap()
        if not self.left:
            self.done = True
            return
        signal_all(descendants(os.getpid()), signal.SIGKILL)
        if self.deadline is not None and time.monotonic() >= self.deadline:
            self.report("error", why=f"processes that could not be ended: {descendants(os.getpid())}")
            self.code = 1
            self.done = True

    def _clean_up(self) -> None:
        """After the loop: in order nothing runs any more; after a failure this ends what does."""
        if not self.done:
            signal_all(descendants(os.getpid()), signal.SIGKILL)
        for child in self.children.values():
            child.control.close()
        if self.head is not None:
            self.head.close()
        if self.run_dir is not None:
            rundir.remove(self.run_dir.path)
        self.report("bye", code=self.code, **({"why": self.ended_by} if self.ended_by else {}))
        self.uplink.drain()
        if self.abandoned and self.when_abandoned:
            os.write(self.paths_fd, become(self.when_abandoned))


def _deaf(program: ChildMain, spec: NodeSpec, control: socket.socket) -> None:
    """A child of the supervisor: it ends when it is told to, not by a SIGTERM that a scheduler sends to all."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    program(spec, control)


def supervisor_main(
    rank: int, stdin_fd: int, stdout_fd: int, *, children: Children = CHILDREN, launcher_pid: int | None = None,
    owned: str = "",
) -> int:  # fmt: skip
    """Run the node `rank` of a group in this process, which becomes its keeper; return the exit code.

    The process must have one thread and nothing else to do. `launcher_pid` is given when the launcher is on
    this machine: its death then ends the node as end-of-file on `stdin_fd` does. The folder `owned` goes with the node.
    """

    def body(paths_fd: int) -> int:
        supervisor = Supervisor(rank, stdin_fd, stdout_fd, paths_fd, children=children, launcher_pid=launcher_pid)
        return supervisor.run()

    return keep(body, rank=rank, stdin_fd=stdin_fd, stdout_fd=stdout_fd, owned=owned)


def main(argv: Sequence[str] | None = None, *, children: Children = CHILDREN) -> NoReturn:
    """--rank R, or --rank-env NAME [--first-rank R]; [--launcher-pid PID] of one here; [--owned FOLDER]."""
    words = list(sys.argv[1:] if argv is None else argv)
    options = dict(zip(words[::2], words[1::2]))
    try:
        rank = int(options["--rank"] if "--rank" in options else os.environ[options["--rank-env"]])
        rank += int(options.get("--first-rank", 0))
        launcher_pid = int(options["--launcher-pid"]) if "--launcher-pid" in options else None
    except (KeyError, ValueError):
        sys.exit("usage: hpc-node --rank R | --rank-env NAME [--first-rank R] [--launcher-pid PID]")
    if launcher_pid is not None and os.getpgrp() != os.getpid():
        os.setpgid(0, 0)  # Ctrl-C is for the launcher, which decides what it means
    sys.stdout.flush()
    keep_all()  # until now, all was imports
    owned = options.get("--owned", "")
    os._exit(supervisor_main(rank, 0, 1, children=children, launcher_pid=launcher_pid, owned=owned))
