"""What libraries tell of the runs of a program: how each stands, in short and in detail. One form for all libraries.

A run is a training, a search, a dataset that flows, or an application that is served. The process that runs it tells:
see `hpc.spi.tell_run`. Its raylet keeps the last word, also after the run's end and that of its process.
`hpc.state.runs` asks for it.
"""

from __future__ import annotations

import contextlib
import math
import threading
from collections.abc import Callable, Mapping, Sequence
from numbers import Integral, Real
from typing import TYPE_CHECKING, Any, Literal, get_args

import msgspec
from msgspec import Struct, field

from hpc.core.exceptions import HpcError
from hpc.core.metrics.sample import Labels, Sample, gauge
from hpc.core.metrics.table import RUN_NUMBERS
from hpc.core.metrics.tally import sources
from hpc.core.owner.shell import told_runs
from hpc.core.wire import MAX_BRIEF_BYTES, MAX_DETAIL_BYTES
from hpc.state.listing import Params, listing

if TYPE_CHECKING:
    from hpc.core.owner.shell.client import Client

#: The number of the form that a brief and a detail have. A later one may have fields that a reader does not know.
VERSION = 1
#: Letters of a text that are told, in short and in detail.
BRIEF_LETTERS, LETTERS = 600, 4000
#: Numbers of runs that a process has as metrics, and letters of their labels.
MAX_NUMBERS, MAX_LABEL = 500, 100

RunKind = Literal["train", "tune", "data", "serve"]
RunState = Literal["WAITING", "RUNNING", "RESTARTING", "FINISHED", "FAILED", "STOPPED", "LOST"]
RUN_STATES: tuple[RunState, ...] = get_args(RunState)
#: The states of deployments and replicas, as `hpc.serve.schema` has them.
DeploymentState = Literal["UPDATING", "HEALTHY", "UNHEALTHY", "DEPLOY_FAILED", "UPSCALING", "DOWNSCALING"]
ServingState = Literal["STARTING", "UPDATING", "RECOVERING", "RUNNING", "STOPPING", "STOPPED", "PENDING_MIGRATION"]


class Brief(Struct):
    """A run in short. ``why``: what it waits for, or how it failed. ``done``: how much of it, from 0 to 1; ``left_s``:
    about how long it takes yet; None where nobody knows. ``numbers``: what its library counts, by name."""

    kind: RunKind
    name: str
    state: RunState
    why: str = ""
    began_s: float = 0.0
    ended_s: float | None = None
    done: float | None = None
    left_s: float | None = None
    attempt: int = 0
    numbers: dict[str, float] = field(default_factory=dict)
    version: int = VERSION


class Curve(Struct, array_like=True):
    """A number over another one: of a metric over reports, for example."""

    name: str
    xs: list[float]
    ys: list[float]


class RankRow(Struct):
    """A rank of a training. ``doing``: what the driver knows of it; ``busy``: the share of its time at work."""

    rank: int
    node_id: str
    host: str
    devices: str
    state: Literal["STARTING", "RUNNING", "IN REPORT", "RETURNED", "GONE", "SILENT"]
    reports: int = 0
    report_age_s: float | None = None
    steps_s: float | None = None
    doing: str = ""


class CheckpointRow(Struct):
    """A checkpoint of a training: of which report it is, and whether it is still there."""

    name: str
    report: int
    stored_s: float
    state: Literal["KEPT", "DELETED"]
    path: str = ""
    metrics: str = ""


class AttemptRow(Struct):
    """One start of the workers of a training, and why it ended."""

    number: int
    began_s: float
    ranks: int = 0
    ended_s: float | None = None
    why: str = ""


class TrainDetail(Struct, tag="train"):
    """A training. ``steps_s``: reports in a second, lately. ``slow``: ranks for which the others wait, in words."""

    path: str = ""
    reports: int = 0
    steps_s: float | None = None
    ranks: list[RankRow] = field(default_factory=list)
    all_ranks: int = 0
    slow: list[str] = field(default_factory=list)
    curves: list[Curve] = field(default_factory=list)
    checkpoints: list[CheckpointRow] = field(default_factory=list)
    attempts: list[AttemptRow] = field(default_factory=list)


class OperatorRow(Struct):
    """An operator of a dataset's run. ``waits``: for what, in words; "" for nothing."""

    name: str
    state: Literal["queued", "running", "done"]
    tasks: int
    queued: int
    blocks: int
    rows: int
    all_bytes: int
    rows_s: float
    waits: str = ""
    actors: str = ""
    spilled_bytes: int = 0
    failed: int = 0


class StoreRow(Struct):
    """What a dataset's run holds of a node's object store and memory, and may hold."""

    node_id: str
    held_bytes: int
    reserved_bytes: int
    store_bytes: int
    heap_bytes: int
    heap_limit_bytes: int


