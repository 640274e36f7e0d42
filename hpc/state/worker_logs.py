"""Log files of any node of the session: which there are, and what is in them. What `hpc.util.state` and `hpc logs` use.

The raylet of a node answers for its files, a bounded piece at a time, so nothing is read that nobody asked for. The
workers know to whom a file belongs, and which part of it a task wrote (see core/worker/record). Following a file asks
for what is new a few times a second: rejected were subscriptions, which a raylet would have to remember and end.
"""

from __future__ import annotations

import codecs
import fnmatch
import re
import time
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import msgspec
from msgspec import structs

from hpc.api.connection import ensure_client
from hpc.core.ids import Address, raylet_of
from hpc.core.node.marks import Unmarked
from hpc.core.wire import LogQuery, LogSearch
from hpc.state import gather
from hpc.state.tasks import task_rows

Row = dict[str, Any]

#: Bytes that are asked for at a time.
PIECE_BYTES = 256 << 10
#: How long a node may take to answer, as in Ray.
TIMEOUT_S = 30
#: While a log is followed, what is new is asked for this often.
FOLLOW_S = 0.2
SUFFIXES = ("out", "err")
_ANSI = re.compile(rb"\x1b\[[0-?]*[ -/]*[@-~]")
#: Ray's names for kinds of log files, and the files here that they mean.
CATEGORIES = (
    ("worker_out", "worker-*.out"),
    ("worker_err", "worker-*.err"),
    ("raylet", "raylet.log"),
    ("gcs_server", "head.log"),
    ("internal", "*"),
)


@dataclass
class LogPart:
    """A file of a node, or the part of it from ``begin`` to ``end`` (-1: as far as it goes). ``note`` says what else
    is in it, where it is more than what was asked for."""

    node: int
    file: str
    begin: int = 0
    end: int = -1
    note: str = ""


@dataclass
class Piece:
    """What a raylet answered, see core/raylet/logfiles."""

    first: int
    at: int
    end: int
    moved: bool
    writing: bool
    data: bytes


def ask(node: int, file: str, at: int, size: int, timeout_s: float) -> Piece:
    return Piece(*_answered(node, LogQuery(0, file, at, size), timeout_s))


def _answered(node: int, query: LogQuery | LogSearch, timeout_s: float) -> list[Any]:
    """What the raylet of a node answers. Raises FileNotFoundError where it has no such file."""

    def numbered(number: int) -> tuple[Address, LogQuery | LogSearch]:
        return raylet_of(node), structs.replace(query, req=number)

    answer = ensure_client().conversation.ask(numbered, timeout_s)
    if not answer.ok:
        raise FileNotFoundError(answer.why)
    found: list[Any] = msgspec.msgpack.decode(answer.data)
    return found


@dataclass
class Found:
    """Lines of a log that have a text, the newest first: the byte at which each begins, and a part of it. Of the log
    ``searched_bytes`` were looked at, which is all of it where ``is_whole``."""

    lines: list[tuple[int, bytes]]
    searched_bytes: int
    is_whole: bool


def search(part: LogPart, text: bytes, most_lines: int, most_bytes: int, timeout_s: float = TIMEOUT_S) -> Found:
    """The last lines of a log that have a text, without regard to case. The log's node searches, from the end
    backwards, a bounded piece for each question; only what it finds travels."""
    found = Found([], 0, False)
    last = at = part.end
    while not found.is_whole and len(found.lines) < most_lines and found.searched_bytes < most_bytes:
        begin = max(part.begin, last - most_bytes) if last >= 0 else part.begin
        first, below, end, lines = _answered(part.node, LogSearch(0, part.file, begin, at, text), timeout_s)
        if 0 <= at <= below:  # the file is shorter than it was
            break
        last, at = (last if 0 <= last <= end else end), below
        found.lines += lines
        found.searched_bytes, found.is_whole = max(0, last - at), at <= max(part.begin, first)
    found.lines = found.lines[:most_lines]
    return found


