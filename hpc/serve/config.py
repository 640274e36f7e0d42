"""What a service is told: options of deployments, autoscaling, routers, doors. Ray's names, defaults and limits.

A value out of its limits raises ValueError, also where Ray's class would raise its subclass of it. A field that does
not exist raises TypeError, where Ray ignores it.
"""

from __future__ import annotations

import enum
from collections.abc import Callable
from dataclasses import dataclass, field, fields, replace
from typing import Any

from hpc.serve.checks import as_config, choice, flag, jsonable, mapping, number, text, whole
from hpc.serve.door_options import HTTPOptions as HTTPOptions
from hpc.serve.door_options import ProxyLocation as ProxyLocation
from hpc.serve.door_options import gRPCOptions as gRPCOptions
from hpc.serve.messages import DeploymentID

#: A deployment that says ``num_replicas="auto"`` scales between these, as under Ray.
AUTO_MAX_REPLICAS = 100
AUTO_TARGET_ONGOING = 2.0
MAX_REPLICAS_PER_NODE = 100
DEFAULT_MAX_ONGOING = 5
DEFAULT_POLICY = "hpc.serve.autoscaling_policy:default_autoscaling_policy"
#: The name that Ray's programs give for the router of two choices.
DEFAULT_ROUTER = "hpc.serve.request_router:PowerOfTwoChoicesRequestRouter"
#: What `ray_actor_options` may have.
ACTOR_OPTIONS = frozenset(
    (
        "accelerator_type",
        "fallback_strategy",
        "label_selector",
        "memory",
        "num_cpus",
        "num_gpus",
        "resources",
        "runtime_env",
    )
)
LEVELS = {50: "CRITICAL", 40: "ERROR", 30: "WARNING", 20: "INFO", 10: "DEBUG", 0: "NOTSET"}
LEVEL_NAMES = ("CRITICAL", "FATAL", "ERROR", "WARN", "WARNING", "INFO", "DEBUG", "NOTSET")
STRATEGIES = ("PACK", "SPREAD", "STRICT_PACK", "STRICT_SPREAD")


class EncodingType(str, enum.Enum):
    """How lines of the log are written."""

    TEXT = "TEXT"
    JSON = "JSON"


class AggregationFunction(str, enum.Enum):
    """How values of the look-back period become one."""

    MEAN = "mean"
    MAX = "max"
    MIN = "min"


class GangPlacementStrategy(str, enum.Enum):
    """Where the replicas of a gang are: on few nodes, or on many."""

    PACK = "PACK"
    SPREAD = "SPREAD"


class GangRuntimeFailurePolicy(str, enum.Enum):
    """What happens when a replica of a gang fails: all of the gang begin again, or that one alone."""

    RESTART_GANG = "RESTART_GANG"
    RESTART_REPLICA = "RESTART_REPLICA"


@dataclass(kw_only=True)
class LoggingConfig:
    """How replicas and proxies log.

    encoding: TEXT or JSON. log_level: a name or number of `logging`. logs_dir: a folder instead of the session's.
    enable_access_log: a line for each request. additional_log_standard_attrs: further attributes of the log's records.
    """

    encoding: EncodingType | str = EncodingType.TEXT
    log_level: int | str = "INFO"
    logs_dir: str | None = None
    enable_access_log: bool = True
    additional_log_standard_attrs: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.encoding = choice("LoggingConfig.encoding", EncodingType, self.encoding).value
        level = LEVELS.get(self.log_level, "") if isinstance(self.log_level, int) else self.log_level
        if level not in LEVEL_NAMES:
            raise ValueError(f"LoggingConfig.log_level must be one of {', '.join(LEVEL_NAMES)}, not {self.log_level!r}")
        self.log_level = level
        flag("LoggingConfig.enable_access_log", self.enable_access_log)
        self.additional_log_standard_attrs = sorted(set(self.additional_log_standard_attrs))


@dataclass(kw_only=True)
class AutoscalingPolicy:
    """The function that says how many replicas there shall be, or its import path, and further arguments of it."""

    policy_function: str | Callable[..., Any] = DEFAULT_POLICY
    policy_kwargs: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not callable(self.policy_function) and not isinstance(self.policy_function, str):
            raise ValueError(
                f"AutoscalingPolicy.policy_function must be a function or its import path, not {self.policy_function!r}"
            )
        mapping("AutoscalingPolicy.policy_kwargs", self.policy_kwargs)

    @property
    def is_default(self) -> bool:
        """Whether it is the one of Serve."""
        return isinstance(self.policy_function, str) and self.policy_function.endswith(":default_autoscaling_policy")


