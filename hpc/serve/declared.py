"""Services out of configuration files: applications by their import paths, and what the last file said.

A file says all that files have said: applications of an earlier one that it does not name are deleted. Code is imported
by the process that deploys, which pickles what replicas run; they find its modules by the same paths.
"""

from __future__ import annotations

import importlib
import inspect
import os
import sys
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

import hpc
from hpc import spi
from hpc.serve import api
from hpc.serve.deployments import Application, build, code_version
from hpc.serve.messages import NAMESPACE
from hpc.serve.schema import ServeApplicationSchema, ServeDeploySchema, as_plain, read_config
from hpc.serve.specs import AppSpec

CONFIG_KEY = "config"


def found(import_path: str) -> Any:
    """What an import path names: `module:attribute` or `module.attribute`. Raises ImportError."""
    module, _, name = import_path.partition(":") if ":" in import_path else import_path.rpartition(".")
    value: Any = importlib.import_module(module)
    for part in name.split("."):
        try:
            value = getattr(value, part)
        except AttributeError:
            raise ImportError(f"{module} has no {name!r}, which {import_path!r} names") from None
    return value


def application(import_path: str, args: Mapping[str, Any]) -> Application:
    """The application of an import path; a function there builds one of ``args``.

    Raises ImportError, and TypeError where it is no application, or one that takes no arguments."""
    target = found(import_path)
    if isinstance(target, Application):
        if args:
            raise TypeError(f"{import_path} is an application, which takes no arguments: {', '.join(args)}")
        return target
    if not inspect.isfunction(target):
        raise TypeError(
            f"{import_path} is neither an application, which .bind() makes, nor a function that returns one"
        )
    built = target(*_built_with(import_path, target, args))
    if not isinstance(built, Application):
        raise TypeError(f"{import_path} returned {type(built).__name__} and no application: .bind() makes one")
    return built


def _built_with(import_path: str, builder: Any, args: Mapping[str, Any]) -> tuple[Any, ...]:
    """The one argument of a builder: a dict, or a model of pydantic where it says so."""
    parameters = list(inspect.signature(builder, eval_str=True).parameters.values())
    if not parameters and not args:
        return ()
    if len(parameters) != 1:
        raise TypeError(
            f"{import_path} takes {len(parameters)} arguments: a builder takes one, a dict of what the file says"
        )
    kind = parameters[0].annotation
    model = getattr(kind, "model_validate", None) or getattr(kind, "parse_obj", None)
    return (model(dict(args)) if inspect.isclass(kind) and model is not None else dict(args),)


def deploy(config: ServeDeploySchema, *, paths: Sequence[str] = (), wait: bool = True, only: bool = True) -> None:
    """Have the service be what a configuration says. ``paths``: where replicas find modules, beside their own.
    ``only``: applications that were deployed so before, and that it does not name, are deleted.

    Raises RuntimeError where an application does not begin, and what importing it raises."""
    specs = [_spec(one, paths) for one in config.applications]
    api.start(config.proxy_location, config.http_options, config.grpc_options, config.logging_config)
    controller = api._controller()
    if only:
        hpc.get(controller.set_capacity.remote(config.target_capacity))
    hpc.get(controller.deploy.remote(specs, only))
    said = config if only else _with_others(config)
    spi.kv_put(NAMESPACE, CONFIG_KEY, msgspec.json.encode(said.plain()))
    if wait:
        for spec in specs:
            api._wait_running(controller, spec.name)
        hpc.get(controller.wait_proxies.remote())


def _with_others(config: ServeDeploySchema) -> ServeDeploySchema:
    """What files have said, with the applications of one more that says nothing of others."""
    before = deployed()
    if before is None:
        return config
    names = {one.name for one in config.applications}
    before.applications = [one for one in before.applications if one.name not in names] + config.applications
    return before


def _spec(one: ServeApplicationSchema, paths: Sequence[str]) -> AppSpec:
    target = application(one.import_path, one.args)
    options = {each.name: dict(each.options) for each in one.deployments}
    spec = build(
        target,
        one.name,
        one.route_prefix,
        one.logging_config,
        one.external_scaler_enabled,
        options=options,
        policy=one.policy,
    )
    spec.source = "declarative"
    for deployment in spec.deployments:
        given = dict(deployment.config.ray_actor_options)
        env = {**one.runtime_env, **(given.get("runtime_env") or {})}
        given["runtime_env"] = with_paths(env, paths)
        if given["runtime_env"]:
            deployment.config = deployment.config.changed(ray_actor_options=given)
            before = deployment.code_version  # another environment is a change
            deployment.code_version = code_version(before, deployment.config, "")
    return spec


def with_paths(runtime_env: dict[str, Any], paths: Sequence[str]) -> dict[str, Any]:
    """An environment of a runtime with further places for modules, before those that it has."""
    if not paths:
        return runtime_env
    variables = dict(runtime_env.get("env_vars") or {})
    there = [*paths, *([variables["PYTHONPATH"]] if variables.get("PYTHONPATH") else [])]
    return {**runtime_env, "env_vars": {**variables, "PYTHONPATH": os.pathsep.join(there)}}


def deployed() -> ServeDeploySchema | None:
    """The configuration that was deployed last; None where there is none."""
    data = spi.kv_get(NAMESPACE, CONFIG_KEY)
    return read_config(msgspec.json.decode(data)) if data else None


def described(import_paths: Sequence[str]) -> dict[str, Any]:
    """A configuration file for applications, with the options that their code has, to be written and changed."""
    applications = []
    for number, path in enumerate(import_paths, 1):
        name = f"app{number}"
        spec = build(application(path, {}), name, None)
        options = []
        for one in spec.deployments:
            default = type(one.config)()
            changed = {
                key: as_plain(getattr(one.config, key))
                for key in type(one.config).__dataclass_fields__
                if getattr(one.config, key) != getattr(default, key)
            }
            options.append({"name": one.name, **changed})
        prefix = "/" if len(import_paths) == 1 else f"/{name}"
        applications.append(
            {"name": name, "route_prefix": prefix, "import_path": path, "runtime_env": {}, "deployments": options}
        )
    return {
        "proxy_location": "EveryNode",
        "http_options": {"request_timeout_s": None, "keep_alive_timeout_s": 90},
        "applications": applications,
    }


def look_in(path: str) -> str:
    """Have modules be found in a directory; returns its whole path."""
    place = os.path.abspath(path)
    if place not in sys.path:
        sys.path.insert(0, place)
    return place
