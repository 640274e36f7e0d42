"""What the machine of the control plane tells its shell to do."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from hpc.serve.config import DeploymentConfig
from hpc.serve.gang import GangContext
from hpc.serve.messages import DeploymentID, ReplicaID
from hpc.serve.specs import AppFacts, DeploymentSpec, HelperSpec

#: How the names of placement groups of gangs begin.
GANG_PREFIX = "SERVE_GANG::"


def gang_name(deployment: DeploymentID, gang: str) -> str:
    """The name of the placement group of a gang."""
    return f"{GANG_PREFIX}{deployment.app_name}#{deployment.name}#{gang}"


@dataclass(frozen=True, slots=True)
class Start:
    """Make the actor of a replica, and have it begin. full_nodes: have as many of its replicas as they may."""

    replica: ReplicaID
    spec: DeploymentSpec
    app: AppFacts
    rank: int
    world_size: int
    full_nodes: tuple[str, ...] = ()
    gang: GangContext | None = None


@dataclass(frozen=True, slots=True)
class FreeGang:
    """Give back the placement group that the replicas of a gang have shared."""

    name: str


@dataclass(frozen=True, slots=True)
class StartHelper:
    """Make an actor that the replicas of a version share, or find it. env: the runtime environment of the replicas.
    found_s: how long one may take to answer that another controller knew as running."""

    deployment: DeploymentID
    version: str
    helper: HelperSpec
    env: dict[str, Any] | None
    found_s: float | None = None


@dataclass(frozen=True, slots=True)
class KillHelper:
    """End such an actor."""

    deployment: DeploymentID
    version: str
    name: str


@dataclass(frozen=True, slots=True)
class CheckHelper:
    """Ask such an actor whether it takes calls."""

    deployment: DeploymentID
    version: str
    name: str
    timeout_s: float


@dataclass(frozen=True, slots=True)
class Sweep:
    """Take away what another controller may have left: all placement groups of gangs, and all actors that replicas
    share, but these."""

    groups: tuple[str, ...]
    helpers: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Adopt:
    """Find the actor of a replica, and ask it whether it has begun."""

    replica: ReplicaID
    spec: DeploymentSpec
    rank: int
    world_size: int


@dataclass(frozen=True, slots=True)
class Reconfigure:
    """Give a replica its configuration anew."""

    replica: ReplicaID
    config: DeploymentConfig
    rank: int
    world_size: int


@dataclass(frozen=True, slots=True)
class Check:
    """Ask a replica whether it is well, and what its own stats are."""

    replica: ReplicaID
    timeout_s: float


@dataclass(frozen=True, slots=True)
class Drain:
    """Have a replica take nothing any more, and wait until nothing runs there."""

    replica: ReplicaID
    wait_loop_s: float
    timeout_s: float


@dataclass(frozen=True, slots=True)
class Kill:
    """End the actor of a replica. gently: its destructor runs before."""

    replica: ReplicaID
    gently: bool


@dataclass(frozen=True, slots=True)
class Push:
    """The table of a deployment has changed."""

    deployment: DeploymentID


@dataclass(frozen=True, slots=True)
class PushRoutes:
    """The routes have changed."""


@dataclass(frozen=True, slots=True)
class StartProxy:
    """Make the proxy of a node."""

    node: str


@dataclass(frozen=True, slots=True)
class CheckProxy:
    """Ask a proxy whether it is well."""

    node: str
    timeout_s: float


@dataclass(frozen=True, slots=True)
class DrainProxy:
    """Have a proxy close its doors, and wait until its last request has its answer."""

    node: str
    timeout_s: float


@dataclass(frozen=True, slots=True)
class KillProxy:
    """End a proxy."""

    node: str


Command = (
    Start
    | FreeGang
    | StartHelper
    | KillHelper
    | CheckHelper
    | Sweep
    | Adopt
    | Reconfigure
    | Check
    | Drain
    | Kill
    | Push
    | PushRoutes
    | StartProxy
    | CheckProxy
    | DrainProxy
    | KillProxy
)
