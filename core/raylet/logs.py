"""What workers print, brought to the terminal of the driver whose work they do.

Files stay on the node. New lines are read a few times a second, a piece at a time. They are sent to the driver that the
worker's lease belongs to, or belonged to last. A driver has only so many bytes on their way to it; what is more waits
in the files, also when the worker has ended. Only files that were written to are looked at: a node may have a thousand
silent actors. Here it also shows when a file has grown too large (see `logfiles`).
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable, Iterator

from msgspec import Struct, field

from hpc.core.ids import Address
from hpc.core.node.inotify import Watch
from hpc.core.node.marks import without
from hpc.core.node.spec import NodeSpec
from hpc.core.raylet.flushes import Flushes, Goals
from hpc.core.raylet.lines import Lines, Run
from hpc.core.raylet.logfiles import LogFiles
from hpc.core.raylet.machine import RayletMachine
from hpc.core.raylet.tables import NOBODY, Proc
from hpc.core.wire import Answer, FlushLogs, LogLines, LogQuery, LogSearch, LogsSeen

log = logging.getLogger("hpc.raylet")

#: Bytes of a file that are read at a time.
PIECE_BYTES = 64 << 10
#: Text without an end of line (a prompt, dots, a progress bar) is shown as a line of its own after this time.
OPEN_LINE_S = 1.0
#: Bytes that may be on their way from this node to a driver, which may hear a thousand nodes.
WINDOW_BYTES = 256 << 10
#: Workers that have ended and whose output waits for its driver, at most: the rest of the oldest stays in its files.
MAX_CLOSING = 64


class _File(Struct):
    name: str
    fd: int
    is_err: bool
    at: int = 0
    lines: Lines = field(default_factory=Lines)
    #: Since when there is text without an end of line; 0.0: there is none.
    open_since: float = 0.0


class _Output(Struct):
    """The files of a worker, and the driver to which new lines go."""

    number: int
    files: list[_File]
    pid: int = 0
    driver: Address = NOBODY
    ended: bool = False
    #: It has written more than its driver takes: nobody knows when.
    behind: bool = False


class LogTail:
    """Follows the output files of the workers of a node."""

    def __init__(
        self, spec: NodeSpec, machine: RayletMachine, writer: Callable[[int, float], str] = lambda number, moment: ""
    ) -> None:
        """``writer``: see `Writers.name`."""
        self._spec = spec
        self._writer = writer
        #: When it was last asked who has written, and the time before: what comes now was written since.
        self._noted = self._noted_before = 0.0
        self._machine = machine
        self.files = files = LogFiles(spec)
        self._living: dict[int, _Output] = {}
        #: Of workers that have ended, the oldest first.
        self._closing: dict[int, _Output] = {}
        #: Workers whose files have more than was read.
        self._unread: dict[int, None] = {}
        #: Living workers of which some text has no end of line yet.
        self._open: dict[int, None] = {}
        #: Bytes that were sent to a driver and that it has not acknowledged.
        self._unseen: dict[Address, int] = {}
        self._watch: Watch | None = None
        try:
            self._watch = Watch(os.path.dirname(spec.log_path("worker-1.out")))
        except OSError as error:
            log.warning("worker logs are looked at one by one: %s", error)
        outbox = machine.outbox
        self._flushes = Flushes(spec.node, outbox, self._sizes, self._is_missing, self._finish)
        handlers: dict[type, Callable[..., None]] = machine.handlers
        handlers[FlushLogs] = self._on_flush
        handlers[LogsSeen] = self._on_seen
        handlers[Answer] = self._on_answer
        handlers[LogQuery] = lambda src, msg: outbox.append((src, files.on_query(src, msg)))
        handlers[LogSearch] = lambda src, msg: outbox.append((src, files.on_search(src, msg)))
        machine.reports |= {"logs": files.files, "ended": files.ended_rows, "killed": files.killed_rows}

    def open(self, proc: int) -> None:
        """A worker has started; its files exist."""
        output = _Output(proc, [])
        for suffix, is_err in (("out", False), ("err", True)):
            name = f"worker-{proc}.{suffix}"
            try:
                fd = os.open(self._spec.log_path(name), os.O_RDONLY | os.O_CLOEXEC)
            except OSError:
                continue
            output.files.append(_File(name, fd, is_err))
        self._living[proc] = output

    def poll(self) -> None:
        """Send what is new."""
        self._noted_before, self._noted = self._noted, time.monotonic()
        self._note_written()
        self._send()
        now = time.monotonic()
        self._show_open(now)
        self._flushes.look(now)

    def close(
        self, number: int, proc: Proc | None, how: str, words: str, *, clean: bool, task: bytes, attempt: int
    ) -> None:
        """A worker has ended: send what is left, now or as its driver takes it, and remember the worker. ``words`` are
        its last ones; ``clean``: with exit code 0."""
        output = self._living.pop(number, None)
        if output is not None:
            self._assign(output, proc)
            output.ended = True
            self._closing[number] = output
            self._unread[number] = None
        self._flushes.worker_gone(number)
        self._send()
        while len(self._closing) > MAX_CLOSING:
            oldest = self._closing[next(iter(self._closing))]
            log.warning("worker %d has ended, and its driver takes no output: the rest of it stays here", oldest.number)
            self._end(oldest)
        if proc is not None:
            if proc.lease is not None and proc.lease.actor:
                task = b""  # what is named is the actor
            meant = proc.retired or proc.doomed or proc.exit_cause == "exit" or (clean and proc.exit_cause == "drained")
            failed = not meant and (not clean or bool(proc.exit_why))
            how, words = (proc.exit_why, "") if proc.exit_why else (how, words)
            self.files.worker_ended(proc, how, words, failed=failed, task=task, attempt=attempt)

    def last_lines(self, proc: int) -> list[str]:
        """The end of a worker's standard error, for the message about its death."""
        output = self._living.get(proc)
        for file in output.files if output is not None else ():
            if file.is_err:
                try:
                    size = os.fstat(file.fd).st_size
                    data = without(os.pread(file.fd, 2000, max(0, size - 2000)))
                except OSError:
                    return []
                return [line for line in data.decode("utf-8", "replace").splitlines() if line.strip()]
        return []

    # -------------------------------------------------------------- messages

    def _on_flush(self, src: Address, msg: FlushLogs) -> None:
        self._note_written()
        workers = [output.number for output in self._living.values() if output.driver == src]
        now = time.monotonic()
        self._flushes.begin(src, msg.req, workers, now)
        self._flushes.look(now)

    def _on_answer(self, src: Address, msg: Answer) -> None:
        self._flushes.answered(msg)
        self.poll()

    def _on_seen(self, src: Address, msg: LogsSeen) -> None:
        left = self._unseen.get(src, 0) - msg.size
        if left > 0:
            self._unseen[src] = left
        else:
            self._unseen.pop(src, None)
        if self._unread:
            self._send()
        self._flushes.look(time.monotonic())

    # -------------------------------------------------------------- flushes

    def _of(self, driver: Address) -> Iterator[_Output]:
        for outputs in (self._living, self._closing):
            for output in list(outputs.values()):
                if output.driver == driver:
                    yield output

    def _sizes(self, driver: Address) -> Goals:
        """How much was written to the files of a driver's workers; from now on it is read."""
        goals: Goals = {}
        self._note_written()
        for output in self._of(driver):
            self._unread[output.number] = None
            for file in output.files:
                goals[file.name] = os.fstat(file.fd).st_size + self.files.cut(file.name, file.fd).base
        self._send()
        return goals

    def _is_missing(self, goals: Goals) -> bool:
        return any(
            file.at < goals.get(file.name, 0)
            for outputs in (self._living, self._closing)
            for output in outputs.values()
            for file in output.files
        )

    def _finish(self, driver: Address) -> None:
        for output in self._of(driver):
            for file in output.files:
                self._send_rest(output, file)

    # -------------------------------------------------------------- reading

    def _note_written(self) -> None:
        """See whose files have grown, and for whom their workers work."""
        names = self._watch.changed() if self._watch is not None else None
        if names is None:
            self._unread.update(dict.fromkeys(self._living))
        for name in names or ():
            stem = name.partition(".")[0].removeprefix("worker-")
            if stem.isdigit() and int(stem) in self._living:
                self._unread[int(stem)] = None
            elif not stem.isdigit() or int(stem) not in self._closing:
                self._cap(name)
        procs = self._machine.leasing.procs
        for output in self._living.values():
            self._assign(output, procs.get(output.number))

    @staticmethod
    def _assign(output: _Output, proc: Proc | None) -> None:
        if proc is not None:
            output.pid, output.driver = proc.pid, proc.driver

    def _cap(self, name: str) -> None:
        """A file that nobody reads here: raylet.log, or that of a worker that is still being set up."""
        try:
            fd = os.open(self._spec.log_path(name), os.O_RDONLY | os.O_CLOEXEC)
        except OSError:
            return
        self.files.cut(name, fd)
        os.close(fd)

    def _send(self) -> None:
        """Read on, a piece of each file at a time, until all is read or the drivers have enough for now."""
        while self._unread:
            unread, self._unread = self._unread, {}
            moved = False
            for number in unread:
                output = self._living.get(number) or self._closing.get(number)
                if output is None:
                    continue
                gone = self._is_gone(output.driver)
                if not gone and self._unseen.get(output.driver, 0) >= WINDOW_BYTES:
                    self._unread[number], output.behind = None, True
                    continue
                # Each file is read: what stands in the way of one is not in the way of the other.
                more = [self._skip(file) if gone else self._read(output, file) for file in output.files]
                if any(more):
                    self._unread[number] = None
                    moved = True
                    continue
                output.behind = False
                if output.ended:
                    self._end(output)
            if not moved:
                return

    def _is_gone(self, driver: Address) -> bool:
        """Whether nobody is there to print for."""
        machine = self._machine
        if driver == NOBODY:
            return True
        if driver.node == self._spec.node:
            gone = driver.proc not in machine.leasing.procs
        else:
            gone = machine.borrowing.is_dead(driver)
        if gone:
            self._unseen.pop(driver, None)
            self._flushes.driver_gone(driver)
        return gone

    def _skip(self, file: _File) -> bool:
        try:
            file.at = os.fstat(file.fd).st_size + self.files.cut(file.name, file.fd).base
        except OSError:
            pass
        file.lines.skip()
        file.open_since = 0.0
        return False

    def _read(self, output: _Output, file: _File) -> bool:
        """Send the next piece of a file; whether there may be more."""
        try:
            cut = self.files.cut(file.name, file.fd)
            if file.at < cut.begin:
                said = b"" if cut.base else self.files.notice(cut.begin - file.at).encode()
                file.at = cut.begin
                file.lines.skip(said)  # an emptied file says so itself
            data = os.pread(file.fd, PIECE_BYTES, file.at - cut.base)
        except OSError:
            return False
        file.at += len(data)
        runs = file.lines.take(data)
        if any(not name for name, _ in runs) and not (output.behind or output.ended):
            writer = self._writer(output.number, self._noted_before)
            runs = [(name or writer, lines) for name, lines in runs]
        self._send_lines(output, file, runs, len(data))
        if not file.lines.partial:
            file.open_since = 0.0
        elif not file.open_since:
            file.open_since = time.monotonic()
            self._open[output.number] = None
        return len(data) == PIECE_BYTES

    def _show_open(self, now: float) -> None:
        """Send what has waited long enough for an end of line."""
        for number in list(self._open):
            output = self._living.get(number)
            files = [file for file in output.files if file.open_since] if output is not None else []
            if output is None or not files:
                del self._open[number]
            elif self._unseen.get(output.driver, 0) < WINDOW_BYTES:
                for file in files:
                    if now - file.open_since >= OPEN_LINE_S:
                        self._send_rest(output, file)

    def _send_rest(self, output: _Output, file: _File) -> None:
        size = len(file.lines.partial)
        self._send_lines(output, file, file.lines.rest(), size)
        file.open_since = 0.0

    def _send_lines(self, output: _Output, file: _File, runs: list[Run], size: int) -> None:
        """The bytes count with the first of the messages."""
        for name, lines in runs:
            message = LogLines(self._spec.node, output.pid, name, lines, file.is_err, size)
            self._unseen[output.driver] = self._unseen.get(output.driver, 0) + size
            self._machine.outbox.append((output.driver, message))
            size = 0

    def _end(self, output: _Output) -> None:
        """All that is to be sent was sent."""
        for file in output.files:
            self._send_rest(output, file)
            os.close(file.fd)
        self._closing.pop(output.number, None)
        self._unread.pop(output.number, None)
        self._open.pop(output.number, None)