class DataDetail(Struct, tag="data"):
    """A dataset's run. ``stands``: why nothing of it moves; "" while something does. ``stats``: of one that is over."""

    rows: int = 0
    all_bytes: int = 0
    read_bytes: int = 0
    parts_done: int = 0
    parts: int | None = None
    held_bytes: int = 0
    limit_bytes: int = 0
    peak_bytes: int = 0
    spilled_bytes: int = 0
    cpus: float = 0.0
    cpus_limit: float = 0.0
    gpus: float = 0.0
    gpus_limit: float = 0.0
    operators: list[OperatorRow] = field(default_factory=list)
    nodes: list[StoreRow] = field(default_factory=list)
    stands: str = ""
    stats: str = ""


class Decision(Struct):
    """What a scheduler decided on a trial."""

    time_s: float
    trial: str
    decision: str
    by: str
    iteration: float | None = None
    value: float | None = None


class TuneDetail(Struct, tag="tune"):
    """A search. ``top``: the objective of the best trials over their iterations. ``bands``: over all that reported,
    as (iteration, a tenth, the half, nine tenths of the values below). ``trials``: the best, and those that failed."""

    path: str = ""
    metric: str = ""
    mode: Literal["", "min", "max"] = ""
    scheduler: str = ""
    search: str = ""
    total: int | None = None
    states: dict[str, int] = field(default_factory=dict)
    best: dict[str, Any] = field(default_factory=dict)
    top: list[Curve] = field(default_factory=list)
    bands: list[tuple[float, float, float, float]] = field(default_factory=list)
    decided: dict[str, int] = field(default_factory=dict)
    decisions: list[Decision] = field(default_factory=list)
    trials: list[dict[str, Any]] = field(default_factory=list)


class DeploymentRow(Struct):
    """A deployment of an application. ``target``: how many replicas it shall have. ``per_second``: requests, lately."""

    name: str
    state: DeploymentState
    replicas: int
    target: int
    ongoing: int = 0
    per_second: float = 0.0
    p50_s: float | None = None
    p99_s: float | None = None
    queued: int = 0
    requests: int = 0
    errors: int = 0
    rejected: int = 0
    why: str = ""


class ServingRow(Struct):
    """A replica of a deployment, and what it has done so far."""

    replica: str
    deployment: str
    state: ServingState
    node_id: str
    pid: int = 0
    ongoing: int = 0
    per_second: float = 0.0
    p50_s: float | None = None
    p99_s: float | None = None
    requests: int = 0
    errors: int = 0
    rejected: int = 0
    cancelled: int = 0


class SplitRow(Struct):
    """A part of the requests of a route that is split. ``requests`` and others: in the time by which it is judged."""

    app: str
    role: Literal["baseline", "canary", "shadow"]
    share: float | None = None
    requests: int = 0
    errors: int = 0
    p99_s: float | None = None


class ServeDetail(Struct, tag="serve"):
    """An application of a service. ``queued``: requests that wait in proxies. ``rolled_back``: why a canary lost its
    weight."""

    route: str = ""
    ingress: str = ""
    per_second: float = 0.0
    p50_s: float | None = None
    p99_s: float | None = None
    ongoing: int = 0
    queued: int = 0
    requests: int = 0
    errors: int = 0
    deployments: list[DeploymentRow] = field(default_factory=list)
    replicas: list[ServingRow] = field(default_factory=list)
    split: list[SplitRow] = field(default_factory=list)
    sticky: str = ""
    rolled_back: str = ""
    doors: list[str] = field(default_factory=list)
    curves: list[Curve] = field(default_factory=list)


Detail = TrainDetail | DataDetail | TuneDetail | ServeDetail
RowsOf = tuple[Sequence[str], Callable[[], Sequence[Mapping[str, Any]]]]

_encode = msgspec.msgpack.encode
_BRIEF = msgspec.msgpack.Decoder(Brief)
_DETAIL = msgspec.msgpack.Decoder(Detail)


def brief_of(data: bytes) -> Brief | None:
    """A brief; None for what is none, or of a library that knows more."""
    try:
        return _BRIEF.decode(data)
    except (msgspec.DecodeError, msgspec.ValidationError):
        return None


def detail_of(data: bytes) -> Detail | None:
    """The same for a detail."""
    try:
        found: Detail = _DETAIL.decode(data)
        return found
    except (msgspec.DecodeError, msgspec.ValidationError):
        return None


