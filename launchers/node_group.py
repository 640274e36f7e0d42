"""What every way of starting supervisors shares: groups of nodes and the pipes to them.

A *group* is a number of supervisors that were started together and read the same broadcast. It is the N processes of
`LocalGroup`, or one step of a job with a task per node. A subclass says how to start it, whether it still runs and how
to end it by force. The pipes, the lines and the pending bytes are handled here, so that `launchers.session.Session`
sees all schedulers alike.

A subclass has `_launch() -> list[Channel]`, `poll()` and `kill()`, and may override `start_fields()`,
`host_of()` and `describe()`. Nothing here blocks.

Rejected: a thread per pipe (the launcher forks, and stays single threaded until it did); asyncio (100 ms
of imports at the start of every `hpc-launch`).
"""

from __future__ import annotations

import os
import sys
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from hpc.core.node.bootstrap import Noise, Report, ReportDecoder, encode_command

#: The node program. Empty entries leave sys.path, so that a user's core.py beside a script is not imported. The garbage
#: collector, which only costs time while modules are imported, is turned on by `main`.
NODE_PROGRAM = (
    "import gc, sys; gc.disable(); sys.path[:]=[p for p in sys.path if p]; "
    "from hpc.core.node.supervisor import main; main()"
)

READ_BYTES = 1 << 16
GroupState = Literal["new", "running", "ended"]


@dataclass(frozen=True)
class Surroundings:
    """In what the processes of nodes run, where that is not what this process runs in.

    python: their interpreter. owned: a folder on each node's disk that must not outlive the node.
    wrap, step, code: enter a container. They are words ahead of the interpreter, options of the command that starts the
    nodes, and what the interpreter runs ahead of our programs.
    """

    python: str = sys.executable
    owned: str = ""
    wrap: tuple[str, ...] = ()
    step: tuple[str, ...] = ()
    code: str = ""

    @property
    def usual(self) -> bool:
        """Whether it is what this process runs in, so that nodes may be forked from it."""
        return self == HERE

    def command(self, program: str, *words: str) -> list[str]:
        """The command line of a program of ours, given as Python code, in these surroundings."""
        return [*self.wrap, self.python, "-c", self.code + program, *words]


HERE = Surroundings()


def node_command(around: Surroundings = HERE) -> list[str]:
    """The command of the node program, without `--rank R` or `--rank-env NAME`."""
    return around.command(NODE_PROGRAM, *(["--owned", around.owned] if around.owned else []))


class Channel:
    """The pipes to one started process: its stdin, where commands go, and its stdout, where reports come from.

    `ranks` are the ranks (numbers in the group) that speak through it: one for a local supervisor, all of
    the group for a step. Both descriptors belong to the channel and are made non-blocking.
    """

    def __init__(self, stdin_fd: int, stdout_fd: int, ranks: Sequence[int]) -> None:
        self.stdin_fd = stdin_fd
        self.stdout_fd = stdout_fd
        self.ranks = ranks
        self.eof = False
        self._decoder = ReportDecoder()
        self._pending = bytearray()
        os.set_blocking(stdin_fd, False)
        os.set_blocking(stdout_fd, False)

    @property
    def wants_write(self) -> bool:
        """Whether bytes wait for room in the pipe."""
        return bool(self._pending) and self.stdin_fd >= 0

    def queue(self, data: bytes) -> None:
        """Send as much as the pipe takes and keep the rest for `flush`."""
        if self.stdin_fd >= 0:
            self._pending += data
            self.flush()

    def flush(self) -> None:
        """Write pending bytes; a reader that is gone closes this direction."""
        while self.wants_write:
            try:
                written = os.write(self.stdin_fd, self._pending)
            except BlockingIOError:
                return
            except OSError:
                self.close_stdin()
                return
            del self._pending[:written]

    def read(self) -> list[Report | Noise]:
        """What has come; at the end of the stream `eof` becomes true and stdout is closed."""
        if self.eof:
            return []
        try:
            data = os.read(self.stdout_fd, READ_BYTES)
        except BlockingIOError:
            return []
        except OSError:
            data = b""
        if data:
            return self._decoder.feed(data)
        self.eof = True
        os.close(self.stdout_fd)
        self.stdout_fd = -1
        return self._decoder.finish()

    def close_stdin(self) -> None:
        """End of file for the supervisors of this channel: they end at once."""
        if self.stdin_fd >= 0:
            os.close(self.stdin_fd)
            self.stdin_fd = -1
        self._pending.clear()

    def close(self) -> None:
        """Close both directions."""
        self.close_stdin()
        self.eof = True
        if self.stdout_fd >= 0:
            os.close(self.stdout_fd)
            self.stdout_fd = -1


