"""Following a submitted job from where the user sits: its state, its output, Ctrl-C, its exit code.

The job's own folder tells nearly everything, and costs the scheduler nothing. The scheduler is asked once after the
start, then every 30 s at most. It is asked less often the longer the job lasts, and no more while the job shows signs
of life.
Rejected: a connection to the job (compute nodes often cannot be reached from a login node).
"""

from __future__ import annotations

import select
import signal
import sys
import time
from datetime import datetime
from pathlib import Path
from typing import Any, BinaryIO

from hpc.launch.chain import link_of
from hpc.launch.jobdir import JobDir, has_ended, scheduler_of
from hpc.launch.old_output import OldOutput
from hpc.launch.report import HEARTBEAT_S
from hpc.launch.status_line import StatusLine, line, shown
from hpc.launch.verdict import is_over, judge, write_down
from hpc.launchers.batch_jobs import withdraw_recorded
from hpc.launchers.scheduler import Inquiry, JobInfo, JobNews
from hpc.launchers.signals import Signals
from hpc.settings import errors
from hpc.settings.errors import CliError

SECOND_CHANCE_S = 2.0  # a second Ctrl-C counts within this time
SETTLE_S = 10.0  # a shared file system may show the last words so late
SILENT_S = 60.0  # so long a scheduler that does not answer is waited for, where it has the last word
FAST_TICK_S, SLOW_TICK_S = 0.1, 1.0
FIRST_POLL_S = 1.0
POLL_GROWTH, POLL_MOST = 1.3, 4.0


