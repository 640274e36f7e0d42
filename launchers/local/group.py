"""Supervisors on this machine: the nodes of a laptop, of tests, and the gateway of a driver outside a job.

hpc-launch has one thread and nothing else to do, so it forks them: that saves an interpreter's start and all imports
per node. A fork would break the threads of a user's process (`hpc.init`), so there the node program is executed.

The nodes divide this machine: CPUs, memory and GPUs, unless the user says what each has. What a supervisor writes to
stderr (only if it fails) goes the way of its reports. So the error can quote it, and no terminal is written to.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Sequence
from typing import Any, Protocol

from hpc.core.node.process import fork_child, thread_count
from hpc.core.node.reap import children_of, signal_all
from hpc.launchers.node_group import HERE, Channel, NodeGroup, Surroundings, node_command

SupervisorMain = Callable[[int, int, int], int]


class Bearer(Protocol):
    """What forks nodes in the place of executing them: see `launchers/local/nursery.py`."""

    def bear(self, words: Sequence[str], stdin_fd: int, stdout_fd: int, apart: bool) -> int | None:
        """The pid of a new node with these words of the node program; None where it must be executed.

        It has other pipes then: a node that nobody knows may have got these."""

    def close(self) -> None:
        """End it."""


#: The one of this process, if it keeps one.
BEARERS: list[Bearer] = []


class LocalGroup(NodeGroup):
    """`size` supervisors on this machine.

    fork: fork them from this process, which must have one thread and must not have made a zmq.Context.
        With more than one thread they are executed after all.
    command, supervisor: the program, or the function (rank, stdin_fd, stdout_fd), to run instead (tests).
    share: how many nodes divide this machine; by default those of this group.
    first_rank: of the first one, where it is a part of a larger group.
    around: in what they run, if not as this process does; they are executed then.
    owned: a folder that does not outlive a node that is forked (that of `around`, one that is executed).
    apart: in a session of their own, out of reach of whoever signals all processes of the launcher's.
    """

    local = True

    def __init__(
        self,
        size: int = 1,
        *,
        fork: bool = False,
        share: int | None = None,
        first_rank: int = 0,
        apart: bool = False,
        command: Sequence[str] | None = None,
        around: Surroundings | None = None,
        owned: str = "",
        supervisor: SupervisorMain | None = None,
    ) -> None:
        super().__init__(size)
        around = around or HERE
        self.fork = fork and around.usual
        self.share = size if share is None else share
        self.first_rank = first_rank
        self.apart = apart
        self._owned = owned
        self._command = list(command) if command is not None else node_command(around)
        self._usual = command is None and around.usual
        self._supervisor = supervisor
        self._pids: dict[int, int] = {}  # rank → pid of the keeper
        self._codes: dict[int, int] = {}

    def start_fields(self) -> dict[str, Any]:
        return {"config": {"machine_share": self.share}}

    def describe(self) -> str:
        return f"{self.size} local node{'s' if self.size > 1 else ''}"

    @property
    def forked(self) -> bool:
        """Whether the supervisors are forked rather than executed."""
        return self.fork and thread_count() == 1

    def _launch(self) -> list[Channel]:
        start_one = self._fork_one if self.forked else self._execute_one
        if self.forked:
            from hpc.core.node.programs import CHILDREN

            CHILDREN.preload(head=True)  # once, for all that are forked
        return [start_one(rank) for rank in range(self.first_rank, self.first_rank + self.size)]

    def _fork_one(self, rank: int) -> Channel:
        stdin_read, stdin_write = os.pipe()
        stdout_read, stdout_write = os.pipe()
        launcher_pid = os.getpid()

        def body() -> int:
            # Ctrl-C is for the launcher, which decides what it means.
            os.setsid() if self.apart else os.setpgid(0, 0)
            os.dup2(stdout_write, 2)
            if self._supervisor is not None:
                return self._supervisor(rank, stdin_read, stdout_write)
            from hpc.core.node.supervisor import supervisor_main

            return supervisor_main(rank, stdin_read, stdout_write, launcher_pid=launcher_pid, owned=self._owned)

        try:
            pid = fork_child(body, name="hpc-node", keep=(stdin_read, stdout_write), death_signal=None)
        finally:
            os.close(stdin_read)
            os.close(stdout_write)
        self._pids[rank] = pid
        return Channel(stdin_write, stdout_read, [rank])

    def _execute_one(self, rank: int) -> Channel:
        words = ["--rank", str(rank), "--launcher-pid", str(os.getpid())]
        if self._usual and BEARERS:
            bear = BEARERS[0].bear
            found = self._with_pipes(rank, lambda stdin, stdout: bear(words, stdin, stdout, self.apart))
            if found is not None:
                return found
        command = [*self._command, *words]
        found = self._with_pipes(rank, lambda stdin, stdout: self._execute(command, stdin, stdout))
        assert found is not None
        return found

    def _with_pipes(self, rank: int, make: Callable[[int, int], int | None]) -> Channel | None:
        """The channel to what `make` starts with the far ends of two pipes; None if it starts nothing."""
        stdin_read, stdin_write = os.pipe()
        stdout_read, stdout_write = os.pipe()
        pid = None
        try:
            pid = make(stdin_read, stdout_write)
        finally:
            os.close(stdin_read)
            os.close(stdout_write)
            if pid is None:
                os.close(stdin_write)
                os.close(stdout_read)
        if pid is None:
            return None
        self._pids[rank] = pid
        return Channel(stdin_write, stdout_read, [rank])

    def _execute(self, command: list[str], stdin_fd: int, stdout_fd: int) -> int:
        import subprocess  # the forked path does without

        process = subprocess.Popen(
            command, stdin=stdin_fd, stdout=stdout_fd, stderr=stdout_fd, start_new_session=self.apart
        )
        process.returncode = 0  # this class waits for it, not subprocess
        return process.pid

    def poll(self) -> int | None:
        for rank in self._pids.keys() - self._codes.keys():
            try:
                pid, status = os.waitpid(self._pids[rank], os.WNOHANG)
            except ChildProcessError:  # the user's program waited for any child and got ours
                self._codes[rank] = 0
                continue
            if pid:
                self._codes[rank] = os.waitstatus_to_exitcode(status)
        if len(self._codes) < len(self._pids):
            return None
        return max(self._codes.values(), key=abs, default=0)

    def pids(self) -> frozenset[int]:
        """The processes that were started and have not been waited for."""
        return frozenset(pid for rank, pid in self._pids.items() if rank not in self._codes)

    def kill(self) -> None:
        """Kill the supervisors; their keepers then clear up and end."""
        self.poll()
        for rank in self._pids.keys() - self._codes.keys():
            keeper = self._pids[rank]
            below = children_of(keeper)
            signal_all(below or [keeper], signal.SIGKILL)
