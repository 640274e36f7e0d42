"""The options of tasks and actors: one table, from which validation, defaults and the documentation are made.

Names, defaults and errors follow Ray's documentation. An option that is known but not supported yet raises
NotImplementedError at decoration time: silently ignoring it would change what a program does.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from hpc.api import runtime_env_checks
from hpc.api.scheduling import (
    check_accelerator,
    check_bundle_index,
    check_fallback,
    check_group,
    check_label_selector,
    check_older_form,
    check_strategy,
    requirements,
)
from hpc.core.accelerators.base import check_request
from hpc.core.node.settings import setting
from hpc.core.resources import to_units
from hpc.core.wire import DYNAMIC, STREAMING

_MISSING = object()


@dataclass(frozen=True)
class Option:
    """One option. ``check`` raises ValueError or TypeError for a value that makes no sense."""

    name: str
    default: Any
    help: str
    task: bool = True
    actor: bool = True
    supported: bool = True
    check: Callable[[str, Any], None] = lambda name, value: None


def _amount(name: str, value: Any) -> None:
    if value is None:
        return
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise TypeError(f"{name} must be a number, not {type(value).__name__}")
    resource = {"num_cpus": "CPU", "num_gpus": "GPU"}.get(name, name)
    check_request(resource, value)
    to_units(resource, value)


def _resources(name: str, value: Any) -> None:
    if value is None:
        return
    if not isinstance(value, Mapping):
        raise TypeError("resources must be a dict of names and amounts")
    for key, amount in value.items():
        if not isinstance(key, str):
            raise TypeError(f"the name of a resource must be a string, not {type(key).__name__}")
        if key in ("CPU", "GPU", "memory"):
            other = {"CPU": "num_cpus", "GPU": "num_gpus", "memory": "memory"}[key]
            raise ValueError(f"use the option {other} instead of {key!r} in resources")
        _amount(key, amount)


def _count(name: str, value: Any, minimum: int = 0, also: int | None = None) -> None:
    if value is None or value == also:
        return
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"{name} must be an integer, not {type(value).__name__}")
    if value < minimum:
        extra = f" (or {also})" if also is not None else ""
        raise ValueError(f"{name} must be at least {minimum}{extra}, not {value}")


def _seconds(name: str, value: Any) -> None:
    if value is None:
        return
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise TypeError(f"{name} must be a number of seconds, not {type(value).__name__}")
    if not 0 < value < float("inf"):
        raise ValueError(f"{name} must be more than 0 seconds, not {value}")


def _num_returns(name: str, value: Any) -> None:
    if value in ("streaming", "dynamic"):
        return
    if isinstance(value, str):
        raise TypeError(f'num_returns must be an integer, "streaming" or "dynamic", not {value!r}')
    _count(name, value)


def check_generator(num_returns: Any, is_generator: bool, what: str) -> None:
    """Raises ValueError for "streaming" and "dynamic" with code that is no generator: it has no items."""
    if num_returns in ("streaming", "dynamic") and not is_generator:
        raise ValueError(
            f"num_returns={num_returns!r} is for generators: this {what} has no `yield`. Let it yield its values, "
            "or return them as a list with num_returns=N"
        )


def _retries(name: str, value: Any) -> None:
    _count(name, value, 0, -1)


def _at_least_one(name: str, value: Any) -> None:
    _count(name, value, 1)


def _retry_exceptions(name: str, value: Any) -> None:
    if isinstance(value, bool):
        return
    if not isinstance(value, (list, tuple)) or not all(
        isinstance(kind, type) and issubclass(kind, Exception) for kind in value
    ):
        raise TypeError("retry_exceptions must be a bool or a list of exception classes")


def _text(name: str, value: Any) -> None:
    if value is not None and not isinstance(value, str):
        raise TypeError(f"{name} must be a string, not {type(value).__name__}")


def name_text(name: str, value: Any) -> None:
    """Raises TypeError or ValueError for what is neither None nor a string with something in it."""
    _text(name, value)
    if value == "":
        raise ValueError(f"{name} must not be empty")


def _flag(name: str, value: Any) -> None:
    if not isinstance(value, bool):
        raise TypeError(f"{name} must be a bool, not {type(value).__name__}")


def _runtime_env(name: str, value: Any) -> None:
    runtime_env_checks.check(value)


def _groups(name: str, value: Any) -> None:
    if value is None:
        return
    if not isinstance(value, Mapping):
        raise TypeError("concurrency_groups must be a dict of names and limits, as in {'io': 2}")
    for group, limit in value.items():
        if not isinstance(group, str) or not group:
            raise TypeError(f"the name of a concurrency group must be a string, not {group!r}")
        _count(f"the limit of concurrency group {group!r}", limit, 1)
        if limit is None:
            raise TypeError(f"concurrency group {group!r} needs a limit")


def _optional_flag(name: str, value: Any) -> None:
    if value is not None:
        _flag(name, value)


def _pending(name: str, value: Any) -> None:
    _count(name, value, 1, -1)


def _window(name: str, value: Any) -> None:
    _count(name, value, 1, -1)


def _lifetime(name: str, value: Any) -> None:
    if value in (None, "non_detached", "detached"):
        return
    raise ValueError(f'lifetime must be None, "detached" or "non_detached", not {value!r}')


OPTIONS: tuple[Option, ...] = (
    Option("num_cpus", None, "CPUs; tasks 1; actors 1 to be placed and 0 to run", check=_amount),
    Option("num_gpus", None, "GPUs, or a fraction of one", check=_amount),
    Option("memory", None, "bytes of memory, reserved and not enforced", check=_amount),
    Option("resources", None, "custom resources by name", check=_resources),
    Option("accelerator_type", None, "kind of accelerator, like 'A100'", check=check_accelerator),
    Option("label_selector", None, "labels that the node must have", check=check_label_selector),
    Option("fallback_strategy", None, "label selectors to try when the first finds no room", check=check_fallback),
    Option(
        "num_returns",
        1,
        'number of return values; "streaming" for generators (their default), "dynamic"',
        actor=False,
        check=_num_returns,
    ),
    Option("max_retries", 3, "retries after a crash of the worker; -1: without end", actor=False, check=_retries),
    Option("retry_exceptions", False, "retry on exceptions too: bool or list", actor=False, check=_retry_exceptions),
    Option(
        "time_request",
        None,
        "seconds that it takes: it begins only on a node that lasts so long",
        actor=False,
        check=_seconds,
    ),
    Option("max_calls", 0, "executions after which a worker is ended; 0: never", actor=False, check=_count),
    Option(
        "_generator_backpressure_num_objects",
        None,
        "items of a generator that may wait to be taken before it pauses; -1 or None: any number",
        actor=False,
        check=_window,
    ),
    Option("runtime_env", None, "environment of the worker: a dict or hpc.runtime_env.RuntimeEnv", check=_runtime_env),
    Option("name", None, "name of the task, or of the actor for get_actor", check=name_text),
    Option("scheduling_strategy", None, '"DEFAULT", "SPREAD" or a strategy object', check=check_strategy),
    Option("placement_group", "default", "older form of a PlacementGroupSchedulingStrategy", check=check_group),
    Option("placement_group_bundle_index", -1, "with placement_group: which bundle", check=check_bundle_index),
    Option(
        "placement_group_capture_child_tasks",
        None,
        "with placement_group: whether what it submits goes there too",
        check=_optional_flag,
    ),
    Option("enable_task_events", True, "whether events are recorded", check=_flag),
    Option("_metadata", None, "free for extensions"),
    Option("namespace", None, "namespace of the actor's name", task=False, check=name_text),
    Option("get_if_exists", False, "use the named actor if there is one", task=False, check=_flag),
    Option(
        "lifetime",
        None,
        'None: ends with its last handle or its creator; "detached": by hpc.kill() or with the session',
        task=False,
        check=_lifetime,
    ),
    Option("max_restarts", 0, "restarts after a crash; -1: without end", task=False, check=_retries),
    Option("max_task_retries", 0, "retries of calls that a crash interrupted", task=False, check=_retries),
    Option("max_concurrency", None, "calls that run at the same time", task=False, check=_at_least_one),
    Option("max_pending_calls", -1, "calls of one process that may wait; -1: any number", task=False, check=_pending),
    Option("concurrency_groups", None, "separate limits for groups of methods", task=False, check=_groups),
    Option(
        "allow_out_of_order_execution",
        None,
        "calls whose arguments are ready do not wait for earlier ones",
        task=False,
        check=_optional_flag,
    ),
    Option("object_store_memory", None, "bytes of object store", task=False, supported=False),
)
_BY_NAME = {option.name: option for option in OPTIONS}


def check_options(given: Mapping[str, Any], actor: bool) -> dict[str, Any]:
    """The options as given, checked. Raises ValueError, TypeError or NotImplementedError."""
    kind = "an actor" if actor else "a task"
    for name, value in given.items():
        option = _BY_NAME.get(name)
        if option is None or not (option.actor if actor else option.task):
            valid = ", ".join(o.name for o in OPTIONS if (o.actor if actor else o.task))
            raise ValueError(f"{name!r} is not an option of {kind}; there are: {valid}")
        if not option.supported and value != option.default:
            raise NotImplementedError(f"the option {name} is not supported yet")
        option.check(name, value)
    check_older_form(given)
    return dict(given)


def option(options: Mapping[str, Any], name: str) -> Any:
    """The value of an option, or its default."""
    value = options.get(name, _MISSING)
    if value is not _MISSING:
        return value
    default = _BY_NAME[name].default
    return int(setting("task_max_retries", {}, os.environ)) if name == "max_retries" else default


def returns(value: Any) -> int:
    """``num_returns`` as it goes over the wire."""
    return {"streaming": STREAMING, "dynamic": DYNAMIC}[value] if isinstance(value, str) else int(value)


def window(value: int | None) -> int:
    """``_generator_backpressure_num_objects`` as it goes over the wire: 0 for any number."""
    return value if value is not None and value > 0 else 0


def amounts(options: Mapping[str, Any], actor: bool) -> tuple[dict[str, int], dict[str, int]]:
    """Resources in units: what is held while it runs, and what must be free when it is placed."""
    held: dict[str, int] = {}
    cpus = options.get("num_cpus")
    if cpus is None:
        cpus = 0 if actor else 1
    if cpus:
        held["CPU"] = to_units("CPU", cpus)
    if options.get("num_gpus"):
        held["GPU"] = to_units("GPU", options["num_gpus"])
    if options.get("memory"):
        held["memory"] = to_units("memory", options["memory"])
    for name, amount in (options.get("resources") or {}).items():
        if amount:
            held[name] = to_units(name, amount)
    placement = dict(held)
    if actor and options.get("num_cpus") is None:
        placement["CPU"] = to_units("CPU", 1)
    return held, placement


def placement(options: Mapping[str, Any], actor: bool) -> tuple[dict[str, int], dict[str, int], Any]:
    """Resources that are held, resources for placement, and the strategy as it goes over the wire."""
    held, needed = amounts(options, actor)
    return requirements(options, held, needed, actor)
