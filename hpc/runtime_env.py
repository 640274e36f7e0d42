"""Runtime environments: what a job, a task or an actor wants its workers to be. Ray's names and semantics.

A dict (or a `RuntimeEnv`) is checked where it is given, so that mistakes show at the decorator. When the first task is
submitted it becomes the variables that workers are started with: directories are uploaded, requirement files read,
and what the parent has is inherited.
"""

from __future__ import annotations

import copy
import hashlib
import json
import os
import types
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from hpc.connection import ensure_client
from hpc.core.process.current import current as owner
from hpc.core.runenv.spec import HOOK, KEY, PACKAGE, pack, unpack

if TYPE_CHECKING:
    from hpc.core.owner.shell.client import Client

FIELDS = (
    "working_dir", "py_modules", "excludes", "pip", "uv", "conda", "container", "image_uri", "env_vars", HOOK, "config",
)  # fmt: skip
#: Only one of these can say which interpreter a worker runs.
INTERPRETERS = ("pip", "uv", "conda", "container")
PIP_OPTIONS = ["--disable-pip-version-check", "--no-cache-dir"]
UV_OPTIONS = ["--no-cache"]
REMOTE = ("http://", "https://", "s3://", "gs://", "gcs://", "hdfs://", "azure://", "abfss://")


class RuntimeEnvConfig(dict[str, Any]):
    """How an environment is set up.

    setup_timeout_seconds: what it may take on each node (600); -1: any time.
    eager_install: of a job's environment: set it up on all nodes at `init`, before the first task (True).
    log_files: names of files for a dashboard; there is none, and they are kept for who asks this object.
    """

    known_fields: ClassVar[set[str]] = {"setup_timeout_seconds", "eager_install", "log_files"}

    def __init__(
        self, setup_timeout_seconds: int = 600, eager_install: bool = True, log_files: list[str] | None = None
    ) -> None:
        if isinstance(setup_timeout_seconds, bool) or not isinstance(setup_timeout_seconds, int):
            raise TypeError("setup_timeout_seconds must be an integer")
        if setup_timeout_seconds <= 0 and setup_timeout_seconds != -1:
            raise ValueError(f"setup_timeout_seconds must be positive or -1, not {setup_timeout_seconds}")
        if not isinstance(eager_install, bool):
            raise TypeError("eager_install must be a bool")
        if log_files is not None:
            _check_strings("log_files", log_files)
        super().__init__(
            setup_timeout_seconds=setup_timeout_seconds, eager_install=eager_install, log_files=list(log_files or [])
        )

    @classmethod
    def default_config(cls) -> RuntimeEnvConfig:
        """What counts where nothing is said."""
        return cls()

    @staticmethod
    def parse_and_validate_runtime_env_config(config: Mapping[str, Any]) -> RuntimeEnvConfig:
        """The config of a dict. Raises TypeError or ValueError for what makes no sense."""
        if isinstance(config, RuntimeEnvConfig):
            return config
        if not isinstance(config, Mapping):
            raise TypeError(f"runtime_env['config'] must be a dict or a RuntimeEnvConfig, not {type(config).__name__}")
        unknown = sorted(set(config) - RuntimeEnvConfig.known_fields)
        if unknown:
            raise ValueError(f"runtime_env['config'] can have {_CONFIG_FIELDS}, not {', '.join(unknown)}")
        return RuntimeEnvConfig(**config)

    def to_dict(self) -> dict[str, Any]:
        """A plain dict."""
        return copy.deepcopy(dict(self))


_CONFIG_FIELDS = ", ".join(sorted(RuntimeEnvConfig.known_fields))


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
            found["packages"] = _requirement_lines(os.path.abspath(os.path.expanduser(found["packages"])))
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


