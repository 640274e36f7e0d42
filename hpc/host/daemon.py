"""How a host comes to be: in this very process (`--block`), or as one of its own that outlives the command.

The command waits until the session accepts work, and is told by a pipe. So `hpc start` fails where the start fails,
with its reason, and a script may go on with the next line. The process is forked twice with a session of its own in
between, so that no terminal and no shell's job control reaches it. Its output goes to `host.log` in its directory.

A batch system ends it with the job that it was started in, as it should.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from hpc.core.node import rundir
from hpc.core.node.process import close_all_but, flush_output, redirect
from hpc.host.kept import Kept
from hpc.host.server import Host
from hpc.launch.limit import Drains
from hpc.launchers.local.group import LocalGroup
from hpc.launchers.loop import SessionLoop
from hpc.launchers.registry import Place, find_place
from hpc.launchers.scheduler import BadAllocation
from hpc.launchers.session import Session
from hpc.launchers.timekeeper import ASK_S
from hpc.settings.preloaded import PRELOADED

Tell = Callable[[dict[str, Any]], None]


@dataclass(frozen=True)
class Begin:
    """The first node and the session around it."""

    overrides: Mapping[str, Any] = field(default_factory=dict)
    config: Mapping[str, Any] = field(default_factory=dict)
    interface: str | None = None
    base_dir: str | None = None
    namespace: str = ""
    start_timeout_s: float = 120.0
    join_path: str | None = None  # where the join file is written, if nodes on other machines may join
    time_poll_s: float = ASK_S  # how often a scheduler is asked about the time limit of the job that this runs in
    drain_s: float | None = None  # so long before that limit the session drains
    drain_signal: int = 0  # a signal that says so, too
    job_dir: str = ""  # the folder of all jobs, where that of this session is made


def serve(begin: Begin, tell: Tell, *, log_to_file: bool) -> int:
    """Be the host until the session has ended; `tell` hears once how the start went. Returns an exit code."""
    for name in ("HPC_SESSION_DIR", "HPC_ADDRESS", "HPC_JOB_ID", "HPC_JOB_RUNTIME_ENV"):
        os.environ.pop(name, None)  # of a session that this command was started in
    reachable = {} if begin.join_path is None else {"loopback": False}
    session = Session(
        LocalGroup(1, fork=True), overrides=begin.overrides, config={**begin.config, **reachable},
        preload=PRELOADED, interface=begin.interface, start_timeout_s=begin.start_timeout_s,
    )  # fmt: skip
    try:
        base = rundir.choose_base(session.id, 0, begin.base_dir, os.environ)
        directory = rundir.make(base, session.id, 0)
    except rundir.RunDirError as error:
        tell({"ok": False, "why": str(error)})
        return 1
    session.use_base_dir(base)
    if log_to_file:
        path = os.path.join(directory.path, "logs", "host.log")
        redirect(path, path)
    host = Host(session, directory.path, begin.namespace, tell, begin.join_path)
    place: Place | None = None
    try:
        place = find_place()
    except BadAllocation as error:
        print(f"the time limit of this job is not known: {error}", file=sys.stderr, flush=True)
    host.kept = Kept(begin.job_dir, session.id, place)
    if place is not None:
        where = place

        def on_start(loop: SessionLoop) -> None:
            drains = Drains(loop, where, ask_s=begin.time_poll_s, drain_s=begin.drain_s, note=host.say)
            host.warnings = {begin.drain_signal: drains.begin} if begin.drain_signal else {}

        host.on_start = on_start
    failure = host.run()
    os.close(directory.lock_fd)
    if failure:
        tell({"ok": False, "why": failure})
    return 1 if failure or session.lost else 0


def serve_in_background(begin: Begin) -> dict[str, Any]:
    """Fork a host; returns what it tells about its start: {"ok": True, "session", ...} or {"ok": False, "why"}."""
    return in_background(lambda tell: serve(begin, tell, log_to_file=True))


def in_background(program: Callable[[Tell], int]) -> dict[str, Any]:
    """Run a program that outlives this command; returns the first thing that it tells."""
    read_fd, write_fd = os.pipe()
    flush_output()
    child = os.fork()
    if not child:
        try:
            os.setsid()
            if os.fork():
                os._exit(0)
            _be_daemon(program, write_fd)
        finally:
            os._exit(1)
    os.close(write_fd)
    os.waitpid(child, 0)
    return _hear(read_fd)


def _be_daemon(program: Callable[[Tell], int], write_fd: int) -> None:
    code = 1
    try:
        close_all_but([write_fd])
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # until the host has handlers of its own

        def tell(news: dict[str, Any]) -> None:
            try:
                os.write(write_fd, json.dumps(news).encode() + b"\n")
            except OSError:
                pass
            os.set_inheritable(write_fd, False)

        tell({"pid": os.getpid()})

        def tell_last(news: dict[str, Any]) -> None:
            nonlocal write_fd
            if write_fd >= 0:
                tell(news)
                os.close(write_fd)
                write_fd = -1

        try:
            code = program(tell_last)
        except BaseException as error:
            traceback.print_exc()
            tell_last({"ok": False, "why": f"it failed: {type(error).__name__}: {error}"})
    finally:
        flush_output()
        os._exit(code)


def _hear(read_fd: int) -> dict[str, Any]:
    """What the host says, until it has said how the start went. Ctrl-C here ends the host."""
    pid = 0
    try:
        with os.fdopen(read_fd, "rb") as pipe:
            for line in pipe:
                news: dict[str, Any] = json.loads(line)
                if "ok" in news:
                    return news
                pid = int(news["pid"])
    except KeyboardInterrupt:
        if pid:
            os.kill(pid, signal.SIGTERM)
        print("hpc: interrupted; the session is not started", file=sys.stderr)
        raise
    return {"ok": False, "why": "the process ended without a word (was it killed?)"}
