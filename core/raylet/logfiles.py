"""The log files of a node: capped, listed, read in pieces, and kept for a while after their worker has ended.

A worker writes straight to its files, C code too, so it cannot be asked to rotate. The beginning of a file that has
grown too large is taken out by a hole instead. The disk is free again, nothing that is written meanwhile is lost, and
positions in the file keep their meaning. Where the file system has no holes the file is emptied. Either way the file
itself says what is missing. Rejected: renaming, since the worker goes on in the old file. Rejected too: copying the
file and truncating it, which loses what comes in between and makes the raylet copy megabytes.
"""

from __future__ import annotations

import ctypes
import logging
import os
import stat
import time
from collections import OrderedDict
from collections.abc import Callable
from itertools import islice
from typing import Any

import msgspec
from msgspec import Struct, field, structs, to_builtins

from hpc.core.events.rows import TaskRow, WorkerRow
from hpc.core.ids import Address
from hpc.core.node.marks import without
from hpc.core.node.settings import setting
from hpc.core.node.spec import NodeSpec
from hpc.core.raylet.report import worker_row
from hpc.core.raylet.tables import Proc
from hpc.core.wire import Answer, LogQuery, LogSearch, Message

log = logging.getLogger("hpc.raylet")

#: One answer has at most so many bytes of a log.
LOG_PIECE_BYTES = 256 << 10
#: One search goes through so many bytes (1 ms), and finds so many lines; of each it tells so much before and after.
SEARCH_BYTES, MAX_FOUND, AROUND_BYTES = 1 << 20, 200, 150
#: A text that is searched for has no more: to find a long one may take the product of both lengths.
MAX_WANTED_BYTES = 1_000
#: Ended workers that a node remembers, and what their files may take together; the oldest go first.
MAX_ENDED = 500
MAX_ENDED_BYTES = 256 << 20
SUFFIXES = ("out", "err")

_BLOCK = 4096
_PUNCH_HOLE_KEEP_SIZE = 3

Row = dict[str, Any]


def punch(fd: int, end: int) -> None:
    """Make a hole from the beginning of a file to ``end``; OSError where the file system has none."""
    libc = ctypes.CDLL(None, use_errno=True)
    libc.fallocate.argtypes = [ctypes.c_int, ctypes.c_int, ctypes.c_int64, ctypes.c_int64]
    if libc.fallocate(fd, _PUNCH_HOLE_KEEP_SIZE, 0, end) != 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))


class Cut(Struct):
    """What is missing of a file: the bytes before ``begin``. ``base`` of them went with the file's emptying, so the
    byte n of the output is the byte n - base of the file."""

    begin: int = 0
    base: int = 0


class Ended(Struct):
    """A worker that has ended."""

    row: WorkerRow
    files: list[str] = field(default_factory=list)
    size_bytes: int = 0


