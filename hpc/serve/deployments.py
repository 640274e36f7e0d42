"""Deployments and applications: what a decorated class becomes, and the specs that the controller gets of a graph.

An application is pickled once. Applications among its arguments, at any depth of containers and objects, become
deployments of their own, and handles in the replica.
"""

from __future__ import annotations

import hashlib
import inspect
import io
import os
import re
import sys
import sysconfig
from collections.abc import Callable
from typing import Any, TypeVar

from hpc import cloudpickle
from hpc.serve.config import (
    RESTARTING,
    AutoscalingPolicy,
    DeploymentActorConfig,
    DeploymentConfig,
    LoggingConfig,
    RequestRouterConfig,
    auto_config,
)
from hpc.serve.policies import imported
from hpc.serve.specs import AppFacts, AppSpec, DeploymentSpec, HelperSpec

#: What pickling a class by value gives it in each process anew.
_RANDOM = re.compile(r"[0-9a-f]{32}")
_PLAIN = (str, bytes, int, float, bool, type(None))


class _Unset:
    def __repr__(self) -> str:
        return "<unset>"

    def __reduce__(self) -> str:
        return "UNSET"


#: Stands for an option that was not given, where None has a meaning.
UNSET: Any = _Unset()


class CircularApplicationError(ValueError):
    """An application is among its own arguments."""


class Application:
    """A deployment with the arguments of its constructor: what `serve.run` takes. Made by `Deployment.bind`."""

    def __init__(self, bound_deployment: Deployment) -> None:
        self._bound_deployment = bound_deployment


class Deployment:
    """A class or function with the options of its replicas. `bind` makes an application of it, `options` a copy."""

    def __init__(
        self,
        name: str,
        config: DeploymentConfig,
        func_or_class: Callable[..., Any],
        init_args: tuple[Any, ...] = (),
        init_kwargs: dict[str, Any] | None = None,
        is_auto: bool = False,
    ) -> None:
        if not isinstance(name, str):
            raise TypeError("name must be a string.")
        if "#" in name:
            raise ValueError(f"Deployment names must not contain the '#' character. Current name: {name}.")
        if not callable(func_or_class):
            raise TypeError(f"@serve.deployment decorates a class or a function, not {type(func_or_class).__name__}")
        self._name, self._config, self._func_or_class = name, config, func_or_class
        self._init_args, self._init_kwargs, self._is_auto = init_args, init_kwargs or {}, is_auto
        self.__doc__ = getattr(func_or_class, "__doc__", None)

    @property
    def name(self) -> str:
        """The name, unique in its application."""
        return self._name

    @property
    def func_or_class(self) -> Callable[..., Any]:
        """What was decorated."""
        return self._func_or_class

    @property
    def num_replicas(self) -> int:
        """How many replicas there are without autoscaling."""
        return self._config.num_replicas

    @property
    def user_config(self) -> Any:
        """What `reconfigure` of each replica gets."""
        return self._config.user_config

    @property
    def max_ongoing_requests(self) -> int:
        """How many requests a replica has at a time."""
        return self._config.max_ongoing_requests

    @property
    def max_queued_requests(self) -> int:
        """How many requests wait at each caller; -1: any number."""
        return self._config.max_queued_requests

    @property
    def backpressure_config(self) -> Any:
        """What a client is told whose request finds the queue full."""
        return self._config.backpressure_config

    @property
    def ray_actor_options(self) -> dict[str, Any]:
        """What each replica needs."""
        return self._config.ray_actor_options

    @property
    def init_args(self) -> tuple[Any, ...]:
        """What `bind` got."""
        return self._init_args

    @property
    def init_kwargs(self) -> dict[str, Any]:
        """What `bind` got by name."""
        return self._init_kwargs

    @property
    def logging_config(self) -> LoggingConfig | None:
        """How its replicas log."""
        return self._config.logging_config

    def set_logging_config(self, logging_config: LoggingConfig | dict[str, Any]) -> None:
        """Set how its replicas log."""
        self._config = self._config.changed(logging_config=logging_config)

    def bind(self, *args: Any, **kwargs: Any) -> Application:
        """An application: these are the arguments of the constructor. Applications among them become handles."""
        return Application(self._copy(init_args=args, init_kwargs=kwargs))

    def options(
        self,
        func_or_class: Callable[..., Any] | None = None,
        name: str = UNSET,
        version: str = UNSET,
        num_replicas: int | str | None = UNSET,
        **options: Any,
    ) -> Deployment:
        """A copy with other options: those of `serve.deployment`."""
        check_version(version)
        check_names("Deployment.options", options)
        changes = resolved(num_replicas, options, self._config)
        is_auto = self._is_auto if num_replicas is UNSET else num_replicas == "auto"
        return self._copy(
            name=self._name if name is UNSET else name,
            config=self._config.changed(**changes) if changes else self._config,
            func_or_class=func_or_class or self._func_or_class,
            is_auto=is_auto,
        )

    def _copy(self, **changes: Any) -> Deployment:
        now = {
            "name": self._name,
            "config": self._config,
            "func_or_class": self._func_or_class,
            "init_args": self._init_args,
            "init_kwargs": self._init_kwargs,
            "is_auto": self._is_auto,
        }
        return Deployment(**{**now, **changes})

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        raise RuntimeError(
            f"Deployments cannot be constructed directly: use serve.run({self._name}.bind(...)), or "
            f"{self._name}.func_or_class for the class itself"
        )

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Deployment) and self._facts() == other._facts()

    def _facts(self) -> tuple[Any, ...]:
        return self._name, self._config, self._init_args, self._init_kwargs, self._func_or_class

    __hash__ = object.__hash__

    def __str__(self) -> str:
        return f"Deployment(name={self._name})"

    __repr__ = __str__


