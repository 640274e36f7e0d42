"""The process that a session of `hpc start` belongs to: it lives until `hpc stop`, a signal, or the end of the head.

One thread, which turns the session's loop; the socket on which `hpc start --address`, `hpc stop` and `hpc job` ask is
watched there, too. It parents the supervisors, so they end with it however it ends, and the entrypoints of jobs. It is
no driver: it keeps no connection to the session that it runs.

Rejected: supervisors that live on by themselves and a file with their pids. Such a pid may be somebody else's by the
time that it is used. Rejected too: a port on the network; a socket in a private directory needs no key.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict
from typing import Any

from hpc.core.net.accept import Acceptor
from hpc.core.net.stream import check_peer
from hpc.core.node import rundir
from hpc.core.node.detect import boot_id
from hpc.core.node.process import become_subreaper, set_name
from hpc.core.node.reap import end_descendants
from hpc.host.attached import AttachedGroup, visits
from hpc.host.find import SOCKET
from hpc.host.jobs import JobError, Jobs
from hpc.host.kept import EndedBy, Kept
from hpc.launchers.door import start_door
from hpc.launchers.joinfile import remove_join_file
from hpc.launchers.leave import leave
from hpc.launchers.local.group import LocalGroup
from hpc.launchers.loop import SessionLoop
from hpc.launchers.registry import job_mark
from hpc.launchers.session import Session
from hpc.launchers.session_nodes import Event, SessionNode
from hpc.launchers.signals import Signals

STOP_GRACE_S = 5.0
MAX_REQUEST_BYTES = 1 << 20
MAX_CALLERS = 64
REPLY_TIMEOUT_S = 2.0
END_TIMEOUT_S = 10.0

Reply = dict[str, Any]


class _Caller:
    """A connection to the host's socket."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self.fd = sock.fileno()
        self.data = b""
        self.waits_for: Callable[[], Reply | None] | None = None
        self.keeps_node = 0  # the node that goes when this caller hangs up
        self.waits_for_end = False
        self.done = False
        sock.setblocking(False)

    def reply(self, reply: Mapping[str, Any], more: bool = False) -> None:
        """Send a line; without `more` it was the last."""
        self.waits_for = None
        self.done = not more
        try:
            self.sock.settimeout(REPLY_TIMEOUT_S)
            self.sock.sendall(json.dumps(reply).encode() + b"\n")
            self.sock.setblocking(False)
        except OSError:
            self.done = True


def refusal(why: str) -> Reply:
    """A reply that says no; "op" is for supervisors' starters, who read launchers' messages."""
    return {"ok": False, "op": "refused", "why": why}


