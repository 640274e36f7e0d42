"""Further jobs as batch jobs of a scheduler: submitted, followed while they wait, and cancelled so that none is left.

The session's loop does not wait for a scheduler: a thread of its own does what may take long. A job is known by its
token, which is in a file that only the user can read (relay.py).

No job is left behind. At the end of the session jobs in the queue are cancelled, and so are those that do not end with
their nodes. A session that was killed can do nothing any more: then a job that starts finds that the session is over,
and ends. A record in the job's folder names the jobs for `hpc cancel`, and for the command that follows the session.
"""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from hpc.core.node.address import InterfaceError, node_address
from hpc.launchers.arrivals import Arrivals, ArrivedGroup
from hpc.launchers.loop import ComingNodes, SessionLoop
from hpc.launchers.node_group import NodeGroup
from hpc.launchers.relay import relay_command, write_order
from hpc.launchers.scheduler import Inquiry, NoAnswer, Refused, Request, Scheduler

#: A job that waits in the queue is asked about so often.
ASK_S = 20.0
#: Further jobs whose nodes have ended end by themselves within this time, or they are cancelled.
END_S = 5.0
LOOK_S = 0.2
#: A further job may last so much longer than the session.
MORE_S = 60.0
#: The time in which the door has to listen.
DOOR_S = 30.0
RECORD = "further.json"


class BatchJobs:
    """Further jobs that are submitted to a scheduler.

    request: what the first job asked for; each further one asks for the same, but for its nodes and its time. folder:
    of the job, on a file system that the nodes share. setup, cwd: of the job script. order: what each relay has to know
    beside (see relay.py).
    """

    def __init__(
        self,
        loop: SessionLoop,
        scheduler: Scheduler,
        request: Request,
        folder: Path,
        *,
        setup: Sequence[str] = (),
        cwd: str = "/",
        order: Mapping[str, Any] | None = None,
    ) -> None:
        self.scheduler, self.request, self.folder = scheduler, request, folder
        self.loop = loop
        self.threads: list[threading.Thread] = []
        self._setup, self._cwd, self._order = list(setup), cwd, dict(order or {})
        self._jobs: dict[str, BatchJob] = {}
        self._arrivals: Arrivals | None = None
        self._closed_because = ""
        self._join_path = str(folder / "join-further")
        if (folder / RECORD).exists():  # the job was put back into the queue: those of its run before are of no use
            self.work(lambda: withdraw_recorded(folder, scheduler))

    def ask(self, name: str, size: int, left_s: float | None) -> ComingNodes:
        job = self._jobs[name] = BatchJob(self, name)
        try:
            arrivals = self._open_door()
            path = self.folder / f"further-{name}.order"
            token = job.token
            write_order(path, {**self._order, "join": self._join_path, "token": token, "nodes": size})
            request = self._request(name, size, left_s)
            script = self.folder / f"further-{name}.{self.scheduler.script_name}"
            text = self.scheduler.script(request, cwd=self._cwd, setup=self._setup, command=relay_command(str(path)))
            script.write_text(text)
            script.chmod(0o700)
            job.submit(self.scheduler.submission(str(script), request), request, arrivals.listening)
        except OSError as error:
            job.trouble = str(error)
        return job

    def _request(self, name: str, size: int, left_s: float | None) -> Request:
        """A job that outlives the session has time for nothing. Where the first one has the scheduler's own limit, what
        is left of that is asked for. More may be refused: the limit may be the most that is granted."""
        time_s = self.request.time
        if left_s is not None:
            time_s = left_s if time_s is None else min(time_s, left_s + MORE_S)
        output = str(self.folder / f"further-{name}.log")
        return replace(
            self.request, nodes=(size, size), time=time_s, job_name=f"{self.request.job_name or 'hpc'}-further",
            output=output, dependency=None, mail_type=None, requeue=False,
        )  # fmt: skip

    def _open_door(self) -> Arrivals:
        if self._arrivals is not None:
            return self._arrivals
        interface = self._order.get("interface")
        try:
            addr = node_address(wanted=interface, loopback=False, many_nodes=True).addr
        except InterfaceError as error:
            raise OSError(str(error)) from None
        self._arrivals = Arrivals(self.loop, self._join_path, addr, self._came, self._on_closed)
        return self._arrivals

    def _on_closed(self, why: str) -> None:
        self._closed_because = why
        for job in self._jobs.values():
            job.trouble = job.trouble or why
        self._arrivals = None

    def _came(self, token: str, group: ArrivedGroup) -> bool:
        job = next((job for job in self._jobs.values() if secrets.compare_digest(job.token, token)), None)
        if job is None or job.cancelled or job.group is not None:
            return False
        job.group = group
        job.job_id = job.job_id or group.job_id
        return True

    def told(self, name: str) -> str:
        job = self._jobs.get(name)
        return "" if job is None else job.told

    def asks(self, name: str) -> Callable[[], Inquiry] | None:
        job = self._jobs.get(name)
        job_id = job.job_id if job is not None else ""
        return (lambda: self.scheduler.inquire(job_id, position=False)) if job_id else None

    def end(self, name: str) -> None:
        job = self._jobs.pop(name, None)
        if job is not None:
            job.clear_up(END_S)
            self.record()

    def work(self, run: Callable[[], object]) -> threading.Thread:
        """Have something done that may take long; `close` waits for it."""
        thread = threading.Thread(target=run, name="hpc-further", daemon=True)
        self.threads.append(thread)
        thread.start()
        return thread

    def record(self) -> None:
        """Write down which jobs there are, for those who clear up where the session could not."""
        ids = [job.job_id for job in self._jobs.values() if job.job_id]
        scratch = self.folder / f".{RECORD}.{os.getpid()}"
        with contextlib.suppress(OSError):
            scratch.write_text(json.dumps({"scheduler": self.scheduler.name, "ids": ids}) + "\n")
            os.replace(scratch, self.folder / RECORD)

    def close(self) -> None:
        jobs, self._jobs = list(self._jobs.values()), {}
        if self._arrivals is not None:
            self._arrivals.close()
        for job in jobs:
            job.clear_up(END_S)
        while self.threads:
            self.threads.pop().join()
        self.record()


