"""A small process beside a launcher that looks at the session now and then, and leaves a report in the job's folder.

The launcher is hpc-launch, or the host of `hpc start`. It forks the recorder before the script starts, so that a short
job pays nothing for it. They share a pipe: a line asks for a last look, another says how the job ended. Where the pipe
ends without such a word the launcher was killed, and the report says so. Nothing depends on the recorder: it may be
killed at any time. Where the nodes run no runtime of ours there is nothing to look at: then it knows what was granted,
and how it ends.
"""

from __future__ import annotations

import json
import os
import select
import signal
import socket
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from hpc.report.ending import BY_FORCE

if TYPE_CHECKING:
    from hpc.core.events.rows import EventRow
    from hpc.core.owner.shell.client import Client
    from hpc.report.look import Looker

#: The first look, and how often is looked then: less and less often, up to the second number.
FIRST_S, LOOK_S = 1.0, 10.0
#: After a look this many times of its CPU time pass: one at thousands of nodes takes seconds, here and in the session.
PACE = 20
#: What is known is written after the first look, and then less and less often.
KEEP_S, KEEP_MOST_S = 10.0, 60.0
PUBLISH_S, PUBLISH_MOST_S = 10.0, 600.0
#: The last look and the logs may take this long, or this where the job cannot wait.
LAST_S, HURRY_S = 4.0, 1.0
#: hpc-launch waits this long for the last look, and then for the report.
PATIENCE_S = 5.0
#: And this long for its end once it was killed.
GONE_S = 1.0
NICE = 10

Row = dict[str, Any]


class Recorder:
    """The launcher's end of it. Before it has begun, and without a folder, there is nothing to do."""

    def __init__(self) -> None:
        self.pid = 0
        self._sock: socket.socket | None = None

    def begin(self, node_dir: str, folder: Path | None, granted: Sequence[Row] = ()) -> None:
        """Fork the process, beside a session with a node in ``node_dir``; without one the nodes are those that were
        ``granted``, as rows of the head. The caller has no other threads."""
        if folder is None:
            return
        try:
            ours, theirs = socket.socketpair()
        except OSError as error:  # no more files: the job goes on, and hpc report makes its page of the folder alone
            return _complain(folder, error)
        with theirs:
            try:
                self.pid = os.fork()
            except OSError as error:  # no more processes
                ours.close()
                return _complain(folder, error)
            if not self.pid:
                _be_recorder(node_dir, folder, theirs, granted)
        self._sock = ours

    def last_look(self, hurry: bool) -> None:
        """Have it look once more while the session is still there; waits until it has."""
        if self._sock is None:
            return
        self._say({"look": HURRY_S if hurry else LAST_S})
        self._sock.settimeout(HURRY_S + 0.5 if hurry else PATIENCE_S)
        try:
            self._sock.recv(1)
        except OSError:
            pass

    def end(self, cause: str, text: str, code: int) -> None:
        """Say how the job ended; waits for the report, and ends the process if that takes too long."""
        if self._sock is None:
            return
        self._say({"cause": cause, "text": text, "code": code})
        self._sock.settimeout(PATIENCE_S)
        try:
            while self._sock.recv(16):  # until it ends
                pass
        except OSError:
            _kill(self.pid)
        self._sock.close()
        self._sock = None
        _wait_for(self.pid)

    def _say(self, what: dict[str, Any]) -> None:
        try:
            assert self._sock is not None
            self._sock.sendall(json.dumps(what).encode() + b"\n")
        except OSError:
            pass


def _kill(pid: int) -> None:
    """SIGKILL to a child, which may be gone and waited for."""
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        pass


def _wait_for(pid: int, patience_s: float = GONE_S) -> bool:
    """Whether a child has ended; one that hangs in a file system that does not answer cannot even be killed."""
    end_s = time.monotonic() + patience_s
    while True:
        try:
            if os.waitpid(pid, os.WNOHANG)[0]:
                return True
        except ChildProcessError:
            return True
        if time.monotonic() >= end_s:
            return False
        time.sleep(0.005)


def _be_recorder(node_dir: str, folder: Path, sock: socket.socket, granted: Sequence[Row]) -> NoReturn:
    code = 1
    try:
        _become(sock)
        _Loop(node_dir, folder, 3, granted).run()
        code = 0
    except BaseException as error:
        _complain(folder, error)
    finally:
        os._exit(code)


def _become(sock: socket.socket) -> None:
    """A process of its own, which holds nothing of hpc-launch's: no pipes to nodes, no signals, no terminal."""
    os.setsid()
    for signum in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT, signal.SIGUSR1, signal.SIGUSR2):
        signal.signal(signum, signal.SIG_IGN)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    signal.set_wakeup_fd(-1)
    fd = os.dup(sock.fileno())
    null = os.open(os.devnull, os.O_RDWR)
    for target in (0, 1, 2):
        os.dup2(null, target)
    os.dup2(fd, 3)
    os.closerange(4, 65536)
    os.nice(NICE)