OPTIONS = frozenset(DeploymentConfig.__dataclass_fields__)


def check_names(where: str, options: dict[str, Any]) -> None:
    """TypeError for a keyword that is no option."""
    for name in options:
        if name not in OPTIONS:
            raise TypeError(f"{where}() got an unexpected keyword argument '{name}'")


def check_version(version: Any) -> None:
    """ValueError for a version, which users gave to Ray's deployments once."""
    if version is not UNSET:
        raise ValueError(
            "`version` in `@serve.deployment` has been removed. Serve manages deployment versions internally."
        )


def resolved(num_replicas: Any, options: dict[str, Any], before: DeploymentConfig | None = None) -> dict[str, Any]:
    """The fields of a config that options set. Raises ValueError for a number together with autoscaling."""
    changes = {name: value for name, value in options.items() if value is not UNSET}
    scaling = changes.get("autoscaling_config")
    if num_replicas == "auto":
        changes["autoscaling_config"] = auto_config(scaling)
    elif num_replicas is not UNSET and num_replicas is not None:
        if num_replicas == 0 and not isinstance(num_replicas, bool):
            raise ValueError("num_replicas is expected to larger than 0")
        if scaling is not None:
            raise ValueError("Manually setting num_replicas is not allowed when autoscaling_config is provided.")
        changes["num_replicas"] = num_replicas
        if before is not None and "autoscaling_config" not in changes:
            changes["autoscaling_config"] = None
    return changes


def made(
    func_or_class: Callable[..., Any],
    name: Any,
    version: Any,
    num_replicas: Any,
    options: dict[str, Any],
) -> Deployment:
    """The deployment that the decorator makes."""
    check_version(version)
    config = DeploymentConfig(**resolved(num_replicas, options))
    own = func_or_class.__name__ if name is UNSET else name
    return Deployment(own, config, func_or_class, is_auto=num_replicas == "auto")


# ---------------------------------------------------------------- what the controller gets


def check_prefix(prefix: str | None) -> None:
    """ValueError for a prefix of routes that cannot be one."""
    if prefix is None:
        return
    if not isinstance(prefix, str) or not prefix.startswith("/"):
        raise ValueError(f"Invalid route_prefix '{prefix}'. Must start with a forward slash ('/').")
    if prefix != "/" and prefix.endswith("/"):
        raise ValueError(f"Invalid route_prefix '{prefix}'. Must not end with a '/' unless it is '/' itself.")
    if "{" in prefix or "}" in prefix:
        raise ValueError(f"Invalid route_prefix '{prefix}'. May not contain wildcards.")


