"""What the head costs with up to 10,000 nodes: ``python -m bench.scale [--quick]``.

The real HeadMachine is given the real messages of so many raylets, decoded and encoded as its shell does, and its CPU
time is taken. Nothing is sent and no raylet runs: on one machine 10,000 of them cannot. Then the simulator runs a
whole cluster (head, raylets, owners, workers; nothing is lost on the way) and counts what reaches the head, to see that
nothing per task does. "Events" are those that change the cluster: a node joins, a node dies, a process ends.
Rejected: extrapolation from the 64 real raylets of the fleet (which is beside it, for comparison).
"""

from __future__ import annotations

import argparse
import gc
import json
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from hpc.core.head.admission import MAX_DEMAND
from hpc.core.head.machine import HeadMachine
from hpc.core.ids import Address, raylet_of
from hpc.core.resources import UNIT
from hpc.core.wire import (
    WIRE_VERSION,
    Heartbeat,
    Message,
    NodeDemand,
    NodeInfo,
    NodeRegister,
    ProcessGone,
    decode_body,
    encode_body,
)

SIZES = (10, 30, 100, 300, 1_000, 3_000, 10_000)
QUICK_SIZES = (10, 100, 1_000, 3_000)
CPUS = 128  # of each node: 10,000 nodes have room for 1,280,000 tasks of one CPU
TASKS = 1_000_000
CPU = {"CPU": UNIT}
LIMIT_US = 20.0
#: A figure is an average over so many messages, or over so much time where one message is dear.
MESSAGES, BUDGET_S = 200, 0.3
#: (nodes, tasks) of the simulator.
SIM_SIZES, SIM_QUICK_SIZES = ((10, 20_000), (100, 20_000), (1_000, 50_000), (10_000, TASKS)), ((3, 2_000), (30, 2_000))
PLOT = "scale.svg"


@dataclass
class Point:
    """The head's CPU time in µs with so many nodes."""

    nodes: int
    join: float
    join_together: float
    heartbeat: float
    heartbeat_unmet: float
    default: float
    spread: float
    single: float
    gone: float
    bytes_each: float


