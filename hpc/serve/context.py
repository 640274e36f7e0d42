"""Where the code of a user runs: which request it serves, in which replica, and what that request has begun.

The context of a request is a context variable, so that what a coroutine or a thread of the pool begins knows it too.
Requests that a request makes are its children: they are cancelled with it.
"""

from __future__ import annotations

import contextvars
import itertools
import json
import os
import secrets
from collections.abc import Callable
from typing import Any, NamedTuple

import msgspec

import hpc
from hpc.serve.exceptions import RayServeException
from hpc.serve.messages import CONTROLLER_NAME, NAMESPACE, DeploymentID, ReplicaID, helper_name


class ReplicaRank(NamedTuple):
    """The number of a replica among all of its deployment, of its node among the nodes, and on its node."""

    rank: int = 0
    node_rank: int = 0
    local_rank: int = 0


class ReplicaContext:
    """What a replica knows of itself: see `get_replica_context`."""

    def __init__(
        self,
        replica_id: ReplicaID,
        servable_object: Any,
        config: Any,
        rank: ReplicaRank,
        world_size: int,
        code_version: str = "",
        gang_context: Any = None,
    ) -> None:
        self.replica_id = replica_id
        self.servable_object = servable_object
        self._deployment_config = config
        self.rank = rank
        self.world_size = world_size
        self.code_version = code_version
        self.gang_context = gang_context

    @property
    def app_name(self) -> str:
        """The application of the replica."""
        return self.replica_id.deployment_id.app_name

    @property
    def deployment(self) -> str:
        """The deployment of the replica."""
        return self.replica_id.deployment_id.name

    @property
    def replica_tag(self) -> str:
        """The id of the replica, unique in the service."""
        return self.replica_id.unique_id


class RequestContext(msgspec.Struct, frozen=True):
    """Which request the running code serves. Users read it, and `get_multiplexed_model_id`."""

    route: str = ""
    request_id: str = ""
    app_name: str = ""
    multiplexed_model_id: str = ""
    session_id: str = ""
    is_http_request: bool = False
    grpc_context: Any = None
    client: str = ""
    trace: str = ""
    #: Of this one attempt: children of the request are known by it.
    attempt_id: str = ""
    priority: int = 0
    #: Whether it is a call of the replica's actor: then the runtime cancels what its own code has begun.
    is_call: bool = True
    #: When it began, by the process's clock that never goes back.
    began: float = 0.0


NO_REQUEST = RequestContext()
current_request: contextvars.ContextVar[RequestContext] = contextvars.ContextVar(
    "hpc_serve_request", default=NO_REQUEST
)
#: The requests of the batch that runs; () outside of one.
current_batch: contextvars.ContextVar[tuple[RequestContext, ...]] = contextvars.ContextVar(
    "hpc_serve_batch", default=()
)


#: The variable that tells an actor of a deployment which one it is.
HELPER_ENV = "HPC_SERVE_DEPLOYMENT_ACTOR"


class _Here:
    """What this process is to the service."""

    replica: ReplicaContext | None = None
    #: Whether replicas run in this process for tests (`run(..., _local_testing_mode=True)`).
    local: contextvars.ContextVar[ReplicaContext | None] = contextvars.ContextVar("hpc_serve_local", default=None)


here = _Here()


def shared_context(request: RequestContext) -> contextvars.Context:
    """A context for work that many requests wait for. It knows of a request, and is not cancelled with any."""
    made = contextvars.Context()
    made.run(here.local.set, here.local.get())
    made.run(current_request.set, msgspec.structs.replace(request, attempt_id=""))
    return made


def replica_context() -> ReplicaContext | None:
    """The replica whose code runs; None elsewhere."""
    return here.local.get() or here.replica


def get_replica_context() -> ReplicaContext:
    """The replica whose code runs. Raises RayServeException outside of a deployment."""
    found = replica_context()
    if found is None:
        raise RayServeException("`serve.get_replica_context()` may only be called from within a Ray Serve deployment.")
    return found


def get_multiplexed_model_id() -> str:
    """The model that the running request wants; in a batch, what all of its requests want. Empty where there is
    none."""
    batch = current_batch.get()
    return batch[0].multiplexed_model_id if batch else current_request.get().multiplexed_model_id


def get_trace_context() -> Any:
    """The trace of the running request as a W3C traceparent; None where there is none."""
    return current_request.get().trace or None


class _Ids:
    """Ids of requests: of the process, and a number. Random ones for each cost a call of the system."""

    def __init__(self) -> None:
        self.begin()

    def begin(self) -> None:
        """Take other ones than the process that this one is a copy of."""
        self.prefix = secrets.token_hex(8)
        self.numbers = itertools.count(1)


_ids = _Ids()
os.register_at_fork(after_in_child=_ids.begin)


def new_request_id() -> str:
    """An id for a request that has none: 32 hexadecimal digits."""
    return f"{_ids.prefix}{next(_ids.numbers):016x}"


# ---------------------------------------------------------------- children of requests

_children: dict[str, dict[int, Callable[[], Any]]] = {}


def add_child(parent: str, number: int, cancel: Callable[[], Any]) -> None:
    """A request of this process has made another one, which ``cancel`` ends."""
    _children.setdefault(parent, {})[number] = cancel


def remove_child(parent: str, number: int) -> None:
    """It has ended."""
    found = _children.get(parent)
    if found is not None:
        found.pop(number, None)
        if not found:
            _children.pop(parent, None)


def cancel_children(parent: str) -> None:
    """End what a request has begun, since it was cancelled."""
    for cancel in list(_children.pop(parent, {}).values()):
        cancel()


# ---------------------------------------------------------------- actors of the service


class DeploymentActorContext(NamedTuple):
    """What an actor of a deployment (`deployment_actors`) knows of itself."""

    deployment_id: DeploymentID
    actor_name: str
    code_version: str | None = None

    @property
    def app_name(self) -> str:
        """The application."""
        return self.deployment_id.app_name

    @property
    def deployment(self) -> str:
        """The deployment."""
        return self.deployment_id.name


def get_deployment_actor_context() -> DeploymentActorContext:
    """Which actor of a deployment this is. Raises RayServeException elsewhere."""
    about = os.environ.get(HELPER_ENV)
    if about is None:
        raise RayServeException(
            "`serve.get_deployment_actor_context()` may only be called from within a Ray Serve deployment actor."
        )
    name, app, own, version = json.loads(about)
    return DeploymentActorContext(DeploymentID(name, app), own, version)


def get_deployment_actor(actor_name: str) -> Any:
    """The handle of an actor that the replicas of this deployment share (`deployment_actors`). One that has died gets a
    successor: ask again then.

    Raises RayServeException outside of a replica, ValueError while there is no such actor."""
    own = replica_context()
    if own is None:
        raise RayServeException(
            "`serve.get_deployment_actor()` may only be called from within a Ray Serve deployment replica."
        )
    ident = own.replica_id.deployment_id
    return hpc.get_actor(helper_name(ident, own.code_version, actor_name), namespace=NAMESPACE)


def controller() -> Any:
    """The handle of the controller. Raises RayServeException where no service runs."""
    try:
        return hpc.get_actor(CONTROLLER_NAME, namespace=NAMESPACE)
    except ValueError:
        raise RayServeException("There is no Serve instance running on this Ray cluster.") from None
