"""Request routers of users: what a class derives from that chooses replicas itself, by Ray Serve's interface.

``RequestRouterConfig(request_router_class=..., request_router_kwargs=...)`` names it. Its `choose_replicas` gets the
replicas and the request and returns lists of replicas, the best list first. In each the one with the fewest requests
that has room gets the request; where none has, it is asked again after a while.
"""

from __future__ import annotations

import random
import time
from dataclasses import dataclass, field
from typing import Any

from hpc.serve.messages import DeploymentID, ReplicaID, RequestMeta

#: How long a request waits for a replica that has its model: this, to twice as long.
MODEL_WAIT_S = 1.0


class RunningReplica:
    """A replica, as a router of requests sees it."""

    def __init__(self, deployment_id: DeploymentID, seat: Any) -> None:
        self.replica_id = ReplicaID(seat.id, deployment_id)
        self._seat = seat

    @property
    def actor_id(self) -> Any:
        """The id of its actor."""
        return self._actor._actor_id

    @property
    def _actor(self) -> Any:
        import pickle

        return pickle.loads(self._seat.row.actor)

    @property
    def node_id(self) -> str:
        """The node that it is on."""
        return str(self._seat.row.node)

    @property
    def availability_zone(self) -> str | None:
        """The zone of that node, where nodes have one."""
        return self._seat.row.zone or None

    @property
    def multiplexed_model_ids(self) -> set[str]:
        """The models that it has or is loading."""
        return set(self._seat.models)

    @property
    def routing_stats(self) -> dict[str, Any]:
        """What its `record_routing_stats` has returned last."""
        return dict(self._seat.row.routing_stats)

    @property
    def max_ongoing_requests(self) -> int:
        """How many requests it takes at a time."""
        return int(self._seat.limit)

    @property
    def queue_length(self) -> int:
        """How many requests of this caller it has."""
        return int(self._seat.running)

    def has_room(self) -> bool:
        """Whether it may get a request now."""
        return bool(self._seat.has_room(time.monotonic()))

    def __repr__(self) -> str:
        return f"RunningReplica({self.replica_id})"


@dataclass
class RequestRoutingContext:
    """What was tried for a request already."""

    multiplexed_start_matching_time: float | None = None
    tried_fewest_multiplexed_models: bool = False
    tried_first_multiplexed_models: bool = False
    tried_same_node: bool = False
    tried_same_az: bool = False
    should_backoff: bool = False


@dataclass
class PendingRequest:
    """A request that waits for a replica: its arguments, and what is known of it (``multiplexed_model_id``,
    ``session_id``, ``request_id`` and more in ``metadata``)."""

    args: list[Any]
    kwargs: dict[str, Any]
    metadata: RequestMeta
    created_at: float = field(default_factory=time.time)
    routing_context: RequestRoutingContext = field(default_factory=RequestRoutingContext)


class RequestRouter:
    """The base of routers. A class of it has at least `choose_replicas`."""

    def __init__(self, deployment_id: DeploymentID, *args: Any, self_node_id: str | None = None, **kwargs: Any) -> None:
        self._deployment_id = deployment_id
        self._node_id = self_node_id
        self._replica_id_set: set[ReplicaID] = set()
        self._replicas: dict[ReplicaID, RunningReplica] = {}
        self._replicas_list: list[RunningReplica] = []

    def initialize_state(self, **kwargs: Any) -> None:
        """Called once with ``request_router_kwargs``."""

    @property
    def curr_replicas(self) -> dict[ReplicaID, RunningReplica]:
        """The replicas that there are."""
        return self._replicas

    def update_replicas(self, replicas: list[RunningReplica]) -> None:
        """The replicas that there are from now on."""
        self._replicas = {one.replica_id: one for one in replicas}
        self._replica_id_set = set(self._replicas)
        self._replicas_list = list(replicas)

    async def choose_replicas(
        self, candidate_replicas: list[RunningReplica], pending_request: PendingRequest | None = None
    ) -> list[list[RunningReplica]]:
        """The replicas for a request, in lists: the first list that has one with room is taken."""
        raise NotImplementedError(f"{type(self).__name__} has no choose_replicas")

    def on_request_routed(self, pending_request: PendingRequest, replica_id: ReplicaID, result: Any) -> None:
        """Called once a replica has been given a request."""

    def on_request_completed(self, replica_id: ReplicaID, internal_request_id: str) -> None:
        """Called once a request has its answer."""

    def on_replica_actor_died(self, replica_id: ReplicaID) -> None:
        """Called for a replica that is there no more."""


