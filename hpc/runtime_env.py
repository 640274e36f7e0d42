"""The public names of runtime environments: what a job, a task or an actor wants its workers to be, as Ray has it.

How they are checked and what workers are started with is made in `hpc.api`.
"""

from __future__ import annotations

import copy
import json
import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar

from hpc.api.runtime_env_checks import CONFIG, FIELDS, check, check_config
from hpc.api.worker_env import UV_OPTIONS, requirement_lines, shown
from hpc.core.runenv.spec import HOOK, unpack


class RuntimeEnvConfig(dict[str, Any]):
    """How an environment is set up.

    setup_timeout_seconds: what it may take on each node (600); -1: any time.
    eager_install: of a job's environment: set it up on all nodes at `init`, before the first task (True).
    log_files: names of files for a dashboard; there is none, and they are kept for who asks this object.
    """

    known_fields: ClassVar[set[str]] = set(CONFIG)

    def __init__(
        self, setup_timeout_seconds: int = 600, eager_install: bool = True, log_files: list[str] | None = None
    ) -> None:
        given = {"setup_timeout_seconds": setup_timeout_seconds, "eager_install": eager_install, "log_files": log_files}
        check_config(given)
        super().__init__({**given, "log_files": list(log_files or [])})

    @classmethod
    def default_config(cls) -> RuntimeEnvConfig:
        """What counts where nothing is said."""
        return cls()

    @staticmethod
    def parse_and_validate_runtime_env_config(config: Mapping[str, Any]) -> RuntimeEnvConfig:
        """The config of a dict. Raises TypeError or ValueError for what makes no sense."""
        if isinstance(config, RuntimeEnvConfig):
            return config
        check_config(config)
        return RuntimeEnvConfig(**config)

    def to_dict(self) -> dict[str, Any]:
        """A plain dict."""
        return copy.deepcopy(dict(self))


