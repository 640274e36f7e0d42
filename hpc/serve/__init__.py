"""Models and functions behind HTTP and handles: Ray Serve's names, defaults and semantics.

Names are imported when first used: replicas and callers need few of them, and no HTTP to call each other.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from hpc.util.lazy import LazyNames

if TYPE_CHECKING:
    from hpc.serve.api import RunTarget as RunTarget
    from hpc.serve.api import delete as delete
    from hpc.serve.api import deployment as deployment
    from hpc.serve.api import get_app_handle as get_app_handle
    from hpc.serve.api import get_deployment_handle as get_deployment_handle
    from hpc.serve.api import promote as promote
    from hpc.serve.api import run as run
    from hpc.serve.api import run_many as run_many
    from hpc.serve.api import shutdown as shutdown
    from hpc.serve.api import shutdown_async as shutdown_async
    from hpc.serve.api import split as split
    from hpc.serve.api import splits as splits
    from hpc.serve.api import start as start
    from hpc.serve.api import status as status
    from hpc.serve.batching import batch as batch
    from hpc.serve.config import ControllerOptions as ControllerOptions
    from hpc.serve.config import HTTPOptions as HTTPOptions
    from hpc.serve.context import get_deployment_actor as get_deployment_actor
    from hpc.serve.context import get_deployment_actor_context as get_deployment_actor_context
    from hpc.serve.context import get_multiplexed_model_id as get_multiplexed_model_id
    from hpc.serve.context import get_replica_context as get_replica_context
    from hpc.serve.context import get_trace_context as get_trace_context
    from hpc.serve.deployments import Application as Application
    from hpc.serve.deployments import Deployment as Deployment
    from hpc.serve.gateway.telling import announce as announce
    from hpc.serve.gateway.telling import withdraw as withdraw
    from hpc.serve.http.ingress import ingress as ingress
    from hpc.serve.multiplex import multiplexed as multiplexed
    from hpc.serve.offline import answer_file as answer_file


#: Where each name is.
_HOME = {
    "Application": "hpc.serve.deployments",
    "ControllerOptions": "hpc.serve.config",
    "Deployment": "hpc.serve.deployments",
    "HTTPOptions": "hpc.serve.config",
    "RunTarget": "hpc.serve.api",
    "announce": "hpc.serve.gateway.telling",
    "answer_file": "hpc.serve.offline",
    "batch": "hpc.serve.batching",
    "delete": "hpc.serve.api",
    "deployment": "hpc.serve.api",
    "get_app_handle": "hpc.serve.api",
    "get_deployment_actor": "hpc.serve.context",
    "get_deployment_actor_context": "hpc.serve.context",
    "get_deployment_handle": "hpc.serve.api",
    "get_multiplexed_model_id": "hpc.serve.context",
    "get_replica_context": "hpc.serve.context",
    "get_trace_context": "hpc.serve.context",
    "ingress": "hpc.serve.http.ingress",
    "multiplexed": "hpc.serve.multiplex",
    "promote": "hpc.serve.api",
    "run": "hpc.serve.api",
    "run_many": "hpc.serve.api",
    "shutdown": "hpc.serve.api",
    "shutdown_async": "hpc.serve.api",
    "split": "hpc.serve.api",
    "splits": "hpc.serve.api",
    "start": "hpc.serve.api",
    "status": "hpc.serve.api",
    "withdraw": "hpc.serve.gateway.telling",
}
#: Modules that users name by this package without importing them.
_MODULES = frozenset(
    (
        "autoscaling_policy",
        "batching",
        "config",
        "context",
        "exceptions",
        "gang",
        "handle",
        "metrics",
        "multiplex",
        "request_router",
        "schema",
    )
)

__all__ = sorted(_HOME)

_lazy = LazyNames(__name__, _HOME, _MODULES)


def __getattr__(name: str) -> Any:
    return _lazy.get(name)


def __dir__() -> list[str]:
    return _lazy.all()