class LogFiles:
    """The folder of log files of one node, and what is remembered of workers that have ended."""

    def __init__(self, spec: NodeSpec, limit_bytes: int | None = None) -> None:
        self._spec = spec
        self.limit_bytes = int(setting("log_bytes", spec.config, os.environ)) if limit_bytes is None else limit_bytes
        self._cuts: dict[str, Cut] = {}
        self.ended: OrderedDict[int, Ended] = OrderedDict()
        self._ended_bytes = 0

    # -------------------------------------------------------------- the cap

    def cut(self, name: str, fd: int) -> Cut:
        """What is missing of the file, after it was shortened if it has grown too large."""
        cut = self._cuts.get(name)
        size = os.fstat(fd).st_size
        if self.limit_bytes and size + (cut.base - cut.begin if cut else 0) > self.limit_bytes:
            cut = self._cuts.setdefault(name, Cut())
            self._shorten(name, cut, size)
        return cut or Cut()

    def _shorten(self, name: str, cut: Cut, size: int) -> None:
        path = self._spec.log_path(name)
        begin = (size - self.limit_bytes // 2) // _BLOCK * _BLOCK
        if not cut.base:
            try:
                self._punch(path, begin)
                cut.begin = begin
                return
            except OSError as error:
                log.warning("%s is emptied where it grows too large: no hole can be made in it: %s", name, error)
        try:
            fd = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC)
        except OSError:
            return
        try:
            os.ftruncate(fd, 0)
            cut.base += size
            cut.begin = cut.base
            os.write(fd, self.notice(cut.begin).encode())
        finally:
            os.close(fd)

    def _punch(self, path: str, begin: int) -> None:
        fd = os.open(path, os.O_RDWR | os.O_CLOEXEC)
        try:
            punch(fd, begin)
            os.pwrite(fd, self.notice(begin).encode(), 0)
        finally:
            os.close(fd)

    def notice(self, missing: int) -> str:
        """What a shortened file says at its beginning."""
        return f"hpc: {missing} bytes of output are missing here: a log may take {self.limit_bytes} (HPC_LOG_BYTES)\n"

    # -------------------------------------------------------------- reading

    def on_query(self, src: Address, msg: LogQuery) -> Message:
        """A piece of a file: (begin, at, end, moved, writing, data) as msgpack. ``begin`` is the first byte that there
        is, ``end`` how much was written; positions are of little use where the file was ``moved`` (emptied)."""

        def read(fd: int, end: int, cut: Cut) -> list[Any]:
            at = max(cut.begin, min(end, end + msg.at if msg.at < 0 else msg.at))
            size = max(0, min(msg.size, LOG_PIECE_BYTES, end - at))
            data = os.pread(fd, size, at - cut.base)
            return [cut.begin, at, end, cut.base > 0, self._writer(msg.file) is not None, data]

        return self._answer(msg.req, msg.file, read, [0, 0, 0, False, False, b""])

    def on_search(self, src: Address, msg: LogSearch) -> Message:
        """Lines of a piece of a file that have a text, the last first: (begin, at, end, lines) as msgpack. A line is
        the byte at which it begins, and a part of it. Those before the byte ``at`` were not looked at."""

        def search(fd: int, end: int, cut: Cut) -> list[Any]:
            last = end if msg.end < 0 else min(end, msg.end)
            begin = min(end, max(cut.begin, msg.begin, last - SEARCH_BYTES))
            data = os.pread(fd, max(0, last - begin), begin - cut.base)
            is_inside = begin > max(cut.begin, msg.begin)
            first = data.find(b"\n") + 1 if is_inside else 0  # the line before it may have begun earlier
            at, lines = found_lines(data, first % max(1, len(data)), msg.text.lower())
            return [cut.begin, begin + at, end, [[begin + line, part] for line, part in lines]]

        if not 0 < len(msg.text) <= MAX_WANTED_BYTES:
            return Answer(msg.req, False, why=f"a text to search for has 1 to {MAX_WANTED_BYTES} bytes")
        return self._answer(msg.req, msg.file, search, [0, 0, 0, []])

    def _answer(self, req: int, name: str, look: Callable[[int, int, Cut], list[Any]], nothing: list[Any]) -> Message:
        """What a look at an open file finds: it is given the file, its end, and what is missing of it."""
        cut = self._cuts.get(name, Cut())
        try:
            if os.path.basename(name) != name or name.startswith("."):
                raise FileNotFoundError(name)
            fd = os.open(self._spec.log_path(name), os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        except (OSError, ValueError):
            known = self.ended.get(_number(name) or 0)
            if known is not None and known.size_bytes == 0:  # it printed nothing
                return Answer(req, True, msgspec.msgpack.encode(nothing))
            return Answer(req, False, why=self._why_not(name))
        try:
            info = os.fstat(fd)
            if not stat.S_ISREG(info.st_mode):
                return Answer(req, False, why=self._why_not(name))
            return Answer(req, True, msgspec.msgpack.encode(look(fd, info.st_size + cut.base, cut)))
        except OSError as error:
            return Answer(req, False, why=f"{name} cannot be read: {error.strerror}")
        finally:
            os.close(fd)

    def _why_not(self, name: str) -> str:
        proc = _number(name)
        gone = f"; of workers that have ended it keeps the last {MAX_ENDED}" if proc is not None else ""
        return f"node {self._spec.node} has no log file {name!r}{gone}"

    def files(self, limit: int) -> list[Row]:
        """One row for each file."""
        rows: list[Row] = []
        try:
            entries = sorted(os.scandir(self._spec.log_dir), key=lambda entry: entry.name)
        except OSError:
            return rows
        for entry in entries[:limit]:
            try:
                info = entry.stat(follow_symlinks=False)
            except OSError:
                continue
            cut = self._cuts.get(entry.name, Cut())
            proc = _number(entry.name)
            rows.append(
                {
                    "node_id": str(self._spec.node),
                    "file": entry.name,
                    "size_bytes": info.st_size + cut.base - cut.begin,
                    "missing_bytes": cut.begin,
                    "worker_id": str(Address(self._spec.node, proc)) if proc is not None else "",
                    "is_alive": proc is None or proc not in self.ended,
                }
            )
        return rows

    def _writer(self, name: str) -> int | None:
        """The process that still writes to a file: 0 for those that are no workers."""
        proc = _number(name)
        return 0 if proc is None else (None if proc in self.ended else proc)

    # -------------------------------------------------------------- workers that have ended

    def worker_ended(
        self, proc: Proc, how: str, words: str = "", *, failed: bool, task: bytes = b"", attempt: int = 0
    ) -> None:
        """Remember a worker and keep its files (silent ones leave none); the oldest are forgotten. ``how`` it ended is
        told with its last ``words`` and without."""
        row = structs.replace(
            worker_row(self._spec.node, proc),
            state="ENDED",
            is_alive=False,
            is_actor=False,
            leased_by="",
            resources={},
            blocked=False,
            end_time_ms=time.time() * 1e3,
            exit_detail=how + words,
            exit_brief=how,
            failed=failed,
            last_task_id=task.hex(),
            last_attempt_number=attempt,
            told=bool(proc.exit_cause),
        )
        ended = Ended(row)
        for suffix in SUFFIXES:
            name = f"worker-{proc.proc}.{suffix}"
            try:
                info = os.stat(self._spec.log_path(name))
                if info.st_size:
                    ended.files.append(name)
                    ended.size_bytes += info.st_blocks * 512 or info.st_size
                else:
                    os.unlink(self._spec.log_path(name))
            except OSError:
                continue
        self.ended[proc.proc] = ended
        self._ended_bytes += ended.size_bytes
        while len(self.ended) > MAX_ENDED or (self._ended_bytes > MAX_ENDED_BYTES and len(self.ended) > 1):
            self._forget(*self.ended.popitem(last=False))

    def _forget(self, proc: int, ended: Ended) -> None:
        self._ended_bytes -= ended.size_bytes
        for name in ended.files:
            self._cuts.pop(name, None)
            try:
                os.unlink(self._spec.log_path(name))
            except OSError:
                continue

    def ended_rows(self, limit: int) -> list[Row]:
        """The workers that have ended, the newest first."""
        return [to_builtins(ended.row) for ended in islice(reversed(self.ended.values()), limit)]

    def killed_rows(self, limit: int) -> list[Row]:
        """What workers ran that were killed: as their slots in the arena said, the newest first."""
        ended = (one.row for one in reversed(self.ended.values()))
        return [to_builtins(_killed(row)) for row in ended if row.last_task_id][:limit]


def _killed(row: WorkerRow) -> TaskRow:
    """What there is to say of the task that a worker ran when it was killed."""
    return TaskRow(
        row.last_task_id,
        row.last_attempt_number,
        name="",
        func_or_class_name="",
        type="NORMAL_TASK",
        start_time_ms=0.0,
        end_time_ms=row.end_time_ms,
        state="FAILED",
        why=f"its worker ended while it ran: {row.exit_detail}",
        worker_id=row.worker_id,
    )


def found_lines(data: bytes, first: int, wanted: bytes) -> tuple[int, list[tuple[int, bytes]]]:
    """Lines of some bytes from ``first`` on that have a text in small letters, the last first. Each is given as where
    it begins, and a part of it without marks. The number is the byte from which on they were looked at."""
    small, end = data.lower(), len(data)
    lines: list[tuple[int, bytes]] = []
    while (last := small.rfind(wanted, first, end)) >= 0 and len(lines) < MAX_FOUND:
        line, stop = max(first, small.rfind(b"\n", first, last) + 1), small.find(b"\n", last)
        text = without(data[line : stop if stop >= 0 else len(data)])
        where = text.lower().find(wanted)
        if where >= 0:  # else it was a mark that had it
            lines.append((line, text[max(0, where - AROUND_BYTES) : where + AROUND_BYTES]))
        end = line
    return end if last >= 0 else first, lines


def _number(name: str) -> int | None:
    """The process whose file this is; None for those that are not workers'."""
    stem = name.partition(".")[0].removeprefix("worker-")
    return int(stem) if name.startswith("worker-") and stem.isdigit() else None
