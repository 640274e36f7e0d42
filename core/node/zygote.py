"""The zygote imports once what every worker needs, then forks workers on the raylet's request.

Imports that start threads make a fork unsafe, and numpy alone starts some unless its BLAS is told otherwise. So BLAS
and OpenMP are limited to one thread while importing. Then the threads of this process and its open GPU devices are
looked at. If there is more than one thread or any device, no worker is ever forked. Raylet and supervisor then get an
`error` that says what was found.

The messages::

    raylet to zygote      {"op":"fork","proc":n,"env":{...}}     (a value of null unsets the variable)
    zygote to raylet      {"op":"forked","proc":n,"pid":p}
                          {"op":"exited","proc":n,"pid":p,"status":wait status}   and nothing that it started is left
                          {"op":"error","proc":n,"why":str}      this worker was not forked
    supervisor to zygote  {"op":"ping"}
    zygote to supervisor  {"op":"pong"}, the first one when it begins to turn

The supervisor asks from time to time whether this loop still turns, and ends the node if it does not. All requests that
have come are served before the zygote looks at anything else. End of file from the raylet or the supervisor ends all
workers and the zygote.
"""

from __future__ import annotations

import gc
import os
import select
import signal
import socket
import sys
import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from types import FrameType
from typing import Any

from hpc.core.accelerators.table import is_device
from hpc.core.node.control import Control
from hpc.core.node.imports import import_threadless, uncollected
from hpc.core.node.orphans import Orphans
from hpc.core.node.process import become_subreaper, fork_child, note_signals, thread_count
from hpc.core.node.reap import end_descendants, reap_ended
from hpc.core.node.settings import switch, text
from hpc.core.node.spec import NodeSpec
from hpc.core.runenv.spec import KEY, expand

WorkerMain = Callable[[NodeSpec, int], object]

PRELOAD = ("numpy", "cloudpickle", "msgspec", "hpc.core.worker.main", "hpc.core.owner.shell.forked")
#: What only some workers need, and takes long: imported when nothing has been asked for a moment, with what the session
#: has named beside.
LATER = ("hpc.core.worker.aio", "concurrent.futures.thread")
LATER_S = 0.25
END_TIMEOUT_S = 5.0


def why_not_fork() -> str | None:
    """Why forking this process would be unsafe, if it would."""
    threads = thread_count()
    if threads != 1:
        return (
            f"the zygote has {threads} threads after its imports, so its workers could deadlock; "
            "does sitecustomize, a .pth file or an imported library start threads?"
        )
    for name in os.listdir("/proc/self/fd"):
        try:
            target = os.readlink(f"/proc/self/fd/{name}")
        except OSError:
            continue
        if is_device(target):
            return f"an import opened the device {target}, which must not be shared by workers"
    return None


@dataclass
class Zygote:
    """The loop: two control sockets and SIGCHLD."""

    spec: NodeSpec
    supervisor: Control
    raylet: Control
    worker_main: WorkerMain
    refusal: str | None = None
    later: Sequence[str] = LATER
    workers: dict[int, int] = field(default_factory=dict)  # pid → proc
    orphans: Orphans = field(init=False)

    def run(self) -> None:
        """Serve until the raylet or the supervisor is gone, then end all workers."""
        wake_read, wake_write = os.pipe()
        for fd in (wake_read, wake_write):
            os.set_blocking(fd, False)
        signal.signal(signal.SIGCHLD, _ignore)
        signal.set_wakeup_fd(wake_write, warn_on_full_buffer=False)
        note_signals()
        become_subreaper()
        orphans = self.orphans = Orphans(self.workers, self._tell_ended)
        self.supervisor.send({"op": "pong"})
        poll = select.poll()
        poll.register(wake_read, select.POLLIN)
        poll.register(self.supervisor.fileno(), select.POLLIN)
        raylet_fd = self.raylet.fileno()
        try:
            while not (self.raylet.eof or self.supervisor.eof):
                events = select.POLLIN | (select.POLLOUT if self.raylet.wants_write else 0)
                poll.register(raylet_fd, events)
                look_s = orphans.look(time.monotonic())
                found = poll.poll(look_s * 1000 if look_s else LATER_S * 1000 if self.later else None)
                for fd, _event in found:
                    if fd == wake_read:
                        self._on_wake(wake_read)
                if not found and not look_s:
                    self._import_later()
                self.raylet.flush()
                for request in self.raylet.receive():
                    self._on_request(request)
                for question in self.supervisor.receive():
                    if question.get("op") == "ping":
                        self.supervisor.send({"op": "pong"})
        finally:
            end_descendants(END_TIMEOUT_S)

    def _import_later(self) -> None:
        modules, self.later = self.later, ()
        if self.refusal is None:
            gc.collect()
            with uncollected():
                try:
                    import_threadless(modules)
                except Exception:  # workers import for themselves what they need, and say what is wrong with it
                    traceback.print_exc()
            self.refusal = why_not_fork()

    def _on_wake(self, wake_read: int) -> None:
        try:
            os.read(wake_read, 4096)
        except BlockingIOError:
            pass
        for pid, status in reap_ended()[0]:
            proc = self.workers.pop(pid, None)
            if proc is not None:
                self.orphans.worker_ended(proc, pid, status)

    def _tell_ended(self, proc: int, pid: int, status: int) -> None:
        self.raylet.send({"op": "exited", "proc": proc, "pid": pid, "status": status})

    def _on_request(self, request: dict[str, Any]) -> None:
        if request.get("op") != "fork":
            return
        proc = int(request["proc"])
        if self.refusal is not None:
            self.raylet.send({"op": "error", "proc": proc, "why": self.refusal})
            return
        try:
            pid = self._fork(proc, request.get("env") or {})
        except OSError as error:
            why = f"cannot fork a worker: {error.strerror}"
            self.raylet.send({"op": "error", "proc": proc, "why": why})
            return
        self.workers[pid] = proc
        self.raylet.send({"op": "forked", "proc": proc, "pid": pid})

    def _fork(self, proc: int, env: dict[str, str | None]) -> int:
        return fork_child(
            lambda: run_worker(self.spec, proc, env, self.worker_main),
            name=f"hpc-worker-{proc}",
            log=(self.spec.log_path(f"worker-{proc}.out"), self.spec.log_path(f"worker-{proc}.err")),
        )


