"""Rows of what there is, was and happened, with their types; and the events that a worker hands over, packed. Pure.

A worker packs its events as they are, and its raylet keeps the packed bytes unread. Whoever asks makes the rows: so a
task costs its worker a few hundred nanoseconds at most, and its raylet nothing but the bytes.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Literal, NamedTuple

import msgspec
from msgspec import Struct, field

from hpc.core.events.kinds import EventKind, Severity, Source

#: How long stdout and stderr were, in bytes.
Mark = tuple[int, int]
#: (task, how often it has begun before, name, start on the monotonic clock, running time in us, kind of its first
#: result, mark at its end, id of its function, or class and method of a call that has another name)
Event = tuple[bytes, int, str, float, int, int, Mark | None, Any]

TaskType = Literal["NORMAL_TASK", "ACTOR_TASK", "ACTOR_CREATION_TASK"]
EndState = Literal["FINISHED", "FAILED"]
ActorStanding = Literal["DEPENDENCIES_UNREADY", "PENDING_CREATION", "ALIVE", "RESTARTING", "DEAD"]
NodeStanding = Literal["ALIVE", "DEAD"]
WorkerType = Literal["DRIVER", "WORKER"]
WorkerStanding = Literal["STARTING", "IDLE", "LEASED", "DRIVER", "ENDED"]
#: Kinds of results from this one on are errors (see core/wire).
FIRST_ERROR = 2
#: A part of a log that is not known.
UNKNOWN = (-1, -1)
#: Of actors that have ended this much of each text is kept.
MAX_TEXT = 400


class TaskRow(Struct):
    """An attempt of a task, a call or a making of an actor that has ended, with times on its node's wall clock.

    ``log_from`` and ``log_to`` are the part of stdout and of stderr in which it wrote, (-1, -1) where that is not known
    (yet). ``log_shared`` says how many others wrote there."""

    task_id: str
    attempt_number: int
    name: str
    func_or_class_name: str
    type: TaskType
    start_time_ms: float
    end_time_ms: float
    state: EndState
    why: str = ""
    worker_id: str = ""
    node_id: str = ""
    log_from: Mark = UNKNOWN
    log_to: Mark = UNKNOWN
    log_shared: int = 0


class ActorRow(Struct):
    """An actor as its owner knows it, or knew it last. ``request`` is the number of its wish for a worker, while that
    may wait for a runtime environment; it is not shown to users."""

    actor_id: str
    class_name: str
    state: ActorStanding
    why: str
    name: str
    ray_namespace: str
    num_restarts: int
    restarts_left: int
    is_detached: bool
    death_cause: str
    owner: str
    worker_id: str
    node_id: str
    last_worker_id: str
    required_resources: dict[str, float]
    pid: int = 0
    in_setup: bool = False
    request: int = 0


def shortened(row: ActorRow) -> None:
    """Cut the texts of an actor that has ended: of a constructor's error they may be as long as its message."""
    row.why, row.death_cause = row.why[:MAX_TEXT], row.death_cause[:MAX_TEXT]
    row.name, row.class_name, row.ray_namespace = (
        row.name[:MAX_TEXT], row.class_name[:MAX_TEXT], row.ray_namespace[:MAX_TEXT],
    )  # fmt: skip


class WorkerRow(Struct):
    """A driver or worker. The fields from ``end_time_ms`` on are of one that has ended. It has ``failed`` if nobody had
    wanted that; if its end was known beforehand it was ``told``."""

    worker_id: str
    worker_type: WorkerType
    state: WorkerStanding
    node_id: str
    pid: int
    is_alive: bool
    is_guest: bool
    is_actor: bool
    leased_by: str
    resources: dict[str, float]
    blocked: bool
    end_time_ms: float = 0.0
    exit_detail: str = ""
    exit_brief: str = ""
    failed: bool = False
    last_task_id: str = ""
    last_attempt_number: int = 0
    told: bool = False


class NodeRow(Struct):
    """A node as the head knows it."""

    node_id: str
    node_ip: str
    node_name: str
    state: NodeStanding
    state_message: str
    is_suspect: bool
    resources_total: dict[str, float]
    resources_available: dict[str, float]
    labels: dict[str, str]
    workers: int
    waiting: int