def build(
    target: Application,
    name: str,
    route_prefix: str | None = "/",
    logging_config: LoggingConfig | None = None,
    external_scaler_enabled: bool = False,
    seed: str = "",
    options: dict[str, dict[str, Any]] | None = None,
    policy: AutoscalingPolicy | None = None,
) -> AppSpec:
    """The spec of an application. ``seed`` is part of each version of code: another one makes new replicas.
    ``options``: of deployments, which hold instead of the code's. ``policy``: of autoscaling, for all of them.

    Raises TypeError unless the target is an Application, and for arguments that cannot be pickled; ValueError for
    options of a deployment that is not there."""
    if not isinstance(target, Application):
        raise TypeError(
            f"`serve.run` expects an Application, which Deployment.bind() returns, not {type(target).__name__}"
        )
    if not isinstance(name, str) or not name:
        raise ValueError("the name of an application must be a str that is not empty")
    if "#" in name:
        raise ValueError(f"the name of an application must not contain '#', as {name!r} does")
    check_prefix(route_prefix)
    graph = _Graph(name, logging_config, seed or digest_of_modules(), options or {})
    ingress = graph.add(target)
    unknown = sorted(set(options or {}) - graph.taken)
    if unknown:
        raise ValueError(
            f"application {name!r} has no deployment {', '.join(unknown)}: it has {', '.join(sorted(graph.taken))}"
        )
    return AppSpec(
        name, route_prefix, ingress, graph.specs, logging_config, external_scaler_enabled, autoscaling_policy=policy
    )


class _Graph:
    """The deployments of one application, those that others use first."""

    def __init__(
        self, app: str, logging_config: LoggingConfig | None, seed: str, options: dict[str, dict[str, Any]]
    ) -> None:
        self.app, self.logging_config, self.seed, self.options = app, logging_config, seed, options
        self.specs: list[DeploymentSpec] = []
        self.taken: set[str] = set()
        self._names: dict[int, str] = {}
        self._open: set[int] = set()

    def add(self, target: Application) -> str:
        """The name of this application's deployment."""
        key = id(target)
        if key in self._names:
            return self._names[key]
        if key in self._open:
            raise CircularApplicationError(
                f"the application of {target._bound_deployment.name!r} is among its own arguments"
            )
        self._open.add(key)
        deployment = target._bound_deployment
        pickler = _ArgsPickler(self)
        init_args = pickler.dumps((deployment._init_args, deployment._init_kwargs), deployment.name)
        name, number = deployment.name, 0
        while name in self.taken:
            number += 1
            name = f"{deployment.name}_{number}"
        self.taken.add(name)
        self._names[key] = name
        self.specs.append(self._spec(name, deployment, init_args, pickler.uses))
        return name

    def _spec(self, name: str, deployment: Deployment, init_args: bytes, uses: list[str]) -> DeploymentSpec:
        target, config = deployment._func_or_class, deployment._config
        given = dict(self.options.get(name, {}))
        if given:
            number = given.pop("num_replicas", UNSET)
            config = config.changed(**resolved(number, given, config))
        if config.logging_config is None and self.logging_config is not None:
            config = config.changed(logging_config=self.logging_config)
        code = _pickled(target, f"the deployment {name!r}")
        targets = {one.name: _helper(one) for one in config.deployment_actors or ()}
        helpers = [HelperSpec(one, _pickled(each, f"the deployment actor {one!r}")) for one, each in targets.items()]
        if helpers:
            config = config.changed(deployment_actors=[_named(one) for one in config.deployment_actors or ()])
        digest = _Digest(self).of((target, deployment._init_args, deployment._init_kwargs, targets))
        version = code_version(digest, config, self.seed)
        is_asgi = bool(getattr(target, "_hpc_ingress", False))
        asked = config.request_router_config
        router = b"" if asked == RequestRouterConfig() else _pickled(asked, f"the router of {name!r}")
        is_class = inspect.isclass(target)
        return DeploymentSpec(name, code, init_args, config, version, is_asgi, is_class, uses, router, helpers)


class _GraphPickler(cloudpickle.CloudPickler):  # type: ignore[misc]
    """Pickles the arguments of constructors with handles in place of applications."""

    def __init__(self, graph: _Graph, file: Any) -> None:
        super().__init__(file)
        self._graph = graph
        self.uses: list[str] = []

    def reducer_override(self, obj: Any) -> Any:
        if isinstance(obj, Application):
            name = self._graph.add(obj)
            if name not in self.uses:
                self.uses.append(name)
            return _handle, (name, self._graph.app)
        return super().reducer_override(obj)


