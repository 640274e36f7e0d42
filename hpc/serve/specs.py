"""Applications and deployments as the controller has them: what a bound graph has become."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from hpc.serve.config import AutoscalingPolicy, DeploymentConfig, LoggingConfig


@dataclass(frozen=True)
class HelperSpec:
    """An actor that the replicas of a deployment share. target: its class, arguments, keyword arguments and options, by
    cloudpickle: the controller does not need the user's modules."""

    name: str
    target: bytes


@dataclass
class DeploymentSpec:
    """A deployment as the controller has it. callable: the class or function by cloudpickle. init_args: its arguments,
    (args, kwargs), by cloudpickle, with handles where applications were. code_version: replicas of another one are old.
    uses: the deployments of the same application that it has handles of. router: the RequestRouterConfig by
    cloudpickle; empty for two choices. helpers: the actors of deployment_actors."""

    name: str
    callable: bytes
    init_args: bytes
    config: DeploymentConfig
    code_version: str
    is_asgi: bool = False
    is_class: bool = True
    uses: list[str] = field(default_factory=list)
    router: bytes = b""
    helpers: list[HelperSpec] = field(default_factory=list)


@dataclass
class AppSpec:
    """An application as the controller has it. ingress: the name of the deployment that gets its requests. route_prefix
    None: it has none over HTTP. source: "imperative" or "declarative", which a config file is. autoscaling_policy: of
    all of its deployments together."""

    name: str
    route_prefix: str | None
    ingress: str
    deployments: list[DeploymentSpec]
    logging_config: LoggingConfig | None = None
    external_scaler_enabled: bool = False
    source: Literal["imperative", "declarative"] = "imperative"
    autoscaling_policy: AutoscalingPolicy | None = None


@dataclass(frozen=True)
class AppFacts:
    """What a replica knows of its application."""

    name: str
    route_prefix: str | None
    ingress: str
    logging_config: LoggingConfig | None = None
