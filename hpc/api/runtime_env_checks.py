"""Whether a runtime environment makes sense: looked at where it is given, so that mistakes show at the decorator."""

from __future__ import annotations

import os
import types
from collections.abc import Mapping, Sequence
from typing import Any

from hpc.core.runenv.spec import HOOK, KEY, PACKAGE

FIELDS = (
    "working_dir", "py_modules", "excludes", "pip", "uv", "conda", "container", "image_uri", "env_vars", HOOK, "config",
)  # fmt: skip
#: The fields of "config" and what they are where nothing is said.
CONFIG: dict[str, Any] = {"setup_timeout_seconds": 600, "eager_install": True, "log_files": None}
#: Only one of these can say which interpreter a worker runs.
INTERPRETERS = ("pip", "uv", "conda", "container")
REMOTE = ("http://", "https://", "s3://", "gs://", "gcs://", "hdfs://", "azure://", "abfss://")


def check(value: Any) -> None:
    """Raise ValueError or TypeError for an environment that makes no sense."""
    if value is None:
        return
    if not isinstance(value, Mapping):
        raise TypeError(f"runtime_env must be a dict or a RuntimeEnv, not {type(value).__name__}")
    unknown = sorted(set(value) - set(FIELDS))
    if unknown:
        raise ValueError(f"runtime_env has no field {', '.join(map(repr, unknown))}; there are: {', '.join(FIELDS)}")
    _check_vars(value.get("env_vars"))
    for name in ("py_modules", "excludes"):
        if isinstance(value.get(name), (str, bytes)) or not isinstance(value.get(name, []), (Sequence, type(None))):
            raise TypeError(f"runtime_env[{name!r}] must be a list")
    if not all(isinstance(line, str) for line in value.get("excludes") or []):
        raise TypeError("runtime_env['excludes'] must be a list of strings, as lines of a .gitignore")
    _check_paths(value)
    for tool in ("pip", "uv"):
        if value.get(tool) is not None:
            _check_packages(tool, value[tool])
    if value.get("conda") is not None and not isinstance(value["conda"], str):
        raise ValueError(
            "runtime_env['conda'] must be the name or the path of an environment: make it ahead, with `conda env "
            "create`, where all nodes see it"
        )
    if str(value.get("conda") or "").endswith((".yml", ".yaml")):
        raise ValueError(
            "runtime_env['conda'] names an environment, not its file: make it ahead with `conda env create`"
        )
    _check_container(value)
    _check_hook(value.get(HOOK))
    if value.get("config") is not None:
        check_config(value["config"])
    both = [name for name in INTERPRETERS if value.get(name) or (name == "container" and value.get("image_uri"))]
    if len(both) > 1:
        raise ValueError(f"runtime_env can have only one of {', '.join(INTERPRETERS)}, and has {' and '.join(both)}")


def check_config(given: Any) -> None:
    """Raise TypeError or ValueError for what is no config of an environment."""
    if not isinstance(given, Mapping):
        raise TypeError(f"runtime_env['config'] must be a dict or a RuntimeEnvConfig, not {type(given).__name__}")
    unknown = sorted(set(given) - set(CONFIG))
    if unknown:
        raise ValueError(f"runtime_env['config'] can have {', '.join(sorted(CONFIG))}, not {', '.join(unknown)}")
    timeout_s, eager, log_files = ({**CONFIG, **given}[name] for name in CONFIG)
    if isinstance(timeout_s, bool) or not isinstance(timeout_s, int):
        raise TypeError("setup_timeout_seconds must be an integer")
    if timeout_s <= 0 and timeout_s != -1:
        raise ValueError(f"setup_timeout_seconds must be positive or -1, not {timeout_s}")
    if not isinstance(eager, bool):
        raise TypeError("eager_install must be a bool")
    if log_files is not None:
        _check_strings("log_files", log_files)


def _check_vars(given: Any) -> None:
    if given is None:
        return
    if not isinstance(given, Mapping):
        raise TypeError("runtime_env['env_vars'] must be a dict")
    for key, text in given.items():
        if not isinstance(key, str) or not isinstance(text, str):
            raise TypeError(f"runtime_env['env_vars'] must map strings to strings, not {key!r} to {text!r}")
        if key == KEY or not key or "=" in key or "\0" in key + text:
            raise ValueError(f"runtime_env['env_vars'] cannot have the name {key!r}, or a value with a zero byte")


