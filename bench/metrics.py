"""What is measured: names, units, who takes part, and the figures that are to be reached. Pure data.

The names of the microbenchmarks are those of ``ray microbenchmark``, so that numbers can be compared with what Ray
publishes. Rejected: thresholds inside the measuring code (nobody would find them, and a probe runs under interpreters
that know nothing of them).
"""

from __future__ import annotations

from dataclasses import dataclass

RATE, GB_S, US, SECONDS = "1/s", "GB/s", "µs", "s"
HIGHER_IS_BETTER = {RATE: True, GB_S: True, US: False, SECONDS: False}

HPC, RAY, FUTURES = "hpc", "ray", "futures"
#: How peers are called in tables.
TITLES = {HPC: "hpc", RAY: "Ray", FUTURES: "ProcessPool"}


@dataclass(frozen=True)
class Target:
    """A figure to be reached: so many times a peer's rate, or an absolute limit in the metric's unit."""

    times: float | None = None
    at_most: float | None = None
    peer: str = RAY

    def text(self) -> str:
        """In words, for the table."""
        if self.times is not None:
            return f"≥ {self.times:g}× {TITLES[self.peer]}"
        return f"≤ {self.at_most:g}"


@dataclass(frozen=True)
class Metric:
    """One line of the table. ``group``: what --quick measures in one process, or the kind of start-up run."""

    name: str
    unit: str
    group: str
    what: str
    target: Target | None = None
    peers: tuple[str, ...] = (HPC, RAY)

    @property
    def higher_is_better(self) -> bool:
        return HIGHER_IS_BETTER[self.unit]

    def value(self, runs_per_s: float) -> float:
        """A probe's rate in this metric's unit."""
        return 1e6 / runs_per_s if self.unit == US else runs_per_s


FIVE = Target(times=5.0)
ALL = (HPC, RAY, FUTURES)

MICRO = (
    Metric("single client tasks sync", RATE, "tasks", "one task at a time, its result awaited", FIVE, ALL),
    Metric("single client tasks async", RATE, "tasks", "1,000 tasks, then all results", FIVE, ALL),
    Metric("single client tasks async, 1 KB arg", RATE, "tasks", "the same, each with 1 KB of bytes", None, ALL),
    Metric("single client tasks async, 10 KB arg", RATE, "tasks", "the same, each with 10 KB of bytes", None, ALL),
    Metric("multi client tasks async", RATE, "multi", "4 actors submit 1,000 tasks each and get them", FIVE),
    Metric("1:1 actor calls sync", RATE, "actors", "one call at a time, its result awaited", FIVE),
    Metric("1:1 actor calls async", RATE, "actors", "1,000 calls, then all results", FIVE),
    Metric("1:1 async-actor calls sync", RATE, "actors", "the same on an actor with coroutines", FIVE),
    Metric("1:1 async-actor calls async", RATE, "actors", "1,000 calls on an actor with coroutines", FIVE),
    Metric("n:n actor calls async", RATE, "multi", "4 tasks call n actors 1,000 times each; n = cores / 2, at least 2",
           FIVE),
    Metric("actors created until first reply", RATE, "multi", "one after another: made, called once, dropped"),
    Metric("single client put calls", RATE, "objects", "put(0)"),
    Metric("single client get calls", RATE, "objects", "get of a small object that was put"),
    Metric("single client wait 1k refs", RATE, "objects", "1,000 tasks, then wait for one until none is left"),
    Metric("single client put gigabytes", GB_S, "objects", "a 100 MB numpy array, in a loop, each dropped at once"),
    Metric("get 10 MB numpy on the node", US, "objects", "an array that a task of this node made, each view dropped"),
)  # fmt: skip

INIT_GROUP, NODES_GROUP, SLURM_GROUP = "init", "nodes", "slurm"
IMPORT, INIT, FROM_EXEC, SHUTDOWN = "import", "init to first result", "process start to first result", "shutdown"
NODES_READY, NODES_LINE, NODES_WHOLE = (
    "4 local nodes ready",
    "4 local nodes, script's first line",
    "4 local nodes, whole run",
)
SBATCH_READY, SALLOC_READY = "4 Slurm nodes ready, sbatch", "4 Slurm nodes ready, salloc"

STARTUP = (
    Metric(IMPORT, SECONDS, INIT_GROUP, "import of the module in a fresh interpreter"),
    Metric(INIT, SECONDS, INIT_GROUP, "from before init() to the first task's result", Target(at_most=0.5)),
    Metric(FROM_EXEC, SECONDS, INIT_GROUP, "the same from the exec of the interpreter, imports included"),
    Metric(SHUTDOWN, SECONDS, INIT_GROUP, "shutdown() after one task"),
    Metric(NODES_READY, SECONDS, NODES_GROUP, "from the exec of hpc-launch until all four raylets accept work",
           Target(at_most=1.0), (HPC,)),
    Metric(NODES_LINE, SECONDS, NODES_GROUP, "from the exec of hpc-launch to the script's first line", None, (HPC,)),
    Metric(NODES_WHOLE, SECONDS, NODES_GROUP, "hpc-launch with a script that does nothing, to its exit", None, (HPC,)),
    Metric(SBATCH_READY, SECONDS, SLURM_GROUP, "hpc-launch in a batch job: from its exec until all raylets accept work",
           Target(at_most=2.0), (HPC,)),
    Metric(SALLOC_READY, SECONDS, SLURM_GROUP, "the same under salloc", Target(at_most=2.0), (HPC,)),
)  # fmt: skip

METRICS = (*MICRO, *STARTUP)


def chosen(only: list[str]) -> list[Metric]:
    """The metrics whose name or group contains one of the words; all where none is given."""
    words = [word.lower() for word in only]
    found = [m for m in METRICS if not words or any(w in m.name.lower() or w == m.group for w in words)]
    if not found:
        raise ValueError(f"no benchmark is called {' or '.join(map(repr, only))}; there are: "
                         + ", ".join(m.name for m in METRICS))  # fmt: skip
    return found