def run_worker(spec: NodeSpec, proc: int, env: dict[str, str | None], worker_main: WorkerMain) -> object:
    """In the forked child: its own environment and its own random numbers, then the worker."""
    become_subreaper()
    reseed()
    if env:
        enter_environment(spec, proc, env)
    return worker_main(spec, proc)


def enter_environment(spec: NodeSpec, proc: int, env: dict[str, str | None]) -> None:
    """Variables, and what else the worker's runtime environment asks for: that may take long, or end in an exec."""
    before = dict(os.environ)
    given = {name: value for name, value in env.items() if value is not None}
    for name in env.keys() - given.keys():
        os.environ.pop(name, None)
    os.environ.update(expand(given, before))
    from hpc.core.process.context import process
    from hpc.core.worker import threads

    process.env = given
    threads.follow({name: os.environ[name] for name in given})
    if KEY in given:
        from hpc.core.runenv.setup import enter

        enter(spec, proc, given)


def reseed() -> None:
    """Fresh random numbers for numpy and torch: forked workers would all draw the same. Python's own sees to that
    itself; and where the zygote has not imported one of them, its import will seed it."""
    numpy_random = sys.modules.get("numpy.random")
    if numpy_random is not None:
        numpy_random.seed()
    generator = getattr(sys.modules.get("torch"), "default_generator", None)
    if generator is not None:
        generator.seed()


def _ignore(_signum: int, _frame: FrameType | None) -> None:
    """SIGCHLD only has to write to the wake-up descriptor."""


def _default_worker_main(spec: NodeSpec, proc: int) -> None:
    from hpc.core.worker.main import worker_main

    worker_main(spec, proc)


def zygote_main(
    spec: NodeSpec,
    sock: socket.socket,
    *,
    worker_main: WorkerMain = _default_worker_main,
    modules: Sequence[str] = PRELOAD,
) -> None:
    """Run the zygote in this process, a child of the supervisor; `spec.zygote_fd` is its end to the raylet."""
    supervisor = Control(sock)
    raylet = Control(socket.socket(fileno=spec.zygote_fd))
    zygote = Zygote(spec, supervisor, raylet, worker_main, later=(*LATER, *spec.preload))
    try:
        with uncollected():
            import_threadless((*modules, *text("worker_imports", spec.config, os.environ).split()))
        zygote.refusal = why_not_fork()
    except Exception as error:
        traceback.print_exc()
        zygote.refusal = f"the imports of the workers failed: {error!r}"
    if spec.devices and switch("device_affinity", spec.config, os.environ):
        from hpc.core.node.numa import why_no_policy  # not for nodes without any

        if why := why_no_policy():
            print(f"memory of workers with devices lies where the kernel puts it: {why}", file=sys.stderr)
    if zygote.refusal is not None:
        print(f"no workers: {zygote.refusal}", file=sys.stderr)
        supervisor.send({"op": "error", "why": zygote.refusal})
    zygote.run()
