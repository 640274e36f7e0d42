"""What users call to deploy: `deployment`, `run`, `delete`, `status` and what belongs to them. Ray Serve's names."""

from __future__ import annotations

import importlib.util
import logging
import threading
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, overload

import msgspec

import hpc
from hpc import spi
from hpc.exceptions import ActorError
from hpc.serve.calls import routers
from hpc.serve.canary import Split
from hpc.serve.checks import as_config, choice
from hpc.serve.config import ControllerOptions, HTTPOptions, LoggingConfig, ProxyLocation, gRPCOptions
from hpc.serve.context import replica_context
from hpc.serve.deployments import UNSET, Application, Deployment, build, check_names, made
from hpc.serve.exceptions import RayServeException
from hpc.serve.handle import DeploymentHandle
from hpc.serve.messages import CONTROLLER_NAME, DEFAULT_APP, DOORS_KEY, NAMESPACE, DeploymentID
from hpc.serve.policies import imported
from hpc.serve.schema import ServeStatus

if TYPE_CHECKING:
    from hpc.serve.control.controller import ServiceOptions

log = logging.getLogger("hpc.serve")
#: Modules of the extra ``serve``, without which there is no HTTP.
HTTP_MODULES = ("httptools", "starlette", "wsproto")
_NO_SERVICE = "There is no Serve instance running on this Ray cluster."


@overload
def deployment(_func_or_class: Callable[..., Any], /) -> Deployment: ...
@overload
def deployment(**options: Any) -> Callable[[Callable[..., Any]], Deployment]: ...
def deployment(
    _func_or_class: Callable[..., Any] | None = None,
    name: str = UNSET,
    version: str = UNSET,
    num_replicas: int | str | None = UNSET,
    **options: Any,
) -> Any:
    """A decorator: the class or function becomes a deployment with these options.

    num_replicas: a number, or "auto": between 1 and 100, by the requests. ray_actor_options: what each replica needs.
    placement_group_bundles, _strategy, _bundle_label_selector: of a group for each replica, which is in the first
    bundle. max_replicas_per_node: on one node. user_config: what `reconfigure` of each replica gets; a change of it
    restarts nothing. max_ongoing_requests: of one replica at a time. max_queued_requests: that wait at each caller.
    backpressure_config: what those beyond it are told. autoscaling_config: how many replicas follow the requests.
    graceful_shutdown_wait_loop_s, _timeout_s: for requests that run when a replica is to end. health_check_period_s,
    _timeout_s: of `check_health`. logging_config, request_router_config. max_constructor_retry_count: attempts.
    rolling_update_percentage, max_surge_percent: how many replicas are replaced at a time, and how many there may be
    more meanwhile. retry: "always" sends accepted requests again when their replica dies.
    """
    check_names("deployment", options)

    def decorate(func_or_class: Callable[..., Any]) -> Deployment:
        return made(func_or_class, name, version, num_replicas, options)

    return decorate(_func_or_class) if callable(_func_or_class) else decorate


@dataclass(frozen=True)
class RunTarget:
    """One application of `run_many`."""

    target: Application
    name: str = DEFAULT_APP
    route_prefix: str | None = "/"
    logging_config: LoggingConfig | dict[str, Any] | None = None
    external_scaler_enabled: bool = False


# ---------------------------------------------------------------- the service


def start(
    proxy_location: ProxyLocation | str | None = None,
    http_options: HTTPOptions | dict[str, Any] | None = None,
    grpc_options: gRPCOptions | dict[str, Any] | None = None,
    logging_config: LoggingConfig | dict[str, Any] | None = None,
    tracing_config: Any = None,
    controller_options: ControllerOptions | dict[str, Any] | None = None,
) -> None:
    """Begin the service of this session, with these options. One that runs keeps those that it has.

    `run` does it where nobody has. proxy_location: "EveryNode" that has replicas, "HeadOnly", or "Disabled"."""
    if tracing_config is not None:
        raise NotImplementedError("tracing_config is not supported: the export of spans is the session's")
    options = _service_options(proxy_location, http_options, grpc_options, logging_config)
    controller = _begin(options, controller_options)
    there = hpc.get(controller.ready.remote())
    given = {
        "http_options": http_options,
        "grpc_options": grpc_options,
        "proxy_location": proxy_location,
        "logging_config": logging_config,
    }
    differs = [
        name
        for name, value in given.items()
        if value is not None and getattr(there, _FIELDS[name]) != getattr(options, _FIELDS[name])
    ]
    if differs:
        warnings.warn(
            f"the service runs already, with other {', '.join(differs)}; serve.shutdown() ends it, and they hold then",
            stacklevel=2,
        )


_FIELDS = {
    "http_options": "http",
    "grpc_options": "grpc",
    "proxy_location": "location",
    "logging_config": "logging",
}


