"""What planning a placement group costs the head: 1,024 bundles on 10,000 nodes, with a tree of switches and without.

The real HeadMachine has the nodes, and is given the real message; its CPU time is taken until the nodes are asked to
reserve. Nothing is sent, so nothing answers.
"""

from __future__ import annotations

import gc
from typing import Any

from bench.children import Children
from bench.parts import table
from bench.scale import Head
from hpc.core.ids import Address, raylet_of
from hpc.core.policy.labels import node_labels
from hpc.core.resources import UNIT
from hpc.core.wire import WIRE_VERSION, BundlePrepare, Message, NodeInfo, NodeRegister, PgCreate, PgRemove

NODES, QUICK_NODES, BUNDLES = 10_000, 1_000, 1_024
CPUS, GPUS = 64, 4
#: Nodes below one switch, switches below one of the next level.
BELOW, ROW = 18, 32
LIMIT_MS = 50.0
TURNS = 5
DRIVER = Address(1, 1)
SWITCH, NODE = "hpc.io/switch", "ray.io/node-id"
#: What is asked for: in words, the strategy over nodes, those over labels.
ASKED: tuple[tuple[str, str, dict[str, str]], ...] = (
    ("PACK", "PACK", {}),
    ("SPREAD", "SPREAD", {}),
    ("STRICT_SPREAD", "STRICT_SPREAD", {}),
    ("few switches", "PACK", {SWITCH: "PACK"}),
    ("evenly over switches", "PACK", {SWITCH: "SPREAD"}),
    ("one switch of level 1", "PACK", {"hpc.io/switch-level-1": "STRICT_PACK"}),
    ("one switch, which none can", "PACK", {SWITCH: "STRICT_PACK"}),
)
KINDS = {
    "equal": [{"CPU": 8 * UNIT, "GPU": UNIT}] * BUNDLES,
    "eight kinds": [{"CPU": (1 + i % 8) * UNIT, "GPU": UNIT} for i in range(BUNDLES)],
    "all different": [{"CPU": 8 * UNIT + i, "GPU": UNIT} for i in range(BUNDLES)],
}


def joining(node: int, knows: bool) -> tuple[Address, Message]:
    """What a node says first. knows: it has labels of its switches."""
    totals = {"CPU": CPUS * UNIT, "GPU": GPUS * UNIT, "memory": 256_000_000_000_000}
    switch = node // BELOW
    switches = ("top", f"row{switch // ROW}", f"s{switch}") if knows else ()
    labels = node_labels({}, node, f"n{node:05}", "", switches)
    info = NodeInfo(
        node, f"n{node:05}", f"tcp://10.0.{node >> 8}.{node & 255}:1", "k" * 40, totals, labels, False, 1, ""
    )
    return raylet_of(node), NodeRegister(info, WIRE_VERSION)


class Planning:
    """A head with so many nodes, and groups that come and go."""

    def __init__(self, nodes: int, knows: bool) -> None:
        self.head = Head()
        self.head.turn([joining(node, knows) for node in range(1, nodes + 1)])
        self.count = 0

    def ask(self, bundles: list[dict[str, int]], strategy: str, labels: dict[str, str]) -> tuple[float, int]:
        """Milliseconds of CPU time, and how many nodes are asked to reserve."""
        self.count += 1
        group = self.count.to_bytes(16, "big")
        topology = [[key, how] for key, how in labels.items()]
        create = PgCreate(2 * self.count, group, "", "", strategy, bundles, [], True, DRIVER, topology)
        took = self.head.take(DRIVER, create)
        asked = sum(isinstance(msg, BundlePrepare) for _, msg in self.head.machine.outbox)
        self.head.take(DRIVER, PgRemove(2 * self.count + 1, group))
        self.head.forget()
        return 1e3 * took, asked

    def least(self, bundles: list[dict[str, int]], strategy: str, labels: dict[str, str]) -> tuple[float, int]:
        """The least of some turns."""
        turns = [self.ask(bundles, strategy, labels) for _ in range(TURNS)]
        return min(turns)


def groups(children: Children, quick: bool) -> dict[str, Any]:
    """Planning of placement groups."""
    del children
    nodes = QUICK_NODES if quick else NODES
    bare, tree = Planning(nodes, False), Planning(nodes, True)
    first = min(_first(nodes) for _ in range(1 if quick else 3))
    rows, worst = [], 0.0
    gc.disable()
    try:
        for words, strategy, labels in ASKED:
            for kind, bundles in KINDS.items():
                cells = []
                for planning in (bare, tree):
                    if labels and planning is bare:
                        cells += ["–", "–"]
                        continue
                    took, asked = planning.least(bundles, strategy, labels)
                    worst = max(worst, took)
                    cells += [f"{took:.1f}", f"{asked:,}"]
                rows.append([words, kind, *cells])
    finally:
        gc.enable()
    reached = "within" if worst <= LIMIT_MS else "NOT within"
    note = (
        f"CPU time of the head in ms for a group of {BUNDLES:,} bundles (CPUs and one GPU each) on {nodes:,} nodes "
        f"with {CPUS} CPUs and {GPUS} GPUs that nobody uses: from its message until the nodes are asked to reserve, "
        f"encoded. The least of {TURNS} turns; the dearest row has {worst:.0f} ms, {reached} the limit of "
        f"{LIMIT_MS:.0f}. With a tree: {BELOW} nodes below a switch, {ROW} switches below one of level 1. The first "
        f"group after a node has joined costs {first:.0f} ms more, for the columns of labels. Asked: nodes that get "
        "bundles."
    )
    head = ["wish", "bundles", "no tree", "asked", "tree", "asked "]
    return table(f"Placement groups on {nodes:,} nodes", note, head, rows)


def _first(nodes: int) -> float:
    """What the columns of labels cost, in ms."""
    planning = Planning(nodes, True)
    one = [{"CPU": UNIT}]
    planning.ask(one, "STRICT_PACK", {})
    planning.head.turn([joining(nodes + 1, True)])
    planning.head.machine.snapshot()
    return planning.ask(one, "PACK", {})[0] - planning.least(one, "PACK", {})[0]
