"""Jobs on nodes that share no file system with this machine: what goes there, and how (`--carry`).

The script and the user's files are copied into the job's folder. A process beside this command (launchers/porter.py)
has them for the nodes, and takes what the job writes. So the folder here is as always: whoever follows the job sees no
difference. The scheduler brings the nodes one script, which no other user can read. It has the key.
"""

from __future__ import annotations

import os
import secrets
import shlex
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from hpc.launch.jobdir import JobDir, has_ended
from hpc.launchers.carried import FILES
from hpc.launchers.carrier import PROGRAM
from hpc.launchers.joinfile import JoinFile, JoinFileError
from hpc.launchers.porter import KEPT, PorterProcess
from hpc.settings import errors
from hpc.settings.errors import CliError
from hpc.settings.options import Settings

#: The script that the scheduler brings to the nodes. Hidden: it is not carried itself.
BRINGS = ".brings.sh"
MOST_BYTES = 1 << 30
NOT_CARRIED = ("__pycache__", ".git", ".venv")


@dataclass(frozen=True)
class Carriage:
    """Where the folder of one job is on its nodes. key: the text of the porter's join file."""

    base: str
    number: int
    key: str = "(the key)"

    @property
    def folder(self) -> str:
        return f"{self.base}/{self.number}"

    @property
    def files(self) -> str:
        """Where the script runs."""
        return f"{self.folder}/{FILES}"

    def brings(self, script: str, text: str, numbers_env: str) -> str:
        """The text of `BRINGS`: it runs the job script, which has this text, when the folder is there. numbers_env: as
        in the scheduler's face."""
        shell = ["/bin/bash", "-l"] if text.startswith("#!/bin/bash -l") else ["/bin/bash"]
        command = [sys.executable, "-c", PROGRAM]
        which = f'"${{{numbers_env}}}"' if numbers_env else "1"
        lines = [
            "#!/bin/bash",
            "# Carries the job's folder to this node, and runs the job. The key is for this job alone.",
            "umask 077",
            "hpc_key=$(mktemp) || exit 1",
            "cat > \"$hpc_key\" <<'HPC_KEY'",
            self.key,
            "HPC_KEY",
            f'exec {shlex.join(command)} "$hpc_key" {shlex.join([self.base, str(self.number)])} {which} -- '
            + shlex.join([*shell, f"{self.folder}/{script}"]),
        ]
        return "\n".join(lines) + "\n"


def carriage(settings: Settings, folder: Path, join: JoinFile | None = None) -> Carriage | None:
    """None where the nodes share a file system. join: of the job's porter; without one the job is only shown."""
    if not settings["carry"]:
        return None
    base = f"{settings['tmpdir'] or '/tmp'}/hpc-carried-{secrets.token_hex(6)}"
    return Carriage(base, int(folder.name), join.text if join is not None else "(the key)")


def check(settings: Settings) -> None:
    """CliError for options that cannot be had together."""
    if not settings["carry"]:
        return
    least, most = settings["nodes"]
    if least != most:
        what = "a session that grows cannot be had with --carry: further jobs join by a folder that all nodes share"
        raise CliError("USAGE", what, where=settings.origin("nodes"), fix=f"--nodes={most}")
    for name in ("detach", "chain"):
        if settings[name]:
            what = f"--{name} cannot be had with --carry: this command carries the job's files and has to stay"
            raise CliError("USAGE", what, where=settings.origin(name), fix=f"without --{name}")


def copy_files(settings: Settings, folder: Path) -> None:
    """The script and what --carry names, as they are now, into the folder. What is below the working directory keeps
    its place in it; other things have their own names there."""
    paths = [str(each) for each in settings["carry"]]
    if settings.script and not settings["as_module"] and os.path.isfile(settings.script):
        paths.append(str(settings.script))
    left = MOST_BYTES
    for path in paths:
        if not os.path.exists(path):
            raise CliError("USAGE", f"--carry: there is no {path}", where=os.getcwd())
        left -= size(path)
        if left < 0:
            what = f"--carry: more than {MOST_BYTES >> 30} GiB"
            raise CliError("USAGE", what, where=path, fix="what is large belongs onto the nodes before the job begins")
        target = folder / FILES / place_of(path)
        target.parent.mkdir(parents=True, exist_ok=True)
        try:
            if os.path.isdir(path):
                ignored = shutil.ignore_patterns(*NOT_CARRIED)
                shutil.copytree(path, target, dirs_exist_ok=True, ignore=ignored)
            else:
                shutil.copy2(path, target)
        except (OSError, shutil.Error) as error:
            raise CliError("USAGE", f"--carry: {path} cannot be copied", why=str(error)) from None


def place_of(path: str) -> str:
    """Where a path goes below the folder in which the script runs."""
    inside = os.path.relpath(os.path.abspath(path))
    return os.path.basename(os.path.abspath(path)) if inside.startswith("..") else inside


def size(path: str) -> int:
    """How many bytes of a file, or of all that is carried of a folder."""
    if not os.path.isdir(path):
        return os.stat(path).st_size
    total = 0
    for top, folders, names in os.walk(path):
        folders[:] = [name for name in folders if name not in NOT_CARRIED]
        total += sum(os.lstat(os.path.join(top, name)).st_size for name in names)
    return total


@contextmanager
def porter(folder: Path, output: str | None, interface: str | None) -> Iterator[JoinFile]:
    """The porter of a job's folder, as long as the block lasts."""
    folder.mkdir(exist_ok=True, mode=0o700)
    try:
        process = PorterProcess(folder, Path(output) if output else None, interface)
    except JoinFileError as error:
        raise CliError("JOB-DIR", "the job's files cannot be carried", why=str(error)) from None
    try:
        yield process.join
    finally:
        process.close()


@contextmanager
def again(job: JobDir) -> Iterator[None]:
    """The porter of a job that was left, if it has one and goes on, as long as the block lasts."""
    if not (job.path / KEPT).exists() or has_ended(job.status()):
        yield
        return
    log = str(job.job().get("log", ""))
    try:
        with porter(job.path, log if log != str(job.log) else None, None):
            yield
    except CliError as error:
        errors.note(f"{error}: another command may follow the job; what it wrote last is not here yet")
        yield