# ---------------------------------------------------------------- checks


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
    config = value.get("config")
    if config is not None:
        RuntimeEnvConfig.parse_and_validate_runtime_env_config(config)
    both = [name for name in INTERPRETERS if value.get(name) or (name == "container" and value.get("image_uri"))]
    if len(both) > 1:
        raise ValueError(f"runtime_env can have only one of {', '.join(INTERPRETERS)}, and has {' and '.join(both)}")


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
    version, verify, options = f"{tool}_version", f"{tool}_check", _options_name(tool)
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


def _options_name(tool: str) -> str:
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


# ---------------------------------------------------------------- from what was given to what workers are started with


def worker_env(client: Client, given: Mapping[str, Any] | None) -> dict[str, str]:
    """The environment of the workers of a task, actor or job: what was given on top of what is inherited here.

    Variables are merged, every other field replaces the parent's. Raises RuntimeEnvSetupError where files cannot be
    packaged.
    """
    from hpc.core.process.context import process

    if not given:
        return process.env
    env_vars, rest = unpack(process.env)
    own = normalised(client, given)
    if any(name in own for name in INTERPRETERS):
        rest = {name: value for name, value in rest.items() if name not in INTERPRETERS}
    rest = {**rest, **own}
    if set(rest) == {"config"}:
        rest = {}
    return pack({**env_vars, **(given.get("env_vars") or {})}, rest)


def portable(options: dict[str, Any]) -> dict[str, Any]:
    """Options that go to another process: paths of this one in their runtime_env become what they mean here."""
    given = options.get("runtime_env")
    if (
        not given
        or owner.client is None
        or not any(name in given for name in ("working_dir", "py_modules", "pip", "uv"))
    ):
        return options
    shown: dict[str, Any] = {**_shown(normalised(ensure_client(), given))}
    if given.get("env_vars"):
        shown["env_vars"] = dict(given["env_vars"])
    return {**options, "runtime_env": shown}


def normalised(client: Client, given: Mapping[str, Any]) -> dict[str, Any]:
    """The fields that are no variables, in their one spelling; directories are uploaded."""
    from hpc.core.exceptions import RuntimeEnvSetupError
    from hpc.core.runenv.package import PackageError

    out: dict[str, Any] = {}
    excludes = list(given.get("excludes") or [])
    try:
        if given.get("working_dir") is not None:
            out["working_dir"] = _uri(client, given["working_dir"], excludes, False)
        if given.get("py_modules"):
            out["py_modules"] = [_uri(client, module, excludes, True) for module in given["py_modules"]]
    except PackageError as error:
        raise RuntimeEnvSetupError(str(error)) from None
    for tool in ("pip", "uv"):
        if given.get(tool):
            out[tool] = _packages(tool, given[tool])
    if given.get("conda"):
        named = os.path.expanduser(given["conda"])
        out["conda"] = os.path.abspath(named) if os.sep in named else named
    if given.get("image_uri"):
        out["container"] = {"image": given["image_uri"]}
    elif given.get("container"):
        out["container"] = {name: value for name, value in given["container"].items() if value}
    if given.get(HOOK):
        out[HOOK] = _hook(client, given[HOOK])
    if given.get("config"):
        config = RuntimeEnvConfig(**given["config"])
        out["config"] = {name: config[name] for name in ("setup_timeout_seconds", "eager_install")}
    return out


def _uri(client: Client, path: Any, excludes: list[str], as_module: bool) -> str:
    from hpc.core.runenv.upload import upload

    if isinstance(path, types.ModuleType):
        folders = list(getattr(path, "__path__", []))
        path = folders[0] if folders else path.__file__
    text: str = os.fspath(path)
    if text.startswith(("file://", PACKAGE)):
        return text
    return upload(client, text, excludes, as_module=as_module)


