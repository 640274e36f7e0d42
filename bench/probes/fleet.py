"""One driver and many real raylets, each in a network namespace: python fleet.py NODES TASKS.

Says how long no-op tasks spread over all nodes took, and which share of a core head, driver and raylets used.
"""

import collections
import json
import os
import sys
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from bench import spaces

PATIENCE_S = 150.0
TICKS = os.sysconf("SC_CLK_TCK")


def cpu_s(pids: list[int]) -> float:
    used = 0
    for pid in pids:
        try:
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        except OSError:
            continue
        used += int(fields[11]) + int(fields[12])
    return used / TICKS


def rss_mb(pid: int) -> float:
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6


def by_name() -> dict[str, list[int]]:
    from hpc.core.node.reap import descendants

    found: dict[str, list[int]] = {}
    for pid in descendants(os.getpid()):
        try:
            found.setdefault(Path(f"/proc/{pid}/comm").read_text().strip(), []).append(pid)
        except OSError:
            continue
    return found


def main() -> None:
    nodes, tasks = int(sys.argv[1]), int(sys.argv[2])
    with spaces.netbed().NetBed([f"n{i}" for i in range(1, nodes + 1)]) as bed:
        start = time.monotonic()
        with spaces.session(bed, num_cpus=1, object_store_bytes=64 << 20) as session:
            ready_s = time.monotonic() - start
            import hpc

            hpc.init(address=spaces.directory(session))
            try:
                for how in ("SPREAD", "node affinity", "node affinity, again"):
                    record = run(hpc, how, nodes, tasks)
                    record |= {"how": how, "nodes": nodes, "tasks": tasks, "ready_s": ready_s}
                    print("@bench " + json.dumps(record), flush=True)
            finally:
                hpc.shutdown()


def run(hpc: Any, how: str, nodes: int, tasks: int) -> dict[str, Any]:
    from hpc.util.scheduling_strategies import NodeAffinitySchedulingStrategy as Affinity

    @hpc.remote
    def where() -> str:
        return str(hpc.get_runtime_context().get_node_id())

    if how == "SPREAD":
        chosen = [where.options(scheduling_strategy="SPREAD")]
    else:
        idents = [node["NodeID"] for node in hpc.nodes()]
        chosen = [where.options(scheduling_strategy=Affinity(ident, soft=False)) for ident in idents]
    names = by_name()
    before, driver = {name: cpu_s(pids) for name, pids in names.items()}, time.process_time()
    begin = time.monotonic()
    got = hpc.get([chosen[i % len(chosen)].remote() for i in range(tasks)], timeout=PATIENCE_S)
    took = time.monotonic() - begin
    used = {name: cpu_s(pids) - before[name] for name, pids in names.items()}
    per_node = collections.Counter(got)
    return {
        "took_s": took,
        "rate": tasks / took,
        "nodes_used": len(per_node),
        "fewest": min(per_node.values()) if len(per_node) == nodes else 0,
        "most": max(per_node.values()),
        "driver_share": (time.process_time() - driver) / took,
        "head_share": used.get("hpc-head", 0.0) / took,
        "raylets_share": used.get("hpc-raylet", 0.0) / took,
        "head_mb": rss_mb(names["hpc-head"][0]),
    }


if __name__ == "__main__":
    main()
