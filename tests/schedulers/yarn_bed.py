"""A real YARN on one machine: a ResourceManager and one NodeManager per "machine" of a NetBed, all in a scratch folder.

The one reason to exist: what we say to YARN is tested against YARN. By hand:

    python tests/schedulers/yarn_bed.py --nodes 3 -- yarn node -list

The jars come from Maven Central once, into a cache outside of the repository; without Java, Maven or a network the
bed says why it cannot be. Hadoop's own start scripts are not in those jars, so a small `yarn` stands for the installed
one, in the same layout (bin/yarn, share/hadoop/yarn, etc/hadoop).
Rejected: MiniYARNCluster (all nodes are one process on one host: two raylets on one machine would not show), the
machine's /etc/hosts (other beds would be in it: Java reads a hosts file of its own).
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar
from xml.sax.saxutils import escape

from bed import MadeBed, by_hand
from netbed import BedError, NetBed, missing, wait_for

MASTER_MB = 512
VERSION = "3.4.2"  # the newest that has the DistributedShell on Maven Central
PROGRAMS = ("java", "mvn")
DOWNLOAD_S = 300
READY_S = 60.0
ARTIFACTS = ("hadoop-minicluster", "hadoop-yarn-applications-distributedshell", "hadoop-yarn-client")
RESOURCE_MANAGER = "org.apache.hadoop.yarn.server.resourcemanager.ResourceManager"
NODE_MANAGER = "org.apache.hadoop.yarn.server.nodemanager.NodeManager"
CLIENTS = {
    "application": "org.apache.hadoop.yarn.client.cli.ApplicationCLI",
    "app": "org.apache.hadoop.yarn.client.cli.ApplicationCLI",
    "applicationattempt": "org.apache.hadoop.yarn.client.cli.ApplicationCLI",
    "container": "org.apache.hadoop.yarn.client.cli.ApplicationCLI",
    "node": "org.apache.hadoop.yarn.client.cli.NodeCLI",
    "jar": "org.apache.hadoop.util.RunJar",
}
#: Kept too, as HPC_TEST_SLOW=1 shows; a job costs seconds here.
SLOW = {
    "cheap": "takes seconds, and depends on the scheduler least: HPC_TEST_SLOW=1 runs it",
    "crash": "takes 40 s: HPC_TEST_SLOW=1 runs it",
    "first node": "takes 40 s: HPC_TEST_SLOW=1 runs it",
}
OPENS = (
    "java.io", "java.lang", "java.lang.reflect", "java.math", "java.net", "java.text", "java.util",
    "java.util.concurrent", "java.util.zip", "sun.security.util", "sun.security.x509",
)  # fmt: skip
QUICK = ("-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-Xshare:auto")

LOG4J = """\
log4j.rootLogger=INFO,console
log4j.appender.console=org.apache.log4j.ConsoleAppender
log4j.appender.console.target=System.err
log4j.appender.console.layout=org.apache.log4j.PatternLayout
log4j.appender.console.layout.ConversionPattern=%d{ISO8601} %p %c{2}: %m%n
"""
QUICK_TO_RETRY = {"ipc.client.connect.timeout": 2000, "ipc.client.connect.retry.interval": 200}
QUEUES = {
    "yarn.scheduler.capacity.root.queues": "default,small",
    "yarn.scheduler.capacity.root.default.capacity": "90",
    "yarn.scheduler.capacity.root.default.maximum-capacity": "100",
    "yarn.scheduler.capacity.root.default.user-limit-factor": "2",
    "yarn.scheduler.capacity.root.small.capacity": "10",
    "yarn.scheduler.capacity.root.small.maximum-capacity": "10",
    "yarn.scheduler.capacity.maximum-am-resource-percent": "1",
    "yarn.scheduler.capacity.node-locality-delay": "0",
    "yarn.scheduler.capacity.resource-calculator": "org.apache.hadoop.yarn.util.resource.DominantResourceCalculator",
}


def cache() -> Path:
    """Where the jars are kept from one run of the tests to the next."""
    base = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return Path(base) / "hpc-tests" / f"yarn-{VERSION}"


def jars() -> Path:
    """The folder of the jars, fetched when they are not there yet; BedError where that is impossible."""
    folder = cache() / "lib"
    if folder.is_dir():
        return folder
    work = cache() / f"get-{os.getpid()}"
    work.mkdir(parents=True)
    try:
        (work / "pom.xml").write_text(pom())
        argv = ["mvn", "-q", "-B", "dependency:copy-dependencies", "-DincludeScope=runtime", "-DoutputDirectory=lib"]
        done = subprocess.run(argv, cwd=work, capture_output=True, text=True, timeout=DOWNLOAD_S)
        if done.returncode != 0:
            raise BedError(f"Maven did not fetch Hadoop {VERSION}: {(done.stdout + done.stderr).strip()[-600:]}")
        with contextlib.suppress(OSError):  # somebody else was first
            (work / "lib").rename(folder)
        return folder
    except subprocess.TimeoutExpired:
        raise BedError(f"Maven did not fetch Hadoop {VERSION} within {DOWNLOAD_S} s") from None
    finally:
        shutil.rmtree(work, ignore_errors=True)


def pom() -> str:
    one = (
        "<dependency><groupId>org.apache.hadoop</groupId><artifactId>{}</artifactId><version>{}</version></dependency>"
    )
    wanted = "".join(one.format(name, VERSION) for name in ARTIFACTS)
    return (
        '<project xmlns="http://maven.apache.org/POM/4.0.0"><modelVersion>4.0.0</modelVersion><groupId>bed</groupId>'
        f"<artifactId>bed</artifactId><version>1</version><dependencies>{wanted}</dependencies></project>"
    )


def site(properties: Mapping[str, object]) -> str:
    """A configuration file of Hadoop's."""
    rows = [f"<property><name>{n}</name><value>{escape(str(v))}</value></property>" for n, v in properties.items()]
    return "\n".join(["<configuration>", *rows, "</configuration>"]) + "\n"


