"""A real OpenPBS on one machine: server, scheduler and communication daemon on one "machine" of a NetBed, and a MoM on
each of the others, all in folders of their own.

It is not in Debian: whoever wants these tests builds one from its public sources, and says where it is by PBS_EXEC (or
puts it into one of the usual places). By hand:

    python tests/schedulers/pbs_bed.py -- qstat -B
    python tests/schedulers/pbs_bed.py -- bash        # a shell on the "login node"

Nothing of the machine's own PBS is read or touched; PBS_CONF_FILE points everything to the bed's folders, and names are
looked up in files of the bed alone. The jobs are those of an ordinary user, who is known to the bed's processes alone:
PBS neither takes root's jobs nor sees root's processes.
"""

from __future__ import annotations

import contextlib
import copy
import json
import os
import pwd
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

from bed import MadeBed, by_hand
from netbed import USER, BedError, NetBed, missing, wait_for

PLACES = ("/opt/pbs", "/opt/openpbs", "/usr/local/pbs", "/usr/pbs")
DATA_USER = "postgres"  # the database of the server runs as an ordinary user
SERVER, ASIDE = "pxs", "pxa"
DATA_PORT = 15007  # of slot 0: its socket's name has the port, and lies in a folder that all beds share

#: Folders of a MoM's home, and their modes. It must not lie below a folder that everybody can write to.
MOM_FOLDERS = {
    "aux": 0o755, "checkpoint": 0o700, "mom_logs": 0o755, "mom_priv": 0o751, "mom_priv/jobs": 0o751,
    "mom_priv/hooks": 0o750, "mom_priv/hooks/tmp": 0o750, "spool": 0o1777, "undelivered": 0o1777,
}  # fmt: skip
SHARED = "$usecp *:/ /\n"
MOM_CONFIG = f"""\
$clienthost {SERVER}
$min_check_poll 1
$max_check_poll 2
"""
SETTINGS = f"""\
create resource ngpus type=long,flag=nh
set server managers += root@*
set server flatuid = True
set server job_history_enable = True
set server scheduler_iteration = 2
set server node_fail_requeue = 10
set server scheduling = True
set queue workq resources_max.walltime = 01:00:00
create queue aside queue_type=execution,enabled=True,started=True
create queue closed queue_type=execution,enabled=True,started=False
create queue small queue_type=execution,enabled=True,started=True
set queue small resources_max.walltime = 00:10:00
set queue small resources_max.nodect = 1
create node {ASIDE}
set node {ASIDE} queue = aside
"""


def find_exec() -> str | None:
    """Where an OpenPBS is installed, with a server."""
    told = os.environ.get("PBS_EXEC")
    conf = Path(os.environ.get("PBS_CONF_FILE", "/etc/pbs.conf"))
    lines = conf.read_text().splitlines() if conf.exists() else []
    named = [line.partition("=")[2].strip() for line in lines if line.startswith("PBS_EXEC=")]
    found = (path for path in (told, *named, *PLACES) if path and Path(path, "sbin", "pbs_server").exists())
    return next(found, None)


def reason_to_skip() -> str | None:
    """Why there can be no OpenPBS here (in words), or None."""
    why = missing([])
    if why:
        return f"no PBS test bed: {why}"
    if find_exec() is None:
        return "no PBS test bed: no pbs_server is found; PBS_EXEC says where an OpenPBS is installed"
    if not os.stat(f"{find_exec()}/sbin/pbs_iff").st_mode & 0o4000:
        return f"no PBS test bed: {find_exec()}/sbin/pbs_iff must belong to root and be setuid for ordinary users"
    try:
        pwd.getpwnam(DATA_USER)
    except KeyError:
        return f"no PBS test bed: its database needs the user {DATA_USER} (Debian's package postgresql)"
    return None