class Host:
    """A session's host. `on_ready` is called once, when the session accepts work."""

    def __init__(
        self,
        session: Session,
        directory: str,
        namespace: str,
        on_ready: Callable[[dict[str, Any]], None],
        join_path: str | None = None,
    ) -> None:
        self.session = session
        self.dir = directory
        self.namespace = namespace
        self.on_ready = on_ready
        self.join_path = join_path
        self.kept: Kept | None = None
        self.jobs = Jobs(session.id, os.path.join(directory, "logs"))
        self.ready = False
        self.stop_at: float | None = None  # when the session is ended, jobs or not
        self.grace_s = STOP_GRACE_S
        self.why = ""
        self.cause: EndedBy = "normal"
        self.callers: dict[int, _Caller] = {}
        self._started_s = time.time()
        self.loop: SessionLoop
        self.warnings: dict[int, Callable[[str], object]] = {}  # by the signal that says it
        self.on_start: Callable[[SessionLoop], object] = lambda loop: None
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        session.on_event = self._log
        self._handlers: dict[str, Callable[[_Caller, dict[str, Any]], Reply | None]] = {
            "info": lambda caller, request: self._info(),
            "add_node": self._on_add_node,
            "attach": self._on_attach,
            "remove_node": self._on_remove_node,
            "stop": self._on_stop,
            "job_submit": lambda caller, request: {"ok": True, "job": asdict(self.jobs.submit(request))},
            "job_info": lambda caller, request: {"ok": True, "job": asdict(self.jobs.get(str(request["job"])))},
            "job_list": lambda caller, request: {"ok": True, "jobs": [asdict(job) for job in self.jobs.jobs.values()]},
            "job_stop": lambda caller, request: {"ok": True, "stopped": self.jobs.stop(str(request["job"]))},
            "job_delete": self._on_job_delete,
        }

    # -------------------------------------------------------------- the loop

    def run(self) -> str:
        """Until nothing of the session is left; returns why the start failed, if it did."""
        become_subreaper()
        set_name("hpc-host")
        with Signals() as signals:
            self.loop = SessionLoop(self.session, signals=signals, on_signal=self._on_signal)
            try:
                self._listen()
                self.session.start()
                self.on_start(self.loop)
                self.loop.each_turn(self._turn)
                self.loop.until(lambda: self.session.state == "ended")
            finally:
                self._end()
        return "" if self.ready else str(self.session.failure or self.session.lost or self.why or "it was stopped")

    def _listen(self) -> None:
        old = os.umask(0o177)
        try:
            self._listener.bind(os.path.join(self.dir, SOCKET))
        finally:
            os.umask(old)
        self._listener.listen(MAX_CALLERS)
        self._listener.setblocking(False)
        self._acceptor = Acceptor(self._listener, self._listen_for_callers, self.say)
        self._listen_for_callers(True)
        self._describe()

    def _listen_for_callers(self, on: bool) -> None:
        if on:
            self.loop.watch(self._listener.fileno(), self._accept)
        else:
            self.loop.unwatch(self._listener.fileno())
            self.loop.at(self._acceptor.again_at, self._acceptor.resume)

    def _on_signal(self, signum: int) -> None:
        if signum in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT):
            self.begin_stop(STOP_GRACE_S, signal.Signals(signum).name, "signal")
        elif signum in self.warnings:
            self.warnings[signum](signal.Signals(signum).name)

    def _turn(self) -> None:
        self._wait_for_children()
        if not self.ready and self.session.state == "ready" and self.stop_at is None:
            self._become_ready()
        for caller in list(self.callers.values()):
            if caller.waits_for is not None and not caller.done:
                reply = caller.waits_for()
                if reply is not None:
                    caller.reply(reply, more=bool(caller.keeps_node) and bool(reply["ok"]))
            if caller.keeps_node and self.session.nodes[caller.keeps_node].state == "gone":
                caller.done = True
            if caller.done:
                self._drop(caller)
        self.jobs.turn()
        if self.kept is not None and self.ready and self.stop_at is None:
            self.kept.stands(self.jobs.node_dir, self.session.ready())
        self._check_stop()

    def _become_ready(self) -> None:
        if self.join_path is not None and not self._open_door(self.join_path):
            return
        self.ready = True
        self.jobs.node_dir = str(self.session.local_dir() or "")
        self._describe()
        self.on_ready({"ok": True, **self._info()})
        if self.kept is not None:
            self.kept.begin(self.jobs.node_dir, self.session.ready())

    def _open_door(self, join_path: str) -> bool:
        """Let nodes on other machines join; where that is impossible the start has failed."""
        address = str(self.session.head.hello.get("addr", "")) if self.session.head is not None else ""
        if address.startswith("127.") and self.session.interface is None:
            problem = "this machine has no network that others could reach it by; say which with --interface"
        else:
            problem = start_door(self.session.id, self.dir, visits(os.path.join(self.dir, SOCKET)), address, join_path)
        if problem:
            self.begin_stop(1.0, problem)
        return not problem

    def _describe(self) -> None:
        facts = {
            "session": self.session.id, "node": 0, "pid": os.getpid(), "host": socket.gethostname(), "boot": boot_id(),
            "started": self._started_s, "allocation": job_mark(os.environ), "namespace": self.namespace,
            "node_dir": self.jobs.node_dir,
        }  # fmt: skip
        rundir.describe(self.dir, facts)

    def _wait_for_children(self) -> None:
        """Jobs that have ended, and orphans that came to us. The nodes' own processes are the session's to wait for."""
        while True:
            try:
                seen = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
            except ChildProcessError:
                return
            if seen is None:
                return
            if self._is_node(seen.si_pid):
                continue
            _pid, status = os.waitpid(seen.si_pid, 0)
            self.jobs.ended(seen.si_pid, status)

    def _is_node(self, pid: int) -> bool:
        """Whether a process is a group's; the group then waits for it."""
        for group in self.session.groups:
            if isinstance(group, LocalGroup) and pid in group.pids():
                group.poll()
                return True
        return False

    def begin_stop(self, grace_s: float, why: str, cause: EndedBy = "normal") -> None:
        """End the jobs, then the session; said again it changes nothing."""
        if self.stop_at is None:
            self.cause = cause
            print(f"stopping: {why}", file=sys.stderr, flush=True)
            self.grace_s, self.why = grace_s, why
            self.stop_at = time.monotonic() + grace_s
            self.jobs.stop_all()

    def _check_stop(self) -> None:
        if self.session.state in ("stopping", "ended") and self.stop_at is None:
            self.begin_stop(1.0, self.session.lost or "the session has ended", "signal")
        if self.stop_at is None or self.session.state not in ("starting", "ready"):
            return
        if not self.jobs.running or time.monotonic() >= self.stop_at:
            if self.kept is not None:
                self.kept.last_look(self.cause)
            self.session.begin_stop(self.grace_s, self.why)

    def _end(self) -> None:
        if self.session.state != "ended":
            self.session.stop(1.0, "the host failed")
        self.loop.close()
        self._listener.close()
        if self.kept is not None:
            self.kept.end(self.why, self.session.lost)
        left = end_descendants(END_TIMEOUT_S)
        rundir.remove(self.dir)
        if self.join_path is not None:
            remove_join_file(self.join_path, self.session.id)
        for caller in self.callers.values():
            if caller.waits_for_end:
                caller.reply(refusal(f"processes that could not be ended: {left}") if left else {"ok": True})
            caller.sock.close()

    @staticmethod
    def say(text: str) -> None:
        """A line of the host's log."""
        print(text, file=sys.stderr, flush=True)

    def _log(self, event: Event) -> None:
        if event.kind != "noise":
            name = event.node.name if event.node is not None else ""
            print(time.strftime("%H:%M:%S"), event.kind, name, event.text, file=sys.stderr, flush=True)

    # -------------------------------------------------------------- callers

    def _accept(self) -> None:
        sock = self._acceptor.take()
        if sock is None:
            return
        try:
            check_peer(sock)
        except OSError as error:
            self.say(f"refused a connection: {error}")
            sock.close()
            return
        caller = _Caller(sock)
        if len(self.callers) >= MAX_CALLERS:
            caller.reply(refusal("too many others ask at the same time"))
            sock.close()
            return
        self.callers[caller.fd] = caller
        self.loop.watch(caller.fd, lambda: self._read(caller))

    def _read(self, caller: _Caller) -> None:
        try:
            data = caller.sock.recv(1 << 16)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        caller.data += data
        if not data:
            caller.done = True
            if caller.keeps_node:
                self._remove(caller.keeps_node, self.grace_s)
        elif len(caller.data) > MAX_REQUEST_BYTES:
            caller.reply(refusal("the request is too long"))
        elif b"\n" in caller.data and caller.waits_for is None and not caller.keeps_node:
            line, _, caller.data = caller.data.partition(b"\n")
            reply = self._handle(caller, line)
            if reply is not None:
                caller.reply(reply)

    def _handle(self, caller: _Caller, line: bytes) -> Reply | None:
        try:
            request = json.loads(line)
            handler = self._handlers.get(request["op"])
            if handler is None:
                return refusal(f"this host knows no request {request['op']!r}")
            if not self.ready and request["op"] not in ("info", "stop"):
                return refusal("the session is not ready yet")
            if self.stop_at is not None and request["op"] in ("add_node", "job_submit"):
                return refusal("the session is being stopped")
            return handler(caller, request)
        except JobError as error:
            return refusal(str(error))
        except (ValueError, KeyError, TypeError, AttributeError, OSError) as error:
            return refusal(f"the request cannot be served: {type(error).__name__}: {error}")

    def _drop(self, caller: _Caller) -> None:
        del self.callers[caller.fd]
        self.loop.unwatch(caller.fd)
        caller.sock.close()

    # -------------------------------------------------------------- requests

    def _info(self) -> Reply:
        rows = [_row(info) for info in self.session.nodes.values()]
        return {
            "ok": True, "session": self.session.id, "pid": os.getpid(), "dir": self.dir, "namespace": self.namespace,
            "node_dir": self.jobs.node_dir, "nodes": rows,
        }  # fmt: skip

    def _on_add_node(self, caller: _Caller, request: dict[str, Any]) -> Reply | None:
        (number,) = self.session.add_group(LocalGroup(1, fork=True), overrides=request.get("overrides"))
        info = self.session.nodes[number]
        if request.get("stay"):
            caller.keeps_node = number

        def outcome() -> Reply | None:
            if info.state == "ready":
                return {"ok": True, "session": self.session.id, "node": _row(info)}
            if info.state == "gone" or info.refused:
                return refusal("\n".join([info.problem(), *info.tail]))
            return None

        caller.waits_for = outcome
        return outcome()

    def _on_attach(self, caller: _Caller, request: dict[str, Any]) -> Reply | None:
        """The rest of this connection is the pipe to a supervisor that was started on another machine."""
        group = AttachedGroup(caller.sock.dup(), request.get("interface"))
        self.session.add_group(group, overrides=request.get("overrides"))
        caller.done = True
        return None

    def _on_remove_node(self, caller: _Caller, request: dict[str, Any]) -> Reply | None:
        number = int(request["node"])
        info = self.session.nodes.get(number)
        if info is None or info.state == "gone":
            there = ", ".join(str(n.node) for n in self.session.nodes.values() if n.state != "gone")
            return refusal(f"session {self.session.id} has no node {number}; it has: {there}")
        if info is self.session.head:
            return refusal(f"node {number} has the head: its end is the end of the session (hpc stop)")
        grace_s, drain_s = float(request.get("grace_s", STOP_GRACE_S)), float(request.get("drain_s", 0.0))
        leave(self.loop, number, drain_s, "it is removed", grace_s)

        def outcome() -> Reply | None:
            return {"ok": True} if info.state == "gone" and info.group.poll() is not None else None

        caller.waits_for = outcome
        return None

    def _remove(self, number: int, grace_s: float) -> None:
        if self.session.nodes[number].state != "gone":
            self.session.remove_node(number, grace_s)

    def _on_stop(self, caller: _Caller, request: dict[str, Any]) -> Reply | None:
        caller.waits_for_end = True
        self.begin_stop(float(request.get("grace_s", STOP_GRACE_S)), "hpc stop")
        return None

    def _on_job_delete(self, caller: _Caller, request: dict[str, Any]) -> Reply | None:
        self.jobs.delete(str(request["job"]))
        return {"ok": True}


def _row(info: SessionNode) -> dict[str, Any]:
    hello = info.hello
    return {
        "node": info.node, "state": info.state, "host": info.host, "dir": str(hello.get("dir", "")),
        "cpus": hello.get("cpus"), "gpus": len((hello.get("devices") or {}).get("GPU", ())), "why": info.why,
    }  # fmt: skip