class Follower:
    """One follower of one job. `tail_lines`: begin that far from the end of the output (None: at its beginning).

    `submitted`: this very command submitted the job, so that without a terminal a signal to it is meant for the job.
    A reader of its output leaves it alone.
    """

    def __init__(
        self,
        job: JobDir,
        *,
        quiet: bool = False,
        interval_s: float = 30.0,
        tail_lines: int | None = None,
        submitted: bool = False,
    ):
        self.job = job
        self.submitted = submitted
        content = job.job()
        self.scheduler = scheduler_of(job)
        self.job_id = job.scheduler_id()
        self.log = Path(content["log"]) if content.get("log") else None
        self.line = StatusLine(quiet=quiet)
        self.terminal = sys.stdin.isatty() and sys.stderr.isatty()
        self.base_interval_s = self.interval_s = interval_s
        self.next_poll_s = time.monotonic() + min(FIRST_POLL_S, interval_s)
        self.query: Inquiry | None = None
        self.info: JobInfo | None = None
        self.info_at_s = float("-inf")
        self.gone = False  # the scheduler does not know the job any more
        self.position: int | None = None
        self.offset = tail_offset(self.log, tail_lines) if tail_lines is not None and self.log else 0
        #: What the file of output had before, until the job has written to it.
        self.old = OldOutput.read(content.get("log_was")) if tail_lines is None and self.log else None
        self.interrupts = 0
        self.detach_at_s: float | None = None
        self.cancelled = False
        self.ended_since_s: float | None = None
        self.sign_of_life = (0.0, time.monotonic())  # what the job wrote last, and when that was seen
        self.last_word: tuple[float, float] | None = None  # of a job that may run again: the same of its end
        self.busy_until_s = time.monotonic() + 5.0

    # -------------------------------------------------------------- the loop

    def follow(self) -> int:
        """Until the job has ended or the user leaves; returns the exit code."""
        try:
            with Signals() as signals:
                signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})  # held since the job was submitted
                while True:
                    moved = self._copy_output()
                    status = self.job.status()
                    code = self._check_end(status)
                    if code is not None:
                        return code
                    self._poll(status)
                    self._show(status)
                    if moved:
                        self.busy_until_s = time.monotonic() + 5.0
                    tick = FAST_TICK_S if time.monotonic() < self.busy_until_s else SLOW_TICK_S
                    select.select([signals.fileno()], [], [], tick)
                    for signum in signals.take():
                        self._on_signal(signum, status)
                    if self.detach_at_s is not None and time.monotonic() >= self.detach_at_s:
                        return self._detach(errors.EXIT_DETACHED)
        except _Leave as leave:
            return self._detach(leave.code)
        finally:
            self.line.clear()
            if self.query is not None:
                self.query.close()

    def _copy_output(self) -> bool:
        """Copy what is new in the job's output to ours."""
        if self.log is None:
            found = self.job.output()
            if not found:
                return False
            self.log = Path(found)
        if self.old is not None:
            begin = self.old.begin(self.log)
            if begin is None:
                return False
            self.offset, self.old = begin, None
        try:
            with self.log.open("rb") as file:  # opened anew each time: that is when NFS looks for changes
                file.seek(self.offset)
                data = file.read(1 << 20)
        except OSError:
            return False
        if not data:
            return False
        self.offset += len(data)
        self.line.clear()
        write_all(sys.stdout.buffer, data)
        return True

    def phase(self, status: dict[str, Any]) -> str:
        """Where the job is: its own word counts, unless the scheduler has said something since."""
        state = str(status.get("state", "queued"))
        if self.info is None or (self.info_at_s < self.sign_of_life[1] and state in ("starting", "running")):
            return state
        if self.info.phase == "queued":
            return "queued"
        if self.info.stopped:
            return "suspended"
        return "starting" if state == "queued" and self.info.phase == "running" else state

    # -------------------------------------------------------------- the end

    def _check_end(self, status: dict[str, Any]) -> int | None:
        if status.get("state") == "ended":
            if not self._is_last_word(status):
                return None
            self._drain(status.get("log_bytes"))
            code = int(status.get("exit_code") or 0)
            self.line.final(str(status.get("text", line("ended"))))
            return code
        self.last_word = None
        over = self.gone or (self.info is not None and is_over(self.info))
        if not over:
            self.ended_since_s = None
            return None
        now = time.monotonic()
        self.ended_since_s = self.ended_since_s or now
        if now - self.ended_since_s < (SETTLE_S / 4 if status.get("state") != "queued" or not self.cancelled else 0):
            return None
        self._drain(None)
        return self._judge(status)

    def _is_last_word(self, status: dict[str, Any]) -> bool:
        """Whether a job has ended that says so. One that may be put back into the queue has when its scheduler says so,
        who is asked at once, and not for ever."""
        if has_ended(status):
            return True
        now, updated = time.monotonic(), float(status.get("updated", 0.0))
        if self.last_word is None or self.last_word[0] != updated:
            self.last_word = (updated, now)
            self.next_poll_s, self.interval_s = now, min(1.0, self.base_interval_s)
        if self.info_at_s < self.last_word[1]:
            return now > self.last_word[1] + SILENT_S
        return self.gone or (self.info is not None and self.info.phase == "ended")

    def _drain(self, log_bytes: int | None) -> None:
        """The rest of the output; the file server may be some seconds behind."""
        end = time.monotonic() + SETTLE_S
        while self._copy_output() or (log_bytes is not None and self._lacks(log_bytes)):
            if time.monotonic() > end:
                break
            time.sleep(FAST_TICK_S)

    def _lacks(self, log_bytes: int) -> bool:
        """Whether the output, which has so many bytes, is not here as a whole."""
        return self.offset < log_bytes if self.old is None else self.old.size != log_bytes

    def _judge(self, status: dict[str, Any]) -> int:
        """The job is over and its hpc-launch could not say how."""
        if self.info is None:
            what = f"job {self.job_id} is not known to {self.scheduler.title} any more"
            raise CliError("SESSION-LOST", what, why=str(status.get("text", "")))
        if self.info.phase != "ended":
            self.scheduler.cancel(self.job_id)  # what it still has is of no use to anybody
        withdraw_recorded(self.job.path, self.scheduler)
        verdict = judge(self.job, self.info, status)
        write_down(self.job, verdict)
        if verdict.error is not None:
            raise verdict.error
        self.line.final(verdict.text)
        return errors.EXIT_SESSION_LOST if verdict.code is None else verdict.code

    # -------------------------------------------------------------- asking the scheduler

    def _poll(self, status: dict[str, Any]) -> None:
        now = time.monotonic()
        alive = self._alive(status, now)
        if self.query is None:
            if now < self.next_poll_s or (alive and not self.cancelled):
                return
            self.query = self.scheduler.inquire(self.job_id, position=self.line.terminal)
        news = self.query.poll()
        if news is not None:
            self._learn(news, whole=self.query.over)
        if not self.query.over:
            return
        self.query.close()
        self.query = None
        self.next_poll_s = now + (min(1.0, self.base_interval_s) if self.cancelled else self.interval_s)
        self.interval_s = min(self.interval_s * POLL_GROWTH, POLL_MOST * self.base_interval_s)

    def _learn(self, news: JobNews, whole: bool) -> None:
        self.gone = not news.known
        if news.info is not None or not news.known:
            self.info, self.info_at_s = news.info or self.info, time.monotonic()
        if whole and news.info is not None:  # until then the old place is shown
            self.position = news.position

    def _alive(self, status: dict[str, Any], now: float) -> bool:
        """Whether the job's own signs of life make asking needless."""
        updated = float(status.get("updated", 0.0))
        if updated != self.sign_of_life[0]:
            age_s = 0.0 if self.sign_of_life[0] else max(0.0, time.time() - updated)  # found, not seen to come
            self.sign_of_life = (updated, now - age_s)
            if updated:
                self.busy_until_s = now + 5.0
        fresh = now - self.sign_of_life[1] < min(3 * HEARTBEAT_S, 3 * self.base_interval_s)
        stopped = self.info is not None and self.info.stopped and self.info_at_s > self.sign_of_life[1]
        return bool(updated) and fresh and not stopped and status.get("state") in ("starting", "running")

    def _show(self, status: dict[str, Any]) -> None:
        phase = self.phase(status)
        if self.detach_at_s is not None or phase == "ended":  # whether it has is not known yet
            return
        if phase == "suspended":
            self.line.show(line("suspended", f"{self.job_id}  {self.scheduler.title} has stopped it for a while"))
            return
        if phase != "queued":
            age_s = time.monotonic() - self.sign_of_life[1]
            text = shown(status, age_s) if phase == status.get("state") else line("starting", self.job_id)
            self.line.show(text, key=phase)
            return
        info = self.info
        if info is None:
            self.line.show(line("queued", self.job_id), key="queued")
            return
        place = f"#{self.position} in {info.partition}" if self.position else info.partition
        start = f"est. start ≈{clock(info.start)}" if info.start else "start not estimated yet"
        text = line("queued", self.job_id, place, start, f"{info.reason}: {info.why}" if info.reason else info.why)
        self.line.show(text, key=f"queued {info.reason}")

    # -------------------------------------------------------------- Ctrl-C and its kin

    def _on_signal(self, signum: int, status: dict[str, Any]) -> None:
        if signum == signal.SIGINT:
            self._on_interrupt(self.phase(status), status)
        elif signum == signal.SIGTERM and self.submitted and not self.terminal:
            self._cancel()
        elif signum in (signal.SIGHUP, signal.SIGTERM):
            raise _Leave(128 + signum)

    def _on_interrupt(self, phase: str, status: dict[str, Any]) -> None:
        self.interrupts += 1
        if not self.terminal and not self.submitted:
            raise _Leave(errors.EXIT_DETACHED)
        if not self.terminal:
            self._cancel()
        elif self.interrupts == 1:
            again = "sends SIGINT to the script" if phase in ("running", "suspended") else "cancels"
            missing = "; ".join(status.get("missing") or []) if phase == "starting" else ""
            said = f"; missing: {missing}" if missing else ""
            self.line.note(
                f"still {phase}{said}; Ctrl-C again within {SECOND_CHANCE_S:g} s {again}, else the job goes on alone"
            )
            self.detach_at_s = time.monotonic() + SECOND_CHANCE_S
        elif phase in ("running", "suspended") and self.interrupts == 2:
            self.detach_at_s = None
            reply = self.scheduler.signal(self.job_id, "INT", str(self.job.path))
            said = "SIGINT sent to the script" if reply.ok else f"no SIGINT was sent: {reply.why}"
            self.line.note(f"{said}; Ctrl-C again ends the job")
        else:
            self.detach_at_s = None
            self._cancel()

    def _cancel(self) -> None:
        if self.cancelled:
            return
        self.cancelled = True
        self.line.note(f"cancelling job {self.job_id}")
        reply = self.scheduler.cancel(self.job_id)
        if not reply.ok:
            self.line.note(f"hpc: {reply.why}")
        link = link_of(self.job)
        if link is not None:  # those that wait for this job are not wanted either
            link.withdraw_rest(self.scheduler)
        self.next_poll_s = time.monotonic()

    def _detach(self, code: int) -> int:
        number = self.job.number
        self.line.note(f"detached: job {self.job_id} goes on · hpc attach {number} · hpc cancel {number}")
        return code


