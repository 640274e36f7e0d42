"""The nodes of a PBS job as one group: the first is here, the others are tasks of the job that dial in.

A process that PBS starts on a node of the job has no standard input, and its output goes to the job's. PBS's library
gives it variables, which only the user can see (tasks.py): our environment, and the text of the join file. Old releases
have no such library, and their commands (pbs_tmrsh, Torque's pbsdsh) carry nothing. There the join file, and a script
with the environment, lie in a folder that the nodes share, and only the user can read them.
All tasks are started at once. The first node is no task of its own: PBS runs the job script there.
"""

from __future__ import annotations

import json
import os
import secrets
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from hpc.core.node.bootstrap import Noise, Report
from hpc.launchers.dial_in import DialInGroup
from hpc.launchers.joiner import joiner_command
from hpc.launchers.node_group import Channel, Surroundings
from hpc.launchers.pbs import tasks
from hpc.launchers.pbs.commands import carried, task_script
from hpc.launchers.pbs.dialects import OPEN_PBS, Dialect
from hpc.launchers.pbs.torque import Processors
from hpc.launchers.scheduler import Allocation, JobInfo

GRANT_ENV = {"cpus": ["NCPUS"]}
END_S = 3.0  # so long the commands of tasks may take to end once their nodes have; that of a node that is gone does not


def shared_folder(env: Mapping[str, str]) -> Path:
    """Where the files of the group go: beside the folders of jobs, which the nodes share."""
    return Path(env.get("HPC_JOB_DIR") or Path(env.get("HOME") or "~", ".hpc")).expanduser()


