"""What workers print, brought to the terminal of the driver whose work they do.

Files stay on the node; new lines are read a few times a second, at most so many bytes at a time, and sent to the
driver that the worker's lease belongs to. What is beyond the limit stays in the file and is counted.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from hpc.core.ids import Address
from hpc.core.node.spec import NodeSpec
from hpc.core.raylet.tables import Proc
from hpc.core.wire import LogLines, Message

MAX_BYTES_A_TURN = 64 << 10
NOBODY = Address(0, 0)


@dataclass
class _File:
    fd: int
    is_err: bool
    at: int = 0
    partial: bytes = b""
    driver: Address = NOBODY


class LogTail:
    """Follows the output files of the workers of a node."""

    def __init__(self, spec: NodeSpec, send: Callable[[Address, Message], None]) -> None:
        self._spec = spec
        self._send = send
        self._files: dict[int, list[_File]] = {}
        self._drivers: dict[int, Address] = {}

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
        for number, files in self._files.items():
            proc = procs.get(number)
            if proc is None:
                continue
            if proc.lease is not None:
                self._drivers[number] = proc.lease.driver
            for file in files:
                self._read(proc.pid, file, self._drivers.get(number, NOBODY))

    def _read(self, pid: int, file: _File, driver: Address, last: bool = False) -> None:
        try:
            data = os.pread(file.fd, MAX_BYTES_A_TURN, file.at)
        except OSError:
            return
        if not data and not (last and file.partial):
            return
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

    def close(self, proc: int) -> None:
        """A worker has ended: send what is left and close its files."""
        for file in self._files.pop(proc, []):
            self._read(0, file, self._drivers.get(proc, NOBODY), last=True)
            os.close(file.fd)
        self._drivers.pop(proc, None)