class Reader:
    """Reads a part of a log from its beginning or its end, and then what is added to it."""

    def __init__(self, part: LogPart, timeout_s: float = TIMEOUT_S) -> None:
        self.part = part
        self.timeout_s = timeout_s
        self.at = part.begin
        self._marks = Unmarked()

    def _ask(self, at: int, size: int) -> Piece:
        return ask(self.part.node, self.part.file, at, size, self.timeout_s)

    def there(self, tail: int = -1) -> Iterator[bytes]:
        """What there is now: the last ``tail`` lines of it, or all (-1)."""
        part = self.part
        piece = self._ask(part.begin, 0)
        if piece.moved and (part.begin or part.end >= 0):
            warnings.warn(f"{part.file} was emptied since: all of it follows", stacklevel=2)
            part = self.part = LogPart(part.node, part.file)
        begin, end = max(part.begin, piece.first), piece.end if part.end < 0 else min(part.end, piece.end)
        if begin >= end and piece.first > part.begin:
            yield _missing(piece.first - part.begin)
        self.at = begin if tail < 0 else self._line_from_end(begin, end, tail)
        if self.at == begin and piece.first > part.begin and begin < end:
            yield _missing(piece.first - part.begin)
        while self.at < end:
            piece = self._ask(self.at, min(PIECE_BYTES, end - self.at))
            if not piece.data:
                break
            self.at = piece.at + len(piece.data)
            if text := self._marks.take(piece.data):
                yield text
        if text := self._marks.rest():
            yield text

    def more(self) -> bytes | None:
        """What was added since; None when nothing will be added any more."""
        if self.part.end >= 0:
            return None
        piece = self._ask(self.at, PIECE_BYTES)
        missing = _missing(piece.at - self.at) if piece.at > self.at else b""
        self.at = piece.at + len(piece.data)
        text = missing + self._marks.take(piece.data)
        return text if piece.data or piece.writing else self._marks.rest() or None

    def _line_from_end(self, begin: int, end: int, lines: int) -> int:
        """Where the last lines before ``end`` begin, read from behind."""
        at, wanted = end, lines + 1
        while at > begin and lines:
            size = min(PIECE_BYTES, at - begin)
            piece = self._ask(at - size, size)
            if piece.at > at - size:  # it was shortened meanwhile
                return piece.at
            data = piece.data
            if at == end and not data.endswith(b"\n"):
                wanted = lines
            found = data.count(b"\n")
            if found >= wanted:
                for _ in range(wanted):
                    data = data[: data.rindex(b"\n")]
                return at - size + len(data) + 1
            wanted -= found
            at -= size
        return at


def _missing(count: int) -> bytes:
    return f"hpc: {count} bytes of output are missing here: logs are capped\n".encode()


def read(part: LogPart, tail: int = -1, follow: bool = False, timeout_s: float = TIMEOUT_S) -> Iterator[bytes]:
    """The bytes of a log, in pieces: the last ``tail`` lines of it (-1: all), and with ``follow`` what comes, until the
    worker has ended. Raises FileNotFoundError where there is none, GetTimeoutError when the node does not answer."""
    reader = Reader(part, timeout_s)
    yield from reader.there(tail)
    while follow and (data := reader.more()) is not None:
        if data:
            yield data
        else:
            time.sleep(FOLLOW_S)


# ---------------------------------------------------------------- whose file


def files(node: int | None = None) -> list[Row]:
    """The log files of a node, or of all nodes that live: node_id, file, size_bytes, worker_id, is_alive."""
    rows = gather.from_raylets("logs").warn("logs")
    return [row for row in rows if node is None or row["node_id"] == str(node)]


def of_worker(worker: str, suffix: str = "out") -> LogPart:
    """The file of a worker, by its id."""
    _check_suffix(suffix)
    try:
        address = gather.address(worker)
    except ValueError:
        raise ValueError(f"not a worker's id: {worker!r} (they look like 2.7, see list_workers())") from None
    _check_node(address.node)
    drivers = {row["worker_id"] for row in gather.from_raylets("workers").rows if row["worker_type"] == "DRIVER"}
    if worker in drivers:
        raise FileNotFoundError(f"{worker} is a driver: it writes where it was started, not into a file of its node")
    return LogPart(address.node, f"worker-{address.proc}.{suffix}")


