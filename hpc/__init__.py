"""hpc: tasks, actors and shared objects on the nodes of a batch job, with Ray's API.

    import hpc as ray

    @ray.remote
    def square(x):
        return x * x

    print(ray.get([square.remote(i) for i in range(4)]))

Names are imported when first used. The processes of a node import ``hpc.core`` only, and on a parallel file system
every module that is not read counts.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from hpc._version import __version__

if TYPE_CHECKING:
    from hpc import (
        actor,
        cloudpickle,
        cluster_utils,
        collective,
        cross_language,
        data,
        exceptions,
        internal,
        job_config,
        job_submission,
        mpi,
        remote_function,
        runtime_context,
        runtime_env,
        serve,
        spi,
        train,
        tune,
        util,
    )
    from hpc.api.actors import ActorClass, ActorHandle, get_actor, kill, method
    from hpc.api.connection import is_initialized
    from hpc.api.ending import on_drain, save_state, saved_state
    from hpc.api.functions import RemoteFunction
    from hpc.api.init import init, shutdown
    from hpc.api.language import SCRIPT_MODE, WORKER_MODE, Language
    from hpc.api.logging_config import LoggingConfig
    from hpc.api.objects import cancel, get, put, wait
    from hpc.api.remote import remote
    from hpc.core.idtypes import (
        ActorClassID,
        ActorID,
        FunctionID,
        JobID,
        NodeID,
        PlacementGroupID,
        TaskID,
        UniqueID,
        WorkerID,
    )
    from hpc.core.owner.generator import DynamicObjectRefGenerator, ObjectRefGenerator
    from hpc.core.owner.ref import ObjectID, ObjectRef
    from hpc.cross_language import java_actor_class, java_function
    from hpc.runtime_context import get_gpu_ids, get_runtime_context
    from hpc.state.nodes import available_resources, cluster_resources, nodes
    from hpc.state.trace import timeline
    from hpc.util.client import ClientBuilder as ClientBuilder
    from hpc.util.client import client as client

_HOME = {
    "ActorClass": "hpc.api.actors",
    "ActorClassID": "hpc.core.idtypes",
    "ActorHandle": "hpc.api.actors",
    "ActorID": "hpc.core.idtypes",
    "ClientBuilder": "hpc.util.client",
    "DynamicObjectRefGenerator": "hpc.core.owner.generator",
    "FunctionID": "hpc.core.idtypes",
    "JobID": "hpc.core.idtypes",
    "LoggingConfig": "hpc.api.logging_config",
    "Language": "hpc.api.language",
    "NodeID": "hpc.core.idtypes",
    "ObjectID": "hpc.core.owner.ref",
    "ObjectRef": "hpc.core.owner.ref",
    "ObjectRefGenerator": "hpc.core.owner.generator",
    "PlacementGroupID": "hpc.core.idtypes",
    "RemoteFunction": "hpc.api.functions",
    "SCRIPT_MODE": "hpc.api.language",
    "TaskID": "hpc.core.idtypes",
    "UniqueID": "hpc.core.idtypes",
    "WORKER_MODE": "hpc.api.language",
    "WorkerID": "hpc.core.idtypes",
    "available_resources": "hpc.state.nodes",
    "cancel": "hpc.api.objects",
    "client": "hpc.util.client",
    "cluster_resources": "hpc.state.nodes",
    "get": "hpc.api.objects",
    "get_actor": "hpc.api.actors",
    "get_gpu_ids": "hpc.runtime_context",
    "get_runtime_context": "hpc.runtime_context",
    "init": "hpc.api.init",
    "is_initialized": "hpc.api.connection",
    "java_actor_class": "hpc.cross_language",
    "java_function": "hpc.cross_language",
    "kill": "hpc.api.actors",
    "method": "hpc.api.actors",
    "nodes": "hpc.state.nodes",
    "on_drain": "hpc.api.ending",
    "put": "hpc.api.objects",
    "remote": "hpc.api.remote",
    "save_state": "hpc.api.ending",
    "saved_state": "hpc.api.ending",
    "shutdown": "hpc.api.init",
    "timeline": "hpc.state.trace",
    "wait": "hpc.api.objects",
}
#: Modules that are there as attributes, whether a program has imported them or not.
_SUBPACKAGES = (
    "actor", "cloudpickle", "cluster_utils", "collective", "cross_language", "data", "exceptions", "internal",
    "job_config", "job_submission", "mpi", "remote_function", "rllib", "runtime_context", "runtime_env", "serve", "spi",
    "train", "tune", "util",
)  # fmt: skip


def __getattr__(name: str) -> Any:
    home = _HOME.get(name)
    if home is not None:
        value = getattr(importlib.import_module(home), name)
    elif name in _SUBPACKAGES:
        value = importlib.import_module(f"hpc.{name}")
    else:
        raise AttributeError(f"module 'hpc' has no attribute {name!r}")
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


__all__ = [
    "SCRIPT_MODE",
    "WORKER_MODE",
    "ActorClass",
    "ActorClassID",
    "ActorHandle",
    "ActorID",
    "DynamicObjectRefGenerator",
    "FunctionID",
    "JobID",
    "Language",
    "LoggingConfig",
    "NodeID",
    "ObjectID",
    "ObjectRef",
    "ObjectRefGenerator",
    "PlacementGroupID",
    "RemoteFunction",
    "TaskID",
    "UniqueID",
    "WorkerID",
    "__version__",
    "actor",
    "available_resources",
    "cancel",
    "cloudpickle",
    "cluster_resources",
    "cluster_utils",
    "collective",
    "cross_language",
    "data",
    "exceptions",
    "get",
    "get_actor",
    "get_gpu_ids",
    "get_runtime_context",
    "init",
    "internal",
    "is_initialized",
    "java_actor_class",
    "java_function",
    "job_config",
    "job_submission",
    "kill",
    "method",
    "mpi",
    "nodes",
    "on_drain",
    "put",
    "remote",
    "remote_function",
    "rllib",
    "runtime_context",
    "runtime_env",
    "save_state",
    "saved_state",
    "serve",
    "shutdown",
    "spi",
    "timeline",
    "train",
    "tune",
    "util",
    "wait",
]
