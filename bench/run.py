"""The rounds: who is measured when. Peers alternate within each metric, so that a machine's mood hits all alike.

Every metric is measured in a fresh process; --quick measures those of a group in one process (as ``ray
microbenchmark`` does), because most of the time would else go into starting Ray.
Rejected: all rounds of one metric in a row (a minute of noise would spoil all of them and show no spread).
"""

from __future__ import annotations

import datetime
import json
import statistics
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from bench import machine, slurm, spaces
from bench.blocks import blocks
from bench.checkpoint import checkpoint
from bench.children import PROBES, Children, MeasureError, hpc_launch
from bench.collective import collective
from bench.data import data
from bench.groups import groups
from bench.llm import llm
from bench.metrics import (
    DERIVED,
    FROM_EXEC,
    FUTURES,
    HPC,
    IDLE,
    IMPORT,
    INIT,
    INIT_GROUP,
    MEMORY_GROUP,
    MICRO,
    NET,
    NET_GROUP,
    NET_PLAIN_SHARE,
    NET_SHARE,
    NODES_GROUP,
    NODES_LINE,
    NODES_READY,
    NODES_WHOLE,
    RAY,
    SHUTDOWN,
    SLURM_GROUP,
    TITLES,
    Metric,
)
from bench.mpi import mpi
from bench.parts import PARTS, Skipped, Stopped
from bench.peers import Peer, PeerError, find
from bench.rl import CHECKS as CHECKS_OF_RL
from bench.rl import rl
from bench.seeing import seeing
from bench.serve import CHECKS as CHECKS_OF_SERVE
from bench.serve import serve
from bench.stage import stage
from bench.startup import startup
from bench.table import number
from bench.train import train
from bench.tune import tune

START_S = 60.0  # a peer's start and end may take so long, beside what is measured
STUCK = 12.0  # times the measured seconds: one turn of a slow peer may take long
NET_S = 400.0
DATA_ROUNDS = 3  # at most: one takes a quarter of an hour
SERVE_ROUNDS = 3
NODES = 4

ALL_PARTS = {
    **PARTS,
    "groups": groups,
    "startup": startup,
    "stage": stage,
    "collective": collective,
    "train": train,
    "mpi": mpi,
    "checkpoint": checkpoint,
    "blocks": blocks,
    "tune": tune,
    "data": data,
    "seeing": seeing,
    "serve": serve,
    "llm": llm,
}
#: The checks of a part that can be measured one by one.
CHECKS_OF = {"rl": tuple(CHECKS_OF_RL), "serve": CHECKS_OF_SERVE}


@dataclass(frozen=True)
class Plan:
    """How much is measured."""

    metrics: list[Metric]
    rounds: int
    seconds: float
    quick: bool
    peers: bool
    parts: list[str] = field(default_factory=list)
    checks: list[str] = field(default_factory=list)
    """Of reinforcement learning and of services; none: all"""
    asked_rounds: int | None = None

    def units(self) -> Iterator[list[Metric]]:
        """What is measured in one process: a metric, or with --quick a group."""
        micro = [m for m in self.metrics if m in MICRO]
        if not self.quick:
            yield from ([m] for m in micro)
            return
        for group in dict.fromkeys(m.group for m in micro):
            yield [m for m in micro if m.group == group]

    def named(self, name: str) -> bool:
        """Whether this metric was chosen."""
        return any(m.name == name for m in self.metrics)

    def group(self, name: str) -> list[str]:
        """Names of the chosen metrics of a group."""
        return [m.name for m in self.metrics if m.group == name]


