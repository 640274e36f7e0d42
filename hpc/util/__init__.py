"""Helpers on top of the API: pools, queues, iteration over results, serialization, metrics. Twin of ``ray.util``.

Names are imported when first used: ``import hpc`` and the processes of a node read none of this. Those of placement
groups are imported at once: `hpc.util.placement_group` is the function, although there is a module of that name to
import from.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from hpc.util.placement_group import (
    get_current_placement_group,
    get_placement_group,
    placement_group,
    placement_group_table,
    remove_placement_group,
)

if TYPE_CHECKING:
    from hpc.api.actors import list_named_actors
    from hpc.util import (
        accelerators,
        actor_pool,
        client,
        collective,
        debug,
        joblib,
        metrics,
        multiprocessing,
        queue,
        scheduling_strategies,
        state,
        tpu,
    )
    from hpc.util.actor_pool import ActorPool
    from hpc.util.check_serialize import inspect_serializability
    from hpc.util.client import connect, disconnect
    from hpc.util.debug import disable_log_once_globally, enable_periodic_logging, log_once
    from hpc.util.helpers import as_completed, map_unordered
    from hpc.util.node import get_node_instance_id, get_node_ip_address
    from hpc.util.serialization import deregister_serializer, register_serializer

_HOME = {
    "ActorPool": "hpc.util.actor_pool",
    "as_completed": "hpc.util.helpers",
    "connect": "hpc.util.client",
    "deregister_serializer": "hpc.util.serialization",
    "disable_log_once_globally": "hpc.util.debug",
    "disconnect": "hpc.util.client",
    "enable_periodic_logging": "hpc.util.debug",
    "get_node_instance_id": "hpc.util.node",
    "get_node_ip_address": "hpc.util.node",
    "inspect_serializability": "hpc.util.check_serialize",
    "list_named_actors": "hpc.api.actors",
    "log_once": "hpc.util.debug",
    "map_unordered": "hpc.util.helpers",
    "register_serializer": "hpc.util.serialization",
}
_MODULES = (
    "accelerators", "actor_pool", "client", "collective", "debug", "joblib", "metrics", "multiprocessing", "queue",
    "scheduling_strategies", "state", "tpu",
)  # fmt: skip


def __getattr__(name: str) -> Any:
    home = _HOME.get(name)
    if home is not None:
        value = getattr(importlib.import_module(home), name)
    elif name in _MODULES:
        value = importlib.import_module(f"hpc.util.{name}")
    else:
        raise AttributeError(f"module 'hpc.util' has no attribute {name!r}")
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


__all__ = [
    "ActorPool",
    "accelerators",
    "actor_pool",
    "as_completed",
    "client",
    "collective",
    "connect",
    "debug",
    "deregister_serializer",
    "disable_log_once_globally",
    "disconnect",
    "enable_periodic_logging",
    "get_current_placement_group",
    "get_node_instance_id",
    "get_node_ip_address",
    "get_placement_group",
    "inspect_serializability",
    "joblib",
    "list_named_actors",
    "log_once",
    "map_unordered",
    "metrics",
    "multiprocessing",
    "placement_group",
    "placement_group_table",
    "queue",
    "register_serializer",
    "remove_placement_group",
    "scheduling_strategies",
    "state",
    "tpu",
]