class _Leave(Exception):
    """The terminal is gone or somebody ends us: the job goes on."""

    def __init__(self, code: int) -> None:
        super().__init__(code)
        self.code = code


def clock(start: str) -> str:
    """A scheduler's `2026-11-21T14:20:04` as 14:20, with the date when it is another day."""
    try:
        when = datetime.strptime(start, "%Y-%m-%dT%H:%M:%S")
    except ValueError:
        return start
    return when.strftime("%H:%M" if when.date() == datetime.now().date() else "%a %d %b %H:%M")


def tail_offset(path: Path, lines: int) -> int:
    """Where the last `lines` lines of a file begin."""
    try:
        size = path.stat().st_size
        with path.open("rb") as file:
            file.seek(max(0, size - 256 * max(1, lines)))
            block = file.read()
    except OSError:
        return 0
    ends = [i for i, byte in enumerate(block[:-1]) if byte == 0x0A]
    start = ends[-lines] + 1 if 0 < lines <= len(ends) else (len(block) if lines == 0 else 0)
    return size - len(block) + start


def write_all(stream: BinaryIO, data: bytes) -> None:
    """Write and flush; a reader that has gone (`| head`) ends us as it would end cat."""
    try:
        stream.write(data)
        stream.flush()
    except BrokenPipeError:
        raise _Leave(128 + signal.SIGPIPE) from None
