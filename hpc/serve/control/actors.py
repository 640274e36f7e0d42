"""The actors of a service, made, found and ended: what the controller does with replicas and proxies."""

from __future__ import annotations

import asyncio
import pickle
from typing import Any

import hpc
from hpc.serve.control.commands import Start
from hpc.serve.messages import NAMESPACE, ReplicaFacts, ReplicaID
from hpc.util.scheduling_strategies import NodeAffinitySchedulingStrategy, PlacementGroupSchedulingStrategy

#: The label that each node has, with its own id.
NODE_LABEL = "ray.io/node-id"
PROXY_NAME = "SERVE_PROXY_ACTOR"
#: Replicas and proxies count their requests themselves.
MAX_CONCURRENCY = 1_000_000


class GoneError(Exception):
    """An actor is not there any more."""


def find(name: str) -> Any:
    """The actor of a name. Raises GoneError if there is none."""
    try:
        return hpc.get_actor(name, namespace=NAMESPACE)
    except ValueError:
        raise GoneError(f"there is no actor {name}") from None


class Replicas:
    """The actors of replicas, by the replicas' ids, and the placement groups that some of them have."""

    def __init__(self) -> None:
        self._actors: dict[ReplicaID, Any] = {}

    def make(self, command: Start) -> Any:
        """Make the actor of a replica. It is found by its name, should the controller end now."""
        from hpc.serve.calls.replica import CONTROL, Replica

        config = command.spec.config
        options: dict[str, Any] = {
            **_actor_options(config.ray_actor_options, command.full_nodes),
            "name": command.replica.to_full_id_str(),
            "namespace": NAMESPACE,
            "lifetime": "detached",
            "max_restarts": 0,
        }
        if config.placement_group_bundles is not None:
            group = hpc.util.placement_group(
                config.placement_group_bundles,
                config.placement_group_strategy or "PACK",
                name=group_name(command.replica),
                lifetime="detached",
                bundle_label_selector=config.placement_group_bundle_label_selector,
            )
            options["scheduling_strategy"] = PlacementGroupSchedulingStrategy(
                group, placement_group_bundle_index=0, placement_group_capture_child_tasks=True
            )
        made = hpc.remote(max_concurrency=MAX_CONCURRENCY, concurrency_groups={CONTROL: 100})(Replica)
        actor = made.options(**options).remote(command.replica, command.spec, command.app)
        self._actors[command.replica] = actor
        return actor

    def get(self, replica: ReplicaID) -> Any:
        """The actor of a replica. Raises GoneError if there is none."""
        actor = self._actors.get(replica)
        if actor is None:
            actor = self._actors[replica] = find(replica.to_full_id_str())
        return actor

    def forget(self, replica: ReplicaID) -> None:
        """A replica has ended: its actor is killed if it is there, and its placement group is given back."""
        actor = self._actors.pop(replica, None)
        try:
            hpc.kill(actor if actor is not None else find(replica.to_full_id_str()))
        except GoneError:
            pass
        remove_group(replica)

    def pickled(self, replica: ReplicaID) -> bytes:
        """The handle of a replica's actor, for callers."""
        return pickle.dumps(self._actors[replica])


def group_name(replica: ReplicaID) -> str:
    """The name of a replica's placement group."""
    return f"SERVE_GROUP::{replica.to_full_id_str()}"


def remove_group(replica: ReplicaID) -> None:
    """Give a replica's placement group back, if it has one."""
    try:
        group = hpc.util.get_placement_group(group_name(replica))
    except ValueError:
        return
    hpc.util.remove_placement_group(group)


def _actor_options(given: dict[str, Any], full_nodes: tuple[str, ...]) -> dict[str, Any]:
    options = {name: value for name, value in given.items() if value is not None}
    if full_nodes:
        selector = dict(options.get("label_selector") or {})
        selector[NODE_LABEL] = f"!in({','.join(full_nodes)})"
        options["label_selector"] = selector
    return options


async def begin(actor: Any, user_config: Any, rank: int, world_size: int) -> ReplicaFacts:
    """Have a replica begin; one that has begun says the same again."""
    facts: ReplicaFacts = await actor.begin.remote(user_config, rank, world_size)
    return facts


async def within(timeout_s: float, call: Any) -> Any:
    """What a call returns. Raises TimeoutError."""
    return await asyncio.wait_for(_awaited(call), timeout_s)


async def _awaited(ref: Any) -> Any:
    return await ref


def make_proxy(node: str, http_options: Any, grpc_options: Any) -> Any:
    """The proxy of a node: the one that is there, or a new one."""
    from hpc.serve.http.proxy import Proxy

    return (
        hpc.remote(Proxy)
        .options(
            name=f"{PROXY_NAME}-{node}",
            namespace=NAMESPACE,
            lifetime="detached",
            max_restarts=-1,
            max_concurrency=MAX_CONCURRENCY,
            num_cpus=0,
            get_if_exists=True,
            scheduling_strategy=NodeAffinitySchedulingStrategy(node_id=node, soft=False),
        )
        .remote(node, http_options, grpc_options)
    )


def end_all() -> None:
    """End all replicas and proxies that are there, whichever controller has made them."""
    for row in hpc.util.list_named_actors(all_namespaces=True):
        name = row["name"]
        if row["namespace"] == NAMESPACE and (name.startswith(PROXY_NAME) or ReplicaID.is_full_id_str(name)):
            try:
                hpc.kill(find(name))
            except GoneError:
                pass


def find_proxy(node: str) -> Any:
    """The proxy of a node. Raises GoneError if there is none."""
    return find(f"{PROXY_NAME}-{node}")