def _service_options(proxy_location: Any, http_options: Any, grpc_options: Any, logging_config: Any) -> ServiceOptions:
    from hpc.serve.control.controller import ServiceOptions

    http = HTTPOptions() if http_options is None else as_config("http_options", HTTPOptions, http_options)
    location = http.location if proxy_location is None else choice("proxy_location", ProxyLocation, proxy_location)
    location = ProxyLocation.EveryNode if location is None else ProxyLocation(location)
    if location is not ProxyLocation.Disabled:
        missing = [name for name in HTTP_MODULES if importlib.util.find_spec(name) is None]
        if missing and (http_options is not None or proxy_location is not None):
            raise ImportError(f"HTTP needs {', '.join(missing)}: pip install 'hpc[serve]'")
        if missing:
            warnings.warn(
                f"there is no HTTP without {', '.join(missing)} (pip install 'hpc[serve]'): handles work", stacklevel=3
            )
            location = ProxyLocation.Disabled
    grpc = None if grpc_options is None else as_config("grpc_options", gRPCOptions, grpc_options)
    if grpc is not None and grpc.grpc_servicer_functions:
        _check_grpc(grpc)
    logs = None if logging_config is None else as_config("logging_config", LoggingConfig, logging_config)
    return ServiceOptions(http, grpc, logs, location)


def _check_grpc(options: gRPCOptions) -> None:
    """Raises ImportError where a package or a function is missing, ValueError for what is no function."""
    needed = ["grpc", "google", *(["grpc_reflection"] if options.enable_reflection else [])]
    missing = [name for name in needed if importlib.util.find_spec(name) is None]
    if missing:
        raise ImportError(f"gRPC needs {', '.join(missing)}: pip install 'hpc[grpc]'")
    for path in options.grpc_servicer_functions:
        if not callable(imported(path)):
            raise ValueError(f"gRPCOptions.grpc_servicer_functions: {path} is no function that adds a servicer")


def _begin(options: ServiceOptions, controller_options: Any = None) -> Any:
    """The controller: the one that is there, or a new one."""
    from hpc.serve.control.controller import Controller

    if not hpc.is_initialized():
        hpc.init()
    own = as_config("controller_options", ControllerOptions, controller_options or {})
    return (
        hpc.remote(Controller)
        .options(
            name=CONTROLLER_NAME,
            namespace=NAMESPACE,
            lifetime="detached",
            max_restarts=-1,
            max_task_retries=-1,
            max_concurrency=15_000,
            num_cpus=0,
            get_if_exists=True,
            **({} if own.runtime_env is None else {"runtime_env": own.runtime_env}),
        )
        .remote(options)
    )


def _controller() -> Any:
    """The controller. Raises RayServeException where no service runs."""
    if not hpc.is_initialized():
        raise RayServeException(_NO_SERVICE)
    try:
        return hpc.get_actor(CONTROLLER_NAME, namespace=NAMESPACE)
    except ValueError:
        raise RayServeException(_NO_SERVICE) from None


def shutdown() -> None:
    """End all applications and the service. Requests that run have their deployments' time to end."""
    try:
        controller = _controller()
    except RayServeException:
        return
    over = controller.until_end.remote()
    try:
        hpc.get(controller.shutdown.remote())
        hpc.get(over)
    except ActorError:
        pass


async def shutdown_async() -> None:
    """The same, for coroutines."""
    try:
        controller = _controller()
    except RayServeException:
        return
    over = controller.until_end.remote()
    try:
        await controller.shutdown.remote()
        await over
    except ActorError:
        pass


# ---------------------------------------------------------------- applications


def run(
    target: Application,
    blocking: bool = False,
    name: str = DEFAULT_APP,
    route_prefix: str | None = "/",
    logging_config: LoggingConfig | dict[str, Any] | None = None,
    _local_testing_mode: bool = False,
    external_scaler_enabled: bool = False,
    controller_options: ControllerOptions | dict[str, Any] | None = None,
) -> DeploymentHandle[Any]:
    """Deploy an application, and wait until it runs. One of the same name becomes this one, step by step.

    blocking: wait until Ctrl-C. route_prefix: below which it gets requests of HTTP; None: none. logging_config: of
    deployments without their own. external_scaler_enabled: somebody else says how many replicas there are.

    Returns the handle of the deployment that gets the requests. Raises RuntimeError where it does not begin."""
    one = RunTarget(target, name, route_prefix, logging_config, external_scaler_enabled)
    (handle,) = run_many(
        [one], blocking, _local_testing_mode=_local_testing_mode, controller_options=controller_options
    )
    return handle


def run_many(
    targets: Sequence[RunTarget],
    blocking: bool = False,
    wait_for_ingress_deployment_creation: bool = True,
    wait_for_applications_running: bool = True,
    _local_testing_mode: bool = False,
    controller_options: ControllerOptions | dict[str, Any] | None = None,
) -> list[DeploymentHandle[Any]]:
    """Deploy several applications together, and wait until they run: see `run`. Returns their handles."""
    if not targets:
        raise ValueError("No applications provided.")
    if _local_testing_mode:
        from hpc.serve.calls.local import run_locally

        return [run_locally(one.target, one.name) for one in targets]
    specs = [
        build(
            one.target,
            one.name,
            one.route_prefix,
            None if one.logging_config is None else as_config("logging_config", LoggingConfig, one.logging_config),
            one.external_scaler_enabled,
        )
        for one in targets
    ]
    controller = _begin(_service_options(None, None, None, None), controller_options)
    for spec in specs:
        routers.forget_local(spec.name)
    hpc.get(controller.deploy.remote(specs))
    if wait_for_applications_running:
        for spec in specs:
            _wait_running(controller, spec.name)
        hpc.get(controller.wait_proxies.remote())
    handles: list[DeploymentHandle[Any]] = [DeploymentHandle(spec.ingress, spec.name) for spec in specs]
    if blocking:
        _block([spec.name for spec in specs])
    return handles


