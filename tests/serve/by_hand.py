"""Deployments without a controller: replicas that a test has made itself, and the table that routers read."""

from __future__ import annotations

import itertools
import os
import pickle
import signal
from typing import Any

import hpc
from hpc import cloudpickle, spi
from hpc.serve.calls.replica import CONTROL, Replica
from hpc.serve.config import DeploymentConfig
from hpc.serve.deployments import AppFacts, DeploymentSpec
from hpc.serve.handle import DeploymentHandle
from hpc.serve.messages import (
    NAMESPACE,
    BackpressureRow,
    DeploymentID,
    DeploymentTable,
    ReplicaID,
    ReplicaRow,
    deployment_key,
    encoded,
)


class ByHand:
    """A deployment of a test."""

    numbers = itertools.count()

    def __init__(
        self, target: Any, *args: Any, replicas: int = 1, name: str = "", app: str = "app", **options: Any
    ) -> None:
        self.id = DeploymentID(name or target.__name__, app)
        self.router = options.pop("router", b"")
        self.config = DeploymentConfig(**options)
        self.spec = DeploymentSpec(
            self.id.name, cloudpickle.dumps(target), cloudpickle.dumps((args, {})), self.config, "v1",
            is_class=isinstance(target, type),
        )  # fmt: skip
        self.version = 0
        self.actors: dict[str, Any] = {}
        self.pids: dict[str, int] = {}
        for _ in range(replicas):
            self.add()
        self.push()
        self.handle: DeploymentHandle[Any] = DeploymentHandle(self.id.name, app)

    def add(self) -> str:
        """One replica more, which no table has yet."""
        ident = f"r{next(self.numbers)}"
        actor = hpc.remote(num_cpus=0, max_concurrency=1_000_000, concurrency_groups={CONTROL: 100})(Replica).remote(
            ReplicaID(ident, self.id), self.spec, AppFacts(self.id.app_name, None, self.id.name)
        )
        facts = hpc.get(actor.begin.remote(self.config.user_config, len(self.actors), 1))
        self.actors[ident] = actor
        self.pids[ident] = facts.pid
        return ident

    def push(self, **changes: Any) -> None:
        """Tell routers of the replicas that there are."""
        self.version += 1
        rows = [ReplicaRow(ident, pickle.dumps(actor)) for ident, actor in self.actors.items()]
        fields = {
            "replicas": rows,
            "max_ongoing_requests": self.config.max_ongoing_requests,
            "max_queued_requests": self.config.max_queued_requests,
            "router": self.router,
            "retry": self.config.retry,
            "backpressure": BackpressureRow(429, 3.0),
            **changes,
        }
        table = DeploymentTable(self.version, self.id.app_name, self.id.name, **fields)
        spi.kv_put(NAMESPACE, deployment_key(self.id.app_name, self.id.name), encoded(table))

    def signal(self, ident: str, number: signal.Signals) -> None:
        """Send a signal to the process of a replica."""
        os.kill(self.pids[ident], number)
