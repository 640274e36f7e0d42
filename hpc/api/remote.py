"""``hpc.remote``, which makes remote functions and actor classes."""

from __future__ import annotations

import inspect
from typing import Any

from hpc.api.actors import ActorClass
from hpc.api.functions import RemoteFunction


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
    if callable(target) and not isinstance(target, (ActorClass, RemoteFunction)):
        return RemoteFunction(target, options)
    raise TypeError(f"@hpc.remote is for functions and classes, not for {type(target).__name__}")
