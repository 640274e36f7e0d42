"""Workers that need another interpreter: virtual environments with pip or uv, conda environments, containers.

A virtual environment is made in a cache of this user on the node and stays there for later sessions. By a .pth file it
sees all that the runtime's own interpreter sees, so that the runtime and its dependencies need no installation. What is
installed into it comes first. (``--system-site-packages`` alone would show the packages of the interpreter that a
virtual environment was made from, not those of that environment.)

The other interpreter must have the same minor version of Python: code and values travel as pickles, and the runtime's
dependencies are compiled for it. For the same reason cloudpickle is the session's, whatever the environment has;
everything else is the environment's first.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import stat
import subprocess
import sys
import sysconfig
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib.util import find_spec
from typing import Any

import msgspec

from hpc._version import __version__
from hpc.core.node.rundir import STAGED, remove
from hpc.core.node.settings import text
from hpc.core.node.spec import NodeSpec
from hpc.core.runenv.once_per_node import Deadline, SetupError, made_once, write_whole

#: Names the file that tells a worker in another interpreter who it is.
START = "HPC_WORKER_START"
#: Characters of an installer's output that go into an error.
OUTPUT_CHARS = 20_000
#: What the other interpreter runs: it checks itself, looks where this one looks, and goes on as a worker.
BOOT = f"""
import json, os, site, sys
start = json.load(open(os.environ[{START!r}]))
here = list(sys.version_info[:2])
if here != start["python"]:
    versions = (*here, *start["python"])
    sys.exit("the environment's Python is %d.%d, and the session's is %d.%d: they must be the same" % versions)
sys.path[:] = start["site"] + [p for p in sys.path if p]
import cloudpickle
del sys.path[: len(start["site"])]
for p in start["site"]:
    if p not in sys.path:
        site.addsitedir(p)