@dataclass(kw_only=True)
class AutoscalingConfig:
    """How the number of replicas follows the load.

    min_replicas, max_replicas, initial_replicas: bounds, and where it begins. target_ongoing_requests: of one replica,
    those that wait included. look_back_period_s, aggregation_function: which time is looked at, and how its values
    become one. upscaling_factor, downscaling_factor: the share of the way to go at a time. upscale_delay_s,
    downscale_delay_s, downscale_to_zero_delay_s (None: as downscale_delay_s): how long a decision must hold.
    metrics_interval_s: how often callers tell. policy: an `AutoscalingPolicy` instead of the one by requests. The
    smoothing factors are Ray's older names.
    """

    min_replicas: int = 1
    initial_replicas: int | None = None
    max_replicas: int = 1
    target_ongoing_requests: float | None = 2
    metrics_interval_s: float = 10.0
    look_back_period_s: float = 30.0
    smoothing_factor: float = 1.0
    upscale_smoothing_factor: float | None = None
    downscale_smoothing_factor: float | None = None
    upscaling_factor: float | None = None
    downscaling_factor: float | None = None
    downscale_delay_s: float = 600.0
    downscale_to_zero_delay_s: float | None = None
    upscale_delay_s: float = 30.0
    aggregation_function: str | AggregationFunction = AggregationFunction.MEAN
    policy: AutoscalingPolicy = field(default_factory=AutoscalingPolicy)

    def __post_init__(self) -> None:
        name = "AutoscalingConfig."
        self.min_replicas = whole(name + "min_replicas", self.min_replicas, 0)
        self.max_replicas = whole(name + "max_replicas", self.max_replicas, 1)
        if self.max_replicas < self.min_replicas:
            raise ValueError(
                f"max_replicas ({self.max_replicas}) must be greater than or equal to min_replicas "
                f"({self.min_replicas})!"
            )
        if self.initial_replicas is not None:
            self.initial_replicas = whole(name + "initial_replicas", self.initial_replicas, 0)
            self._check_initial(self.initial_replicas)
        if self.target_ongoing_requests is not None:
            number(name + "target_ongoing_requests", self.target_ongoing_requests, above=True)
        for key in ("metrics_interval_s", "look_back_period_s", "smoothing_factor"):
            number(name + key, getattr(self, key), above=True)
        for key in ("upscale_smoothing_factor", "downscale_smoothing_factor", "upscaling_factor", "downscaling_factor"):
            if getattr(self, key) is not None:
                number(name + key, getattr(self, key), above=True)
        for key in ("downscale_delay_s", "upscale_delay_s"):
            number(name + key, getattr(self, key))
        if self.downscale_to_zero_delay_s is not None:
            number(name + "downscale_to_zero_delay_s", self.downscale_to_zero_delay_s)
        self.aggregation_function = choice(
            name + "aggregation_function", AggregationFunction, self.aggregation_function
        )
        self.policy = as_config(name + "policy", AutoscalingPolicy, self.policy)

    def _check_initial(self, initial: int) -> None:
        if initial < self.min_replicas:
            raise ValueError(
                f"min_replicas ({self.min_replicas}) must be less than or equal to initial_replicas ({initial})!"
            )
        if initial > self.max_replicas:
            raise ValueError(
                f"max_replicas ({self.max_replicas}) must be greater than or equal to initial_replicas ({initial})!"
            )

    @property
    def up(self) -> float:
        """The share of the way up that is gone at a time."""
        return self.upscaling_factor or self.upscale_smoothing_factor or self.smoothing_factor

    @property
    def down(self) -> float:
        """The share of the way down that is gone at a time."""
        return self.downscaling_factor or self.downscale_smoothing_factor or self.smoothing_factor

    @property
    def target(self) -> float:
        """Requests of one replica."""
        return AUTO_TARGET_ONGOING if self.target_ongoing_requests is None else float(self.target_ongoing_requests)

    @property
    def first(self) -> int:
        """How many there are before anything is known of the load."""
        return self.min_replicas if self.initial_replicas is None else self.initial_replicas