@dataclass
class Run:
    """One run of the benchmarks and what it has found so far."""

    plan: Plan
    children: Children
    peers: dict[str, Peer] = field(default_factory=dict)
    values: dict[str, dict[str, list[float]]] = field(default_factory=dict)
    extras: dict[str, dict[str, dict[str, list[float]]]] = field(default_factory=dict)
    skipped: dict[str, str] = field(default_factory=dict)
    failures: list[str] = field(default_factory=list)
    tables: list[dict[str, Any]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.started = datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds")
        self.before = machine.noise()

    def find_peers(self) -> None:
        """hpc, and the peers that the chosen metrics are compared with."""
        for name in dict.fromkeys(peer for m in self.plan.metrics for peer in m.peers):
            if name != HPC and not self.plan.peers:
                self.skipped[name] = "--no-peers was given"
                continue
            try:
                self.peers[name] = find(name)
            except PeerError as error:
                self.skipped[name] = str(error)
                say(f"{TITLES[name]}: {error}")

    def measure(self) -> None:
        """All rounds of everything."""
        for turn in range(self.plan.rounds):
            say(f"round {turn + 1} of {self.plan.rounds}")
            for metrics in self.plan.units():
                for name, peer in self.peers.items():
                    theirs = [m for m in metrics if name in m.peers and self._has_time(name, m)]
                    if theirs:
                        self._micro(peer, theirs)
            if self.plan.group(INIT_GROUP):
                for each in self._two():
                    self._init(each)
            if self.plan.group(MEMORY_GROUP):
                for each in self._two():
                    self._memory(each)
            if self.plan.group(NODES_GROUP):
                self._nodes()
        names = self.plan.group(SLURM_GROUP)
        if names and self.plan.quick:
            self.skipped["Slurm"] = "not part of a quick run"
        elif names:
            self._slurm(names)
        if self.plan.group(NET_GROUP):
            self._net()
        for name in self.plan.parts:
            self._part(name)

    def add(self, name: str, peer: str, value: float) -> None:
        self.values.setdefault(name, {}).setdefault(peer, []).append(value)

    def _micro(self, peer: Peer, metrics: list[Metric]) -> None:
        names = [m.name for m in metrics]
        limit = START_S + self.plan.seconds * STUCK * len(names)
        try:
            outcome = self.children.probe(
                peer.python, "micro.py", peer.name, str(self.plan.seconds), *names, timeout_s=limit
            )
        except MeasureError as error:
            self._failed(f"{', '.join(names)} with {TITLES[peer.name]}: {error}")
            return
        self.failures += [f"{names[0]} with {TITLES[peer.name]}: {text}" for text in outcome.problems]
        for metric, record in zip(metrics, outcome.records):
            value = metric.value(record["rate"])
            self.add(metric.name, peer.name, value)
            for what, found in record["extra"].items():
                self._extra(metric.name, peer.name, what, found)
            say(f"  {metric.name:38} {TITLES[peer.name]:12} {number(value):>10} {metric.unit}")
            for name, (source, divisor) in DERIVED.items():
                if source == metric.name and peer.name == HPC and self.plan.named(name):
                    self.add(name, HPC, value / record["extra"][divisor])

    def _has_time(self, peer: str, metric: Metric) -> bool:
        """Whether a quick run has time for it: Dask and Parsl take long, so only the first two figures have them."""
        return not self.plan.quick or peer in (HPC, RAY, FUTURES) or any(t.peer == FUTURES for t in metric.targets)

    def _two(self) -> list[Peer]:
        return [peer for peer in self.peers.values() if peer.name in (HPC, RAY)]

    def _extra(self, metric: str, peer: str, what: str, found: float) -> None:
        self.extras.setdefault(metric, {}).setdefault(peer, {}).setdefault(what, []).append(found)

    def _memory(self, peer: Peer) -> None:
        try:
            outcome = self.children.probe(peer.python, "memory.py", peer.name, timeout_s=START_S)
        except MeasureError as error:
            self._failed(f"{IDLE} with {TITLES[peer.name]}: {error}")
            return
        value = statistics.median(record["private_mb"] for record in outcome.records)
        self.add(IDLE, peer.name, value)
        say(f"  {IDLE:38} {TITLES[peer.name]:12} {number(value):>10} MB")

    def _net(self) -> None:
        """1 GB between namespaces, beside bare streams of the same minute."""
        why = spaces.why_not()
        if why:
            self.skipped["network namespaces"] = why
            return
        size, rounds = ("500000000", "2") if self.plan.quick else ("1000000000", str(max(5, self.plan.rounds)))
        for plain in (False, True):
            config = json.dumps({"bulk_encryption": not plain})
            try:
                outcome = self.children.probe(sys.executable, "transfer.py", size, rounds, config, timeout_s=NET_S)
            except MeasureError as error:
                self._failed(f"{NET_PLAIN_SHARE if plain else NET}: {error}")
                continue
            self._net_figures(outcome.records, plain)

    def _net_figures(self, records: list[dict[str, Any]], plain: bool) -> None:
        """The first transfer of a session is said apart: the pages of both stores are made for it."""
        for turn, record in enumerate(records):
            bare = record["tcp"] if plain else max(record["curve"], record.get("tls", 0.0))
            metric = NET_PLAIN_SHARE if plain else NET
            self.add(NET_PLAIN_SHARE if plain else NET_SHARE, HPC, record["hpc"] / bare)
            if plain:
                self._extra(metric, HPC, "GB/s", record["hpc"])
            else:
                self.add(NET, HPC, record["hpc"])
            if turn == 0:
                self._extra(metric, HPC, "first transfer GB/s", record["hpc"])
            for kind in ("tcp",) if plain else ("tcp", "tls", "curve"):
                if kind in record:
                    self._extra(metric, HPC, f"bare {kind} GB/s", record[kind])

    def _part(self, name: str) -> None:
        checks = [check for check in self.plan.checks if check in CHECKS_OF.get(name, ())]
        if self.plan.checks and not checks:
            return
        say(f"  {name} ...")
        more: dict[str, Any] = {}
        if name == "data":
            more = {"rounds": min(DATA_ROUNDS, self.plan.rounds)}
        elif name == "serve":
            more = {"rounds": min(SERVE_ROUNDS, self.plan.rounds), "checks": checks}
            more |= {"peers": self.plan.peers, "say": say}
        try:
            if name == "rl":
                self._rl(checks)
                return
            found: Any = ALL_PARTS[name](self.children, self.plan.quick, **more)
            self.tables += found if isinstance(found, list) else [found]
        except Stopped as stopped:
            self.tables += stopped.tables
            raise
        except Skipped as error:
            self.skipped[name] = str(error)
        except MeasureError as error:
            self._failed(f"{name}: {error}")

    def _rl(self, checks: Sequence[str]) -> None:
        """Hours: its table is kept from the beginning, and grows."""
        plan = self.plan
        rl(
            self.children, plan.quick, checks=checks, seeds=plan.asked_rounds, peers=plan.peers,
            keep=self.tables.append, say=say,
        )  # fmt: skip

    def _init(self, peer: Peer) -> None:
        try:
            outcome = self.children.probe(peer.python, "first_result.py", peer.name, timeout_s=START_S)
        except MeasureError as error:
            self._failed(f"{INIT} with {TITLES[peer.name]}: {error}")
            return
        record = outcome.records[0]
        self._add_all(
            peer.name, {
                IMPORT: record["import_s"],
                INIT: record["first_s"],
                FROM_EXEC: record["first_at"] - outcome.started_at,
                SHUTDOWN: record["shutdown_s"],
            },
        )  # fmt: skip

    def _nodes(self) -> None:
        try:
            command = [*hpc_launch(), "--nodes", str(NODES), str(PROBES / "ready.py")]
            outcome = self.children.run(command, START_S)
        except MeasureError as error:
            self._failed(f"{NODES_READY}: {error}")
            return
        record = outcome.records[0]
        found = {
            NODES_LINE: record["at"] - outcome.started_at,
            NODES_WHOLE: outcome.ended_at - outcome.started_at,
        }
        if record["ready_s"] is not None:
            found[NODES_READY] = float(record["ready_s"])
        self._add_all(HPC, found)

    def _add_all(self, peer: str, found: dict[str, float]) -> None:
        chosen = {m.name for m in self.plan.metrics}
        for name, value in found.items():
            if name in chosen:
                self.add(name, peer, value)
                say(f"  {name:38} {TITLES[peer]:12} {number(value):>10} s")

    def _slurm(self, names: list[str]) -> None:
        try:
            with slurm.bed() as bed:
                for _ in range(self.plan.rounds):
                    for name in names:
                        self._in_allocation(bed, name)
        except slurm.NoSlurm as error:
            self.skipped["Slurm"] = str(error)
            say(f"Slurm: {error}")
        except Exception as error:  # the bed is a test's: whatever it raises must not lose the other figures
            self._failed(f"Slurm: {type(error).__name__}: {error}")

    def _in_allocation(self, bed: Any, name: str) -> None:
        try:
            self._add_all(HPC, {name: slurm.ready_s(bed, name)})
        except MeasureError as error:
            self._failed(f"{name}: {error}")

    def _failed(self, text: str) -> None:
        self.failures.append(text)
        say(f"  failed: {text}")

    def result(self) -> dict[str, Any]:
        """All of it, as it is written to the file."""
        after = machine.noise()
        ticks = after["all_ticks"] - self.before["all_ticks"]
        return {
            "started": self.started,
            "machine": machine.describe(),
            "versions": {name: peer.versions for name, peer in self.peers.items()},
            "rounds": self.plan.rounds,
            "seconds": self.plan.seconds,
            "quick": self.plan.quick,
            "noise": {
                "load before": self.before["load"],
                "stolen share": (after["steal_ticks"] - self.before["steal_ticks"]) / ticks if ticks else 0.0,
            },
            "units": {m.name: m.unit for m in self.plan.metrics},
            "values": self.values,
            "extras": self.extras,
            "tables": self.tables,
            "skipped": self.skipped,
            "failures": self.failures,
        }


def say(text: str) -> None:
    """Progress, on stderr: stdout is for the table."""
    print(text, file=sys.stderr, flush=True)
