"""What is measured: names, units, who takes part, and the figures that are to be reached. Pure data.

The names of the microbenchmarks are those of ``ray microbenchmark``, so that numbers can be compared with what Ray
publishes. Rejected: thresholds inside the measuring code (nobody would find them, and a probe runs under interpreters
that know nothing of them).
"""

from __future__ import annotations

from dataclasses import dataclass

RATE, GB_S, US, SECONDS, MB, SHARE = "1/s", "GB/s", "µs", "s", "MB", "of 1"
HIGHER_IS_BETTER = {RATE: True, GB_S: True, US: False, SECONDS: False, MB: False, SHARE: True}

HPC, RAY, DASK, PARSL, FUTURES = "hpc", "ray", "dask", "parsl", "futures"
#: How peers are called in tables, in the order in which they are shown.
TITLES = {HPC: "hpc", RAY: "Ray", DASK: "Dask", PARSL: "Parsl", FUTURES: "ProcessPool"}


@dataclass(frozen=True)
class Target:
    """A figure to be reached: so many times a peer's rate, or an absolute limit in the metric's unit."""

    times: float | None = None
    at_most: float | None = None
    at_least: float | None = None
    peer: str = RAY

    def text(self) -> str:
        """In words, for the table."""
        if self.times is not None:
            return f"≥ {self.times:g}× {TITLES[self.peer]}"
        return f"≥ {self.at_least:g}" if self.at_least is not None else f"≤ {self.at_most:g}"


@dataclass(frozen=True)
class Metric:
    """One line of the table. ``group``: what --quick measures in one process, or the kind of run that it is."""

    name: str
    unit: str
    group: str
    what: str
    targets: tuple[Target, ...] = ()
    peers: tuple[str, ...] = (HPC, RAY)

    @property
    def higher_is_better(self) -> bool:
        return HIGHER_IS_BETTER[self.unit]

    def value(self, runs_per_s: float) -> float:
        """A probe's rate in this metric's unit."""
        return 1e6 / runs_per_s if self.unit == US else runs_per_s


def ray(times: float) -> Target:
    """The rate, in multiples of Ray's."""
    return Target(times=times)


POOL = Target(times=1.0, peer=FUTURES)
ALL = (HPC, RAY, DASK, PARSL, FUTURES)
WITH_ARG = (HPC, RAY, FUTURES)
NO_PARSL = (HPC, RAY, DASK)

PUT_GB, PUT_SHARE, MEMCPY = "single client put gigabytes", "put gigabytes, share of a memcpy", "warm memcpy GB/s"
#: What follows from another figure of the same process: name -> (metric, the extra that it is divided by).
DERIVED = {PUT_SHARE: (PUT_GB, MEMCPY)}

MICRO = (
    Metric("single client tasks sync", RATE, "tasks", "one task at a time, its result awaited", (ray(25), POOL), ALL),
    Metric("single client tasks async", RATE, "tasks", "1,000 tasks, then all results", (ray(50), POOL), ALL),
    Metric("single client tasks async, 1 KB arg", RATE, "tasks", "the same, each with 1 KB of bytes", (), WITH_ARG),
    Metric("single client tasks async, 10 KB arg", RATE, "tasks", "the same, each with 10 KB of bytes", (), WITH_ARG),
    Metric("multi client tasks async", RATE, "multi", "4 actors submit 1,000 tasks each and get them", (ray(15),)),
    Metric("1:1 actor calls sync", RATE, "actors", "one call at a time, its result awaited", (ray(15),), NO_PARSL),
    Metric("1:1 actor calls async", RATE, "actors", "1,000 calls, then all results", (ray(40),), NO_PARSL),
    Metric("1:1 async-actor calls sync", RATE, "actors", "the same on an actor with coroutines", (ray(15),)),
    Metric("1:1 async-actor calls async", RATE, "actors", "1,000 calls on an actor with coroutines", (ray(15),)),
    Metric("n:n actor calls async", RATE, "multi", "4 tasks call n actors 1,000 times each; n = cores / 2, at least 2",
           (ray(15),)),
    Metric("actors created until first reply", RATE, "multi", "one after another: made, called once, dropped",
           (ray(50),)),
    Metric("placement group create/removal", RATE, "multi", "100 groups of one bundle: made, awaited, removed",
           (ray(20),)),
    Metric("single client put calls", RATE, "objects", "put(0)", (ray(60),), NO_PARSL),
    Metric("single client get calls", RATE, "objects", "get of a small object that was put", (ray(30),), NO_PARSL),
    Metric("single client wait 1k refs", RATE, "objects", "1,000 tasks, then wait for one until none is left",
           (ray(12),)),
    Metric(PUT_GB, GB_S, "objects", "a 100 MB numpy array, in a loop, each dropped at once", (ray(6),)),
    Metric("get 10 MB numpy on the node", US, "objects",
           "an array that a task of this node made, each view dropped; the first get is said below",
           (Target(at_most=100.0),)),
    Metric("busy: single client tasks", RATE, "busy", "one task at a time; another process has half of each core",
           (ray(15),)),
    Metric("busy: 1:1 actor calls", RATE, "busy", "one call at a time; the same load", (ray(10),)),
)  # fmt: skip

