"""hpc: tasks, actors and shared objects on the nodes of a batch job, with Ray's API.

import hpc as ray

@ray.remote
def square(x):
    return x * x

print(ray.get([square.remote(i) for i in range(4)]))
"""

from __future__ import annotations

import inspect
from typing import Any

from hpc import exceptions
from hpc._version import __version__
from hpc.actor import ActorClass, ActorHandle, get_actor, kill, method
from hpc.core.owner.ref import ObjectRef
from hpc.objects import cancel, get, put, wait
from hpc.remote_function import RemoteFunction
from hpc.runtime_context import get_gpu_ids, get_runtime_context
from hpc.session import init, is_initialized, shutdown
from hpc.state import available_resources, cluster_resources, nodes


def remote(*args: Any, **options: Any) -> Any:
    """Make a function a remote function, or a class an actor class.

    ``@hpc.remote``, or with options ``@hpc.remote(num_cpus=2)``. Raises TypeError for anything that is neither a
    function nor a class, ValueError or TypeError for options that make no sense.
    """
    if len(args) == 1 and not options:
        return _make(args[0], {})
    if args:
        raise TypeError("@hpc.remote takes keyword options only, as in @hpc.remote(num_cpus=2)")
    return lambda target: _make(target, options)


def _make(target: Any, options: dict[str, Any]) -> Any:
    if inspect.isclass(target):
        return ActorClass(target, options)
    if callable(target):
        return RemoteFunction(target, options)
    raise TypeError(f"@hpc.remote is for functions and classes, not for {type(target).__name__}")


def __getattr__(name: str) -> Any:
    """Subpackages that programs reach as attributes (``hpc.util``, ``hpc.train``) are imported when first used."""
    if name in ("util", "train", "actor"):
        import importlib

        return importlib.import_module(f"hpc.{name}")
    raise AttributeError(f"module 'hpc' has no attribute {name!r}")


__all__ = [
    "ActorClass",
    "ActorHandle",
    "ObjectRef",
    "RemoteFunction",
    "__version__",
    "available_resources",
    "cancel",
    "cluster_resources",
    "exceptions",
    "get",
    "get_actor",
    "get_gpu_ids",
    "get_runtime_context",
    "init",
    "is_initialized",
    "kill",
    "method",
    "nodes",
    "put",
    "remote",
    "shutdown",
    "wait",
]