def _check_paths(value: Mapping[str, Any]) -> None:
    paths = [value["working_dir"]] if value.get("working_dir") is not None else []
    if paths and not isinstance(paths[0], (str, os.PathLike)):
        raise TypeError("runtime_env['working_dir'] must be a path")
    for module in value.get("py_modules") or []:
        if isinstance(module, types.ModuleType):
            continue
        if not isinstance(module, (str, os.PathLike)):
            raise TypeError(f"runtime_env['py_modules'] has paths and modules, not {type(module).__name__}")
        paths.append(module)
    for path in map(os.fspath, paths):
        if path.startswith(REMOTE):
            raise ValueError(f"{path!r} cannot be fetched: put it on a file system, and give its path or file:// URI")
        if path.startswith("file://") and not path.startswith("file:///"):
            raise ValueError(f"{path!r} must be file:// and an absolute path, as in file:///shared/code")
        if not path.startswith(("file://", PACKAGE)) and not os.path.exists(os.path.expanduser(path)):
            raise ValueError(f"{path!r} does not exist (in {os.getcwd()})")


def _check_packages(tool: str, given: Any) -> None:
    version, verify, options = f"{tool}_version", f"{tool}_check", options_name(tool)
    if isinstance(given, Mapping):
        unknown = sorted(set(given) - {"packages", version, verify, options})
        if unknown:
            raise ValueError(
                f"runtime_env[{tool!r}] can have packages, {version}, {verify}, {options}, not {', '.join(unknown)}"
            )
        if "packages" not in given:
            raise ValueError(f"runtime_env[{tool!r}] needs 'packages'")
        if not isinstance(given.get(verify, False), bool):
            raise TypeError(f"{verify} must be a bool")
        if not isinstance(given.get(version) or "", str):
            raise TypeError(f'{version} must be a string, as in "==25.0"')
        _check_strings(f"runtime_env[{tool!r}][{options!r}]", given.get(options) or [])
        given = given["packages"]
    if isinstance(given, (str, os.PathLike)):
        if not os.path.isfile(os.path.expanduser(given)):
            raise ValueError(
                f"runtime_env[{tool!r}]: there is no file {os.fspath(given)!r}; a package goes into a list"
            )
        return
    _check_strings(f"runtime_env[{tool!r}]", given)


def options_name(tool: str) -> str:
    """The key under which a tool's command-line options stand."""
    return "pip_install_options" if tool == "pip" else "uv_pip_install_options"


def _check_strings(name: str, given: Any) -> None:
    if not isinstance(given, (list, tuple)) or not all(isinstance(one, str) for one in given):
        raise TypeError(f"{name} must be a list of strings")


def _check_container(value: Mapping[str, Any]) -> None:
    if value.get("image_uri") is not None and (not isinstance(value["image_uri"], str) or value.get("container")):
        raise ValueError("runtime_env['image_uri'] must be a string, without a container beside it")
    given = value.get("container")
    if given is None:
        return
    if not isinstance(given, Mapping) or set(given) - {"image", "run_options", "prefix", "python"}:
        raise ValueError("runtime_env['container'] can have image and run_options, or prefix; and python")
    if bool(given.get("image")) == bool(given.get("prefix")):
        raise ValueError("runtime_env['container'] needs either an image or a prefix")
    for name in ("run_options", "prefix"):
        _check_strings(f"runtime_env['container'][{name!r}]", given.get(name) or [])


def _check_hook(given: Any) -> None:
    if given is None or (callable(given) and not isinstance(given, type)):
        return
    if not isinstance(given, str):
        raise TypeError(f"runtime_env[{HOOK!r}] must be a function or its name, not {type(given).__name__}")
    module, _, function = given.rpartition(".")
    if given and not given.startswith(PACKAGE) and not (module and function):
        raise ValueError(f"runtime_env[{HOOK!r}] must be a function or a name like 'module.function', not {given!r}")
