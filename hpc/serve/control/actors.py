"""The actors of a service, made, found and ended: what the controller does with replicas and proxies."""

from __future__ import annotations

import asyncio
import json
import pickle
import threading
import time
from typing import Any

import hpc
from hpc import cloudpickle
from hpc.serve.config import DeploymentConfig
from hpc.serve.context import HELPER_ENV
from hpc.serve.control.commands import GANG_PREFIX, Start, StartHelper
from hpc.serve.gang import GangContext
from hpc.serve.messages import HELPER_PREFIX, NAMESPACE, ReplicaFacts, ReplicaID, helper_name
from hpc.util.scheduling_strategies import NodeAffinitySchedulingStrategy, PlacementGroupSchedulingStrategy

#: The label that each node has, with its own id.
NODE_LABEL = "ray.io/node-id"
PROXY_NAME = "SERVE_PROXY_ACTOR"
#: How long the name of an actor that was ended may stay.
GONE_S = 5.0
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
        self._making = threading.Lock()

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
        if command.gang is not None:
            options["scheduling_strategy"] = self._place_in_gang(config, command.gang)
        elif config.placement_group_bundles is not None:
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
        actor = made.options(**options).remote(command.replica, command.spec, command.app, command.gang)
        self._actors[command.replica] = actor
        return actor

    def _place_in_gang(self, config: DeploymentConfig, gang: GangContext) -> PlacementGroupSchedulingStrategy:
        """The place of one member: the first that comes makes the group of all, which has room for all or for none."""
        bundles = config.placement_group_bundles or [_bundle(config.ray_actor_options)]
        with self._making:
            try:
                group = hpc.util.get_placement_group(gang.pg_name)
            except ValueError:
                selectors = config.placement_group_bundle_label_selector
                group = hpc.util.placement_group(
                    bundles * gang.world_size,
                    config.gang_scheduling_config.gang_placement_strategy.value,  # type: ignore[union-attr]
                    name=gang.pg_name,
                    lifetime="detached",
                    bundle_label_selector=None if selectors is None else selectors * gang.world_size,
                )
        return PlacementGroupSchedulingStrategy(
            group,
            placement_group_bundle_index=gang.rank * len(bundles),
            placement_group_capture_child_tasks=config.placement_group_bundles is not None,
        )

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


def _bundle(options: dict[str, Any]) -> dict[str, float]:
    """What a replica needs, as a bundle of a placement group."""
    found = {"CPU": options.get("num_cpus") or 0, "GPU": options.get("num_gpus") or 0}
    found |= {"memory": options.get("memory") or 0, **(options.get("resources") or {})}
    return {name: amount for name, amount in found.items() if amount} or {"CPU": 0.001}


def remove_group(replica: ReplicaID) -> None:
    """Give a replica's placement group back, if it has one."""
    free_group(group_name(replica))


def free_group(name: str) -> None:
    """Give a placement group back, if there is one of this name."""
    try:
        group = hpc.util.get_placement_group(name)
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


def names_there() -> set[str]:
    """The names of all actors of the service."""
    rows = hpc.util.list_named_actors(all_namespaces=True)
    return {row["name"] for row in rows if row["namespace"] == NAMESPACE}


def end_all() -> None:
    """End all replicas and proxies that are there, whichever controller has made them, and what they share."""
    for name in names_there():
        if name.startswith(PROXY_NAME) or ReplicaID.is_full_id_str(name):
            try:
                hpc.kill(find(name))
            except GoneError:
                pass
    names, groups = shared_there()
    for name in names:
        end_helper(name)
    for name in groups:
        free_group(name)


def shared_there() -> tuple[list[str], list[str]]:
    """The names of all actors that replicas share, and of all placement groups of gangs."""
    rows = hpc.util.placement_group_table().values()
    groups = [row["name"] for row in rows if row["name"].startswith(GANG_PREFIX) and row["state"] != "REMOVED"]
    return sorted(name for name in names_there() if name.startswith(HELPER_PREFIX)), groups


async def make_helper(command: StartHelper) -> Any:
    """Make an actor that replicas share, or find it. Its class may need the environment of the replicas, so that a task
    that has it makes the actor."""
    name = helper_name(command.deployment, command.version, command.helper.name)
    made = hpc.remote(_make_helper).options(num_cpus=0, max_retries=0, runtime_env=command.env or None)
    ident = command.deployment
    about = (ident.name, ident.app_name, command.helper.name, command.version)
    return await made.remote(name, command.helper.target, command.env or {}, about)


async def helper_ready(actor: Any) -> None:
    """Wait until it is there. Raises what its constructor raises."""
    await actor.__getattr__("__ray_ready__").remote()


def _make_helper(name: str, target: bytes, env: dict[str, Any], about: tuple[str, str, str, str]) -> Any:
    cls, args, kwargs, given = cloudpickle.loads(target)
    options = dict(given)
    own = options.pop("runtime_env", None) or {}
    variables = {**(env.get("env_vars") or {}), **(own.get("env_vars") or {}), HELPER_ENV: json.dumps(about)}
    return cls.options(
        **options,
        name=name,
        namespace=NAMESPACE,
        lifetime="detached",
        max_restarts=0,
        get_if_exists=True,
        runtime_env={**env, **own, "env_vars": variables},
    ).remote(*args, **kwargs)


def end_helper(name: str) -> None:
    """End an actor that replicas share, and wait until its name is free."""
    try:
        hpc.kill(find(name))
        until = time.monotonic() + GONE_S
        while time.monotonic() < until:
            find(name)
            time.sleep(0.02)
    except GoneError:
        pass


def find_proxy(node: str) -> Any:
    """The proxy of a node. Raises GoneError if there is none."""
    return find(f"{PROXY_NAME}-{node}")