class FIFOMixin:
    """The request that has waited longest gets the replica that was chosen for another one."""


class LocalityMixin:
    """Knows which replicas are near."""

    _replicas: dict[ReplicaID, RunningReplica]
    _replica_id_set: set[ReplicaID]
    _node_id: str | None

    def _near(self) -> set[ReplicaID]:
        return {ident for ident, one in self._replicas.items() if self._node_id and one.node_id == self._node_id}

    def apply_locality_routing(self, pending_request: PendingRequest | None = None) -> set[ReplicaID]:
        """The replicas of the same node the first time, then all."""
        near = self._near()
        if pending_request is None or not near or pending_request.routing_context.tried_same_node:
            if pending_request is not None:
                pending_request.routing_context.should_backoff = True
            return self._replica_id_set
        pending_request.routing_context.tried_same_node = True
        return near

    def rank_replicas_via_locality(self, replicas: list[RunningReplica]) -> list[list[RunningReplica]]:
        """Three lists: of the same node, of the same zone, and all others."""
        near = self._near()
        zones = {one.availability_zone for ident, one in self._replicas.items() if ident in near} - {None}
        ranked: list[list[RunningReplica]] = [[], [], []]
        for one in replicas:
            ranked[0 if one.replica_id in near else 1 if one.availability_zone in zones else 2].append(one)
        return ranked


class MultiplexMixin:
    """Knows which replicas have a model."""

    _replicas: dict[ReplicaID, RunningReplica]
    _replica_id_set: set[ReplicaID]

    def _having(self, model_id: str) -> set[ReplicaID]:
        return {ident for ident, one in self._replicas.items() if model_id in one.multiplexed_model_ids}

    def _with_fewest(self) -> set[ReplicaID]:
        counts = {ident: len(one.multiplexed_model_ids) for ident, one in self._replicas.items()}
        fewest = min(counts.values(), default=0)
        return {ident for ident, count in counts.items() if count == fewest}

    def apply_multiplex_routing(self, pending_request: PendingRequest | None = None) -> set[ReplicaID]:
        """The replicas that have the model; for a while no others. Then the ones with the fewest models, then all."""
        if pending_request is None:
            return self._replica_id_set
        context = pending_request.routing_context
        context.should_backoff = True
        now = time.time()
        if context.multiplexed_start_matching_time is None:
            context.multiplexed_start_matching_time = now
        having = self._having(pending_request.metadata.multiplexed_model_id)
        waited_s = now - context.multiplexed_start_matching_time
        if having and waited_s < random.uniform(MODEL_WAIT_S, 2 * MODEL_WAIT_S):
            return having
        if not context.tried_fewest_multiplexed_models:
            context.tried_fewest_multiplexed_models = True
            return self._with_fewest()
        return self._replica_id_set

    def rank_replicas_via_multiplex(
        self, replicas: list[RunningReplica], multiplexed_model_id: str
    ) -> list[list[RunningReplica]]:
        """Three lists: those that have the model, those with the fewest models, and all others."""
        having, fewest = self._having(multiplexed_model_id), self._with_fewest()
        ranked: list[list[RunningReplica]] = [[], [], []]
        for one in replicas:
            ranked[0 if one.replica_id in having else 1 if one.replica_id in fewest else 2].append(one)
        return ranked


class PowerOfTwoChoicesRequestRouter(FIFOMixin, LocalityMixin, MultiplexMixin, RequestRouter):
    """Two replicas drawn at random, of which the one with fewer requests is taken. What deployments have without a
    router of their own does the same without this class; it is here to derive from."""

    async def choose_replicas(
        self, candidate_replicas: list[RunningReplica], pending_request: PendingRequest | None = None
    ) -> list[list[RunningReplica]]:
        """Two of those that have the model, or are near."""
        if pending_request is not None and pending_request.metadata.multiplexed_model_id:
            idents = self.apply_multiplex_routing(pending_request)
        else:
            idents = self.apply_locality_routing(pending_request)
        found = [self._replicas[ident] for ident in idents]
        return [random.sample(found, min(2, len(found)))] if found else []