@dataclass
class AutoscalingContext:
    """What a policy knows. Requests are those of all callers, over the look-back period. aggregated_metrics,
    raw_metrics: what `record_autoscaling_stats` of the replicas gave, by the name of the metric and the replica.
    policy_state: what the policy returned last. Times are seconds since 1970."""

    deployment_id: DeploymentID
    deployment_name: str
    app_name: str
    current_num_replicas: int
    target_num_replicas: int
    running_replicas: list[str]
    total_num_requests: float
    total_queued_requests: float
    total_running_requests: float
    aggregated_metrics: dict[str, dict[str, float]]
    raw_metrics: dict[str, dict[str, list[float]]]
    capacity_adjusted_min_replicas: int
    capacity_adjusted_max_replicas: int
    policy_state: dict[str, Any]
    last_scale_up_time: float | None
    last_scale_down_time: float | None
    current_time: float
    config: AutoscalingConfig
    total_pending_async_requests: int = 0
    policy_kwargs: dict[str, Any] = field(default_factory=dict)


@dataclass(kw_only=True)
class RequestRouterConfig:
    """How the replica of a request is chosen: the class of the router, or its import path, and its arguments.

    request_routing_stats_period_s, _timeout_s: how often replicas are asked for their own stats, and how long that may
    take. initial_backoff_s, backoff_multiplier, max_backoff_s: the waits between attempts while all replicas are full.
    """

    request_router_class: str | Callable[..., Any] = DEFAULT_ROUTER
    request_router_kwargs: dict[str, Any] = field(default_factory=dict)
    request_routing_stats_period_s: float = 10
    request_routing_stats_timeout_s: float = 30
    initial_backoff_s: float = 0.025
    backoff_multiplier: float = 2
    max_backoff_s: float = 0.5

    def __post_init__(self) -> None:
        if not callable(self.request_router_class) and not isinstance(self.request_router_class, str):
            raise ValueError(
                "RequestRouterConfig.request_router_class must be a class or its import path, not "
                f"{self.request_router_class!r}"
            )
        mapping("RequestRouterConfig.request_router_kwargs", self.request_router_kwargs)
        for key in fields(self)[2:]:
            number(f"RequestRouterConfig.{key.name}", getattr(self, key.name), above=True)

    @property
    def is_default(self) -> bool:
        """Whether it is the router of two choices."""
        return isinstance(self.request_router_class, str) and self.request_router_class.endswith(
            "PowerOfTwoChoicesRequestRouter"
        )


@dataclass(kw_only=True)
class BackpressureConfig:
    """What a client is told whose request finds the queue full: 503 or 429, and when to come again (Retry-After)."""

    status_code: int = 503
    retry_after_s: float | None = None

    def __post_init__(self) -> None:
        if self.status_code not in (503, 429):
            raise ValueError(f"BackpressureConfig.status_code must be 503 or 429, not {self.status_code!r}")
        if self.retry_after_s is not None:
            number("BackpressureConfig.retry_after_s", self.retry_after_s)


@dataclass(kw_only=True)
class GangSchedulingConfig:
    """Replicas that begin and end together, gang_size of them at a time."""

    gang_size: int
    gang_placement_strategy: GangPlacementStrategy = GangPlacementStrategy.PACK
    runtime_failure_policy: GangRuntimeFailurePolicy = GangRuntimeFailurePolicy.RESTART_GANG

    def __post_init__(self) -> None:
        name = "GangSchedulingConfig."
        self.gang_size = whole(name + "gang_size", self.gang_size, 1)
        self.gang_placement_strategy = choice(
            name + "gang_placement_strategy", GangPlacementStrategy, self.gang_placement_strategy
        )
        self.runtime_failure_policy = choice(
            name + "runtime_failure_policy", GangRuntimeFailurePolicy, self.runtime_failure_policy
        )
        if self.runtime_failure_policy is GangRuntimeFailurePolicy.RESTART_REPLICA:
            raise NotImplementedError(
                "RESTART_REPLICA is not supported, as under Ray: the other replicas of a gang would wait for one that "
                "has begun anew. RESTART_GANG begins all of them anew"
            )


@dataclass(kw_only=True)
class DeploymentActorConfig:
    """An actor that all replicas of a deployment share: `serve.get_deployment_actor` finds it by its name.

    actor_class: a class with `hpc.remote`, or its import path. init_args, init_kwargs: of its constructor.
    actor_options: its own; the environment of the deployment is its, too."""

    name: str
    actor_class: Any
    init_args: tuple[Any, ...] = ()
    init_kwargs: dict[str, Any] = field(default_factory=dict)
    actor_options: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not text("DeploymentActorConfig.name", self.name):
            raise ValueError("DeploymentActorConfig.name must not be empty")
        self.init_args = tuple(self.init_args or ())
        mapping("DeploymentActorConfig.init_kwargs", self.init_kwargs)
        mapping("DeploymentActorConfig.actor_options", self.actor_options)
        own = sorted({"name", "namespace", "lifetime", "max_restarts", "get_if_exists"} & set(self.actor_options))
        if own:
            raise ValueError(
                f"DeploymentActorConfig.actor_options of {self.name!r} must not have {', '.join(own)}: the service "
                "names the actor, finds it, ends it with the deployment's last replica, and makes another one"
            )
        if not isinstance(self.actor_class, str) and not hasattr(self.actor_class, "options"):
            raise ValueError(
                "DeploymentActorConfig.actor_class must be a class with @hpc.remote, or its import path, not "
                f"{self.actor_class!r}"
            )