class BatchJob:
    """One further job, from its submission until its nodes come."""

    def __init__(self, jobs: BatchJobs, name: str) -> None:
        self.token = secrets.token_hex(16)
        self.job_id = ""
        self.group: ArrivedGroup | None = None
        self.cancelled = False
        self.trouble = ""
        self.standing = "is being submitted"
        self._jobs, self._name = jobs, name
        self._scheduler = jobs.scheduler
        self._inquiry: Inquiry | None = None
        self._ask_at = float("inf")
        self._submitting: threading.Thread | None = None

    @property
    def told(self) -> str:
        """For people: the job and how it stands."""
        return f"job {self.job_id} {self.standing}" if self.job_id else f"a job that {self.standing}"

    def submit(self, command: Sequence[str], request: Request, listening: threading.Event) -> None:
        """Hand it in, by a thread, once the session listens for it."""

        def run() -> None:
            try:
                if not listening.wait(DOOR_S):
                    raise OSError(f"the door for further nodes did not open within {DOOR_S:g} s")
                self.job_id = self._scheduler.submit(command, request)
                self.standing = "waits in the queue"
            except Refused as no:
                found = no.diagnosis
                self.trouble = "; ".join(filter(None, [found.what, found.why]))
            except (OSError, ValueError) as error:
                self.trouble = str(error)
            self._jobs.loop.wake()

        self._submitting = self._jobs.work(run)

    # -------------------------------------------------------------- nodes that may come

    def poll(self) -> NodeGroup | None:
        """The nodes; RuntimeError when they will not come."""
        if self.group is not None:
            self._let_go()
            return self.group
        if self.trouble:
            self._let_go()
            raise RuntimeError(self.trouble)
        if self.job_id:
            self._follow()
        return None

    def cancel(self) -> None:
        """It is not wanted any more."""
        self.cancelled = True
        self.clear_up(0.0)

    def _follow(self) -> None:
        now = time.monotonic()
        if self._ask_at == float("inf"):
            self._ask_at = now + LOOK_S
            self._jobs.record()
        if self._inquiry is None:
            if now < self._ask_at:
                return
            self._inquiry = self._scheduler.inquire(self.job_id, position=False)
        news = self._inquiry.poll()
        if news is not None and news.info is not None:
            info = news.info
            self.standing = "starts" if info.phase == "running" else f"waits: {info.why or info.reason or info.state}"
            if info.phase == "ended":
                raise RuntimeError(f"job {self.job_id} has ended before its nodes came ({info.state})")
        elif news is not None and not news.known:
            raise RuntimeError(f"job {self.job_id} is not known any more")
        if self._inquiry.over:
            self._let_go()
            self._ask_at = now + ASK_S

    def _let_go(self) -> None:
        inquiry, self._inquiry = self._inquiry, None
        if inquiry is not None:
            inquiry.close()

    # -------------------------------------------------------------- the end

    def clear_up(self, patience_s: float) -> None:
        """Cancel the job if it has not ended by itself within that time, by a thread."""
        self._let_go()
        submitting = self._submitting

        def run() -> None:
            if submitting is not None:
                submitting.join()
            if self.job_id and not _ends(self._scheduler, self.job_id, patience_s):
                self._scheduler.cancel(self.job_id)

        if submitting is not None:
            self._jobs.work(run)


def _ends(scheduler: Scheduler, job_id: str, patience_s: float) -> bool:
    """Whether a job ends by itself; one that waits in the queue does not."""
    end_s = time.monotonic() + patience_s
    while time.monotonic() < end_s:
        try:
            info = scheduler.states([job_id]).get(job_id)
        except NoAnswer:
            return False
        if info is None or info.phase == "ended":
            return True
        if info.phase == "queued":
            return False
        time.sleep(LOOK_S)
    return False


def withdraw_recorded(folder: Path, scheduler: Scheduler) -> list[str]:
    """Cancel the further jobs that a session could not clear up after; returns their ids."""
    try:
        ids = [str(each) for each in json.loads((folder / RECORD).read_text())["ids"]]
    except (OSError, ValueError, KeyError, TypeError):
        return []
    left = ids
    with contextlib.suppress(NoAnswer):
        known = scheduler.states(ids) if ids else {}
        left = [job_id for job_id in ids if job_id in known and known[job_id].phase != "ended"]
    for job_id in left:
        scheduler.cancel(job_id)
    return left
