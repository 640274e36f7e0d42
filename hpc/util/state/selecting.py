"""Which rows of the state API are meant: filters and limits, checked before anybody is asked."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple, NoReturn, get_args

from msgspec import Struct, inspect

from hpc.core.events.rows import ActorRow, ActorStanding, EventRow, NodeRow, NodeStanding, WorkerRow
from hpc.state.bulletins import RUN_STATES
from hpc.state.gather import LIMIT
from hpc.util.state.exception import RayStateApiException

DEFAULT_LIMIT = 100
Filter = tuple[str, str, Any]

#: A filter's words for yes and no.
YES_NO = {"true": True, "1": True, "false": False, "0": False}


class Fields(NamedTuple):
    """What rows of one kind can be filtered by. A field that is neither a number nor a yes or no is a text."""

    texts: tuple[str, ...]
    numbers: tuple[str, ...] = ()
    yes_no: tuple[str, ...] = ()
    #: All that ``state`` can be; empty where any may be asked for.
    states: tuple[str, ...] = ()

    def names(self) -> list[str]:
        """All of them, in order."""
        return sorted((*self.texts, *self.numbers, *self.yes_no))


def _fields(row: type[Struct], *more: str, leave: Sequence[str] = (), states: tuple[str, ...] = ()) -> Fields:
    """What rows of a type can be filtered by: its texts, numbers and yes or no; and ``more`` texts that are added."""
    texts: list[str] = list(more)
    numbers: list[str] = []
    yes_no: list[str] = []
    for field in inspect.type_info(row).fields:  # type: ignore[attr-defined]
        if field.name in leave:
            continue
        kind = type(field.type)
        if kind in (inspect.StrType, inspect.LiteralType):
            texts.append(field.name)
        elif kind in (inspect.IntType, inspect.FloatType):
            numbers.append(field.name)
        elif kind is inspect.BoolType:
            yes_no.append(field.name)
    return Fields(tuple(texts), tuple(numbers), tuple(yes_no), states)


ACTORS = _fields(ActorRow, "answered_by", leave=("request",), states=get_args(ActorStanding))
TASKS = Fields(
    (
        "actor_id", "answered_by", "func_or_class_name", "name", "node_id", "owner", "parent_task_id", "state",
        "task_id", "type", "why", "worker_id",
    ),
    ("attempt_number", "end_time_ms", "log_shared", "retries_left", "start_time_ms"),
    ("in_setup",),
)  # fmt: skip
OBJECTS = Fields(
    ("answered_by", "object_id", "owner", "process", "reference_type", "state", "why"), ("local_count", "object_size")
)
NODES = _fields(NodeRow, states=get_args(NodeStanding))
WORKERS = _fields(WorkerRow, "answered_by")
RUNS = Fields(
    ("kind", "name", "node_id", "run_id", "state", "why", "words", "worker_id"),
    ("age_s", "attempt", "done", "end_time_ms", "left_s", "start_time_ms"),
    (),
    RUN_STATES,
)
EVENTS = _fields(EventRow)
CLUSTER_EVENTS = Fields(("event_id", "severity", "source_type"))
JOBS = Fields(("job_id", "node_id", "status", "type"), ("driver_pid",))
GROUPS = Fields(("creator", "name", "namespace", "placement_group_id", "state", "strategy", "why"), (), ("detached",))


class Row(dict[str, Any]):
    """One thing; ``row.state`` is ``row["state"]``."""

    def __getattr__(self, name: str) -> Any:
        try:
            return self[name]
        except KeyError:
            raise AttributeError(f"there is no field {name!r}; there are: {', '.join(self)}") from None


class Selection:
    """Filters and a limit, checked: each row passes all filters, and the first ``limit`` of those are taken.

    Raises ValueError for what is no filter or no number, RayStateApiException for a field, a state or a limit that
    there is not.
    """

    def __init__(self, fields: Fields, filters: Sequence[Filter] | None, limit: int) -> None:
        self._limit = checked_limit(limit)
        if filters is not None and (isinstance(filters, (str, Mapping)) or not isinstance(filters, Iterable)):
            raise ValueError(f"filters are a list of (field, '=' or '!=', value), not {filters!r}")
        self._tests = [_checked(fields, one) for one in filters or ()]

    def of(self, rows: Iterable[dict[str, Any]]) -> list[Row]:
        """The rows that are meant."""
        found: list[Row] = []
        for row in rows:
            if len(found) == self._limit:
                break
            if all(_passes(row.get(name), op, value) for name, op, value in self._tests):
                found.append(Row(row))
        return found


def _passes(found: Any, op: str, value: Any) -> bool:
    if isinstance(value, str):
        found = str("" if found is None else found).lower()
    return bool((found == value) == (op == "="))


def checked_limit(limit: Any) -> int:
    """A limit as a number from 0 to the largest that there is."""
    try:
        number = int(limit)
        if number != float(limit):
            raise ValueError
    except (TypeError, ValueError):
        raise ValueError(f"limit must be a whole number, not {limit!r}") from None
    if not 0 <= number <= LIMIT:
        raise RayStateApiException(f"limit must be from 0 to {LIMIT:,}, not {number}: filters tell fewer rows apart")
    return number


def _checked(fields: Fields, given: Any) -> Filter:
    if isinstance(given, str) or not isinstance(given, Sequence) or len(given) != 3 or given[1] not in ("=", "!="):
        raise ValueError(f"a filter is (field, '=' or '!=', value), not {given!r}")
    name, op, value = given
    if not isinstance(name, str) or not isinstance(value, (str, bool, int, float)):
        raise ValueError(f"a filter is the name of a field, '=' or '!=', and a text or number, not {given!r}")
    name = name.lower()
    if name in fields.numbers:
        return name, op, _number(name, value)
    if name in fields.yes_no:
        return name, op, _yes_no(name, value)
    if name not in fields.texts:
        raise RayStateApiException(f"there is no field {name!r} to filter by; there are: {', '.join(fields.names())}")
    text = str(value).lower()
    if name == "state" and fields.states and text.upper() not in fields.states:
        raise RayStateApiException(f"there is no state {value!r}; there are: {', '.join(fields.states)}")
    return name, op, text


def _number(name: str, value: Any) -> float:
    try:
        return float(value)
    except ValueError:
        _refuse(name, "a number", value)


def _yes_no(name: str, value: Any) -> bool:
    found = YES_NO.get(str(value).lower())
    if found is None:
        _refuse(name, "true or false", value)
    return found


def _refuse(name: str, kind: str, value: Any) -> NoReturn:
    raise RayStateApiException(f"{name} is {kind}: a filter cannot compare it with {value!r}")