class EventRow(Struct):
    """Something that happened in the session. ``number`` is its place among all, ``time_s`` a time of the wall clock of
    the head's node. ``entity_id`` is the worker, task, actor or group that it happened to. ``advice`` is what to do,
    where one can say it. A row may stand for ``count`` of a storm; then its text is that of the last one."""

    number: int
    time_s: float
    severity: Severity
    kind: EventKind
    source: Source
    text: str
    node_id: str = ""
    entity_id: str = ""
    advice: str = ""
    count: int = 1


class EventPage(Struct, array_like=True):
    """Events in their order. ``last`` is the number of the newest that there is; ``dropped`` are not here any more, or
    never came; ``more`` follow the last of these."""

    rows: list[EventRow] = field(default_factory=list)
    last: int = 0
    dropped: int = 0
    more: bool = False


class Batch(Struct, array_like=True):
    """Events of one process that follow one another. ``first`` is the number of the first of them, ``begin`` the last
    mark before it. The wall clock is ``offset_s`` ahead of the monotonic one. ``names``: of functions, by their ids."""

    first: int
    offset_s: float
    begin: Mark | None
    actor: bytes
    actor_name: str
    names: dict[bytes, str]
    events: list[Event]


class KeptBatch(NamedTuple):
    """A batch as a raylet keeps it: its number there, its process, how many events were lost before it, the bytes."""

    serial: int
    proc: int
    lost: int
    data: bytes


class Page(Struct, array_like=True):
    """Part of a node's history: the newest of the batches that were asked for, and whether there are ``more``. Of the
    whole it has ``oldest``, the number of the oldest batch, and how many ``events`` there are. ``dropped`` ones
    are missing: workers ran more than they could hand over, or there was no room here."""

    batches: list[KeptBatch]
    more: bool
    oldest: int
    events: int
    dropped: int


_BATCH = msgspec.msgpack.Decoder(Batch)
_PAGE = msgspec.msgpack.Decoder(Page)
_EVENTS = msgspec.msgpack.Decoder(EventPage)


def unpack(data: bytes) -> Batch | None:
    """A batch; None for what is none."""
    try:
        return _BATCH.decode(data)
    except (msgspec.DecodeError, msgspec.ValidationError):
        return None


def unpack_page(data: bytes) -> Page:
    """An answer to a HistoryQuery."""
    return _PAGE.decode(data)


def unpack_events(data: bytes) -> EventPage:
    """An answer to an EventQuery."""
    return _EVENTS.decode(data)


def rows_of(batches: Iterable[Batch], worker: str = "") -> list[TaskRow]:
    """The events of one process as rows, from its batches, the oldest first."""
    out: list[TaskRow] = []
    group: list[TaskRow] = []
    begin: Mark | None = None
    expected = -1
    node = worker.partition(".")[0]
    for batch in batches:
        if batch.first != expected:  # something is missing before it
            _close(group, begin, None)
            group, begin = [], batch.begin
        for task, ran, name, start, run_us, kind, end, fn in batch.events:
            began_ms = (start + batch.offset_s) * 1e3
            row = TaskRow(
                task.hex(),
                ran,
                f"{batch.actor_name}:{name}" if batch.actor_name and task == batch.actor else name,
                (fn or name) if isinstance(fn, str) else batch.names.get(fn, name),
                _type_of(task, batch.actor),
                began_ms,
                began_ms + run_us / 1e3,
                "FINISHED" if kind < FIRST_ERROR else "FAILED",
                worker_id=worker,
                node_id=node,
            )
            out.append(row)
            group.append(row)
            if end is not None:
                _close(group, begin, end)
                begin, group = end, []
        expected = batch.first + len(batch.events)
    _close(group, begin, None)
    return out


def _type_of(task: bytes, actor: bytes) -> TaskType:
    """A process that is an actor has run nothing else."""
    if not actor:
        return "NORMAL_TASK"
    return "ACTOR_CREATION_TASK" if task == actor else "ACTOR_TASK"


def _close(group: list[TaskRow], begin: Mark | None, end: Mark | None) -> None:
    for row in group:
        row.log_from, row.log_to, row.log_shared = begin or UNKNOWN, end or UNKNOWN, len(group) - 1
