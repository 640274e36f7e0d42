"""A real Slurm on one machine: munged, slurmctld and one slurmd per "machine" of a NetBed, all in a scratch folder.

The one reason to exist: what we say about Slurm is tested against Slurm, not against a fake of it.
By hand, and for benchmarks:

    python tests/schedulers/slurm_bed.py --nodes 4 -- sinfo -N
    python tests/schedulers/slurm_bed.py --nodes 4 -- bash        # a shell on the "login node"

Nothing of the machine's own Slurm or munge is read or touched; SLURM_CONF points everything to the scratch
folder. Rejected: the daemons' ordinary folders and ports (collide with a real installation), a mocked sbatch
(it would agree with our mistakes).
"""

from __future__ import annotations

import contextlib
import os
import secrets
import socket
import stat
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from bed import MadeBed, by_hand
from netbed import BedError, NetBed, missing, wait_for

PROGRAMS = ("munged", "slurmctld", "slurmd", "srun", "sbatch", "salloc", "squeue", "scontrol", "sinfo", "scancel")
SBIN = "/usr/sbin:/sbin"

CONF = """\
ClusterName={cluster}
SlurmctldHost={control_host}({control_addr})
SlurmctldPort={port}
SlurmdPort=6818
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket={root}/munge/socket
CredType=cred/munge
StateSaveLocation={root}/state
SlurmdSpoolDir={root}/spool/%n
SlurmctldPidFile={root}/slurmctld.pid
SlurmdPidFile={root}/slurmd-%n.pid
SlurmctldLogFile={root}/slurmctld.log
SlurmdLogFile={root}/slurmd-%n.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
SlurmdParameters=config_overrides
TopologyPlugin=topology/tree
MpiDefault=none
ReturnToService=2
JobCompType=jobcomp/none
AccountingStorageType=accounting_storage/none
EnforcePartLimits={enforce}
{job_submit}
KillWait=5
SlurmctldTimeout=10
SlurmdTimeout={slurmd_timeout_s}
MessageTimeout=10
BatchStartTimeout=10
CompleteWait=0
MinJobAge=600
SchedulerType=sched/backfill
SchedulerParameters=bf_interval=1,batch_sched_delay=0,sched_min_interval=100000
{gres_types}
NodeName=DEFAULT CPUs={cpus} Boards=1 SocketsPerBoard=1 CoresPerSocket={cpus} ThreadsPerCore=1 \\
  RealMemory={mem_mb} State=UNKNOWN
{nodes}
PartitionName=batch Nodes=ALL Default=YES MaxTime=1:00:00 State=UP
PartitionName=debug Nodes={first} MaxTime=10:00 MaxNodes=1 State=UP
PartitionName=closed Nodes=ALL MaxTime=1:00:00 State=DOWN
"""


