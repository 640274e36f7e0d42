"""What workers print, brought to the terminal of the driver whose work they do.

Files stay on the node; new lines are read a few times a second, at most so many bytes at a time, and sent to the
driver that the worker's lease belongs to, or did last. Only files that were written to are looked at: a node may have a
thousand silent actors.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from hpc.core.ids import Address
from hpc.core.node.inotify import Watch
from hpc.core.node.spec import NodeSpec
from hpc.core.raylet.tables import NOBODY, Proc
from hpc.core.wire import LogLines, Message

log = logging.getLogger("hpc.raylet")

MAX_BYTES_A_TURN = 64 << 10


@dataclass
class _File:
    fd: int
    is_err: bool
    at: int = 0
    partial: bytes = b""


class LogTail:
    """Follows the output files of the workers of a node."""

    def __init__(self, spec: NodeSpec, send: Callable[[Address, Message], None]) -> None:
        self._spec = spec
        self._send = send
        self._files: dict[int, list[_File]] = {}
        #: Files with more to read than one turn takes.
        self._unread: set[int] = set()
        self._watch: Watch | None = None
        try:
            self._watch = Watch(os.path.dirname(spec.log_path("worker-1.out")))
        except OSError as error:
            log.warning("worker logs are looked at one by one: %s", error)

    def open(self, proc: int) -> None:
        """A worker has started; its files exist."""
        files = []
        for suffix, is_err in (("out", False), ("err", True)):
            try:
                fd = os.open(self._spec.log_path(f"worker-{proc}.{suffix}"), os.O_RDONLY | os.O_CLOEXEC)
            except OSError:
                continue
            files.append(_File(fd, is_err))
        self._files[proc] = files

    def poll(self, procs: Mapping[int, Proc]) -> None:
        """Send what is new."""
        for number in self._written():
            proc = procs.get(number)
            if proc is not None:
                for file in self._files.get(number, ()):
                    self._read(number, proc.pid, file, proc.driver)

    def _written(self) -> list[int]:
        names = self._watch.changed() if self._watch is not None else None
        if names is None:
            return list(self._files)
        numbers, self._unread = self._unread, set()
        for name in names:
            stem = name.partition(".")[0].removeprefix("worker-")
            if stem.isdigit():
                numbers.add(int(stem))
        return list(numbers)

    def _read(self, number: int, pid: int, file: _File, driver: Address, last: bool = False) -> None:
        try:
            data = os.pread(file.fd, MAX_BYTES_A_TURN, file.at)
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
            self._send(driver, LogLines(self._spec.node, pid, "", text, file.is_err))

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

    def close(self, proc: int, driver: Address) -> None:
        """A worker has ended: send what is left and close its files."""
        for file in self._files.pop(proc, []):
            self._read(proc, 0, file, driver, last=True)
            os.close(file.fd)
        self._unread.discard(proc)