INIT_GROUP, NODES_GROUP, SLURM_GROUP = "init", "nodes", "slurm"
MEMORY_GROUP, NET_GROUP = "memory", "net"
IMPORT, INIT, FROM_EXEC, SHUTDOWN = "import", "init to first result", "process start to first result", "shutdown"
IDLE = "memory of an idle worker"
NODES_READY, NODES_LINE, NODES_WHOLE = (
    "4 local nodes ready",
    "4 local nodes, script's first line",
    "4 local nodes, whole run",
)
SBATCH_READY, SALLOC_READY = "4 Slurm nodes ready, sbatch", "4 Slurm nodes ready, salloc"
NET, NET_SHARE = "1 GB object to another node", "1 GB to another node, share of encrypted"
NET_PLAIN_SHARE = "1 GB to another node unencrypted, share of TCP"

STARTUP = (
    Metric(PUT_SHARE, SHARE, "objects", "the loop above beside numpy's copy of the same array, pages touched before",
           (Target(at_least=0.5),), (HPC,)),
    Metric(IMPORT, SECONDS, INIT_GROUP, "import of the module in a fresh interpreter", (Target(at_most=0.15),)),
    Metric(INIT, SECONDS, INIT_GROUP, "from before init() to the first task's result", (Target(at_most=0.4),)),
    Metric(FROM_EXEC, SECONDS, INIT_GROUP, "the same from the exec of the interpreter, imports included"),
    Metric(SHUTDOWN, SECONDS, INIT_GROUP, "shutdown() after one task"),
    Metric(IDLE, MB, MEMORY_GROUP, "private memory (USS) of a worker that ran a task and waits",
           (Target(at_most=5.0),)),
    Metric(NODES_READY, SECONDS, NODES_GROUP, "from the exec of hpc-launch until all four raylets accept work",
           (Target(at_most=1.0),), (HPC,)),
    Metric(NODES_LINE, SECONDS, NODES_GROUP, "from the exec of hpc-launch to the script's first line", (), (HPC,)),
    Metric(NODES_WHOLE, SECONDS, NODES_GROUP, "hpc-launch with a script that does nothing, to its exit", (), (HPC,)),
    Metric(NET, GB_S, NET_GROUP, "an array of one node, awaited by a task of another, in network namespaces", (),
           (HPC,)),
    Metric(NET_SHARE, SHARE, NET_GROUP, "the same beside a bare stream, TLS or CURVE, whichever is faster",
           (Target(at_least=0.8),), (HPC,)),
    Metric(NET_PLAIN_SHARE, SHARE, NET_GROUP, "with bulk encryption switched off, beside bare TCP",
           (Target(at_least=0.5),), (HPC,)),
    Metric(SBATCH_READY, SECONDS, SLURM_GROUP, "hpc-launch in a batch job: from its exec until all raylets accept work",
           (Target(at_most=2.0),), (HPC,)),
    Metric(SALLOC_READY, SECONDS, SLURM_GROUP, "the same under salloc", (Target(at_most=2.0),), (HPC,)),
)  # fmt: skip

METRICS = (*MICRO, *STARTUP)
#: Parts that are no lines of the table but tables of their own.
PARTS = (
    "steps",
    "counts",
    "placement",
    "load",
    "fleet",
    "scale",
    "groups",
    "startup",
    "stage",
    "collective",
    "train",
    "mpi",
    "checkpoint",
    "blocks",
    "tune",
    "data",
    "seeing",
    "serve",
    "llm",
    "rl",
)


def chosen(only: list[str]) -> list[Metric]:
    """The metrics whose name or group contains one of the words; all where none is given."""
    words = [word.lower() for word in only]
    found = [m for m in METRICS if not words or any(w in m.name.lower() or w == m.group for w in words)]
    if not found and not parts(only):
        raise ValueError(f"no benchmark is called {' or '.join(map(repr, only))}; there are: "
                         + ", ".join((*(m.name for m in METRICS), *PARTS)))  # fmt: skip
    return found


def parts(only: list[str]) -> list[str]:
    """The parts of these names; all where none is given."""
    return [name for name in PARTS if not only or name in only]