class PbsGroup(DialInGroup):
    """`nodes` of an allocation (all of them by default), in the order of the node file.

    library: the path of PBS's library; without one nodes are started by `starter`, the path of the dialect's command.
    processors: of the job, by its node file. job: what the server said of it; without it the time left is unknown.
    step_args: words of the user that each task is started with, ahead of its own (a wrapper).
    """

    def __init__(
        self,
        alloc: Allocation,
        starter: str,
        *,
        library: str | None = None,
        dialect: Dialect = OPEN_PBS,
        processors: Processors | None = None,
        nodes: int | None = None,
        job: JobInfo | None = None,
        fork: bool = False,
        step_args: Sequence[str] = (),
        env: Mapping[str, str] | None = None,
        around: Surroundings | None = None,
    ) -> None:
        count = len(alloc.nodes) if nodes is None else nodes
        if count > len(alloc.nodes):
            raise ValueError(f"the allocation has {len(alloc.nodes)} nodes, not {count}")
        self._env = dict(os.environ if env is None else env)
        self._folder = shared_folder(self._env)
        name = f"join-{alloc.job_id}-{secrets.token_hex(4)}"
        # PBS signals all processes of the job script's session at once: the node must outlive what it is for.
        super().__init__(count, str(self._folder / name), fork=fork, apart=True, around=around)
        self.alloc = alloc
        self.job_id = alloc.job_id
        self.hosts = alloc.nodes[:count]
        self.job = job
        self.runs_again = job is not None and job.runs_again
        self._starter, self._library, self._step_args, self._dialect = starter, library, step_args, dialect
        self._processors = processors or Processors(self.hosts)
        self._script = self._folder / f"{name}.sh"
        self._own_folder = ""  # with the join file, on this machine alone
        self._tasks: list[subprocess.Popen[bytes]] = []  # what was started here to start them
        self._killed_at: float | None = None

    # -------------------------------------------------------------- what NodeGroup asks for

    def start_fields(self) -> dict[str, Any]:
        grants = self._dialect.grants(self.hosts, self.job, self._processors)
        fields: dict[str, Any] = {"grant_env": GRANT_ENV, "grants": grants}
        if self.job is not None:
            fields["time_left_s"] = self.job.time_left_s
        return fields

    def host_of(self, rank: int) -> str | None:
        return self.hosts[rank] if rank < len(self.hosts) else None

    def describe(self) -> str:
        return f"{self.size} node{'s' if self.size > 1 else ''} of PBS job {self.alloc.job_id}"

    def _launch(self) -> list[Channel]:
        if self.size > 1 and self._library is not None:
            self._own_folder = tempfile.mkdtemp(prefix="join-")
            self.join_path = os.path.join(self._own_folder, "join")
        elif self.size > 1:
            self._folder.mkdir(parents=True, exist_ok=True)
        channels = super()._launch()
        return [*channels, self._ends] if self._tasks else channels

    def _call(self) -> None:
        read_fd, write_fd = os.pipe()
        try:
            if self._library is not None:
                self._start_by_library(self._library, write_fd)
            else:
                self._start_by_commands(write_fd)
        finally:
            os.close(write_fd)
            self._ends = _TaskEnds(self, read_fd)

    def _start_by_library(self, library: str, out: int) -> None:
        order = tasks.order(library, self.join_path, self.hosts, self._step_args, carried(self._env), os.getcwd())
        process = self._start([sys.executable, "-c", tasks.PROGRAM], out, stdin=subprocess.PIPE)
        assert process.stdin is not None
        with process.stdin as stdin:
            stdin.write(json.dumps(order).encode() + b"\n")

    def _start_by_commands(self, out: int) -> None:
        program = joiner_command(self.join_path, None, self.around)
        fd = os.open(self._script, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
        with os.fdopen(fd, "w") as file:
            file.write(task_script(self._env, os.getcwd(), program))
        for rank in range(1, self.size):
            host, script = self.hosts[rank], str(self._script)
            command = self._dialect.task(self._starter, host, self._processors, script, rank, self._step_args)
            self._start(["/bin/sh", "-c", self._dialect.watch, str(rank), *command], out, stdin=subprocess.DEVNULL)

    def _start(self, argv: Sequence[str], out: int, *, stdin: int) -> subprocess.Popen[bytes]:
        process = subprocess.Popen(
            argv, stdin=stdin, stdout=out, stderr=out, env=self._env, start_new_session=True
        )  # fmt: skip
        self._tasks.append(process)
        return process

    @property
    def by_library(self) -> bool:
        """Whether nodes need no folder that they share."""
        return self._library is not None

    def poll(self) -> int | None:
        code = super().poll()
        if code is None:
            return None
        running = [task for task in self._tasks if task.poll() is None]
        if running and (self._killed_at is None or time.monotonic() < self._killed_at + END_S):
            if self._killed_at is None:
                self._killed_at = time.monotonic()
            return None
        for task in running:  # PBS ends what it started there with the job
            task.kill()
            task.wait()
        return code

    def kill(self) -> None:
        """The others end because their connection does; how they end, PBS says a little later."""
        if self._killed_at is None:
            self._killed_at = time.monotonic()
        super().kill()

    def close(self) -> None:
        super().close()
        self._script.unlink(missing_ok=True)
        if self._own_folder:
            shutil.rmtree(self._own_folder, ignore_errors=True)


class _TaskEnds(Channel):
    """What the tasks' commands say, and how each of them ended. Its other direction leads nowhere."""

    def __init__(self, group: PbsGroup, stdout_fd: int) -> None:
        super().__init__(os.open(os.devnull, os.O_WRONLY | os.O_CLOEXEC), stdout_fd, ())
        self.group = group

    def read(self) -> list[Report | Noise]:
        found: list[Report | Noise] = []
        for item in super().read():
            words = item.text.split() if isinstance(item, Noise) else []
            if len(words) == 3 and words[0] == "task" and words[1].isdigit():
                found += self.ended(int(words[1]), int(words[2]))
            elif isinstance(item, Noise):
                self.group.last_words.append(item.text.strip())
                found.append(item)
        return found

    def ended(self, rank: int, code: int) -> list[Report | Noise]:
        """A task that ended well was told to; one that did not may never have been a node."""
        if code == 0:
            return []
        return [
            Report(rank, {"op": "bye", "code": code, "why": f"its task ended with {code}{_hint(code, self.group)}"})
        ]


def _hint(code: int, group: PbsGroup) -> str:
    if code in (2, 127) and not group.by_library:
        return f"; is {group.join_path.rpartition('/')[0]} on a file system that the nodes share, and this Python?"
    if code == 254:  # what the server there says of a program that it cannot run
        return "; PBS could not start it there"
    return "; the job's output may say more"