@dataclass(kw_only=True)
class ControllerOptions:
    """How the controller's own process is made."""

    runtime_env: dict[str, Any] | None = None


@dataclass(kw_only=True)
class DeploymentConfig:
    """All options of a deployment; `hpc.serve.deployments` explains them. Of the two, num_replicas holds unless
    autoscaling_config is given."""

    num_replicas: int = 1
    max_ongoing_requests: int = DEFAULT_MAX_ONGOING
    max_queued_requests: int = -1
    backpressure_config: BackpressureConfig | None = None
    user_config: Any = None
    autoscaling_config: AutoscalingConfig | None = None
    graceful_shutdown_wait_loop_s: float = 2.0
    graceful_shutdown_timeout_s: float = 20.0
    health_check_period_s: float = 10.0
    health_check_timeout_s: float = 30.0
    logging_config: LoggingConfig | None = None
    request_router_config: RequestRouterConfig = field(default_factory=RequestRouterConfig)
    max_constructor_retry_count: int = 20
    gang_scheduling_config: GangSchedulingConfig | None = None
    deployment_actors: list[DeploymentActorConfig] | None = None
    rolling_update_percentage: float = 0.2
    max_surge_percent: int = 0
    ray_actor_options: dict[str, Any] = field(default_factory=dict)
    placement_group_bundles: list[dict[str, float]] | None = None
    placement_group_strategy: str | None = None
    placement_group_bundle_label_selector: list[dict[str, str]] | None = None
    max_replicas_per_node: int | None = None
    retry: str = ""

    def __post_init__(self) -> None:
        self.num_replicas = whole("num_replicas", self.num_replicas, 0)
        self._check_limits()
        self._check_parts()
        self._check_actor()
        self._check_group()

    def _check_limits(self) -> None:
        if self.max_ongoing_requests is None:
            raise ValueError("`max_ongoing_requests` must be non-null, got None.")
        self.max_ongoing_requests = whole("max_ongoing_requests", self.max_ongoing_requests, 1)
        self.max_queued_requests = whole("max_queued_requests", self.max_queued_requests, -1)
        if self.max_queued_requests == 0:
            raise ValueError("max_queued_requests must be -1 (no limit) or a positive integer.")
        number("graceful_shutdown_wait_loop_s", self.graceful_shutdown_wait_loop_s)
        number("graceful_shutdown_timeout_s", self.graceful_shutdown_timeout_s)
        number("health_check_period_s", self.health_check_period_s, above=True)
        number("health_check_timeout_s", self.health_check_timeout_s, above=True)
        self.max_constructor_retry_count = whole("max_constructor_retry_count", self.max_constructor_retry_count, 1)
        number("rolling_update_percentage", self.rolling_update_percentage, 0, 1, above=True)
        self.max_surge_percent = whole("max_surge_percent", self.max_surge_percent, 0, 100)
        jsonable("user_config", self.user_config)
        if self.retry not in ("", "always"):
            raise ValueError(f'retry must be "" or "always", not {self.retry!r}')

    def _check_parts(self) -> None:
        for name, kind in _PARTS.items():
            value = getattr(self, name)
            if value is not None:
                setattr(self, name, as_config(name, kind, value))
        self.request_router_config = self.request_router_config or RequestRouterConfig()
        if self.deployment_actors is not None:
            self.deployment_actors = [
                as_config(f"deployment_actors[{at}]", DeploymentActorConfig, one)
                for at, one in enumerate(self.deployment_actors)
            ]
            names = [one.name for one in self.deployment_actors]
            twice = sorted({name for name in names if names.count(name) > 1})
            if twice:
                raise ValueError(f"deployment_actors must have unique names. Duplicate name(s): {twice}")
        if self.gang_scheduling_config is not None:
            self._check_gang(self.gang_scheduling_config.gang_size)

    def _check_gang(self, size: int) -> None:
        scaling = self.autoscaling_config
        for name in ("max_replicas_per_node", "placement_group_strategy"):
            if getattr(self, name) is not None:
                raise ValueError(f"Setting {name} is not allowed when gang_scheduling_config is provided.")
        if scaling is None:
            counts = {"num_replicas": self.num_replicas}
        else:
            counts = {
                f"autoscaling_config.{name}": getattr(scaling, name) or 0
                for name in ("min_replicas", "max_replicas", "initial_replicas")
            }
        for name, count in counts.items():
            if count % size and not (count == 1 and name == "autoscaling_config.min_replicas"):
                raise ValueError(f"{name} ({count}) must be a multiple of gang_size ({size}).")

    def _check_actor(self) -> None:
        if self.ray_actor_options is None:
            self.ray_actor_options = {}
        if not isinstance(self.ray_actor_options, dict):
            kind = type(self.ray_actor_options)
            raise TypeError(f'Got invalid type "{kind}" for ray_actor_options. Expected a dictionary.')
        for name in self.ray_actor_options:
            if name not in ACTOR_OPTIONS:
                raise ValueError(
                    f"Specifying '{name}' in ray_actor_options is not allowed. Allowed options: {sorted(ACTOR_OPTIONS)}"
                )
        self.ray_actor_options = dict(self.ray_actor_options)
        if self.ray_actor_options.get("num_cpus") is None:
            self.ray_actor_options["num_cpus"] = 1
        most = self.max_replicas_per_node
        if most is not None and (not isinstance(most, int) or not 1 <= most <= MAX_REPLICAS_PER_NODE):
            raise ValueError(
                f"Invalid max_replicas_per_node {most}. Valid values are None or an integer in the range of "
                f"[1, {MAX_REPLICAS_PER_NODE}]."
            )

    def _check_group(self) -> None:
        bundles, strategy = self.placement_group_bundles, self.placement_group_strategy
        if bundles is None:
            for name in ("placement_group_strategy", "placement_group_bundle_label_selector"):
                if getattr(self, name) is not None:
                    raise ValueError(f"If `{name}` is provided, `placement_group_bundles` must also be provided.")
            return
        if not isinstance(bundles, list) or not bundles:
            raise ValueError(
                "placement_group_bundles must be a list of at least one dict of resources, such as [{'CPU': 1.0}], not "
                f"{bundles!r}"
            )
        if strategy is not None and strategy not in STRATEGIES:
            raise ValueError(f"placement_group_strategy must be one of {', '.join(STRATEGIES)}, not {strategy!r}")
        if self.max_replicas_per_node is not None:
            raise ValueError("Setting max_replicas_per_node is not allowed when placement_group_bundles is provided.")
        for option, resource in (("num_cpus", "CPU"), ("num_gpus", "GPU")):
            need, there = self.ray_actor_options.get(option) or 0, bundles[0].get(resource, 0)
            if need > there:
                raise ValueError(
                    f"the replica is in the first of placement_group_bundles, which has {there} `{resource}`: "
                    f"`{option}` of ray_actor_options, {need}, must not be more"
                )

    @property
    def first_replicas(self) -> int:
        """How many replicas there are before anything is known of the load."""
        count = self.num_replicas if self.autoscaling_config is None else self.autoscaling_config.first
        return -(-count // self.gang_size) * self.gang_size

    @property
    def gang_size(self) -> int:
        """How many replicas begin and end together."""
        return 1 if self.gang_scheduling_config is None else self.gang_scheduling_config.gang_size

    def changed(self, **options: Any) -> DeploymentConfig:
        """A copy with other options, checked again."""
        return replace(self, **options)


_PARTS: dict[str, Any] = {
    "backpressure_config": BackpressureConfig,
    "autoscaling_config": AutoscalingConfig,
    "logging_config": LoggingConfig,
    "request_router_config": RequestRouterConfig,
    "gang_scheduling_config": GangSchedulingConfig,
}

#: Options of which a change makes new replicas. A change of the others reaches those that run.
RESTARTING = (
    "ray_actor_options",
    "placement_group_bundles",
    "placement_group_strategy",
    "placement_group_bundle_label_selector",
    "max_replicas_per_node",
    "gang_scheduling_config",
    "deployment_actors",
)


def auto_config(given: Any) -> AutoscalingConfig:
    """The autoscaling of ``num_replicas="auto"``, with what the user has given."""
    if isinstance(given, AutoscalingConfig):
        return given
    own = mapping("autoscaling_config", given or {})
    return as_config("autoscaling_config", AutoscalingConfig, {"max_replicas": AUTO_MAX_REPLICAS, **own})