def _complain(folder: Path, error: BaseException) -> None:
    """The one trace of a recorder that failed: an event in the folder."""
    line = json.dumps({"t": round(time.time(), 3), "event": "recorder-failed", "text": repr(error)[:400]})
    try:
        with (folder / "events.jsonl").open("a") as out:
            out.write(line + "\n")
    except OSError:
        pass


def pause_s(wait_s: float, took_s: float) -> float:
    """How long until the next look, after one that took ``took_s`` of a CPU."""
    return max(wait_s, PACE * took_s)


class _Loop:
    """The recorder's process. ``fd`` is its end of the pipe."""

    def __init__(self, node_dir: str, folder: Path, fd: int, granted: Sequence[Row] = ()) -> None:
        self.node_dir, self.folder, self.fd, self.granted = node_dir, folder, fd, granted
        self.buffer = b""
        self.client: Client | None = None
        self.looker: Looker | None = None
        self.keep_s, self.publish_s = KEEP_S, PUBLISH_S
        self.keep_at = self.publish_at = 0.0
        self.events = 0  # of the session, in the folder

    def run(self) -> None:
        """Until hpc-launch says how the job ended, or is gone."""
        wait_s = FIRST_S
        next_look = time.monotonic() + wait_s
        while True:
            said = self._hear(max(0.0, next_look - time.monotonic()))
            if said is None:
                return self._finish("killed", BY_FORCE, None)
            if "cause" in said:
                return self._finish(said["cause"], said["text"], said["code"])
            if "look" in said:
                end_s = time.monotonic() + said["look"]
                self._look(said["look"], last=True)
                if self.looker is not None and self.client is not None:
                    self.looker.take_logs(end_s)
                self._say_done()
            if time.monotonic() >= next_look:
                wait_s = min(LOOK_S, 2 * wait_s)
                is_first, begun_s = self.looker is None, time.process_time()
                self._look(LOOK_S / 2)
                took_s = 0.0 if is_first else time.process_time() - begun_s  # the first one has the imports
                next_look = time.monotonic() + pause_s(wait_s, took_s)
                self._write_now_and_then()

    def _say_done(self) -> None:
        """hpc-launch waits for this; it may have been killed meanwhile, which is heard next."""
        try:
            os.write(self.fd, b".")
        except OSError:
            pass

    def _hear(self, timeout_s: float) -> dict[str, Any] | None:
        """What hpc-launch says, {} if it says nothing in that time; None if it is gone."""
        if b"\n" not in self.buffer:
            ready, _, _ = select.select([self.fd], [], [], timeout_s)
            if not ready:
                return {}
            data = os.read(self.fd, 1 << 16)
            if not data:
                return None
            self.buffer += data
        line, found, rest = self.buffer.partition(b"\n")
        if not found:
            return {}
        self.buffer = rest
        said: dict[str, Any] = json.loads(line)
        return said

    def _look(self, timeout_s: float, *, last: bool = False) -> None:
        from hpc.core.exceptions import HpcError
        from hpc.core.owner.shell.client import Client
        from hpc.core.process.current import current

        try:
            looker = self._make_looker()
            if not self.node_dir:
                return looker.note(self.granted)
            if self.client is None:
                self.client = Client(self.node_dir, "driver", b"", spin_s=0.0)
                current.client = self.client
                self.client.start()
            looker.look(timeout_s, last=last)
        except (HpcError, OSError, ConnectionError):
            if self.looker is not None:
                self.looker.collector.missed()

    def _make_looker(self) -> Looker:
        if self.looker is None:
            from hpc.report import write
            from hpc.report.collect import Collector
            from hpc.report.look import Looker

            self.looker = Looker(Collector())
            self.looker.on_events = self._write_events
            self.looker.collector.facts.job = write.job_of(self.folder)
        return self.looker

    def _write_events(self, rows: Sequence[EventRow]) -> None:
        from hpc.report import write

        try:
            self.events = write.append_events(self.folder, rows, self.events)
        except OSError:
            pass  # they are in the record

    def _write_now_and_then(self) -> None:
        from hpc.report import write

        now, looker = time.monotonic(), self.looker
        if looker is None:
            return
        try:
            if now >= self.keep_at:
                write.keep(self.folder, looker.collector.facts)
                self.keep_at, self.keep_s = now + self.keep_s, min(KEEP_MOST_S, 2 * self.keep_s)
            if now >= self.publish_at:
                self._publish("running", "", None)
                self.publish_at, self.publish_s = now + self.publish_s, min(PUBLISH_MOST_S, 2 * self.publish_s)
        except OSError:
            pass  # a full quota now need not be one at the end

    def _finish(self, cause: Any, text: str, code: int | None) -> None:
        from hpc.report import write

        looker = self._make_looker()
        self._publish(cause, text, code)
        write.keep(self.folder, looker.collector.facts)

    def _publish(self, cause: Any, text: str, code: int | None) -> None:
        from hpc.report import write
        from hpc.report.facts import Ending

        looker = self._make_looker()
        facts = looker.collector.facts
        facts.ending = Ending(cause, write.sayable(text), code)
        if cause != "running":
            facts.seen_s = time.time()
        write.publish(self.folder / write.REPORT, write.with_events(facts, self.folder))