class Head:
    """A HeadMachine with nodes, and the clock of what it costs."""

    def __init__(self) -> None:
        self.machine = HeadMachine(try_s=1e9, suspect_s=1e9, dead_s=2e9)
        self.size = 0
        self.sent = 0
        self.shape = 0

    def take(self, src: Address, message: Message) -> float:
        """Seconds of CPU time for a turn with one message."""
        return self.turn([(src, message)])

    def turn(self, messages: list[tuple[Address, Message]]) -> float:
        """Seconds of CPU time for a turn: decoding, the machine, and encoding what is new of its answers."""
        machine = self.machine
        bodies = [(src, encode_body([message])) for src, message in messages]
        machine.outbox.clear()
        machine.cut.clear()
        start = time.process_time()
        for src, body in bodies:
            machine.handle(src, decode_body(body), machine.now, serve=False)
        machine.tick(machine.now)
        machine.journal_parts()
        encoded: dict[int, bytes] = {}
        for _, answer in machine.outbox:
            if id(answer) not in encoded:  # a message to all is encoded once, as by the real shell
                encoded[id(answer)] = encode_body([answer])
        took = time.process_time() - start
        self.sent = sum(len(encoded[id(answer)]) for _, answer in machine.outbox)
        machine.journal.clear()
        return took

    def grow(self, size: int) -> tuple[float, float]:
        """Join nodes until there are so many; µs for one that joins alone, and for one of many in one turn."""
        alone = min(20, (size - self.size) // 2)
        together = min(100, size - self.size - alone)
        new = [self.joining(node) for node in range(self.size + 1, size + 1)]
        first = len(new) - alone - together
        self.turn(new[:first])
        many = self.turn(new[first : first + together]) / together
        single = sum(self.turn([one]) for one in new[first + together :]) / alone
        self.size = size
        return 1e6 * single, 1e6 * many

    @staticmethod
    def joining(node: int) -> tuple[Address, Message]:
        """What a node says first."""
        totals = {"CPU": CPUS * UNIT, "memory": 256_000_000_000_000}
        at = f"tcp://10.0.{node >> 8}.{node & 255}"
        where = f"/tmp/hpc-{node}"
        info = NodeInfo(node, f"n{node:05}", f"{at}:1", "k" * 40, totals, {}, False, 1, where, bulk=f"{at}:2")
        return raylet_of(node), NodeRegister(info, WIRE_VERSION)

    def average(self, make: Callable[[int], tuple[Address, Message]]) -> float:
        """µs a message."""
        spent, count = 0.0, 0
        while count < MESSAGES and (spent < BUDGET_S or not count):
            spent += self.take(*make(count))
            count += 1
        return 1e6 * spent / count

    def heartbeat(self, turn: int) -> tuple[Address, Message]:
        node = turn % self.size + 1
        there = self.machine.nodes[node]
        free = {**there.free, "memory": there.free["memory"] - turn}  # something has changed, as on a busy node
        return raylet_of(node), Heartbeat(node, free, 4, 0)

    def demand(self, count: int, strategy: Any, cpus: int = 1) -> tuple[Address, Message]:
        self.shape += 1
        wanted = {"CPU": cpus * UNIT}
        return raylet_of(1), NodeDemand(1, self.shape, wanted, wanted, strategy, count)

    def forget(self) -> None:
        """All is free again."""
        machine = self.machine
        for key in list(machine.demands.table):
            machine.demands.drop(key)
        machine.demands.sent.clear()
        machine.promises.forget_all()
        machine.snapshot().seen()

    def place(self, tasks: int, strategy: Any) -> float:
        """µs a task, until so many have their place: demands of as many as one message may have."""
        spent, placed = 0.0, 0
        while placed < tasks:
            count = min(MAX_DEMAND, tasks - placed)
            spent += self.take(*self.demand(count, strategy))
            placed += sum(n for _, answer in self.machine.outbox for _, n, _ in getattr(answer, "grants", []))
            if placed < tasks and self.machine.demands.table:
                raise RuntimeError(f"no room for {tasks} tasks on {self.size} nodes")
        self.forget()
        return 1e6 * spent / placed


def point(head: Head, nodes: int) -> Point:
    """All figures with so many nodes."""
    join, join_together = head.grow(nodes)
    heartbeat = head.average(head.heartbeat)
    bytes_each = head.sent + len(encode_body([head.heartbeat(1)[1]]))
    room = min(TASKS, nodes * CPUS * 3 // 4)
    default, spread = head.place(room, "DEFAULT"), head.place(min(room, 5 * MAX_DEMAND), "SPREAD")
    single = head.average(lambda turn: head.demand(1, "DEFAULT"))
    head.forget()
    head.take(*head.demand(1, ["node", nodes, False], CPUS))  # the last node is full ...
    head.take(*head.demand(1, ["node", nodes, False]))  # ... and somebody waits for it
    unmet = head.average(head.heartbeat)
    head.forget()
    gone = head.average(lambda turn: (raylet_of(1), ProcessGone(Address(1, turn + 100), "it has ended")))
    return Point(nodes, join, join_together, heartbeat, unmet, default, spread, single, gone, bytes_each)


def simulate(nodes: int, tasks: int) -> dict[str, float]:
    """A cluster in the simulator: messages and bytes that reach the head, and the time it takes to simulate."""
    from hpc.core.sim.programs import Program, Submitter
    from hpc.core.sim.worker import WorkerSim
    from hpc.core.sim.world import World

    workers: dict[Any, WorkerSim] = {}
    world = World(
        1, nodes, 4, 0.0, lambda world, process: workers.update({process.addr: WorkerSim(world, process)}), plain=True
    )
    world.tick_s = 0.05
    seen = {"messages": 0, "bytes": 0}
    handle = world.head.handle

    def counted(src: Address, messages: Any, now: float, serve: bool = True) -> None:
        seen["messages"] += sum(not isinstance(m, Heartbeat) for m in messages)
        handle(src, messages, now, serve)

    began_cpu = time.process_time()
    while world.clock.now < 1.0 and world.clock.step():
        pass
    joined_cpu = time.process_time() - began_cpu
    if len(world.head.nodes) < nodes:
        raise RuntimeError(f"only {len(world.head.nodes)} of {nodes} simulated nodes joined")
    world.head.handle = counted  # type: ignore[method-assign]
    submitter, done = Submitter(world, world.new_driver(1, lambda src, msg: None)), [0]
    start, began = time.process_time(), world.clock.now

    def ended() -> None:
        done[0] += 1

    for number in range(tasks):
        ident = submitter.submit(Program(number, 0.01), [])
        submitter.when_all([ident], ended)
    gc.freeze()  # with a million tasks to go through again and again, the collector takes most of the time
    while done[0] < tasks and world.clock.now < began + 600 and world.clock.step():
        pass
    if done[0] < tasks:
        raise RuntimeError(f"{tasks - done[0]} of {tasks} simulated tasks did not end")
    gc.unfreeze()
    return {
        "nodes": nodes, "tasks": tasks, "to_head": seen["messages"], "virtual_s": world.clock.now - began,
        "cpu_s": time.process_time() - start, "join_cpu_s": joined_cpu,
    }  # fmt: skip


def plot(points: list[Point]) -> list[str]:
    """Draw docs/plots/scale.svg; nothing where matplotlib is missing."""
    from bench.page import PLOTS

    try:
        import matplotlib
    except ImportError:
        return []
    matplotlib.use("svg")
    import matplotlib.pyplot as plt

    matplotlib.rcParams.update({"svg.fonttype": "none", "svg.hashsalt": "hpc", "font.size": 9})
    figure, axes = plt.subplots(figsize=(8, 4.2), facecolor="white")
    drawn = {
        "heartbeat": [p.heartbeat for p in points],
        "heartbeat while a demand waits": [p.heartbeat_unmet for p in points],
        "a node joins": [p.join for p in points],
        "a node joins, with 99 others": [p.join_together for p in points],
        "a process ends": [p.gone for p in points],
        "placement of one task in a large demand": [p.default for p in points],
        "the same, SPREAD": [p.spread for p in points],
        "placement of a demand for one": [p.single for p in points],
    }
    for name, values in drawn.items():
        axes.plot([p.nodes for p in points], values, marker="o", markersize=3, label=name)
    axes.axhline(LIMIT_US, color="#999999", linewidth=0.8, linestyle="--")
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set_xlabel("nodes")
    axes.set_ylabel("CPU time of the head, µs (dashed: 20)")
    axes.grid(color="#dddddd", linewidth=0.6)
    axes.legend(frameon=False, fontsize=7)
    figure.tight_layout()
    PLOTS.mkdir(parents=True, exist_ok=True)
    figure.savefig(PLOTS / PLOT, format="svg", metadata={"Date": None, "Creator": None})
    plt.close(figure)
    return [PLOT]


def measure(quick: bool, draw: bool = True) -> dict[str, Any]:
    """The part of `bench.parts`: a table of points, with the simulator's figures in its note."""
    import hpc.core.policy.placement  # noqa: F401  (numpy's import is nobody's cost per task)
    from bench.table import number

    head = Head()
    points = [point(head, nodes) for nodes in (QUICK_SIZES if quick else SIZES)]
    rows = [
        [f"{p.nodes:,}", number(p.default), number(p.spread), number(p.single), number(p.heartbeat),
         number(p.heartbeat_unmet), number(p.join), number(p.join_together), number(p.gone),
         f"{p.heartbeat / 1e4:.2f} %", f"{p.heartbeat * p.nodes / 1e4:.2f} %"]
        for p in points
    ]  # fmt: skip
    most = points[-1]
    placed = min(TASKS, most.nodes * CPUS * 3 // 4)
    verdict = "within" if max(most.default, most.spread) <= LIMIT_US else "ABOVE"
    note = (
        "CPU time of the head's machine in µs, messages decoded and encoded. "
        f"{placed:,} tasks placed on {most.nodes:,} nodes: {number(most.default)} µs a task by DEFAULT, "
        f"{number(most.spread)} by SPREAD, {verdict} the limit of {LIMIT_US:g}. "
        f"A heartbeat and its answer have {most.bytes_each:.0f} bytes. The last two columns: the share of one core "
        "that a node's heartbeats, one a second, cost the head, and those of all nodes."
    )
    simulated = []
    for nodes, tasks in SIM_QUICK_SIZES if quick else SIM_SIZES:
        s = simulate(nodes, tasks)
        simulated.append(
            f"{tasks:,} tasks on {nodes} nodes {s['to_head']:.0f} ({s['virtual_s']:.1f} s, virtual; "
            f"{s['cpu_s']:.0f} s to simulate, after {s['join_cpu_s']:.0f} s for the nodes to start and join)"
        )
    note += (
        " In the simulator (tasks of 10 ms from one driver, 4 CPUs a node) the head heard, beside heartbeats, so many "
        f"messages: {'; '.join(simulated)}. None of them is per task."
    )
    titles = ["nodes", "placement, a task", "SPREAD", "a demand for one", "heartbeat", "while a demand waits",
              "a node joins", "with 99 others", "a process ends", "core, one node", "core, all"]  # fmt: skip
    return {
        "title": "Scale of the head", "note": note, "head": titles, "rows": rows,
        "points": [vars(p) for p in points], "plots": plot(points) if draw else [],
    }  # fmt: skip


def main() -> int:
    """Measure and print."""
    from bench.table import as_text

    parser = argparse.ArgumentParser(prog="python -m bench.scale", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="fewer sizes, at most 3,000 nodes")
    parser.add_argument("--json", action="store_true", help="the points as JSON")
    add = parser.add_argument
    add("--simulate", nargs=2, type=int, metavar=("NODES", "TASKS"), help="only the simulator, as large as wanted")
    args = parser.parse_args()
    if args.simulate:
        print(json.dumps(simulate(*args.simulate)))
        return 0
    found = measure(args.quick)
    print(json.dumps(found["points"]) if args.json else as_text(found["head"], found["rows"]) + "\n" + found["note"])
    return 0


if __name__ == "__main__":
    sys.exit(main())
