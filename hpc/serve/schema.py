"""The status of a service, and its configuration as YAML has it: Ray's names and fields."""

from __future__ import annotations

import dataclasses
import enum
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from hpc.serve.checks import as_config, choice, flag, mapping, number, text
from hpc.serve.config import (
    AutoscalingPolicy,
    ControllerOptions,
    DeploymentConfig,
    EncodingType,
    HTTPOptions,
    LoggingConfig,
    ProxyLocation,
    gRPCOptions,
)
from hpc.serve.door_options import is_unsaid


class ApplicationStatus(str, enum.Enum):
    """How an application stands."""

    NOT_STARTED = "NOT_STARTED"
    DEPLOYING = "DEPLOYING"
    DEPLOY_FAILED = "DEPLOY_FAILED"
    RUNNING = "RUNNING"
    UNHEALTHY = "UNHEALTHY"
    DELETING = "DELETING"


class DeploymentStatus(str, enum.Enum):
    """How a deployment stands."""

    UPDATING = "UPDATING"
    HEALTHY = "HEALTHY"
    UNHEALTHY = "UNHEALTHY"
    DEPLOY_FAILED = "DEPLOY_FAILED"
    UPSCALING = "UPSCALING"
    DOWNSCALING = "DOWNSCALING"


class DeploymentStatusTrigger(str, enum.Enum):
    """What has made a deployment's status."""

    UNSPECIFIED = "UNSPECIFIED"
    CONFIG_UPDATE_STARTED = "CONFIG_UPDATE_STARTED"
    CONFIG_UPDATE_COMPLETED = "CONFIG_UPDATE_COMPLETED"
    UPSCALE_COMPLETED = "UPSCALE_COMPLETED"
    DOWNSCALE_COMPLETED = "DOWNSCALE_COMPLETED"
    AUTOSCALING = "AUTOSCALING"
    REPLICA_STARTUP_FAILED = "REPLICA_STARTUP_FAILED"
    DEPLOYMENT_ACTOR_FAILED = "DEPLOYMENT_ACTOR_FAILED"
    HEALTH_CHECK_FAILED = "HEALTH_CHECK_FAILED"
    INTERNAL_ERROR = "INTERNAL_ERROR"
    DELETING = "DELETING"


class ReplicaState(str, enum.Enum):
    """How a replica stands."""

    STARTING = "STARTING"
    UPDATING = "UPDATING"
    RECOVERING = "RECOVERING"
    RUNNING = "RUNNING"
    STOPPING = "STOPPING"
    STOPPED = "STOPPED"
    PENDING_MIGRATION = "PENDING_MIGRATION"


class ProxyStatus(str, enum.Enum):
    """How a proxy stands."""

    STARTING = "STARTING"
    HEALTHY = "HEALTHY"
    UNHEALTHY = "UNHEALTHY"
    DRAINING = "DRAINING"
    DRAINED = "DRAINED"


class APIType(str, enum.Enum):
    """By what an application was deployed: `serve.run`, or a config file."""

    UNKNOWN = "unknown"
    IMPERATIVE = "imperative"
    DECLARATIVE = "declarative"


@dataclass
class DeploymentStatusOverview:
    """A deployment's status. replica_states: how many replicas are in each state."""

    status: DeploymentStatus
    status_trigger: DeploymentStatusTrigger
    replica_states: dict[ReplicaState, int]
    message: str


@dataclass
class ApplicationStatusOverview:
    """An application's status. last_deployed_time_s: seconds since 1970."""

    status: ApplicationStatus
    message: str
    last_deployed_time_s: float
    deployments: dict[str, DeploymentStatusOverview]


@dataclass(eq=True)
class ServeStatus:
    """The status of the service: proxies by their nodes, applications by their names."""

    proxies: dict[str, ProxyStatus] = field(default_factory=dict)
    applications: dict[str, ApplicationStatusOverview] = field(default_factory=dict)
    target_capacity: float | None = None


# ---------------------------------------------------------------- configuration

HTTPOptionsSchema = HTTPOptions
gRPCOptionsSchema = gRPCOptions