@dataclass
class YarnBed(MadeBed):
    """`with YarnBed() as bed:`: `bed.env` is the environment of the machine with the client, `bed.run(...)` uses it."""

    scheduler: ClassVar[str] = "yarn"
    daemons: ClassVar[frozenset[str]] = frozenset({"java", "bash"})  # the shells around a container are YARN's
    shortest_s: ClassVar[int] = 20
    may_run_twice: ClassVar[Sequence[str]] = ()
    lacks: ClassVar[Mapping[str, str]] = {
        "order": "YARN gives a job its nodes in any order",
        "own script": "what runs in the containers is our own",
        "ordinary user": "without Kerberos YARN runs all containers as its own user",
        "requeue": "a job of YARN's does not go back into the queue",
        "further jobs": "its containers have no client of YARN, so nothing is submitted from there",
        **({} if os.environ.get("HPC_TEST_SLOW") else SLOW),
    }

    nodes: int = 3
    cpus: int = 4
    mem_mb: int = 4096
    gpus: int = 2
    shared: bool = True  # whether nodes see the work folder of the machine with the client
    constraints: bool = True  # whether containers can be kept apart; Hadoop's default is not to
    lib: Path = field(init=False, default_factory=Path)

    def __post_init__(self) -> None:
        names = [f"yn{i:02d}" for i in range(1, self.nodes + 1)]
        self.net = NetBed(names, unshared=() if self.shared else ("work",))

    @property
    def hosts(self) -> list[str]:
        return self.net.names

    @property
    def whole(self) -> dict[str, int]:
        """All of a node: what is said of it, and room for an application's master."""
        return {"memory": self.mem_mb + MASTER_MB, "vCores": self.cpus + 1}

    @property
    def rest(self) -> str:
        return f"http://{self.net.gateway}:8088"

    def why_not(self) -> str | None:
        return reason_to_skip()

    # -------------------------------------------------------------- making it

    def _configure(self) -> None:
        self.lib = jars()
        root = self.scratch
        addresses = [(self.net.address(host), host) for host in self.hosts]
        known = [("127.0.0.1", "localhost"), (self.net.gateway, self.control_host), *addresses]
        (root / "hosts").write_text("".join(f"{address} {name}\n" for address, name in known))
        (root / "dfs").mkdir(mode=0o777)  # stands for a file system of Hadoop's
        home = root / "hadoop"
        for name in ("bin", "etc/hadoop", "share/hadoop/yarn"):
            (home / name).mkdir(parents=True)
        jar = f"hadoop-yarn-applications-distributedshell-{VERSION}.jar"
        (home / "share/hadoop/yarn" / jar).symlink_to(self.lib / jar)
        self._conf(home / "etc/hadoop", {})
        (home / "bin/yarn").write_text(self._yarn_command(home))
        (home / "bin/yarn").chmod(0o755)
        for host in self.hosts:
            folder = root / f"nm-{host}"
            own = {
                "yarn.nodemanager.hostname": host,
                "yarn.nodemanager.local-dirs": folder / "local",
                "yarn.nodemanager.log-dirs": folder / "logs",
            }
            self._conf(folder / "conf", own)
        hadoop = ("HADOOP_", "YARN_")
        kept = {k: v for k, v in os.environ.items() if not k.startswith((*hadoop, "SLURM_", "PBS_"))}
        self.env = {
            **kept,
            "HADOOP_HOME": str(home),
            "PATH": f"{home}/bin:{kept.get('PATH', '')}",
            "JAVA_HOME": java_home(),
        }

    def _conf(self, folder: Path, own: Mapping[str, object]) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        yarn: dict[str, object] = {
            "yarn.resourcemanager.hostname": self.net.gateway,
            "yarn.resourcemanager.webapp.address": f"{self.net.gateway}:8088",
            "yarn.resourcemanager.nodemanagers.heartbeat-interval-ms": 100,
            "yarn.resourcemanager.application-timeouts.monitor.interval-ms": 500,
            "yarn.nm.liveness-monitor.expiry-interval-ms": 4000,
            "yarn.resourcemanager.connect.retry-interval.ms": 500,
            "yarn.client.nodemanager-connect.max-wait-ms": 2000,
            "yarn.client.nodemanager-connect.retry-interval-ms": 500,
            "yarn.am.liveness-monitor.expiry-interval-ms": 600_000,
            "yarn.resourcemanager.placement-constraints.handler": "scheduler" if self.constraints else "disabled",
            "yarn.scheduler.minimum-allocation-mb": 128,
            "yarn.scheduler.maximum-allocation-mb": self.whole["memory"],
            "yarn.scheduler.maximum-allocation-vcores": self.whole["vCores"],
            "yarn.nodemanager.resource.memory-mb": self.whole["memory"],
            "yarn.nodemanager.resource.cpu-vcores": self.whole["vCores"],
            "yarn.nodemanager.vmem-check-enabled": "false",
            "yarn.nodemanager.pmem-check-enabled": "false",
            "yarn.nodemanager.disk-health-checker.max-disk-utilization-per-disk-percentage": 100,
            "yarn.nodemanager.admin-env": f"JAVA_TOOL_OPTIONS={' '.join(self._java_options(96))}",
            "yarn.application.classpath": f"{folder},{self.lib}/*",
            **own,
        }
        if self.gpus:
            yarn |= {"yarn.resource-types": "yarn.io/gpu", "yarn.nodemanager.resource-type.yarn.io/gpu": self.gpus}
        (folder / "core-site.xml").write_text(
            site({"fs.defaultFS": "file:///", "hadoop.tmp.dir": self.scratch / "tmp", **QUICK_TO_RETRY})
        )
        (folder / "yarn-site.xml").write_text(site(yarn))
        (folder / "capacity-scheduler.xml").write_text(site(QUEUES))
        (folder / "log4j.properties").write_text(LOG4J)

    def _java_options(self, heap_mb: int) -> list[str]:
        return [f"-Xmx{heap_mb}m", *QUICK, f"-Djdk.net.hosts.file={self.scratch}/hosts"]

    def _java(self, heap_mb: int, conf: Path) -> list[str]:
        return ["java", *self._java_options(heap_mb), *self._opens(), "-cp", f"{conf}:{self.lib}/*"]

    def _opens(self) -> list[str]:
        return [f"--add-opens=java.base/{package}=ALL-UNNAMED" for package in OPENS]

    def _yarn_command(self, home: Path) -> str:
        """What the installed `yarn` does: the client's class with the site's configuration. Its home is our own."""
        cases = "\n".join(
            f"  {word}) class={name};{'' if word == 'jar' else f' set -- {word} $@;'} ;;"
            for word, name in CLIENTS.items()
        )
        conf = '"${HADOOP_CONF_DIR:-' + f"{home}/etc/hadoop" + '}"'
        java = shlex.join([*self._java_options(160), *self._opens(), f"-Duser.home={self.scratch}/dfs"])
        java += f" -cp {conf}:{shlex.quote(f'{self.lib}/*')}"
        return (
            f'#!/bin/bash\nword=$1; shift\ncase $word in\n{cases}\n  version) echo "Hadoop {VERSION}"; exit 0 ;;\n'
            f'  *) echo "yarn: $word is not in this bed" >&2; exit 1 ;;\nesac\nexec java {java} "$class" "$@"\n'
        )

    def _start(self) -> None:
        env = {**self.env, "HADOOP_CONF_DIR": str(self.scratch / "hadoop/etc/hadoop")}
        manager = [*self._java(256, self.scratch / "hadoop/etc/hadoop"), RESOURCE_MANAGER]
        self.net.daemon(manager, None, self.control_host, env)
        for host in self.hosts:
            self.start_node(host)
        self.await_("every YARN node running", lambda: len(self.running_nodes()) == self.nodes, READY_S)

    def start_node(self, host: str) -> None:
        conf = self.scratch / f"nm-{host}" / "conf"
        self.net.daemon([*self._java(160, conf), NODE_MANAGER], host, host, {**self.env, "HADOOP_CONF_DIR": str(conf)})

    # -------------------------------------------------------------- using it

    def ask(self, path: str) -> dict[str, Any]:
        """What the ResourceManager answers; {} when it does not."""
        try:
            with urllib.request.urlopen(f"{self.rest}/ws/v1/cluster{path}", timeout=10) as answer:
                found = json.load(answer)
        except (OSError, ValueError):
            return {}
        return found if isinstance(found, dict) else {}

    def order(self, method: str, path: str, body: Mapping[str, Any]) -> dict[str, Any]:
        data = json.dumps(body).encode()
        url = f"{self.rest}/ws/v1/cluster{path}"
        ask = urllib.request.Request(url, data=data, method=method, headers={"Content-Type": "application/json"})
        try:
            with urllib.request.urlopen(ask, timeout=10) as answer:
                return dict(json.loads(answer.read() or b"{}"))
        except urllib.error.HTTPError:  # it has ended already
            return {}

    def running_nodes(self) -> list[str]:
        found = (self.ask("/nodes").get("nodes") or {}).get("node") or []
        return sorted(str(node["nodeHostName"]) for node in found if node["state"] == "RUNNING")

    def app(self, job: str) -> dict[str, Any]:
        return dict(self.ask(f"/apps/{job}").get("app") or {})

    def jobs(self) -> list[str]:
        """Ids of applications that have not ended."""
        found = (self.ask("/apps?states=NEW,NEW_SAVING,SUBMITTED,ACCEPTED,RUNNING").get("apps") or {}).get("app") or []
        return [str(app["id"]) for app in found]

    def containers(self) -> int:
        return int((self.ask("/metrics").get("clusterMetrics") or {}).get("containersAllocated", 0))

    # -------------------------------------------------------------- what the promises ask (bed.py)

    def submit(self, script: Path, nodes: int, out: Path) -> str:
        raise NotImplementedError(self.lacks["own script"])

    def phase(self, job_id: str) -> str:
        app = self.app(job_id)
        if app.get("state") in (None, "FINISHED", "FAILED", "KILLED"):
            return "ended"
        return "running" if int(app.get("runningContainers") or 0) > 1 else "queued"

    def nodes_of(self, job_id: str) -> list[str]:
        """By what the containers' own processes were told: the ResourceManager does not know their numbers."""
        numbered: dict[int, str] = {}
        for host in self.hosts:
            for pid in self.pids(host):
                with contextlib.suppress(OSError, ValueError):
                    lines = Path(f"/proc/{pid}/environ").read_text(errors="replace").split("\0")
                    env = dict(line.split("=", 1) for line in lines if "=" in line)
                    if job_id.removeprefix("application") in env.get("CONTAINER_ID", "") and "YARN_SHELL_ID" in env:
                        numbered[int(env["YARN_SHELL_ID"])] = host
        return [numbered[number] for number in sorted(numbered)]

    def exit_code(self, job_id: str) -> int:
        app = self.app(job_id)
        code = re.search(r"Exit code(?: is|:) (\d+)", str(app.get("diagnostics")))
        return 0 if app.get("finalStatus") == "SUCCEEDED" else int(code.group(1)) if code else 1

    def record(self, job_id: str) -> str:
        attempt = f"{job_id.replace('application', 'appattempt')}_000001"
        paths = (f"/apps/{job_id}", f"/apps/{job_id}/appattempts", f"/apps/{job_id}/appattempts/{attempt}/containers")
        return "\n".join(json.dumps(self.ask(path)) for path in paths)

    def end(self, job_id: str) -> None:
        self.order("PUT", f"/apps/{job_id}/state", {"state": "KILLED"})

    def requeue(self, job_id: str) -> None:
        raise NotImplementedError(self.lacks["requeue"])

    def crash(self, host: str) -> None:
        masters = self.masters(host)
        self.net.power_off(host, ["java"])
        for pid in masters:
            with contextlib.suppress(OSError):
                os.kill(pid, signal.SIGKILL)

    def masters(self, host: str) -> list[int]:
        """The applications' masters on a node."""
        found = []
        for pid in self.pids(host):
            with contextlib.suppress(OSError):
                words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
                if words[0].endswith(b"/java") and any(word.endswith(b".ApplicationMaster") for word in words):
                    found.append(pid)
        return found

    def repair(self, host: str) -> None:
        self.net.power_on(host)
        self.await_(f"{host} running", lambda: len(self.running_nodes()) == self.nodes, READY_S)

    @contextmanager
    def full(self) -> Iterator[None]:
        """An application of one container, which is its own master, for each node: no Java has to start for that."""
        asked = [self.order("POST", "/apps/new-application", {}) for _ in self.hosts]
        jobs = [str(each["application-id"]) for each in asked]
        command = {"commands": {"command": "exec sleep 300"}}
        for job in jobs:
            body = {"application-id": job, "application-name": "full", "application-type": "other"}
            self.order("POST", "/apps", {**body, "am-container-spec": command, "resource": self.whole})
        wait_for("every node busy", lambda: self.containers() == self.nodes, 90.0)
        try:
            yield
        finally:
            for job in jobs:
                self.end(job)

    @contextmanager
    def aside(self) -> Iterator[YarnBed]:
        with YarnBed(nodes=1, cpus=self.cpus, mem_mb=self.mem_mb) as bed:
            yield bed

    def cancel_all(self, timeout_s: float = 90.0) -> None:
        """Kill what is left and wait until no container is left."""
        for job in self.jobs():
            self.order("PUT", f"/apps/{job}/state", {"state": "KILLED"})
        wait_for("no application left", lambda: not self.jobs() and not self.containers(), timeout_s, 0.05)

    def close(self) -> None:
        """End applications, daemons, namespaces; safe to call twice."""
        if self.env:
            with contextlib.suppress(BedError, OSError):
                self.cancel_all(10)
        for daemon in self.net.daemons:  # asked to end, each would take seconds, and there is nothing to be kept
            daemon.kill()
        self.net.close()


def java_home() -> str:
    return str(Path(os.path.realpath(shutil.which("java") or "java")).parent.parent)


def reason_to_skip() -> str | None:
    """Why there can be no YARN here (in words), or None."""
    why = missing(PROGRAMS)
    if why is None:
        try:
            jars()
        except BedError as error:
            why = str(error)
    return f"no YARN test bed: {why}" if why else None


def main() -> int:
    return by_hand(YarnBed, __doc__, {"nodes": 3, "cpus": 4, "mem_mb": 4096, "gpus": 2})


if __name__ == "__main__":
    sys.exit(main())
