"""From a runtime environment as it was given to the variables that workers are started with. Directories are uploaded,
requirement files are read, and what the parent has is inherited."""

from __future__ import annotations

import hashlib
import os
import types
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from hpc.api.connection import ensure_client
from hpc.api.runtime_env_checks import CONFIG, INTERPRETERS, options_name
from hpc.core.process.current import current
from hpc.core.runenv.spec import HOOK, PACKAGE, pack, unpack

if TYPE_CHECKING:
    from hpc.core.owner.shell.client import Client

PIP_OPTIONS = ["--disable-pip-version-check", "--no-cache-dir"]
UV_OPTIONS = ["--no-cache"]


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
        or current.client is None
        or not any(name in given for name in ("working_dir", "py_modules", "pip", "uv"))
    ):
        return options
    here = shown(normalised(ensure_client(), given))
    if given.get("env_vars"):
        here["env_vars"] = dict(given["env_vars"])
    return {**options, "runtime_env": here}


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
        config = {**CONFIG, **given["config"]}
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
        lines = requirement_lines(os.path.abspath(os.path.expanduser(packages)))
    else:
        lines = [_absolute(line, os.getcwd()) for line in packages]
    out: dict[str, Any] = {"packages": lines, "options": list(fields.get(options_name(tool), options) or [])}
    for name in ("version", "check"):
        if fields.get(f"{tool}_{name}"):
            out[name] = fields[f"{tool}_{name}"]
    local = [_hash_of(line) for line in lines if line.startswith("/")]
    if local:
        out["local"] = local
    return out


def requirement_lines(path: str) -> list[str]:
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
            lines += requirement_lines(os.path.join(folder, rest.strip()))
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


def shown(rest: dict[str, Any]) -> dict[str, Any]:
    """Normalised fields as a user would give them."""
    fields = dict(rest)
    for tool in ("pip", "uv"):
        if tool in rest:
            fields[tool] = {
                "packages": rest[tool]["packages"],
                options_name(tool): rest[tool]["options"],
                **{f"{tool}_{name}": rest[tool][name] for name in ("version", "check") if name in rest[tool]},
            }
    return fields