class DeploymentSchema:
    """The options of one deployment in a file: those that are given hold instead of the code's."""

    def __init__(self, *, name: str, **options: Any) -> None:
        unknown = sorted(set(options) - set(DeploymentConfig.__dataclass_fields__))
        if unknown:
            allowed = ", ".join(DeploymentConfig.__dataclass_fields__)
            raise ValueError(f"a deployment has no option {', '.join(unknown)}; it has name, {allowed}")
        from hpc.serve.deployments import UNSET, resolved

        number_given = options.get("num_replicas", UNSET)
        DeploymentConfig(**resolved(number_given, {k: v for k, v in options.items() if k != "num_replicas"}))
        self.name = text("the name of a deployment", name)
        self.options = options

    @classmethod
    def of(cls, where: str, given: Any) -> DeploymentSchema:
        """Read one, and check each option."""
        values = mapping(where, given)
        if not isinstance(values.get("name"), str):
            raise ValueError(f"{where} needs a name")
        try:
            return cls(**values)
        except ValueError as error:
            raise ValueError(f"{where} ({values['name']}): {error}") from None

    def __eq__(self, other: object) -> bool:
        return isinstance(other, DeploymentSchema) and (self.name, self.options) == (other.name, other.options)

    __hash__ = object.__hash__

    def __repr__(self) -> str:
        return f"DeploymentSchema(name={self.name!r}, {', '.join(f'{k}={v!r}' for k, v in self.options.items())})"

    def plain(self) -> dict[str, Any]:
        """As it is written."""
        return {"name": self.name, **{key: as_plain(value) for key, value in self.options.items()}}


@dataclass(kw_only=True)
class ServeApplicationSchema:
    """One application of a file. import_path: "module:application" or "module:builder"; args are the builder's."""

    import_path: str
    name: str = "default"
    route_prefix: str | None = "/"
    runtime_env: dict[str, Any] = field(default_factory=dict)
    deployments: list[DeploymentSchema] = field(default_factory=list)
    autoscaling_policy: dict[str, Any] | None = None
    args: dict[str, Any] = field(default_factory=dict)
    logging_config: LoggingConfig | None = None
    external_scaler_enabled: bool = False

    def __post_init__(self) -> None:
        where = f"application {self.name!r}: "
        text(where + "name", self.name)
        _check_import_path(where, self.import_path)
        from hpc.serve.deployments import check_prefix

        check_prefix(self.route_prefix)
        if self.autoscaling_policy is not None:
            self.autoscaling_policy = as_plain(
                as_config(where + "autoscaling_policy", AutoscalingPolicy, self.autoscaling_policy)
            )
        self.args = mapping(where + "args", self.args or {})
        self.runtime_env = mapping(where + "runtime_env", self.runtime_env or {})
        if not isinstance(self.deployments, list):
            raise ValueError(f"{where}deployments must be a list, not {self.deployments!r}")
        self.deployments = [
            one if isinstance(one, DeploymentSchema) else DeploymentSchema.of(f"{where}deployments[{at}]", one)
            for at, one in enumerate(self.deployments)
        ]
        names = [one.name for one in self.deployments]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise ValueError(f"{where}deployments has {', '.join(twice)} more than once")
        if self.logging_config is not None:
            self.logging_config = as_config(where + "logging_config", LoggingConfig, self.logging_config)
        flag(where + "external_scaler_enabled", self.external_scaler_enabled)

    @property
    def policy(self) -> AutoscalingPolicy | None:
        """The policy of autoscaling for all deployments together."""
        return None if self.autoscaling_policy is None else AutoscalingPolicy(**self.autoscaling_policy)

    def plain(self) -> dict[str, Any]:
        """As it is written."""
        written: dict[str, Any] = as_plain(self)
        return written


def _check_import_path(where: str, path: Any) -> None:
    if not isinstance(path, str) or not ("." in path or ":" in path):
        raise ValueError(f'{where}import_path must be "module:attribute", not {path!r}')
    if path.count(":") > 1 or path[0] in ".:" or path[-1] in ".:":
        raise ValueError(f'{where}import_path must be "module:attribute", not {path!r}')