class NodeGroup(ABC):
    """`size` supervisors, ranks 0 to size-1, that start together and read one broadcast."""

    #: true when all supervisors of the group run on the machine of the launcher
    local = False
    #: the scheduler's id of the job that the nodes belong to, "" where there is none
    job_id = ""
    #: the interface that the nodes are to listen on, by name or address, if the user said: set before the start
    interface: str | None = None
    #: the job that the nodes belong to may be put back into the queue after it ran
    runs_again = False
    #: what the command that starts the nodes said last, apart from their own words
    last_words: Sequence[str] = ()
    #: what the user should know of these nodes, known before they start
    notices: Sequence[str] = ()

    def __init__(self, size: int) -> None:
        if size < 1:
            raise ValueError(f"a group has at least one node, not {size}")
        self.size = size
        #: hosts where nothing could be started, and why; the other nodes of the group may have ended with that
        self.refused: dict[str, str] = {}
        self.state: GroupState = "new"
        self.channels: list[Channel] = []

    # -------------------------------------------------------------- what a subclass says

    @abstractmethod
    def _launch(self) -> list[Channel]:
        """Start the supervisors and return the pipes; OSError or RuntimeError when that is impossible."""

    @abstractmethod
    def poll(self) -> int | None:
        """None while anything that was started runs, then an exit code (-N for a signal). Never blocks."""

    @abstractmethod
    def kill(self) -> None:
        """End by force what still runs; return at once, `poll` tells the rest."""

    def without_refused(self) -> NodeGroup | None:
        """Another group, of nodes that have refused nothing so far; None where there are none."""
        return None

    def leave(self) -> None:
        """All nodes of the group have ended or cannot be reached. Nothing of it is waited for any more, and there is
        nothing to clear up."""
        self.kill()

    def start_fields(self) -> dict[str, Any]:
        """What this group adds to the start message: "grant_env", "time_left_s", "config", ..."""
        return {}

    def mpi_command(self, hosts: Sequence[str], per_node: int, cpus: int) -> list[str] | None:
        """The words ahead of a command line that make an MPI program of it, by the scheduler's own means. They are for
        one of the nodes, and so many processes with so many CPUs on each of these hosts. None where it has no means."""
        return None

    def host_of(self, rank: int) -> str | None:
        """The host where `rank` was to start, if the scheduler told: to name nodes that never answered."""
        return None

    def describe(self) -> str:
        """Which group this is, in an error: "2 local nodes"."""
        return f"{type(self).__name__} of {self.size}"

    # -------------------------------------------------------------- what is the same for all

    def start(self) -> None:
        """Start the supervisors. They wait for the start message."""
        if self.state != "new":
            raise RuntimeError(f"{self.describe()} was started before")
        self.channels = self._launch()
        self.state = "running"

    def send(self, message: Mapping[str, Any]) -> None:
        """Send a message to all ranks of the group."""
        data = encode_command(message)
        for channel in self.channels:
            channel.queue(data)

    @property
    def silent(self) -> bool:
        """Whether every stream has ended: no supervisor of the group is left."""
        return all(channel.eof for channel in self.channels)

    def close(self) -> None:
        """Close the pipes: whatever still listens ends."""
        for channel in self.channels:
            channel.close()
        self.state = "ended"
