"""The user's program as an MPI program over the nodes: by the scheduler's own means, else by MPICH's mpiexec.

The command runs on the first node, below its supervisor, so that it ends with the node and ends all ranks. mpiexec
starts nothing elsewhere by itself: it prints what is to be run on which node, and the supervisors run that.
Rejected: mpiexec with ssh, which sites forbid between nodes, and whose processes nobody ends.
"""

from __future__ import annotations

import shlex
import shutil
import signal
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from hpc.core.node.bootstrap import Message
from hpc.core.node.reap import describe_code
from hpc.launchers.loop import SessionLoop
from hpc.launchers.node_program import NodeProgram, send_program
from hpc.launchers.ranks_run import KILLED_WAIT_S, SESSION_LOST, TERM_GRACE_S, print_line
from hpc.launchers.run import run_command
from hpc.launchers.runtimes.face import RuntimeFault, RuntimeNode
from hpc.launchers.session_nodes import SessionNode

LAUNCH, LAUNCH_END = "HYDRA_LAUNCH: ", "HYDRA_LAUNCH_END"
#: The numbers of the command and of what it has started on each node.
COMMAND, PROXY = 0, 1


def find_mpiexec() -> str:
    """The mpiexec of MPICH or its kin, beside this Python first. RuntimeFault where there is none."""
    beside = str(Path(sys.executable).parent)
    names = ("mpiexec.hydra", "mpiexec")
    for path in [shutil.which(name, path=where) for where in (beside, None) for name in names]:
        if path is not None and "hydra" in run_command([path, "--version"]).out.lower():
            return path
    what = "MPI programs cannot be started: there is no mpiexec of MPICH (Hydra)"
    raise RuntimeFault(what, why=f"beside {sys.executable} and in PATH", fix=f"{sys.executable} -m pip install mpich")


def mpiexec_command(
    mpiexec: str, nodes: Sequence[RuntimeNode], per_node: int, script: Sequence[str], args: Sequence[str] = ()
) -> list[str]:
    """What runs on the first node. Its processes find it by that node's address."""
    first, hosts = nodes[0], ",".join(node.addr for node in nodes)
    where = ["-launcher", "manual", "-rmk", "user"]
    where += ["-localhost", first.addr, "-hosts", hosts, "-ppn", str(per_node), "-n", str(len(nodes) * per_node)]
    return [mpiexec, *where, *args, *script]


class MpiRun:
    """One MPI program. `infos` are its nodes, the first of which runs the command."""

    def __init__(
        self, loop: SessionLoop, infos: Sequence[SessionNode], argv: Sequence[str], env: Mapping[str, str], cwd: str
    ) -> None:
        self.loop, self.session, self.infos, self.cwd = loop, loop.session, list(infos), cwd
        self.env = dict(env)
        self.code: int | None = None
        self.failure = ""
        self._ending = False
        self._rest: dict[tuple[int, int, int], str] = {}
        self._proxies = 0
        self.session.on_output = self._on_output
        loop.each_turn(self._check)
        send_program(self.infos[0], NodeProgram(tuple(argv), self.env), cwd, COMMAND)

    def signal(self, signum: int) -> None:
        """To the command, which passes it on to the ranks, or ends them."""
        only = None if signum == signal.SIGKILL else [self.infos[0].rank]
        for info in self.infos if only is None else self.infos[:1]:
            info.group.send({"op": "signal", "sig": signum, "only": [info.rank]})

    def _on_output(self, info: SessionNode, message: Message) -> None:
        number = int(message["r"])
        if message["op"] == "rank_exit":
            self._flush(info.node, number)
            self._has_ended(info, number, int(message["code"]))
            return
        fd = int(message["fd"])
        key = (info.node, number, fd)
        *lines, self._rest[key] = (self._rest.get(key, "") + str(message["text"])).split("\n")
        for line in lines:
            self._line(fd, line)

    def _line(self, fd: int, line: str) -> None:
        if fd == 1 and line.startswith(LAUNCH) and self._proxies < len(self.infos):
            info = self.infos[self._proxies]
            self._proxies += 1
            send_program(info, NodeProgram(tuple(shlex.split(line.removeprefix(LAUNCH))), self.env), self.cwd, PROXY)
        elif fd != 1 or line.strip() != LAUNCH_END:
            print_line(fd, f"{line}\n")

    def _flush(self, node: int, number: int) -> None:
        for fd in (1, 2):
            rest = self._rest.pop((node, number, fd), "")
            if rest:
                print_line(fd, rest)

    def _has_ended(self, info: SessionNode, number: int, code: int) -> None:
        if number == COMMAND:
            self.code = self.code if self.code is not None else 128 - code if code < 0 else code
        elif code and not self._ending:
            self.end(f"an MPI process's starter on {info.name} {describe_code(code)}", 128 - code if code < 0 else code)

    def _check(self) -> None:
        gone = next((info for info in self.infos if info.state == "gone"), None)
        if gone is not None and self.code is None and not self._ending:
            self.end(f"a node is lost: {gone.problem()}", SESSION_LOST)
        if gone is self.infos[0] and self.code is None:
            self.code = SESSION_LOST

    def end(self, why: str, code: int) -> None:
        """End what is left, by force after a while; `code` counts where the command does not say another failure."""
        self._ending, self.failure = True, why
        self.signal(signal.SIGTERM)
        self.loop.at(time.monotonic() + TERM_GRACE_S, lambda: self.signal(signal.SIGKILL))
        self.loop.at(time.monotonic() + TERM_GRACE_S + KILLED_WAIT_S, lambda: self._give_up(code))

    def _give_up(self, code: int) -> None:
        if self.code is None:
            self.code = code