@dataclass(kw_only=True)
class ServeDeploySchema:
    """A whole configuration: what `hpc serve deploy` reads. Applications of an earlier one that it does not name are
    deleted."""

    applications: list[ServeApplicationSchema]
    proxy_location: ProxyLocation | str = ProxyLocation.EveryNode
    http_options: HTTPOptions | None = None
    grpc_options: gRPCOptions | None = None
    controller_options: ControllerOptions | None = None
    logging_config: LoggingConfig | None = None
    target_capacity: float | None = None

    def __post_init__(self) -> None:
        self.proxy_location = choice("proxy_location", ProxyLocation, self.proxy_location)
        if not isinstance(self.applications, list):
            raise ValueError(f"applications must be a list, not {self.applications!r}")
        self.applications = [
            as_config(f"applications[{at}]", ServeApplicationSchema, one) for at, one in enumerate(self.applications)
        ]
        for name, kind in _SECTIONS.items():
            if getattr(self, name) is not None:
                setattr(self, name, as_config(name, kind, getattr(self, name)))
        if self.target_capacity is not None:
            number("target_capacity", self.target_capacity, 0, 100)
        self._check_unique()

    def _check_unique(self) -> None:
        names: set[str] = set()
        prefixes: set[str] = set()
        for app in self.applications:
            if app.name in names:
                raise ValueError(f'Found multiple configs for application "{app.name}". Please remove all duplicates.')
            names.add(app.name)
            if app.route_prefix is None:
                continue
            if app.route_prefix in prefixes:
                raise ValueError(
                    f'Found duplicate applications for route prefix "{app.route_prefix}". Please ensure each '
                    "application's route_prefix is unique."
                )
            prefixes.add(app.route_prefix)

    def plain(self) -> dict[str, Any]:
        """As it is written."""
        return {key: value for key, value in as_plain(self).items() if value is not None}


_SECTIONS: dict[str, Any] = {
    "http_options": HTTPOptions,
    "grpc_options": gRPCOptions,
    "controller_options": ControllerOptions,
    "logging_config": LoggingConfig,
}


def as_plain(value: Any) -> Any:
    """A value of dicts, lists, texts and numbers, as JSON and YAML have them."""
    if isinstance(value, DeploymentSchema):
        return value.plain()
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        given = {one.name: getattr(value, one.name) for one in dataclasses.fields(value)}
        return {name: as_plain(one) for name, one in given.items() if not is_unsaid(one)}
    if isinstance(value, enum.Enum):
        return value.value
    if isinstance(value, Mapping):
        return {(key.value if isinstance(key, enum.Enum) else key): as_plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [as_plain(item) for item in value]
    if callable(value):
        return f"{value.__module__}:{value.__qualname__}"
    return value


def read_config(given: Any) -> ServeDeploySchema:
    """A configuration out of what YAML or JSON gave. Raises ValueError that names the field."""
    values = mapping("the configuration", given)
    if "applications" not in values:
        raise ValueError('the configuration needs "applications": a list of import paths with their options')
    return as_config("the configuration", ServeDeploySchema, values)


def read_yaml(content: str) -> ServeDeploySchema:
    """A configuration out of YAML. Raises ImportError without pyyaml, ValueError for what is none."""
    try:
        import yaml
    except ImportError:
        raise ImportError("a configuration in YAML needs pyyaml: pip install 'hpc[serve]'") from None
    try:
        given = yaml.safe_load(content)
    except yaml.YAMLError as error:
        raise ValueError(f"the configuration is no YAML: {error}") from None
    return read_config(given)


__all__ = [
    "APIType",
    "ApplicationStatus",
    "ApplicationStatusOverview",
    "DeploymentSchema",
    "DeploymentStatus",
    "DeploymentStatusOverview",
    "DeploymentStatusTrigger",
    "EncodingType",
    "HTTPOptionsSchema",
    "LoggingConfig",
    "ProxyStatus",
    "ReplicaState",
    "ServeApplicationSchema",
    "ServeDeploySchema",
    "ServeStatus",
    "gRPCOptionsSchema",
    "read_config",
    "read_yaml",
]