def _hook(client: Client, given: Any) -> str:
    """A function goes to the head, as code does; a name stays one."""
    from hpc.core.exceptions import RuntimeEnvSetupError
    from hpc.core.runenv.package import PackageError
    from hpc.core.runenv.upload import put
    from hpc.core.serialization import dump_code

    if isinstance(given, str):
        return given
    try:
        code, refs = dump_code(given)
        if refs:
            raise TypeError("it holds references to objects: make them in it, or get it by a name from an actor")
        return put(client, code, HOOK)
    except PackageError as error:
        raise RuntimeEnvSetupError(str(error)) from None
    except Exception as error:
        raise RuntimeEnvSetupError(f"{HOOK} cannot be pickled: {error}") from error


def _packages(tool: str, given: Any) -> dict[str, Any]:
    """Requirements with the hashes of local files and directories among them, so that a change makes a new one."""
    options = PIP_OPTIONS if tool == "pip" else UV_OPTIONS
    fields: Mapping[str, Any] = given if isinstance(given, Mapping) else {"packages": given}
    packages = fields["packages"]
    if isinstance(packages, (str, os.PathLike)):
        lines = _requirement_lines(os.path.abspath(os.path.expanduser(packages)))
    else:
        lines = [_absolute(line, os.getcwd()) for line in packages]
    out: dict[str, Any] = {"packages": lines, "options": list(fields.get(_options_name(tool), options) or [])}
    for name in ("version", "check"):
        if fields.get(f"{tool}_{name}"):
            out[name] = fields[f"{tool}_{name}"]
    local = [_hash_of(line) for line in lines if line.startswith("/")]
    if local:
        out["local"] = local
    return out


def _requirement_lines(path: str) -> list[str]:
    """The lines of a requirements file, with the files that it includes."""
    lines: list[str] = []
    folder = os.path.dirname(path)
    try:
        with open(path, encoding="utf-8") as file:
            texts = [line.strip() for line in file]
    except OSError as error:
        raise ValueError(f"cannot read the requirements file {path}: {error.strerror}") from None
    for text in texts:
        flag, _, rest = text.partition(" ")
        if not text or text.startswith("#"):
            continue
        if flag in ("-r", "--requirement"):
            lines += _requirement_lines(os.path.join(folder, rest.strip()))
        elif flag in ("-c", "--constraint"):
            lines.append(f"{flag} {os.path.join(folder, rest.strip())}")
        else:
            lines.append(_absolute(text, folder))
    return lines


def _absolute(line: str, folder: str) -> str:
    """A requirement that is a local path, made absolute: it must be the same path on the nodes."""
    if not line.startswith((".", "~", "/")):
        return line
    return os.path.normpath(os.path.join(folder, os.path.expanduser(line)))


def _hash_of(path: str) -> str:
    from hpc.core.runenv.package import files_of

    digest = hashlib.blake2b(digest_size=16)
    if os.path.isdir(path):
        names = [os.path.join(path, name) for name in files_of(path, ["build/", "*.egg-info/"])]
    else:
        names = [path] if os.path.isfile(path) else []
    for name in names:
        digest.update(name.encode() + b"\0")
        with open(name, "rb") as file:
            while block := file.read(1 << 20):
                digest.update(block)
    return digest.hexdigest()


def current() -> RuntimeEnv:
    """The environment of the code that asks: of the worker it runs in, in a driver the job's."""
    from hpc.core.process.context import process

    env_vars, rest = unpack(process.env)
    shown = RuntimeEnv()
    shown.update({**({"env_vars": env_vars} if env_vars else {}), **_shown(rest)})
    return shown


def _shown(rest: dict[str, Any]) -> dict[str, Any]:
    """Normalised fields as a user would give them."""
    shown = dict(rest)
    for tool in ("pip", "uv"):
        if tool in rest:
            shown[tool] = {
                "packages": rest[tool]["packages"],
                _options_name(tool): rest[tool]["options"],
                **{f"{tool}_{name}": rest[tool][name] for name in ("version", "check") if name in rest[tool]},
            }
    return shown


__all__ = ["RuntimeEnv", "RuntimeEnvConfig"]