class _ArgsPickler(_GraphPickler):
    """Keeps what it makes of the arguments of one constructor."""

    def __init__(self, graph: _Graph) -> None:
        self._file = io.BytesIO()
        super().__init__(graph, self._file)

    def dumps(self, value: Any, name: str) -> bytes:
        try:
            self.dump(value)
        except CircularApplicationError:
            raise
        except (ValueError, TypeError) as error:
            raise TypeError(f"the arguments of the deployment {name!r} cannot be pickled: {error}") from error
        return self._file.getvalue()


class _Digest(_GraphPickler):
    """What code and arguments are, in a few characters that are the same in each process. So it leaves out the random
    id of a class that is pickled by value, and knows the members of sets without their order."""

    def __init__(self, graph: _Graph) -> None:
        self._made = hashlib.sha256()
        super().__init__(graph, self)

    def of(self, value: Any) -> str:
        self.dump(value)
        return self._made.hexdigest()

    def write(self, data: Any) -> None:
        """Called by the pickler."""
        self._made.update(data)

    def persistent_id(self, obj: Any) -> Any:
        if type(obj) in (set, frozenset) and all(type(one) in _PLAIN for one in obj):
            return type(obj).__name__, sorted(map(repr, obj))
        return None

    def reducer_override(self, obj: Any) -> Any:
        made = super().reducer_override(obj)
        if isinstance(obj, TypeVar) and made is NotImplemented:
            made = self.dispatch_table[TypeVar](obj)
        if isinstance(obj, (type, TypeVar)) and isinstance(made, tuple):
            args = tuple("" if _is_random(arg) and arg != obj.__name__ else arg for arg in made[1])
            made = (made[0], args, *made[2:])
        return made


def _is_random(arg: Any) -> bool:
    return isinstance(arg, str) and bool(_RANDOM.fullmatch(arg))


def _handle(name: str, app: str) -> Any:
    """What an application among the arguments is in a replica."""
    from hpc.serve.handle import DeploymentHandle

    return DeploymentHandle(name, app)


def _helper(one: DeploymentActorConfig) -> tuple[Any, ...]:
    """An actor that replicas share, as the controller has it: what a `HelperSpec` has pickled."""
    cls = imported(one.actor_class)
    if not hasattr(cls, "options"):
        raise TypeError(f"the actor_class of {one.name!r}, {one.actor_class!r}, is no class with @hpc.remote")
    return cls, one.init_args, one.init_kwargs, one.actor_options


def _named(one: DeploymentActorConfig) -> DeploymentActorConfig:
    """The same without code and arguments, which a `HelperSpec` has."""
    path = one.actor_class if isinstance(one.actor_class, str) else f"{one.name}:class"
    return DeploymentActorConfig(name=one.name, actor_class=path)


def _pickled(value: Any, what: str) -> bytes:
    try:
        return bytes(cloudpickle.dumps(value))
    except Exception as error:
        raise TypeError(f"{what} cannot be pickled: {error}") from error


def code_version(code: str, config: DeploymentConfig, seed: str) -> str:
    """What replicas run, in 16 characters: the code and its arguments, by their digest, and the options that need other
    replicas."""
    digest = hashlib.sha256(f"{seed}\n{code}\n".encode())
    for option in RESTARTING:
        digest.update(repr(getattr(config, option)).encode() + b"\n")
    return digest.hexdigest()[:16]


def digest_of_modules() -> str:
    """Which files the user's own modules came from, and when each was changed. Classes of modules are pickled by their
    names, which a change of the file does not change; the program's main file is pickled by value."""
    digest = hashlib.sha256()
    outside = tuple({sysconfig.get_path(which) for which in ("stdlib", "platstdlib", "purelib", "platlib")})
    own = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    for name, module in sorted(sys.modules.items()):
        path = getattr(module, "__file__", None)
        if not path or name == "__main__" or name.split(".")[0] == "hpc":
            continue
        if path.startswith((*outside, own)) or "site-packages" in path:
            continue
        try:
            there = os.stat(path)
        except OSError:
            continue
        digest.update(f"{name} {path} {there.st_mtime_ns} {there.st_size}\n".encode())
    return digest.hexdigest()


__all__ = [
    "UNSET",
    "AppFacts",
    "AppSpec",
    "Application",
    "Deployment",
    "DeploymentSpec",
    "build",
    "check_prefix",
    "code_version",
]
