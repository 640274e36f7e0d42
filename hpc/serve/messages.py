"""What the parts of a service tell each other: identities, tables that the controller pushes, requests and answers.

All are immutable. Tables are stored in the head's keys by `encoded`, and read by `decoded`. What travels with each
request (`RequestMeta`, `Rejected`) is a plain pickled struct without fields that need the collector of garbage.
"""

from __future__ import annotations

from typing import Any, Literal, TypeVar

import msgspec

#: The namespace of everything that a service keeps: its keys, and the names of its actors.
NAMESPACE = "serve"
CONTROLLER_NAME = "SERVE_CONTROLLER_ACTOR"
ROUTES_KEY = "routes"
DOORS_KEY = "doors"
DEFAULT_APP = "default"
#: How the names of actors that replicas share begin, as under Ray.
HELPER_PREFIX = "SERVE_DEPLOYMENT_ACTOR::"


class DeploymentID(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """A deployment of an application."""

    name: str
    app_name: str = DEFAULT_APP

    def to_replica_actor_class_name(self) -> str:
        """How the class of its actors is named, as under Ray."""
        return f"ServeReplica:{self.app_name}:{self.name}" if self.app_name else f"ServeReplica:{self.name}"

    def __str__(self) -> str:
        return f"Deployment(name='{self.name}', app='{self.app_name}')"


class ReplicaID(msgspec.Struct, frozen=True, array_like=True):
    """A replica of a deployment: the same actor has it as long as it lives."""

    unique_id: str
    deployment_id: DeploymentID

    def to_full_id_str(self) -> str:
        """The name of its actor: SERVE_REPLICA::app#deployment#id."""
        return f"SERVE_REPLICA::{self.deployment_id.app_name}#{self.deployment_id.name}#{self.unique_id}"

    @staticmethod
    def is_full_id_str(text: str) -> bool:
        """Whether it is the name of a replica's actor."""
        return text.startswith("SERVE_REPLICA::")

    @classmethod
    def from_full_id_str(cls, text: str) -> ReplicaID:
        """The replica whose actor has this name. Raises ValueError for another name."""
        parts = text.removeprefix("SERVE_REPLICA::").split("#")
        if not cls.is_full_id_str(text) or len(parts) != 3:
            raise ValueError(f"{text!r} is not the name of a replica: SERVE_REPLICA::APP#DEPLOYMENT#ID is expected")
        return cls(parts[2], DeploymentID(parts[1], parts[0]))

    def __str__(self) -> str:
        deployment = self.deployment_id
        return f"Replica(id='{self.unique_id}', deployment='{deployment.name}', app='{deployment.app_name}')"


def deployment_key(app: str, name: str) -> str:
    """The key of a deployment's table. Names may have a slash, and never this sign."""
    return f"deployment/{app}#{name}"


def helper_name(deployment: DeploymentID, version: str, name: str) -> str:
    """The name of an actor that replicas of a version share."""
    return f"{HELPER_PREFIX}{deployment.app_name}::{deployment.name}::{version}::{name}"


# ---------------------------------------------------------------- requests


class RequestMeta(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """What a replica is told of a request beside its arguments. ``deadline`` is the seconds that were left when it was
    sent, or None. ``priority``: the higher is served first; negative ones only fill free slots. ``trace``: a W3C
    traceparent, or empty. ``parent``: the request that made this one."""

    request_id: str
    method: str = "__call__"
    route: str = ""
    app_name: str = ""
    multiplexed_model_id: str = ""
    session_id: str = ""
    deadline: float | None = None
    is_http: bool = False
    is_stream: bool = False
    priority: int = 0
    trace: str = ""
    parent: str = ""
    attempt: int = 0
    is_grpc: bool = False


class Rejected(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """The replica took the request not, since so many are running. ``is_draining``: it takes none at all any more."""

    ongoing: int
    is_draining: bool = False


class HttpRequest(msgspec.Struct, frozen=True, array_like=True):
    """A request of HTTP as it was received. With ``more`` the body goes on: the replica pulls the rest of the proxy.
    ``proxy``: the pickled handle of the actor to pull from, or empty where nothing is to be pulled."""

    method: str
    path: str
    query: bytes = b""
    headers: list[tuple[bytes, bytes]] = []
    body: bytes = b""
    more: bool = False
    client: tuple[str, int] | None = None
    server: tuple[str, int | None] | None = None
    scheme: str = "http"
    root_path: str = ""
    http_version: str = "1.1"
    kind: Literal["http", "websocket"] = "http"
    proxy: bytes = b""


class HttpReply(msgspec.Struct, frozen=True, array_like=True, tag=True):
    """A whole answer of HTTP."""

    status: int
    headers: list[tuple[bytes, bytes]] = []
    body: bytes = b""


class HttpOpened(msgspec.Struct, frozen=True, array_like=True, tag=True):
    """The beginning of an answer that goes on. `http_rest(stream_id)` of the same replica has the rest."""

    stream_id: str
    status: int
    headers: list[tuple[bytes, bytes]] = []
    first: bytes = b""


# ---------------------------------------------------------------- tables


class ReplicaRow(msgspec.Struct, frozen=True, array_like=True):
    """A replica that takes requests. ``actor``: its pickled handle. ``node``: hexadecimal. ``max_ongoing``: 0 means the
    deployment's. ``version``: of its code. ``model_ids``: the multiplexed models that it has loaded."""

    id: str
    actor: bytes
    node: str = ""
    zone: str = ""
    max_ongoing: int = 0
    version: str = ""
    model_ids: list[str] = []
    routing_stats: dict[str, Any] = {}


class BackpressureRow(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """What a client is told when the queue is full."""

    status_code: int = 503
    retry_after_s: float | None = None


class DeploymentTable(msgspec.Struct, frozen=True, array_like=True):
    """How requests of a deployment are routed. ``version`` rises with each change. ``router``: a RequestRouterConfig by
    cloudpickle, or empty for two choices. ``retry``: "" (Ray's rule and idempotent methods) or "always"."""

    version: int
    app: str
    name: str
    is_deleted: bool = False
    is_available: bool = True
    replicas: list[ReplicaRow] = []
    max_ongoing_requests: int = 5
    max_queued_requests: int = -1
    router: bytes = b""
    backpressure: BackpressureRow = BackpressureRow()
    is_autoscaled: bool = False
    metrics_interval_s: float = 10.0
    retry: str = ""


class RouteRow(msgspec.Struct, frozen=True, array_like=True):
    """Where requests below a prefix go. ``split``: applications and their weights, empty for the one. ``shadow``: the
    application that gets a copy, or empty. ``sticky``: "", "header:NAME", "cookie:NAME" or "session". ``ingresses``:
    the deployments that get the requests of the other applications."""

    prefix: str
    app: str
    ingress: str
    is_asgi: bool = False
    split: list[tuple[str, float]] = []
    shadow: str = ""
    sticky: str = ""
    request_timeout_s: float | None = None
    ingresses: dict[str, str] = {}


class RouteTable(msgspec.Struct, frozen=True, array_like=True):
    """All routes of the service. ``version`` rises with each change."""

    version: int
    rows: list[RouteRow] = []


# ---------------------------------------------------------------- what replicas and routers say


class ReplicaFacts(msgspec.Struct, frozen=True, array_like=True):
    """What a replica says of itself once it has begun. ``is_asgi``: its class is an ingress. ``methods``: which of
    Ray's hooks its class has (check_health, reconfigure, record_autoscaling_stats, record_routing_stats)."""

    pid: int
    node: str
    worker: str
    is_asgi: bool = False
    hooks: list[str] = []
    docs_path: str = ""
    zone: str = ""


class ReplicaStats(msgspec.Struct, frozen=True, array_like=True):
    """How a replica stands. Stats are what the user's hooks return; {} where there are none."""

    ongoing: int
    autoscaling: dict[str, Any] = {}
    routing: dict[str, Any] = {}
    model_ids: list[str] = []


class ReplicaLoad(msgspec.Struct, frozen=True, array_like=True):
    """What a replica tells the controller for those who look: what it has done in all. ``took``: how long its requests
    took in the last ``span_s`` seconds (see `latency`)."""

    replica: str
    ongoing: int
    done: int
    errors: int
    rejected: int
    cancelled: int
    span_s: float
    took: dict[int, int]


class ProxyLoad(msgspec.Struct, frozen=True, array_like=True):
    """How many requests wait in a proxy, by app#deployment."""

    proxy: str
    queued: dict[str, int] = {}


class HandleMetrics(msgspec.Struct, frozen=True, array_like=True):
    """What a router tells the controller. ``running``: per replica's id, the requests that this router has there."""

    router: str
    app: str
    deployment: str
    queued: int
    running: dict[str, int] = {}
    is_leaving: bool = False


Table = TypeVar("Table", DeploymentTable, RouteTable)


_pack = msgspec.msgpack.Encoder().encode
_meta = msgspec.msgpack.Decoder(RequestMeta).decode
_request = msgspec.msgpack.Decoder(HttpRequest).decode
_answer = msgspec.msgpack.Decoder(HttpReply | HttpOpened).decode


def packed_meta(meta: RequestMeta) -> bytes:
    """What a replica is told of a request, as it travels. Bytes are pickled by one call of C with simple arguments. A
    tuple of the same is looked through first, which costs 2 us more on either side."""
    return _pack(meta)


def meta_of(data: bytes) -> RequestMeta:
    """The same again, from `packed_meta`."""
    meta: RequestMeta = _meta(data)
    return meta


def packed_http(message: HttpRequest | HttpReply | HttpOpened) -> bytes:
    """A message of HTTP as it travels between a proxy and a replica."""
    return _pack(message)


def http_request(data: bytes) -> HttpRequest:
    """A request, from `packed_http`."""
    return _request(data)


def http_answer(data: bytes) -> HttpReply | HttpOpened:
    """An answer, from `packed_http`."""
    answer: HttpReply | HttpOpened = _answer(data)
    return answer


def encoded(table: DeploymentTable | RouteTable) -> bytes:
    """A table as it is stored in a key."""
    return msgspec.msgpack.encode(table)


def decoded(kind: type[Table], data: bytes) -> Table:
    """A table out of a key."""
    return msgspec.msgpack.decode(data, type=kind)