class ToldRun:
    """A run of this process of which is told while it goes on. The functions are called in another thread, and under a
    lock: they must be quick, and call nothing of the runtime. ``rows``: tables that can be asked for, by name."""

    def __init__(
        self,
        client: Client,
        brief: Callable[[], Brief],
        detail: Callable[[], Detail],
        rows: Mapping[str, RowsOf] | None = None,
    ) -> None:
        self._client = client
        self._brief, self._detail, self._rows = brief, detail, dict(rows or {})
        self._known = brief()
        self._last: tuple[bytes | None, bytes | None] | None = None
        self._at = threading.RLock()
        self._number = told_runs.begin(client, self)

    def _alone(self, tell: Callable[[], bytes | None]) -> bytes | None:
        """What a function tells; None while another thread is at it. It is not waited for: it may want the client's
        lock, which this one holds."""
        if not self._at.acquire(blocking=False):
            return None
        try:
            return tell()
        finally:
            self._at.release()

    def end(self) -> None:
        """The run is over: what the functions say now is the last word, and they are let go. It raises nothing."""
        number, self._number = self._number, 0
        if not number:
            return
        with self._at:
            self._last = self.brief(), self.detail()
            self._brief = self._detail = _nothing
            self._rows = {}
        if not self._client.lost:
            with contextlib.suppress(HpcError, OSError):  # the session may end just now
                told_runs.end(self._client, number)

    def brief(self) -> bytes | None:
        """See `BulletinSource`."""
        return self._alone(self._brief_now)

    def _brief_now(self) -> bytes | None:
        if self._last is not None:
            return self._last[0] or self._encoded()
        try:
            known = self._brief()
            _note_numbers(known)
            data = _fitted_brief(known)
            self._known = known
            return data
        except RuntimeError:  # a dict has changed while it was read
            return None
        except Exception as error:
            self._known = msgspec.structs.replace(self._known, why=f"its state cannot be told: {error!r}")
        return self._encoded()

    def _encoded(self) -> bytes:
        return _fitted_brief(self._known)

    def detail(self) -> bytes | None:
        """See `BulletinSource`."""
        return self._alone(self._detail_now)

    def _detail_now(self) -> bytes | None:
        if self._last is not None:
            return self._last[1] or b""
        try:
            return fitted(self._detail())
        except RuntimeError:
            return None
        except Exception:  # the brief says that something is wrong
            return b""

    def more(self, what: str, params: Mapping[str, str]) -> bytes | None:
        """See `BulletinSource`: the detail as it is now, or a part of a table."""
        if not what:
            return self.detail()
        return self._alone(lambda: self._part_now(what, params))

    def _part_now(self, what: str, params: Mapping[str, str]) -> bytes | None:
        columns, rows = self._rows.get(what, ((), list))
        try:
            return _encode(_plain(listing(rows(), columns, Params(params)), LETTERS))
        except Exception:  # this is a thread of the runtime's: what fails here would end the session
            return None


#: What runs count, by its labels: as it was told last, and what has changed since. Metrics have it too.
_numbers: dict[Labels, float] = {}
_changed: dict[Labels, float] = {}


def _note_numbers(brief: Brief) -> None:
    for number, given in brief.numbers.items():
        value = float(given)
        labels = tuple(_cleaned(one, MAX_LABEL) for one in ("kind", brief.kind, "name", brief.name, "number", number))
        has_room = labels in _numbers or len(_numbers) < MAX_NUMBERS
        if has_room and math.isfinite(value) and _numbers.get(labels) != value:
            _numbers[labels] = _changed[labels] = value


def _samples() -> list[Sample]:
    """What has changed since this was asked last."""
    found = []
    while _changed:
        labels, value = _changed.popitem()
        found.append(gauge(RUN_NUMBERS, value, labels))
    return found


sources.append(_samples)


def _nothing() -> Any:
    """What a run says that is over: never asked."""


def _fitted_brief(brief: Brief) -> bytes:
    """A brief as bytes. Letters have up to four bytes, and a raylet takes none that is too large: texts are cut."""
    letters = BRIEF_LETTERS
    while len(data := _encode(_plain(brief, letters))) > MAX_BRIEF_BYTES and letters:
        letters //= 2
    return data


def fitted(detail: Detail) -> bytes:
    """A detail as bytes. Where it has no room, its longest lists lose what stands at their ends."""
    plain: dict[str, Any] = _plain(detail, LETTERS)
    data = _encode(plain)
    while len(data) > MAX_DETAIL_BYTES:
        sizes = {name: len(_encode(value)) for name, value in plain.items() if isinstance(value, list) and value}
        if not sizes:
            return b""
        longest = max(sizes, key=lambda name: sizes[name])
        plain[longest] = plain[longest][: len(plain[longest]) // 2]
        data = _encode(plain)
    return data


def _plain(value: Any, letters: int) -> Any:
    """A value that can be sent: texts are UTF-8 and no longer than so many letters, integers no larger than fit."""
    return _cleaned(msgspec.to_builtins(value, builtin_types=(bytes,), enc_hook=_simple), letters)


def _simple(value: Any) -> Any:
    """A value of a type that cannot be sent: a number of NumPy's, as users report them, or its text."""
    if isinstance(value, Integral):
        return int(value)
    return float(value) if isinstance(value, Real) else repr(value)


def _cleaned(value: Any, letters: int) -> Any:
    if isinstance(value, str):
        return value[:letters].encode("utf-8", "replace").decode()
    if isinstance(value, dict):
        return {_cleaned(str(key), letters): _cleaned(one, letters) for key, one in value.items()}
    if isinstance(value, (list, tuple)):
        return [_cleaned(one, letters) for one in value]
    if isinstance(value, int) and not -(1 << 63) <= value < 1 << 63:
        return float(value) if abs(value) < 1 << 1000 else str(value)[:letters]
    return value