@dataclass
class SlurmBed(MadeBed):
    """`with SlurmBed() as bed:`: `bed.env` is the login node's environment, `bed.run(...)` runs a command there."""

    scheduler: ClassVar[str] = "slurm"
    look_s: ClassVar[float] = 0.02
    daemons: ClassVar[frozenset[str]] = frozenset({"slurmd", "slurmstepd"})
    shortest_s: ClassVar[int] = 60
    may_run_twice: ClassVar[Sequence[str]] = ("--submit-arg=--requeue",)
    lacks: ClassVar[Mapping[str, str]] = {
        "requeue": "Slurm lets such a job wait for two minutes; test_slurm_nodes.py waits for it",
    }

    nodes: int = 4
    cpus: int = 2
    mem_mb: int = 2000
    gpus: int = 0
    shapes: Sequence[tuple[int, int]] = ()  # (CPUs, GPUs) of the first nodes, where they differ from the others
    options: Sequence[str] = ()  # further lines of slurm.conf
    constrain: Sequence[str] = ()  # what cgroups hold jobs to: Cores, RAMSpace, Devices
    require_time: bool = False
    enforce_limits: bool = True  # whether sbatch refuses what a partition cannot give; Slurm's default is not to
    slurmd_timeout_s: int = 20
    unshared: Sequence[str] = ()  # folders that each node has for itself (NetBed.unshared)
    prefix: str = "nid"  # of the nodes' names, which cgroups have too: beds that use them need names of their own

    def __post_init__(self) -> None:
        self.net = NetBed([f"{self.prefix}{i:04d}" for i in range(1, self.nodes + 1)], unshared=self.unshared)

    @property
    def hosts(self) -> list[str]:
        return self.net.names

    def why_not(self) -> str | None:
        return reason_to_skip()

    # -------------------------------------------------------------- making it

    def _configure(self) -> None:
        root = self.scratch
        for name in ("munge", "state", "spool", *self.unshared):
            (root / name).mkdir()
        key = root / "munge" / "key"
        key.touch(0o600)
        key.write_bytes(secrets.token_bytes(128))
        half = max(1, len(self.hosts) // 2)
        halves = [h for h in (self.hosts[:half], self.hosts[half:]) if h]
        names = [f"s{i}" for i in range(1, len(halves) + 1)]
        switches = [f"SwitchName={n} Nodes={','.join(h)}" for n, h in zip(names, halves, strict=True)]
        (root / "topology.conf").write_text(
            "\n".join([*switches, f"SwitchName=root Switches={','.join(names)}"]) + "\n"
        )
        held = [
            f"Constrain{what}={'yes' if what in self.constrain else 'no'}" for what in ("Cores", "RAMSpace", "Devices")
        ]
        (root / "cgroup.conf").write_text("\n".join(["CgroupPlugin=cgroup/v1", *held, ""]))
        shapes = dict(zip(self.hosts, [*self.shapes, *[(self.cpus, self.gpus)] * self.nodes], strict=False))
        any_gpus = any(gpus for _, gpus in shapes.values())
        if any_gpus:
            files = [root / f"gpu{i}" for i in range(max(gpus for _, gpus in shapes.values()))]
            for i, file in enumerate(files):  # device files without a driver: Slurm only hides and shows them
                os.mknod(file, 0o666 | stat.S_IFCHR, os.makedev(240, i))
            lines = [(h, ",".join(map(str, files[:gpus]))) for h, (_, gpus) in shapes.items() if gpus]
            (root / "gres.conf").write_text("".join(f"NodeName={h} Name=gpu File={f}\n" for h, f in lines))
        conf = CONF.format(
            cluster=f"bed{self.net.slot}",
            control_host=self.control_host, control_addr=self.net.gateway, port=_free_port(self.net.gateway),
            root=root, cpus=self.cpus, mem_mb=self.mem_mb, first=",".join(self.hosts[:2]),
            slurmd_timeout_s=self.slurmd_timeout_s, enforce="ALL" if self.enforce_limits else "NO",
            job_submit="JobSubmitPlugins=require_timelimit" if self.require_time else "",
            gres_types="GresTypes=gpu" if any_gpus else "",
            nodes="\n".join(self._node_line(host, *shape) for host, shape in shapes.items()),
        )  # fmt: skip
        (root / "slurm.conf").write_text("\n".join([conf, *self.options, ""]))
        kept = {k: v for k, v in os.environ.items() if not k.startswith(("SLURM_", "SBATCH_", "SALLOC_"))}
        self.env = {**kept, "SLURM_CONF": str(root / "slurm.conf"), "PATH": f"{kept.get('PATH', '')}:{SBIN}"}

    def _node_line(self, host: str, cpus: int, gpus: int) -> str:
        size = f" CPUs={cpus} CoresPerSocket={cpus}" if cpus != self.cpus else ""
        gres = f" Gres=gpu:{gpus}" if gpus else ""
        return f"NodeName={host} NodeAddr={self.net.address(host)}{size}{gres}"

    def _start(self) -> None:
        root, munge = self.scratch, self.scratch / "munge"
        argv = ["munged", "--foreground", f"--key-file={munge}/key", f"--socket={munge}/socket"]
        argv += [f"--pid-file={munge}/pid", f"--log-file={munge}/log", f"--seed-file={munge}/seed"]
        self.net.daemon(argv, None, self.control_host, self.env)
        self.await_("munge's socket", (munge / "socket").exists, 90.0)
        conf = str(root / "slurm.conf")
        self.net.daemon(["slurmctld", "-D", "-c", "-f", conf], None, self.control_host, self.env)
        for host in self.hosts:
            self.start_slurmd(host)
        self.wait_idle(30)

    def start_slurmd(self, host: str) -> None:
        (self.scratch / "spool" / host).mkdir(exist_ok=True)
        conf = str(self.scratch / "slurm.conf")
        self.net.daemon(["slurmd", "-D", "-N", host, "-f", conf], host, host, self.env)

    def kill_node(self, host: str) -> None:
        """All of a job on a node ends without a word, and Slurm does not know: slurmd stays, and is not asked."""
        self.net.kill_all(host, "slurmd")

    def fail_node(self, host: str) -> None:
        """Slurm finds that a node does not respond any more."""
        self.run(["scontrol", "update", f"nodename={host}", "state=down", "reason=test"], check=True)

    def mend_node(self, host: str) -> None:
        """Slurm finds that it is there again."""
        self.run(["scontrol", "update", f"nodename={host}", "state=resume"])
        self.wait_idle()

    # -------------------------------------------------------------- using it

    def on_node(self, host: str, argv: Sequence[str]) -> list[str]:
        """The command line that runs `argv` on a compute node, outside of any job (as ssh would)."""
        return self.net.inside(host, argv)

    def wait_idle(self, timeout_s: float = 90.0) -> None:
        """Wait until every node is idle: nothing of any job is left on any of them."""

        def idle() -> bool:
            out = self.run(["sinfo", "-h", "-N", "-o", "%N %T"], timeout_s=20)
            states = dict(line.split() for line in out.stdout.splitlines())
            return out.returncode == 0 and len(states) == self.nodes and set(states.values()) == {"idle"}

        self.await_("every Slurm node idle", idle, timeout_s)

    def jobs(self) -> list[str]:
        """Ids of jobs that are pending, running or completing."""
        return self.run(["squeue", "-h", "-o", "%i"]).stdout.split()

    def job_field(self, job: str, name: str) -> str:
        """One field of `scontrol show job`, e.g. JobState."""
        out = self.run(["scontrol", "-o", "show", "job", job]).stdout
        for word in out.split():
            key, _, value = word.partition("=")
            if key == name:
                return value
        return ""

    def wait_job(self, job: str, states: Sequence[str], timeout_s: float = 90.0) -> str:
        """Wait until a job is in one of the states; returns it."""
        wait_for(f"job {job} in {states}", lambda: self.job_field(job, "JobState") in states, timeout_s, 0.05)
        return self.job_field(job, "JobState")

    # -------------------------------------------------------------- what the promises ask (bed.py)

    def submit(self, script: Path, nodes: int, out: Path) -> str:
        command = ["sbatch", "--parsable", f"-N{nodes}", f"-c{self.cpus}", "-t5", "-o", str(out), str(script)]
        return self.run(command, check=True, cwd=script.parent).stdout.strip()

    def phase(self, job_id: str) -> str:
        state = self.job_field(job_id, "JobState")
        return {"PENDING": "queued", "RUNNING": "running", "COMPLETING": "running"}.get(state, "ended")

    def nodes_of(self, job_id: str) -> list[str]:
        listed = self.job_field(job_id, "NodeList")
        return self.run(["scontrol", "show", "hostnames", listed], check=True).stdout.split()

    def exit_code(self, job_id: str) -> int:
        code, _, signum = self.job_field(job_id, "ExitCode").partition(":")
        return int(code) or (128 + int(signum) if int(signum) else 0)

    def record(self, job_id: str) -> str:
        shown = self.run(["scontrol", "-d", "show", "job", job_id]).stdout
        return shown + self.run(["scontrol", "write", "batch_script", job_id, "-"]).stdout

    def end(self, job_id: str) -> None:
        self.run(["scancel", job_id], check=True)

    def requeue(self, job_id: str) -> None:
        self.run(["scontrol", "requeue", job_id], check=True)
        self.wait_job(job_id, ["PENDING"])
        update = ["scontrol", "update", f"jobid={job_id}", "starttime=now"]  # else it waits for two minutes
        wait_for("the job to be free", lambda: self.run(update).returncode == 0, 90.0, 0.2)

    def crash(self, host: str) -> None:
        self.net.power_off(host, ["slurmd"])
        self.run(["scontrol", "update", f"nodename={host}", "state=down", "reason=crashed"], check=True)

    def repair(self, host: str) -> None:
        self.net.power_on(host)
        self.run(["scontrol", "update", f"nodename={host}", "state=resume"], check=True)

    @contextmanager
    def full(self) -> Iterator[None]:
        command = ["sbatch", "--parsable", f"-N{self.nodes}", "--exclusive", "-t5", "-o", "/dev/null"]
        job = self.run([*command, "--wrap", "sleep 300"], check=True).stdout.strip()
        self.wait_job(job, ["RUNNING"])
        try:
            yield
        finally:
            self.run(["scancel", job])
            self.wait_job(job, ["CANCELLED"])

    @contextmanager
    def aside(self) -> Iterator[SlurmBed]:
        with SlurmBed(nodes=1, cpus=self.cpus) as bed:
            yield bed

    def cancel_all(self, timeout_s: float = 90.0) -> None:
        """Cancel what is left and wait until the nodes are idle again."""
        left = self.jobs()
        if left:
            self.run(["scancel", *left])
            wait_for("no job left", lambda: not self.jobs(), timeout_s, 0.05)
        self.wait_idle(timeout_s)

    def close(self) -> None:
        """End jobs, daemons, namespaces; safe to call twice."""
        if self.env:
            with contextlib.suppress(BedError, subprocess.SubprocessError, OSError):
                self.cancel_all(15)
        self.net.close()
        for host in self.hosts:
            for top in Path("/sys/fs/cgroup").glob(f"*/slurm_{host}"):
                for folder, _, _ in os.walk(top, topdown=False):
                    with contextlib.suppress(OSError):
                        os.rmdir(folder)


def _free_port(address: str) -> int:
    with socket.socket() as probe:
        probe.bind((address, 0))
        return int(probe.getsockname()[1])


def reason_to_skip() -> str | None:
    """Why there can be no Slurm here (in words), or None."""
    why = missing(PROGRAMS)
    return f"no Slurm test bed: {why}" if why else None


def main() -> int:
    return by_hand(SlurmBed, __doc__, {"nodes": 4, "cpus": 2, "mem_mb": 2000, "gpus": 0})


if __name__ == "__main__":
    sys.exit(main())
