"""Container runtimes: from what is wanted of a container to the words that run a program in it. Pure.

Each runtime is one function. A word ahead of the program enters the image (`wrap`). Or an option of the command that
starts the nodes does so, where the scheduler has a plug-in for that (`step`). Folders are seen at the same path inside
as outside, since paths travel between processes: node directories and their sockets, shared memory, the job's folder.
The flags are those of the runtimes' own documentation, which each function names.
Rejected: a container for each worker. Nodes, workers and the script are to have the same packages, and zygotes fork.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

GpuMaker = Literal["", "nvidia", "amd"]


@dataclass(frozen=True)
class Inside:
    """What is wanted: an image, folders that are there inside too, the folder to be in, the maker of the GPUs.

    env: names of variables that go in, for runtimes that let none in by themselves.
    """

    image: str
    binds: tuple[str, ...] = ()
    cwd: str = ""
    gpus: GpuMaker = ""
    env: tuple[str, ...] = ()


@dataclass(frozen=True)
class Enclosed:
    """How a program gets into it. program: what has to be on the node."""

    wrap: tuple[str, ...] = ()
    step: tuple[str, ...] = ()
    program: str = ""


def apptainer(wanted: Inside, program: str = "apptainer") -> Enclosed:
    """Apptainer and SingularityCE: `exec`, `--bind`, `--pwd`, `--nv`, `--rocm` of the user guides' chapter on commands.

    Variables go in by themselves. IMAGE is a .sif file, a folder, or docker://...
    """
    words = [program, "exec"]
    words += ["--bind", ",".join(wanted.binds)] if wanted.binds else []
    words += ["--pwd", wanted.cwd] if wanted.cwd else []
    words += {"nvidia": ["--nv"], "amd": ["--rocm"]}.get(wanted.gpus, [])
    return Enclosed((*words, wanted.image), program=program)


def singularity(wanted: Inside) -> Enclosed:
    """The same under its former name."""
    return apptainer(wanted, "singularity")


def shifter(wanted: Inside) -> Enclosed:
    """Shifter: `--image`, `--volume`, `--workdir`, and the module `gpu` of NERSC's documentation.

    Variables go in by themselves; /tmp and /dev/shm are the node's. IMAGE is docker:NAME:TAG, which was pulled before.
    """
    volumes = [f"--volume={path}:{path}" for path in wanted.binds if not path.startswith(("/tmp", "/dev"))]
    words = ["shifter", f"--image={wanted.image}", *volumes]
    words += [f"--workdir={wanted.cwd}"] if wanted.cwd else []
    words += ["--module=gpu"] if wanted.gpus == "nvidia" else []
    return Enclosed(tuple(words), program="shifter")


def podman(wanted: Inside) -> Enclosed:
    """podman-hpc: `run --rm`, `--volume`, `--workdir`, `--gpu` of NERSC's documentation, the rest of podman's.

    The nodes speak to each other by the machine's network, and to the script beside them by its processes and memory.
    """
    words = ["podman-hpc", "run", "--rm", "--network=host", "--ipc=host", "--pid=host", "--env-host"]
    words += [f"--volume={path}:{path}" for path in wanted.binds]
    words += [f"--workdir={wanted.cwd}"] if wanted.cwd else []
    words += ["--gpu"] if wanted.gpus == "nvidia" else []
    return Enclosed((*words, wanted.image), program="podman-hpc")


def enroot(wanted: Inside) -> Enclosed:
    """Enroot: `start`, `--rw`, `--mount`, `--env` of its manual. GPUs come by its hook and NVIDIA_VISIBLE_DEVICES.

    IMAGE is a .sqsh file, or a container that `enroot create` has made. Variables go in by name only.
    """
    words = ["enroot", "start", "--rw"]
    words += [f"--mount={path}:{path}" for path in wanted.binds]
    words += [f"--env={name}" for name in wanted.env]
    return Enclosed((*words, wanted.image), program="enroot")


def charliecloud(wanted: Inside) -> Enclosed:
    """Charliecloud: `--bind`, `--cd`, `--private-tmp` of ch-run(1). /dev, /proc and /sys are the node's.

    /tmp would be what TMPDIR names outside. IMAGE is a folder, or a name in its storage. Variables go in by themselves.
    """
    own = ("/dev", "/proc", "/sys", "/tmp")
    binds = [
        "/tmp",
        *(path for path in wanted.binds if not path.startswith(tuple(f"{o}/" for o in own)) and path not in own),
    ]
    words = ["ch-run", "--private-tmp", *(word for path in binds for word in ("--bind", f"{path}:{path}"))]
    words += ["--cd", wanted.cwd] if wanted.cwd else []
    return Enclosed((*words, wanted.image, "--"), program="ch-run")


def pyxis(wanted: Inside) -> Enclosed:
    """Pyxis, by its README: the step's `--container-image`, `-mounts`, `-workdir` and `--no-container-entrypoint`.

    Variables go in by themselves, GPUs by Enroot's hook. IMAGE is a .sqsh file or [USER@][REGISTRY#]IMAGE[:TAG].
    """
    mounts = ",".join(f"{path}:{path}" for path in wanted.binds)
    words = [f"--container-image={wanted.image}", *([f"--container-mounts={mounts}"] if mounts else [])]
    words += [f"--container-workdir={wanted.cwd}"] if wanted.cwd else []
    return Enclosed(step=(*words, "--no-container-entrypoint"))


RUNTIMES: Mapping[str, Callable[[Inside], Enclosed]] = {
    "apptainer": apptainer,
    "singularity": singularity,
    "pyxis": pyxis,
    "enroot": enroot,
    "shifter": shifter,
    "podman-hpc": podman,
    "charliecloud": charliecloud,
}

#: For /bin/sh: the runtime is "$0", and must be there. Some of them want to know USER, which a batch job may not have.
_GUARD = (
    'USER="${USER:-$(id -un)}"; export USER; command -v "$0" >/dev/null 2>&1 || { echo "hpc: there is no $0 on '
    '$(uname -n): a module to be loaded (--module=...), or another runtime (--container-runtime=...)?" >&2; exit 127; }'
    '; exec "$0" "$@"'
)


def guarded(wrap: Sequence[str]) -> list[str]:
    """The same words, with an error that helps where the runtime is not there."""
    return ["/bin/sh", "-c", _GUARD, *wrap] if wrap else []


def prelude(version: tuple[int, int], sites: Sequence[str]) -> str:
    """Python code ahead of ours in the image's interpreter.

    Its minor version must be the session's. What it does not have of the session's packages (this one among them) it
    finds where they are outside.
    """
    return (
        f"import site, sys; v = list(sys.version_info[:2]); w = {list(version[:2])}; "
        "v == w or sys.exit('hpc: the Python of the image is %d.%d, and the one outside is %d.%d: they must be the "
        "same' % (*v, *w)); "
        f"[site.addsitedir(p) for p in {json.dumps(list(sites))} if p not in sys.path]; "
    )


#: The user's script in the image's interpreter, as `python SCRIPT` and `python -m MODULE` would run it.
RUN_SCRIPT = (
    "import os, runpy; sys.argv[:1] = []; sys.path[0] = os.path.dirname(os.path.abspath(sys.argv[0])); "
    "runpy.run_path(sys.argv[0], run_name='__main__')"
)
RUN_MODULE = "import runpy; sys.argv[:1] = []; runpy.run_module(sys.argv[0], run_name='__main__', alter_sys=True)"
