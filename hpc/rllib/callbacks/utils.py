"""Calling what a configuration has for a hook."""

from __future__ import annotations

from typing import Any

from hpc.rllib.callbacks.callbacks import RLlibCallback


def callbacks_of(config: Any) -> list[RLlibCallback]:
    """New objects of the configuration's classes, in their order."""
    return [one() for one in _listed(config.callbacks_class)]


def make_callback(
    callback_name: str,
    callbacks_objects: Any = None,
    callbacks_functions: Any = None,
    *,
    args: Any = None,
    kwargs: dict[str, Any] | None = None,
) -> None:
    """Call this hook of the objects, and then the functions, in their order."""
    for one in _listed(callbacks_objects):
        getattr(one, callback_name)(*(args or ()), **(kwargs or {}))
    for function in _listed(callbacks_functions):
        function(*(args or ()), **(kwargs or {}))


def call_hook(hook: str, objects: Any, config: Any, **kwargs: Any) -> None:
    """Call this hook of the objects, and then the configuration's functions for it."""
    make_callback(hook, objects, getattr(config, f"callbacks_{hook}"), kwargs=kwargs)


def is_wanted(hook: str, config: Any) -> bool:
    """Whether anybody has defined this hook: env runners make no episodes for hooks that do nothing."""
    if getattr(config, f"callbacks_{hook}") is not None:
        return True
    base = getattr(RLlibCallback, hook)
    return any(getattr(one, hook, None) is not base for one in _listed(config.callbacks_class))


def _listed(given: Any) -> list[Any]:
    if given is None:
        return []
    return list(given) if isinstance(given, (list, tuple)) else [given]
