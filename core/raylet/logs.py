"""What workers print, brought to the terminal of the driver whose work they do.

Files stay on the node; new lines are read a few times a second, at most so many bytes at a time, and sent to the
driver that the worker's lease belongs to, or did last. Only files that were written to are looked at: a node may have a
thousand silent actors. Here it also shows when a file has grown too large (see `logfiles`).
"""

from __future__ import annotations

import logging
import os
from dataclasses import dataclass

from hpc.core.ids import Address
from hpc.core.node.inotify import Watch
from hpc.core.node.spec import NodeSpec
from hpc.core.raylet.logfiles import LogFiles
from hpc.core.raylet.machine import RayletMachine
from hpc.core.raylet.tables import NOBODY, Proc
from hpc.core.wire import Answer, FlushLogs, LastRows, LogLines, LogQuery

log = logging.getLogger("hpc.raylet")

MAX_BYTES_A_TURN = 64 << 10


@dataclass
class _File:
    name: str
    fd: int
    is_err: bool
    at: int = 0
    partial: bytes = b""


class LogTail:
    """Follows the output files of the workers of a node."""

    def __init__(self, spec: NodeSpec, machine: RayletMachine) -> None:
        self._spec = spec
        self._machine = machine
        self.files = files = LogFiles(spec)
        self._files: dict[int, list[_File]] = {}
        #: Files with more to read than one turn takes.
        self._unread: set[int] = set()
        self._watch: Watch | None = None
        try:
            self._watch = Watch(os.path.dirname(spec.log_path("worker-1.out")))
        except OSError as error:
            log.warning("worker logs are looked at one by one: %s", error)
        outbox = machine.outbox
        machine.handlers[FlushLogs] = self._on_flush
        machine.handlers[LastRows] = files.on_last_rows
        machine.handlers[LogQuery] = lambda src, msg: outbox.append((src, files.on_query(src, msg)))
        machine.reports |= {"logs": files.files, "ended": files.ended_rows, "events": files.event_rows}

    def open(self, proc: int) -> None:
        """A worker has started; its files exist."""
        files = []
        for suffix, is_err in (("out", False), ("err", True)):
            name = f"worker-{proc}.{suffix}"
            try:
                fd = os.open(self._spec.log_path(name), os.O_RDONLY | os.O_CLOEXEC)
            except OSError:
                continue
            files.append(_File(name, fd, is_err))
        self._files[proc] = files

    def poll(self) -> None:
        """Send what is new."""
        for number in self._written():
            proc = self._machine.leasing.procs.get(number)
            if proc is not None:
                for file in self._files.get(number, ()):
                    self._read(number, proc.pid, file, proc.driver)

    def _on_flush(self, src: Address, msg: FlushLogs) -> None:
        self.poll()
        self._machine.outbox.append((src, Answer(msg.req, True)))

    def _written(self) -> list[int]:
        names = self._watch.changed() if self._watch is not None else None
        if names is None:
            return list(self._files)
        numbers, self._unread = self._unread, set()
        for name in names:
            stem = name.partition(".")[0].removeprefix("worker-")
            if stem.isdigit() and int(stem) in self._files:
                numbers.add(int(stem))
            else:
                self._cap(name)
        return list(numbers)

    def _cap(self, name: str) -> None:
        """A file that nobody reads here: raylet.log, or that of a worker that is still being set up."""
        try:
            fd = os.open(self._spec.log_path(name), os.O_RDONLY | os.O_CLOEXEC)
        except OSError:
            return
        self.files.cut(name, fd)
        os.close(fd)

    def _read(self, number: int, pid: int, file: _File, driver: Address, last: bool = False) -> None:
        try:
            cut = self.files.cut(file.name, file.fd)
            if file.at < cut.begin:
                said = b"" if cut.base else self.files.notice(cut.begin - file.at).encode()
                file.at, file.partial = cut.begin, said  # an emptied file says so itself
            data = os.pread(file.fd, MAX_BYTES_A_TURN, file.at - cut.base)
        except OSError:
            return
        if not data and not (last and file.partial):
            return
        if len(data) == MAX_BYTES_A_TURN:
            self._unread.add(number)
        file.at += len(data)
        *lines, file.partial = (file.partial + data).split(b"\n")
        if last and file.partial:
            lines.append(file.partial)
        if lines and driver != NOBODY:
            text = [line.decode("utf-8", "replace") for line in lines]
            lines_of = LogLines(self._spec.node, pid, "", text, file.is_err)
            self._machine.outbox.append((driver, lines_of))

    def last_lines(self, proc: int) -> list[str]:
        """The end of a worker's standard error, for the message about its death."""
        for file in self._files.get(proc, []):
            if file.is_err:
                try:
                    size = os.fstat(file.fd).st_size
                    data = os.pread(file.fd, 2000, max(0, size - 2000))
                except OSError:
                    return []
                return [line for line in data.decode("utf-8", "replace").splitlines() if line.strip()]
        return []

    def close(self, number: int, proc: Proc | None, why: str, *, clean: bool, task: bytes, attempt: int) -> None:
        """A worker has ended: send what is left, close its files and remember it. ``clean``: with exit code 0."""
        pid, driver = (proc.pid, proc.driver) if proc is not None else (0, NOBODY)
        for file in self._files.pop(number, []):
            self._read(number, pid, file, driver, last=True)
            os.close(file.fd)
        self._unread.discard(number)
        if proc is not None:
            meant = proc.retired or proc.doomed or proc.exit_intended
            failed = not meant and (not clean or bool(proc.exit_why))
            self.files.worker_ended(proc, proc.exit_why or why, failed=failed, task=task, attempt=attempt)