def of_actor(actor: str, suffix: str = "out") -> LogPart:
    """The file of the worker in which an actor lives, or lived last; by its id or its name."""
    rows = gather.from_processes("actors").warn("actors")
    found = [row for row in rows if actor == row["actor_id"]] or [row for row in rows if actor == row["name"]]
    if not found:
        raise FileNotFoundError(f"no process of the session knows an actor {actor!r}")
    workers = {row["last_worker_id"] for row in found}
    if len(workers) > 1:
        raise FileNotFoundError(f"several actors are called {actor!r}: {', '.join(row['actor_id'] for row in found)}")
    if workers == {""}:
        raise FileNotFoundError(f"actor {actor} has no process yet: {found[0]['why']}")
    return of_worker(workers.pop(), suffix)


def of_task(task: str, suffix: str = "out", attempt: int | None = None) -> LogPart:
    """The part of a worker's file in which a task wrote (its newest attempt, if none is named)."""
    known = [row for row in task_rows() if row["task_id"] == task]
    if not known:
        raise FileNotFoundError(f"no process of the session knows a task {task} (any more)")
    rows = [row for row in known if attempt is None or row["attempt_number"] == attempt]
    if not rows:
        others = ", ".join(str(row["attempt_number"]) for row in known)
        raise FileNotFoundError(f"of task {task} no attempt {attempt} is known, but {others}")
    row = max(rows, key=lambda row: row["attempt_number"])
    if not row["worker_id"]:
        raise FileNotFoundError(f"task {task} has not run yet: {row.get('why') or row['state']}")
    part = of_worker(row["worker_id"], suffix)
    notes: list[str] = []
    which = SUFFIXES.index(suffix)
    begin, end = row.get("log_from", (-1, -1))[which], row.get("log_to", (-1, -1))[which]
    shared = row.get("log_shared", 0)
    if begin < 0 and end < 0 and not shared:
        notes.append(f"which part of it task {task} wrote is not known: this is all of worker {row['worker_id']}'s log")
    else:
        part.begin, part.end = max(0, begin), end
        if shared:
            notes.append(
                f"{shared} more tasks or calls wrote into this part of the log: very short ones, or at the same time"
            )
    part.note = "; ".join(notes)
    return part


def _check_suffix(suffix: str) -> None:
    if suffix not in SUFFIXES:
        raise ValueError(f"suffix is 'out' or 'err', not {suffix!r}")


def _check_node(number: int) -> None:
    for row in gather.node_rows():
        if row["node"] == number:
            if not row["alive"]:
                raise FileNotFoundError(f"node {number} has died ({row['why']}), and its log files went with it")
            return
    raise FileNotFoundError(f"there is no node {number}")


def find_node(node_id: str | int | None, node_ip: str | None) -> int:
    """A living node by its id, or by its address. Raises ValueError when neither is given."""
    if node_id is not None:
        if not str(node_id).isdigit():
            raise FileNotFoundError(f"there is no node {node_id}")
        _check_node(int(node_id))
        return int(node_id)
    if node_ip is None:
        raise ValueError("which node? node_id or node_ip is needed")
    found = [row["node"] for row in gather.node_rows() if row["alive"] and f"//{node_ip}:" in row["endpoint"]]
    if len(found) != 1:
        raise FileNotFoundError(f"{'several nodes have' if found else 'no node has'} the address {node_ip}")
    return int(found[0])


# ---------------------------------------------------------------- Ray's names