@dataclass
class PbsBed(MadeBed):
    """`with PbsBed() as bed:`: `bed.env` is the login node's environment, `bed.run(...)` runs a command there."""

    scheduler: ClassVar[str] = "pbs"
    daemons: ClassVar[frozenset[str]] = frozenset({"pbs_mom"})
    shortest_s: ClassVar[int] = 15
    may_run_twice: ClassVar[Sequence[str]] = ("--submit-arg=-ry",)
    lacks: ClassVar[Mapping[str, str]] = {
        "estimates": "PBS says that there is no such queue once a job is submitted",
        "ordinary user": "all its promises are kept for one",
        "look": "there is no ssh to its nodes",
        "first node": "PBS ends the job itself, minutes later",
    }

    nodes: int = 4
    cpus: int = 2
    gpus: int = 0
    queue: str = "workq"
    shared: bool = True  # whether nodes see the home and the work folder of the login node
    hosts: list[str] = field(init=False)

    def __post_init__(self) -> None:
        self.hosts = [f"px{i}" for i in range(1, self.nodes + 1)]
        unshared = () if self.shared else ("work", "home")
        self.net = NetBed([*self.hosts, ASIDE, SERVER], look_up=True, user=True, unshared=unshared)

    def why_not(self) -> str | None:
        return reason_to_skip()

    @property
    def sent(self) -> Path:
        """What PBS has copied to the login node, where it shares no file system with the nodes."""
        return self.scratch / "sent"

    # -------------------------------------------------------------- making it

    def _conf(self, name: str, home: str, **starts: int) -> Path:
        where = {
            "EXEC": find_exec(),
            "HOME": self.net.private / home,
            "SERVER": SERVER,
            "SCP": self.net.private / "scp",
        }
        roles = {f"START_{role}": starts.get(role, 0) for role in ("SERVER", "SCHED", "COMM", "MOM")}
        port = {"DATA_SERVICE_PORT": DATA_PORT + self.net.slot, "CORE_LIMIT": "unlimited"}
        path = self.net.private / name
        path.write_text("".join(f"PBS_{key}={value}\n" for key, value in {**where, **roles, **port}.items()))
        return path

    def _configure(self) -> None:
        self.sent.mkdir(mode=0o1777)
        self.sent.chmod(0o1777)
        scp = self.net.private / "scp"  # the last of its words are a file and where it is to go
        scp.write_text(f'#!/bin/bash\nexec cp "${{@: -2:1}}" {self.sent}/"$(basename "${{@: -1:1}}")"\n')
        scp.chmod(0o755)
        conf = self._conf("server.conf", "server", SERVER=1, SCHED=1, COMM=1)
        kept = {k: v for k, v in os.environ.items() if not k.startswith("PBS_")}
        path = f"{find_exec()}/bin:{kept.get('PATH', '')}:/usr/sbin:/sbin"  # before what shadows it (Torque wrappers)
        profile = self.scratch / "home" / ".profile"  # what users do who have their Python somewhere of their own
        profile.write_text(f'PATH="{Path(sys.executable).parent}:$PATH"\n')
        user = {"HOME": str(self.scratch / "home"), "USER": USER, "LOGNAME": USER}
        user["PBS_TCP_KEEPALIVE"] = "1,3,1,3,6000"  # a machine that is silent is down after six seconds, not 60
        self.env = {**kept, **user, "PBS_CONF_FILE": str(conf), "PATH": path}
        for host in (*self.hosts, ASIDE):
            home = self.net.private / host
            for name, mode in MOM_FOLDERS.items():
                (home / name).mkdir(parents=True)
                (home / name).chmod(mode)
            (home / "mom_priv" / "config").write_text(MOM_CONFIG + (SHARED if self.shared else ""))
            (home / "pbs_environment").write_text(f"PATH=/bin:/usr/bin\nPBS_CONF_FILE={conf}\n")

    def _daemon(self, node: str, argv: Sequence[str], conf: Path) -> None:
        # They close every descriptor that there could be, one by one: with few that takes no time.
        argv = ["bash", "-c", 'ulimit -Sn 1024; exec "$@"', Path(argv[0]).name, *argv]
        self.net.daemon(argv, node, f"{node}-{argv[3]}", {**self.env, "PBS_CONF_FILE": str(conf)})

    def _on_server(self, script: str, timeout_s: float = 60.0) -> None:
        log = self.scratch / "server-setup.log"
        command = self.net.inside(SERVER, ["bash", "-c", f"ulimit -Sn 1024; {script}"])
        with log.open("ab") as out:  # a file: daemons that it starts would hold a pipe open
            done = subprocess.run(
                command, env={**self.env, "PBS_DATA_SERVICE_USER": DATA_USER}, stdin=subprocess.DEVNULL, stdout=out,
                stderr=out, timeout=timeout_s,
            )  # fmt: skip
        if done.returncode != 0:
            raise BedError(f"{script} ended with {done.returncode}: {log.read_text()[-2000:]}")

    def _start(self) -> None:
        sbin = f"{find_exec()}/sbin"
        habitat = f"{find_exec()}/libexec/pbs_habitat"
        home = self.net.private / "server"
        again = f"for i in 1 2 3 4 5; do {habitat} && exit 0; rm -rf {home}; sleep $i; done; exit 1"
        self._on_server(again, 150.0)  # its database may be asked before it listens
        server = self.net.private / "server.conf"
        for name in ("pbs_comm", "pbs_sched", "pbs_server"):
            self._daemon(SERVER, [f"{sbin}/{name}", "-N"], server)
        for host in (*self.hosts, ASIDE):
            self._daemon(host, [f"{sbin}/pbs_mom", "-N"], self._conf(f"{host}.conf", host, MOM=1))
        self.await_("the PBS server", lambda: self.run(["qstat", "-B"]).returncode == 0, 90.0)
        nodes = "".join(f"create node {host}\n" for host in self.hosts)
        if self.gpus:
            nodes += "".join(f"set node {host} resources_available.ngpus = {self.gpus}\n" for host in self.hosts)
        (self.net.private / "settings").write_text(SETTINGS + nodes)
        resources = self.net.private / "server" / "sched_priv" / "sched_config"
        resources.write_text(resources.read_text().replace('resources: "ncpus,', 'resources: "ngpus, ncpus,'))
        self._on_server(f"qmgr < {self.net.private}/settings")
        self.wait_idle(60)

    def job(self, job_id: str) -> dict[str, Any]:
        """All that qstat says of a job, {} when it knows none."""
        out = self.run(["qstat", "-x", "-f", "-F", "json", job_id]).stdout
        try:
            return next(iter(json.loads(out)["Jobs"].values()))
        except (ValueError, KeyError):
            return {}

    def jobs(self) -> list[str]:
        """Ids of the jobs of our queue that have not ended."""
        out = self.run(["qselect", "-q", self.queue]).stdout
        return out.split()

    def submit(self, script: Path, nodes: int, out: Path) -> str:
        shape = f"select={nodes}:ncpus={self.cpus}:mpiprocs=1"
        command = [
            "qsub",
            "-f",
            "-l",
            shape,
            "-l",
            "place=scatter",
            "-l",
            "walltime=300",
            "-joe",
            "-koed",
            "-o",
            str(out),
        ]
        return self.run([*command, str(script)], check=True, cwd=script.parent).stdout.strip()

    def phase(self, job_id: str) -> str:
        state = self.job(job_id).get("job_state", "F")
        return "queued" if state in "QHWTM" else "ended" if state in "FX" else "running"

    def nodes_of(self, job_id: str) -> list[str]:
        listed = str(self.job(job_id).get("exec_host", ""))
        return list(dict.fromkeys(part.partition("/")[0] for part in listed.split("+")))

    def exit_code(self, job_id: str) -> int:
        code = int(self.job(job_id)["Exit_status"])
        return code - 128 if code > 256 else code

    def record(self, job_id: str) -> str:
        return self.run(["qstat", "-f", "-F", "json", job_id]).stdout + self.run(["qstat", "-f", job_id]).stdout

    def end(self, job_id: str) -> None:
        self.run(["qdel", job_id], check=True)

    def requeue(self, job_id: str) -> None:
        self._on_server(f"qrerun {job_id}")  # the user himself may not

    def crash(self, host: str) -> None:
        self.net.power_off(host, self.daemons)

    def repair(self, host: str) -> None:
        self.net.power_on(host)

    @contextmanager
    def full(self) -> Iterator[None]:
        script = self.scratch / "work" / "sleeps.sh"
        script.write_text("#!/bin/bash\nexec sleep 300\n")
        job = self.submit(script, self.nodes, Path("/dev/null"))
        wait_for("somebody else's job", lambda: self.phase(job) == "running", 90.0, 0.1)
        try:
            yield
        finally:
            self.run(["qdel", "-W", "force", job])
            wait_for("its end", lambda: self.phase(job) == "ended", 90.0, 0.1)

    @contextmanager
    def aside(self) -> Iterator[PbsBed]:
        bed = copy.copy(self)
        bed.queue, bed.hosts, bed.env = "aside", [ASIDE], {**self.env, "HPC_PARTITION": "aside"}
        yield bed

    def wait_idle(self, timeout_s: float = 90.0) -> None:
        """Wait until every node is free, and there is no job on it."""

        def idle() -> bool:
            out = self.run(["pbsnodes", "-a", "-F", "json"], timeout_s=20).stdout
            try:
                found = json.loads(out)["nodes"]
            except (ValueError, KeyError):
                return False
            return all(
                found.get(host, {}).get("state") == "free" and not found[host].get("jobs") for host in self.hosts
            )

        self.await_("every PBS node free", idle, timeout_s)

    def cancel_all(self, timeout_s: float = 90.0) -> None:
        left = self.jobs()
        if left:
            self.run(["qdel", "-W", "force", *left])
            wait_for("no job left", lambda: not self.jobs(), timeout_s, 0.1)
        self.wait_idle(timeout_s)

    def close(self) -> None:
        """End jobs, daemons, namespaces; safe to call twice."""
        if self.env:
            with contextlib.suppress(BedError, subprocess.SubprocessError, OSError):
                self.run(["qdel", "-W", "force", *self.run(["qselect"]).stdout.split()])
        self.net.close()


def main() -> int:
    return by_hand(PbsBed, __doc__, {"nodes": 4, "cpus": 2, "gpus": 0})


if __name__ == "__main__":
    sys.exit(main())