def _wait_running(controller: Any, name: str) -> None:
    status, why = hpc.get(controller.wait_for.remote(name))
    if status == "RUNNING":
        log.info("Application '%s' is ready.", name)
        return
    raise RuntimeError(f"Deploying application {name} failed: {why}")


def _block(names: list[str]) -> None:
    """Wait until somebody presses Ctrl-C, then end the service."""
    try:
        threading.Event().wait()
    except KeyboardInterrupt:
        log.info("The service ends, with %s.", ", ".join(names))
        shutdown()


def delete(name: str, _blocking: bool = True) -> None:
    """Delete an application, and wait until it is gone. Requests that run have their deployments' time to end."""
    try:
        controller = _controller()
    except RayServeException:
        return
    hpc.get(controller.delete.remote([name]))
    if _blocking:
        hpc.get(controller.wait_gone.remote([name]))


def status() -> ServeStatus:
    """How the service's applications and proxies stand; empty where no service runs."""
    try:
        controller = _controller()
    except RayServeException:
        return ServeStatus()
    found: ServeStatus = hpc.get(controller.status.remote())
    return found


def get_app_handle(name: str) -> DeploymentHandle[Any]:
    """The handle of an application. Raises RayServeException if there is none of this name."""
    spec = hpc.get(_controller().app.remote(name))
    if spec is None:
        raise RayServeException(f"Application '{name}' does not exist.")
    return DeploymentHandle(spec.ingress, name)


def get_deployment_handle(
    deployment_name: str,
    app_name: str | None = None,
    _check_exists: bool = True,
    _record_telemetry: bool = True,
) -> DeploymentHandle[Any]:
    """The handle of a deployment, of the replica's own application where none is named.

    Raises KeyError if it does not exist, RayServeException where an application has to be named."""
    if app_name is None:
        own = replica_context()
        if own is None:
            raise RayServeException(
                "Please specify an application name when getting a deployment handle outside of a Serve application."
            )
        app_name = own.app_name
    elif _check_exists:
        spec = hpc.get(_controller().app.remote(app_name))
        if spec is None or deployment_name not in {one.name for one in spec.deployments}:
            raise KeyError(f"{DeploymentID(deployment_name, app_name)} does not exist.")
    return DeploymentHandle(deployment_name, app_name)


def doors() -> dict[str, list[str]]:
    """Where the proxies of the nodes listen."""
    kept = spi.kv_get(NAMESPACE, DOORS_KEY)
    return {} if kept is None else msgspec.msgpack.decode(kept, type=dict[str, list[str]])


# ---------------------------------------------------------------- canaries


def split(
    app: str,
    weights: dict[str, float] | None,
    *,
    shadow: str = "",
    sticky: str = "",
    baseline: str = "",
    max_error_rate: float | None = None,
    max_p99_s: float | None = None,
    min_requests: int | None = None,
    window_s: float | None = None,
) -> None:
    """Divide the requests of an application's route between applications; ``weights`` None: not any more.

    shadow: an application that gets a copy of each request; nobody sees its answers. sticky: "header:NAME",
    "cookie:NAME" or "session": requests with the same value go to the same application. max_error_rate, max_p99_s: an
    application other than ``baseline`` (the one with the largest weight) that is worse loses its weight to that. It is
    judged by the last window_s seconds (60), once these have min_requests (20) of its requests.

    Raises ValueError for applications that are not there, and what cannot be. Ray has no such name."""
    if weights is None:
        hpc.get(_controller().split.remote(app, None))
        return
    given: dict[str, Any] = {"min_requests": min_requests, "window_s": window_s}
    rule = Split(
        weights=weights,
        shadow=shadow,
        sticky=sticky,
        baseline=baseline,
        max_error_rate=max_error_rate,
        max_p99_s=max_p99_s,
        **{name: value for name, value in given.items() if value is not None},
    )
    hpc.get(_controller().split.remote(app, rule))


def splits() -> dict[str, Split]:
    """How the requests of each route that is split are divided; ``rolled_back`` says why a canary has lost its weight.
    Ray has no such name."""
    found: dict[str, Split] = hpc.get(_controller().splits.remote())
    return found


def promote(app: str, to: str) -> None:
    """Give the route of an application to another one, and end its split. The first has none any more: delete it when
    its last requests are answered. Ray has no such name."""
    hpc.get(_controller().promote.remote(app, to))