from hpc.core.worker.exec_worker import main
main(start)
"""
ACTIVATE = 'for f in "$CONDA_PREFIX"/etc/conda/activate.d/*.sh; do [ -r "$f" ] && . "$f"; done; exec "$@"'


@dataclass
class Launch:
    """How the other interpreter is started: a command in front of BOOT, and the variables that it needs."""

    command: list[str]
    env: dict[str, str] = field(default_factory=dict)


def choose(spec: NodeSpec, rest: Mapping[str, Any], deadline: Deadline) -> Launch | None:
    """Make the interpreter that the environment asks for; None where this one will do."""
    for tool in ("pip", "uv"):
        if rest.get(tool):
            return _virtual(spec, tool, rest[tool], deadline)
    if rest.get("conda"):
        return _conda(str(rest["conda"]))
    if rest.get("container"):
        return _container(spec, rest["container"])
    return None


def start(spec: NodeSpec, proc: int, env: dict[str, str], working_dir: str, paths: list[str], launch: Launch) -> None:
    """Go on in the other interpreter; returns never, raises SetupError if it cannot be started."""
    path = os.path.join(spec.dir, f"w{proc}.start")
    facts = {
        "python": list(sys.version_info[:2]),
        "site": sites(),
        "spec": msgspec.to_builtins(spec),
        "proc": proc,
        "hpc": __version__,
        "env": env,
        "working_dir": working_dir,
        "paths": paths,
    }
    write_whole(path, json.dumps(facts))
    environ = {**os.environ, **launch.env, START: path}
    sys.stdout.flush()
    sys.stderr.flush()
    try:
        os.execvpe(launch.command[0], [*launch.command, "-c", BOOT], environ)
    except OSError as error:
        raise SetupError(f"cannot run {launch.command[0]}: {error.strerror}") from None


def sites() -> list[str]:
    """Where this interpreter finds modules, but for the standard library and PYTHONPATH (which is inherited)."""
    paths = sysconfig.get_paths()
    library = os.path.dirname(os.__file__)  # of the Python that a virtual environment was made from
    own = {path for each in (paths["stdlib"], paths["platstdlib"], library) for path in (each, f"{each}/lib-dynload")}
    own.update((os.environ.get("PYTHONPATH") or "").split(os.pathsep))
    return [p for p in dict.fromkeys(sys.path) if p and p not in own and os.path.isdir(p)]


# ---------------------------------------------------------------- pip and uv


def cache_dir(spec: NodeSpec) -> str:
    """This user's cache of virtual environments: HPC_ENV_CACHE, else beside the node directories.

    Nodes that run from an environment that was brought to them (--stage) keep theirs in its folder.
    """
    named = text("env_cache", {}, os.environ)
    staged = os.path.dirname(sys.prefix)
    if not named and staged.endswith(STAGED):  # made from an interpreter that goes with the job, they go with it too
        named = os.path.join(staged, "made")
    path = named or os.path.join(os.path.dirname(spec.dir), f"hpcenv-{os.getuid()}")
    try:
        os.makedirs(path, mode=0o700, exist_ok=True)
        found = os.lstat(path)
    except OSError as error:
        raise SetupError(f"the cache of environments {path} cannot be made: {error.strerror}") from None
    if not named and (not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid() or found.st_mode & 0o022):
        raise SetupError(f"{path} is not a directory that only this user can write; HPC_ENV_CACHE names another one")
    return path


def _virtual(spec: NodeSpec, tool: str, wish: Mapping[str, Any], deadline: Deadline) -> Launch:
    from hpc.core.runenv.package import digest_of

    base = [tool, wish, sys.executable, sys.version, sites()]
    name = digest_of(json.dumps(base, sort_keys=True).encode())[:24]
    target = os.path.join(cache_dir(spec), f"{tool}-{name}")
    made_once(target, lambda: _make_virtual(target, tool, wish, deadline), deadline)
    binaries = os.path.join(target, "bin")
    path = binaries + os.pathsep + os.environ.get("PATH", os.defpath)
    return Launch([os.path.join(binaries, "python")], {"PATH": path, "VIRTUAL_ENV": target})


def _make_virtual(target: str, tool: str, wish: Mapping[str, Any], deadline: Deadline) -> None:
    remove(target)
    python = os.path.join(target, "bin", "python")
    uv = _find_uv(wish) if tool == "uv" else []
    if uv:
        run([*uv, "venv", "--python", sys.executable, target], deadline)
    else:
        run([sys.executable, "-m", "venv", "--without-pip", target], deadline)
    version = f"python{sys.version_info[0]}.{sys.version_info[1]}"
    own = os.path.join(target, "lib", version, "site-packages")
    with open(os.path.join(own, "_hpc_session.pth"), "w", encoding="utf-8") as file:
        for path in sites():
            file.write(f"import site, sys; {path!r} in sys.path or site.addsitedir({path!r})\n")
    wanted = os.path.join(target, "requirements.txt")
    with open(wanted, "w", encoding="utf-8") as file:
        file.write("\n".join(wish["packages"]) + "\n")
    if uv:
        run([*uv, "pip", "install", "--python", python, *wish["options"], "-r", wanted], deadline)
        if wish.get("check"):
            run([*uv, "pip", "check", "--python", python], deadline)
        return
    if find_spec("pip") is None:
        run([python, "-m", "ensurepip", "--default-pip"], deadline)
    pip = [python, "-m", "pip", "--disable-pip-version-check", "--no-input"]
    if wish.get("version"):
        run([*pip, "install", "--ignore-installed", "pip" + wish["version"]], deadline)
    run([*pip, "install", *wish["options"], "-r", wanted], deadline)
    if wish.get("check"):
        run([*pip, "check"], deadline)


def _find_uv(wish: Mapping[str, Any]) -> list[str]:
    found = shutil.which("uv")
    command = [found] if found else [sys.executable, "-m", "uv"] if find_spec("uv") else []
    if not command:
        raise SetupError("there is no uv on this node: install it for the session's Python, or use the field pip")
    if wish.get("version"):
        said = subprocess.run([*command, "--version"], capture_output=True, text=True, check=False).stdout.split()
        version = said[1] if len(said) > 1 else "unknown"
        if "==" + version != wish["version"].replace(" ", ""):
            raise SetupError(f"the uv of this node has version {version}, and uv_version asks for {wish['version']}")
    return command


def run(command: list[str], deadline: Deadline) -> str:
    """Run an installer to its end; SetupError with its output if it fails or takes too long."""
    try:
        child = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            cwd="/",
        )
    except OSError as error:
        raise SetupError(f"cannot run {command[0]}: {error.strerror}") from None
    try:
        output, _ = child.communicate(timeout=deadline.left_s())
    except subprocess.TimeoutExpired:
        with contextlib.suppress(OSError):
            os.killpg(child.pid, signal.SIGKILL)
        output, _ = child.communicate()
        text = _shown(output)
        raise SetupError(f"{_words(command)} took longer than {deadline.timeout_s:g} s. Its output:\n{text}") from None
    if child.returncode:
        raise SetupError(f"{_words(command)} failed (exit code {child.returncode}). Its output:\n{_shown(output)}")
    return output.decode("utf-8", "replace")


def _shown(output: bytes) -> str:
    text = output.decode("utf-8", "replace").strip()
    return text if len(text) <= OUTPUT_CHARS else "[...]\n" + text[-OUTPUT_CHARS:]


def _words(command: list[str]) -> str:
    return " ".join(command)


# ---------------------------------------------------------------- conda and containers


def _conda(wanted: str) -> Launch:
    prefix = find_conda(wanted)
    env = {
        "CONDA_PREFIX": prefix,
        "CONDA_DEFAULT_ENV": wanted,
        "PATH": os.path.join(prefix, "bin") + os.pathsep + os.environ.get("PATH", os.defpath),
    }
    state = os.path.join(prefix, "conda-meta", "state")
    with contextlib.suppress(OSError, ValueError, AttributeError), open(state, encoding="utf-8") as file:
        env.update({str(k): str(v) for k, v in json.load(file).get("env_vars", {}).items()})
    python = os.path.join(prefix, "bin", "python")
    if not os.access(python, os.X_OK):
        raise SetupError(f"the conda environment {prefix} has no Python ({python})")
    scripts = os.path.join(prefix, "etc", "conda", "activate.d")
    if os.path.isdir(scripts):
        return Launch(["bash", "-c", ACTIVATE, "activate", python], env)
    return Launch([python], env)


def find_conda(wanted: str) -> str:
    """The directory of a conda environment, by its path or name. Raises SetupError with the places that were tried."""
    if os.path.isabs(wanted):
        if os.path.isdir(wanted):
            return wanted
        raise SetupError(f"there is no conda environment {wanted} on this node")
    roots = [os.path.expanduser(f"~/{name}") for name in ("miniconda3", "miniforge3", "anaconda3", "mambaforge")]
    for name in ("CONDA_EXE", "MAMBA_EXE"):
        if os.environ.get(name):
            roots.insert(0, os.path.dirname(os.path.dirname(os.environ[name])))
    if os.environ.get("MAMBA_ROOT_PREFIX"):
        roots.insert(0, os.environ["MAMBA_ROOT_PREFIX"])
    listed = (os.environ.get("CONDA_ENVS_PATH") or os.environ.get("CONDA_ENVS_DIRS") or "").split(os.pathsep)
    folders = [*filter(None, listed), *(os.path.join(r, "envs") for r in roots), os.path.expanduser("~/.conda/envs")]
    tried = [os.path.join(folder, wanted) for folder in folders]
    if wanted == "base":
        tried = roots
    for path in tried:
        if os.path.isdir(path):
            return path
    raise SetupError(
        f"there is no conda environment {wanted!r} on this node; looked at {', '.join(dict.fromkeys(tried))}. "
        "Its path can be given instead of its name"
    )


def _container(spec: NodeSpec, wish: Mapping[str, Any]) -> Launch:
    prefix = list(wish.get("prefix") or [])
    if not prefix:
        tool = shutil.which("apptainer") or shutil.which("singularity")
        if tool is None:
            raise SetupError("there is neither apptainer nor singularity on this node (is a module to be loaded?)")
        prefix = [tool, "exec", "--bind", spec.dir, *wish.get("run_options", []), wish["image"]]
    return Launch([*prefix, wish.get("python") or "python3"])