def list_logs(
    address: str | None = None,
    node_id: str | None = None,
    node_ip: str | None = None,
    glob_filter: str | None = None,
    timeout: float = TIMEOUT_S,
) -> dict[str, list[str]]:
    """The log files of a node, by kind: worker_out, worker_err, raylet, gcs_server (the head's) and internal.

    glob_filter: only names that match. address is accepted and means nothing here. Raises ValueError when neither
    node_id nor node_ip is given, FileNotFoundError where there is no such node.
    """
    node = find_node(node_id, node_ip)
    found: dict[str, list[str]] = {}
    for row in gather.from_raylets("logs", timeout_s=timeout).warn("list_logs"):
        name = row["file"]
        if row["node_id"] == str(node) and fnmatch.fnmatch(name, glob_filter or "*"):
            kind = next(kind for kind, pattern in CATEGORIES if fnmatch.fnmatch(name, pattern))
            found.setdefault(kind, []).append(name)
    return found


def get_log(
    address: str | None = None,
    node_id: str | None = None,
    node_ip: str | None = None,
    filename: str | None = None,
    actor_id: str | None = None,
    task_id: str | None = None,
    pid: int | None = None,
    follow: bool = False,
    tail: int = -1,
    timeout: float = TIMEOUT_S,
    suffix: str = "out",
    encoding: str | None = "utf-8",
    errors: str | None = "strict",
    submission_id: str | None = None,
    attempt_number: int | None = 0,
    filter_ansi_code: bool = False,
) -> Iterator[Any]:
    """The content of a log file, piece by piece: text, or bytes where encoding is None.

    Which file: filename and a node, pid (of a worker) and a node, actor_id, or submission_id of a job. Or task_id with
    attempt_number (None: the newest): the part is shown that the task wrote, as far as that is known.

    follow: go on until the worker has ended. tail: that many lines from the end, -1 for all. suffix: "out" or "err".
    timeout: seconds for each answer of the node. filter_ansi_code: leave out the terminal's colours. address
    is accepted and means nothing here.

    Raises ValueError when it is not clear what is meant, FileNotFoundError where
    there is no such file, node, worker, actor or task.
    """
    given = [name for name, value in (("filename", filename), ("actor_id", actor_id), ("task_id", task_id),
             ("pid", pid), ("submission_id", submission_id)) if value is not None]  # fmt: skip
    if len(given) != 1:
        said = " and ".join(given) or "none"
        raise ValueError(f"one of filename, actor_id, task_id, pid and submission_id says which log, not {said}")
    if submission_id is not None:
        from hpc.job_submission import JobSubmissionClient

        text = JobSubmissionClient().get_job_logs(submission_id)
        return iter([text if tail < 0 else "".join(text.splitlines(keepends=True)[len(text.splitlines()) - tail :])])
    if filename is not None:
        part = LogPart(find_node(node_id, node_ip), filename)
    elif pid is not None:
        part = _of_pid(find_node(node_id, node_ip), pid, suffix)
    elif actor_id is not None:
        part = of_actor(actor_id, suffix)
    else:
        part = of_task(task_id or "", suffix, attempt_number)
    if part.note:
        warnings.warn(part.note, stacklevel=2)
    pieces = read(part, tail, follow, timeout)
    pieces = _without_colours(pieces) if filter_ansi_code else pieces
    return pieces if encoding is None else codecs.iterdecode(pieces, encoding, errors or "strict")


def plain(data: bytes) -> bytes:
    """Without the terminal's colours."""
    return _ANSI.sub(b"", data)


def _without_colours(pieces: Iterator[bytes]) -> Iterator[bytes]:
    """Line by line, as a sequence may be cut in two by the end of a piece."""
    left = b""
    for piece in pieces:
        whole, newline, left = (left + piece).rpartition(b"\n")
        if newline:
            yield _ANSI.sub(b"", whole + newline)
    if left:
        yield _ANSI.sub(b"", left)


def _of_pid(node: int, pid: int, suffix: str) -> LogPart:
    rows = gather.from_raylets("workers").rows + gather.from_raylets("ended").rows
    for row in rows:
        if row["node_id"] == str(node) and row["pid"] == pid:
            return of_worker(row["worker_id"], suffix)
    raise FileNotFoundError(f"node {node} has no worker with the process id {pid}, and remembers none")
