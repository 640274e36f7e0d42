"""What `--runtime` makes of a launch: which options go with it, and what is started once the nodes are there."""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from hpc.launch.work import Driver, Ranks, Work
from hpc.launchers.runtimes import table
from hpc.launchers.runtimes.face import RuntimeFault, Wish
from hpc.settings.errors import CliError
from hpc.settings.options import Settings

if TYPE_CHECKING:
    from hpc.launch.report import Reporter
    from hpc.launchers.loop import SessionLoop
    from hpc.launchers.node_program import NodeProgram
    from hpc.launchers.runtimes.mpi_run import MpiRun
    from hpc.launchers.session_nodes import SessionNode

KEYS = "keys"


def check_runtime(settings: Settings) -> None:
    """CliError for a runtime that cannot be started here, and for options that mean nothing to it; before any node is
    asked for."""
    name = settings["runtime"]
    where = settings.origin("runtime")
    if name != table.OWN and settings["chain"]:
        what = f"--chain goes on from states that hpc saves: not with --runtime {name}"
        raise CliError("NO-RUNTIME", what, where=where)
    least, most = settings["nodes"]
    if name != table.OWN and least != most:
        what = f"--nodes={least}-{most}: only a session of hpc's own can grow"
        raise CliError("NO-RUNTIME", what, where=where, fix=f"--nodes={most} --min-nodes={least}")
    if settings["ranks_per_node"] and name in table.CLUSTERS:
        what = f"--ranks-per-node: with --runtime {name} the script is one process, which finds the others"
        raise CliError("NO-RUNTIME", what, where=where, fix=f"--runtime {table.TORCHRUN}, or {table.MPI}")
    if settings["max_restarts"] and (name != table.OWN or not settings["ranks_per_node"]):
        what = "--max-restarts starts ranks again that hpc-launch itself has started"
        fix = "--runtime-arg=--max-restarts=K" if name == table.TORCHRUN else "--ranks-per-node=R"
        raise CliError("USAGE", what, where=settings.origin("max_restarts"), fix=fix)
    for option in ("stage", "container"):
        if settings["preflight"] and settings[option]:
            what = f"--preflight measures with this Python, and --{option} has the nodes run another one"
            raise CliError("USAGE", what, where=settings.origin("preflight"), fix="hpc doctor -N NODES, ahead of it")
    if name == table.OWN and settings["runtime_arg"]:
        raise CliError("NO-RUNTIME", "--runtime-arg is for another --runtime", where=settings.origin("runtime_arg"))
    fault = table.why_not(name)
    if fault is not None:
        raise CliError("NO-RUNTIME", str(fault), where=where, why=fault.why, fix=fault.fix)


def shown(settings: Settings) -> str:
    """How the script is run, for --dry-run."""
    name, per_node = settings["runtime"], settings["ranks_per_node"]
    if name in table.CLUSTERS:
        return f"once, beside {table.cluster(name).title} on the nodes"
    if name in table.GANGS:
        each = f"{per_node} processes" if per_node else "a process, or one for each GPU,"
        return f"by {name}, with {each} on each node"
    return f"{per_node} times on each node" if per_node else "once, as the driver"


class MpiProgram:
    """An MPI program on all nodes."""

    def __init__(self, run: MpiRun) -> None:
        self.run = run

    def poll(self) -> int | None:
        return self.run.code

    def signal(self, signum: int) -> None:
        self.run.signal(signum)

    def handles(self, signum: int) -> bool:
        """The ranks are the user's own programs: they get all signals."""
        return True

    def last_words(self) -> str:
        return self.run.failure