class RuntimeEnv(dict[str, Any]):
    """A runtime environment, checked; it is a dict with the fields that were given.

    env_vars: variables; ``${NAME}`` in a value stands for another of them, or for the node's own value.
    working_dir: a directory or .zip: uploaded, unpacked once per node; tasks work there and import from there first.
        "file:///...": a directory that every node sees, used in place.
    excludes: what stays out of uploaded directories, as lines of a .gitignore.
    py_modules: packages, modules, .py, .zip and .whl files that tasks can import.
    pip, uv: requirements as a list, the path of a requirements.txt, or a dict with "packages" and options.
    conda: the name or the path of an environment that exists on the nodes.
    container: {"image": ..., "run_options": [...]} for Apptainer, or {"prefix": [...]}; "python" in it. image_uri is
        short for the image.
    worker_process_setup_hook: a function without arguments, or the name of one ("module.function"), that each worker
        process calls before its first task. If it raises, the task, or the actor, fails with RuntimeEnvSetupError.
    config: a RuntimeEnvConfig or a dict.
    Raises ValueError or TypeError for what makes no sense.
    """

    def __init__(
        self,
        *,
        working_dir: str | None = None,
        py_modules: Sequence[Any] | None = None,
        excludes: Sequence[str] | None = None,
        pip: Any = None,
        uv: Any = None,
        conda: str | None = None,
        container: Mapping[str, Any] | None = None,
        image_uri: str | None = None,
        env_vars: Mapping[str, str] | None = None,
        worker_process_setup_hook: Callable[[], Any] | str | None = None,
        config: Mapping[str, Any] | None = None,
        **unknown: Any,
    ) -> None:
        given = {
            "working_dir": working_dir, "py_modules": py_modules, "excludes": excludes, "pip": pip, "uv": uv,
            "conda": conda, "container": container, "image_uri": image_uri, "env_vars": env_vars,
            HOOK: worker_process_setup_hook, "config": config, **unknown,
        }  # fmt: skip
        given = {name: value for name, value in given.items() if value is not None}
        check(given)
        super().__init__(given)

    # What the fields are. A field that was not given is empty here; `get` tells it from one that is.

    known_fields: ClassVar[set[str]] = set(FIELDS)
    extensions_fields: ClassVar[set[str]] = set()

    def __setitem__(self, name: str, value: Any) -> None:
        check({**self, name: value})
        super().__setitem__(name, value)

    def set(self, name: str, value: Any) -> None:
        """Give a field. Raises ValueError or TypeError if the environment would make no sense then."""
        self[name] = value

    def get(self, name: str, default: Any = None, data_class: Callable[..., Any] | None = None) -> Any:
        """A field; ``default`` where it was not given. ``data_class`` is called with its entries as keywords."""
        if name not in self:
            return default
        return self[name] if data_class is None else data_class(**self[name])

    def get_extension(self, key: str) -> str:
        """Raises ValueError: there are no fields of extensions."""
        raise ValueError(f"a runtime_env has no extensions, and {key!r} is none")

    def serialize(self) -> str:
        """The fields as JSON, in the order of their names. Raises TypeError for a module, which has no JSON."""
        check(self)
        return json.dumps(self, sort_keys=True)

    @classmethod
    def deserialize(cls, serialized_runtime_env: str) -> RuntimeEnv:
        """The environment of this JSON. Its paths may be those of another machine, so they are not looked at."""
        made = cls()
        made.update(json.loads(serialized_runtime_env))
        return made

    def to_dict(self) -> dict[str, Any]:
        """A plain dict."""
        return {name: value if name == "py_modules" else copy.deepcopy(value) for name, value in self.items()}

    def env_vars(self) -> dict[str, str]:
        """The variables."""
        return dict(self.get("env_vars") or {})

    def has_working_dir(self) -> bool:
        """Whether one is given."""
        return self.get("working_dir") is not None

    def working_dir(self) -> str:
        """Its path, or an empty text."""
        return str(os.fspath(self.get("working_dir", "")))

    def working_dir_uri(self) -> str | None:
        """The same, or None."""
        return self.working_dir() or None

    def py_modules(self) -> list[Any]:
        """The modules, as they were given."""
        return list(self.get("py_modules") or [])

    def py_modules_uris(self) -> list[Any]:
        """The same."""
        return self.py_modules()

    def has_conda(self) -> bool:
        """Whether an environment of conda's is given."""
        return bool(self.get("conda"))

    def conda_env_name(self) -> str | None:
        """Its name or path."""
        return self.get("conda") or None

    def has_pip(self) -> bool:
        """Whether packages for pip are given."""
        return bool(self.get("pip"))

    def pip_config(self) -> dict[str, Any]:
        """What pip is to install, always with "packages" and "pip_check"."""
        return self._packages_of("pip")

    def has_uv(self) -> bool:
        """Whether packages for uv are given."""
        return bool(self.get("uv"))

    def uv_config(self) -> dict[str, Any]:
        """What uv is to install, always with "packages", "uv_check" and "uv_pip_install_options"."""
        found = self._packages_of("uv")
        if found:
            found.setdefault("uv_pip_install_options", list(UV_OPTIONS))
        return found

    def _packages_of(self, tool: str) -> dict[str, Any]:
        given = self.get(tool)
        if not given:
            return {}
        found = dict(given) if isinstance(given, Mapping) else {"packages": given}
        if isinstance(found["packages"], (str, os.PathLike)):
            found["packages"] = requirement_lines(os.path.abspath(os.path.expanduser(found["packages"])))
        return {**found, "packages": list(found["packages"]), f"{tool}_check": found.get(f"{tool}_check", False)}

    def has_py_container(self) -> bool:
        """Whether a container is given."""
        return bool(self.get("container"))

    def py_container_image(self) -> str | None:
        """The image of the container; empty if it has none, None without a container."""
        return self["container"].get("image", "") if self.has_py_container() else None

    def py_container_run_options(self) -> list[str] | None:
        """The options of the container; None without one."""
        return list(self["container"].get("run_options") or []) if self.has_py_container() else None

    def py_container_worker_path(self) -> str | None:
        """Empty: workers are the package's own; None without a container."""
        return "" if self.has_py_container() else None

    def image_uri(self) -> str | None:
        """The image, if it was given in short."""
        image: str | None = self.get("image_uri")
        return image

    # Fields of Ray's that an environment cannot have here.

    def conda_config(self) -> None:
        """None: an environment of conda's is named, not described."""

    def conda_uri(self) -> None:
        """None, as of each environment that is named."""

    def virtualenv_name(self) -> None:
        """None: a text in "pip" is the path of a requirements file."""

    def java_jars(self) -> list[str]:
        """None of them."""
        return []

    def plugins(self) -> list[tuple[str, Any]]:
        """None of them: an unknown field is an error."""
        return []

    def plugin_uris(self) -> list[str]:
        """None of them."""
        return []

    def py_executable(self) -> None:
        """None: the interpreter is that of pip, uv, conda or the container, else the nodes' own."""

    def nsight(self) -> None:
        """None: start a profiler by the command of the job."""

    def rocprof_sys(self) -> None:
        """None, as `nsight`."""


def current() -> RuntimeEnv:
    """The environment of the code that asks: of the worker it runs in, in a driver the job's."""
    from hpc.core.process.context import process

    env_vars, rest = unpack(process.env)
    found = RuntimeEnv()
    found.update({**({"env_vars": env_vars} if env_vars else {}), **shown(rest)})
    return found


__all__ = ["RuntimeEnv", "RuntimeEnvConfig"]
