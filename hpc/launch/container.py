"""`--container`: what is to be seen inside of the image, and the way in, for the nodes, the workers and the script."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

from hpc.core.runenv.interpreters import sites
from hpc.launch import jobdir
from hpc.launchers.containers import RUN_MODULE, RUN_SCRIPT, RUNTIMES, GpuMaker, Inside, guarded, prelude
from hpc.launchers.node_group import Surroundings
from hpc.launchers.registry import Place
from hpc.settings.errors import CliError
from hpc.settings.options import Settings

#: Of those that are looked for where none was named.
USUAL = ("apptainer", "singularity")
#: The device files by which a maker's driver is known.
DRIVERS: dict[str, GpuMaker] = {"/dev/nvidiactl": "nvidia", "/dev/kfd": "amd"}
#: Variables that are the image's own business.
OWN = ("PATH", "HOME", "LD_LIBRARY_PATH", "LD_PRELOAD", "PYTHONHOME", "PYTHONPATH", "VIRTUAL_ENV", "CONDA_PREFIX")


def enclose(settings: Settings, place: Place) -> Surroundings | None:
    """In what the nodes run; None where no image was asked for. CliError for what cannot be."""
    if not settings["container"]:
        return None
    if settings["stage"]:
        what = "--container and --stage do not go together: an image has its own environment"
        raise CliError("USAGE", what, where=settings.origin("stage"), fix="one of the two")
    if place.alloc is not None and not place.scheduler.starts_with:
        what = f"--container means nothing here: {place.scheduler.title} starts the nodes with the job"
        raise CliError("USAGE", what, where=settings.origin("container"))
    runtime = runtime_of(settings)
    inside = Inside(
        image_path(settings["container"]), tuple(binds(settings)), os.getcwd(), gpus(),
        tuple(sorted(name for name in os.environ if name not in OWN)),
    )  # fmt: skip
    way = RUNTIMES[runtime](inside)
    if way.step and place.kind == "local":
        what = f"{runtime} enters an image by an option of the command that starts the nodes of a job"
        raise CliError("USAGE", what, where=settings.origin("container_runtime"), fix="--container-runtime=apptainer")
    code = prelude(sys.version_info[:2], outside())
    return Surroundings(
        settings["container_python"] or "python3", wrap=tuple(guarded(way.wrap)), step=way.step, code=code
    )


def runtime_of(settings: Settings) -> str:
    """The one that was named, else one that is on this machine."""
    named = settings["container_runtime"]
    found = next((name for name in USUAL if shutil.which(name)), None)
    if not named and found is None:
        what = f"no container runtime was named, and neither {' nor '.join(USUAL)} is here"
        fix = f"--module=NAME that has one, or --container-runtime={'|'.join(RUNTIMES)}"
        raise CliError("CONTAINER", what, fix=fix)
    return str(named or found)


def image_path(image: str) -> str:
    """An image that is a file or a folder by its full path: nodes have another current folder."""
    return os.path.abspath(image) if os.path.exists(image) else image


def gpus() -> GpuMaker:
    return next((maker for path, maker in DRIVERS.items() if os.path.exists(path)), "")


def binds(settings: Settings) -> list[str]:
    """The folders that are there inside too: none of them lies in another one.

    They are those of the nodes (sockets, logs), of shared memory, of the job with its join file, and of the script. The
    packages of this Python come too.
    """
    base = settings["tmpdir"] or os.environ.get("HPC_TMPDIR") or os.environ.get("TMPDIR") or "/tmp"
    wanted = [base, "/tmp", "/dev/shm", os.getcwd(), *settings["container_bind"]]
    shared = os.environ.get("HPC_JOB_DIR") or os.path.expanduser("~/.hpc")
    wanted += [shared, str(jobdir.expand(settings["job_dir"]))]
    script = settings.script or ""
    wanted += [os.path.dirname(os.path.abspath(script))] if os.path.exists(script) else []
    wanted += [*outside(), *packages()]
    found = sorted({os.path.realpath(path) for path in wanted if os.path.isdir(path)})
    return [path for path in found if not any(path != other and Path(path).is_relative_to(other) for other in found)]


def outside() -> list[str]:
    """Where this Python finds packages, but for the folder of the program that it runs."""
    own = os.path.dirname(os.path.abspath(sys.argv[0]))
    return [path for path in sites() if os.path.abspath(path) != own]


def packages() -> list[str]:
    """Where this package's own parts are: an editable install has them in a source tree."""
    import hpc
    import hpc.core
    import hpc.launchers
    import hpc.templates

    return [path for part in (hpc, hpc.core, hpc.launchers, hpc.templates) for path in part.__path__]


def script_command(around: Surroundings, argv: Sequence[str], *, module: bool) -> list[str]:
    """The user's command line inside of the image: the words after the way in."""
    if argv[0] != sys.executable:
        return list(argv)
    run = RUN_MODULE if module else RUN_SCRIPT
    return [around.python, "-c", around.code + run, *argv[2 if module else 1 :]]