class Runtimes:
    """Starts what `--runtime` says, for one run of the script `argv`. ready_s: how long the nodes took."""

    def __init__(
        self, settings: Settings, loop: SessionLoop, reporter: Reporter, argv: Sequence[str], ready_s: float
    ) -> None:
        self.settings = settings
        self.loop = loop
        self.session = loop.session
        self.reporter = reporter
        self.argv = argv
        self.ready_s = ready_s
        self.keys = ""

    def start(self, unbuffered: Mapping[str, str]) -> Work:
        """What runs from now on. CliError where the runtime did not start."""
        name = self.settings["runtime"]
        try:
            if name in table.CLUSTERS:
                return self._cluster(name, unbuffered)
            return self._torchrun(unbuffered) if name == table.TORCHRUN else self._mpi(unbuffered)
        except RuntimeFault as fault:
            raise CliError("RUNTIME", str(fault), why=fault.why, fix=fault.fix) from None

    def close(self) -> None:
        """Remove the keys of a cluster."""
        if self.keys:
            from hpc.launchers.runtimes.files import remove_secrets

            remove_secrets(self.keys)

    # -------------------------------------------------------------- clusters

    def _cluster(self, name: str, unbuffered: Mapping[str, str]) -> Driver:
        from hpc.launchers.runtimes.serving import ClusterRun, nodes_of

        runtime = table.cluster(name)
        ready = self.session.ready()
        infos = list(ready)
        if runtime.driver_needs_node and self.session.local_dir() is None:
            infos.append(self.session.add_gateway())
        self.keys = self._folder_of_keys()
        wish = Wish(
            self.session.id, nodes_of(infos), self.keys, tuple(self.settings["runtime_arg"]),
            folders_chosen=self.settings["tmpdir"] is not None,
        )  # fmt: skip
        note = self.reporter.status.note
        hear = (lambda text: note(f"| {text}")) if self.settings["verbose"] else (lambda text: None)
        cluster = ClusterRun(
            self.loop, runtime, wish, cwd=os.getcwd(), least=self.session.min_nodes,
            tell=lambda text: note(f"hpc: {text}"), hear=hear,
        )  # fmt: skip
        began = time.monotonic()
        variables = cluster.start(began + self.settings["start_timeout"])
        self.reporter.event("runtime", runtime=name, nodes=len(ready), seconds=round(time.monotonic() - began, 3))
        counts = {"HPC_NUM_NODES": str(len(ready)), "HPC_READY_S": f"{self.ready_s:.3f}"}
        return Driver(self.argv, {**os.environ, **unbuffered, **counts, **variables})

    def _folder_of_keys(self) -> str:
        """In the job's folder, which the nodes see; on this machine alone in a temporary one."""
        job = self.reporter.job
        try:
            if job is not None:
                path = str(job.path / KEYS)
                os.mkdir(path, 0o700)
                return path
            if self.session.first.local:
                return tempfile.mkdtemp(prefix="hpc-keys-")
        except OSError as error:
            raise CliError("JOB-DIR", "no folder for the runtime's keys", why=str(error), fix="--job-dir=DIR") from None
        raise CliError("JOB-DIR", "the runtime's keys need a folder that all nodes see", fix="--job-dir=DIR")

    # -------------------------------------------------------------- gangs

    def _torchrun(self, unbuffered: Mapping[str, str]) -> Ranks:
        from hpc.launchers.runtimes.serving import runtime_node
        from hpc.launchers.runtimes.torchrun import agents

        settings = self.settings
        least = settings["min_nodes"]  # of an elastic run

        def each(infos: Sequence[SessionNode]) -> Sequence[NodeProgram]:
            return agents(
                [runtime_node(info) for info in infos], int(infos[0].hello["free_port"]), self.argv,
                session=self.session.id, per_node=settings["ranks_per_node"], least=least,
                args=settings["runtime_arg"], threads_said="OMP_NUM_THREADS" in os.environ,
            )  # fmt: skip

        return Ranks(self.loop, self.argv, 1, unbuffered, each=each, least=least)

    def _mpi(self, unbuffered: Mapping[str, str]) -> MpiProgram:
        from hpc.launchers.runtimes.mpi_run import MpiRun, find_mpiexec, mpiexec_command
        from hpc.launchers.runtimes.serving import nodes_of

        infos = sorted(self.session.ready(), key=lambda info: info.node)
        nodes, group = nodes_of(infos), self.session.first
        per_node = self.settings["ranks_per_node"] or max(1, *(len(node.gpus) for node in nodes))
        cpus = max(1, min(node.cpus for node in nodes) // per_node)
        args = self.settings["runtime_arg"]
        hosts = [group.host_of(info.rank) or "" for info in infos]
        native = group.mpi_command(hosts, per_node, cpus)
        if native is not None:
            argv = [*native, *args, *self.argv]
        else:
            argv = mpiexec_command(find_mpiexec(), nodes, per_node, self.argv, args)
        threads = {} if "OMP_NUM_THREADS" in os.environ else {"OMP_NUM_THREADS": str(cpus)}
        return MpiProgram(MpiRun(self.loop, infos, argv, {**threads, **unbuffered}, os.getcwd()))
