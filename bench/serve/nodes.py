"""A node of a service is lost, by SIGKILL and by silence: ``python -m bench.serve.nodes``.

The door of a node without replicas has 300 requests a second, GET and POST with an Idempotency-Key. Two others have two
replicas each. All processes of one of these get SIGKILL, or SIGSTOP: no request fails, or takes more than 3 s.
"""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import hpc
from bench.serve.client import Load
from bench.serve.programs import (
    REPLICA,
    Finding,
    actors,
    door,
    failed,
    main,
    nodes,
    processes,
    said,
    until,
    worst_ms,
)
from hpc import serve
from hpc.util.scheduling_strategies import NodeAffinitySchedulingStrategy

SAFE, RATE, WORST_MS = "get,keyed", 300, 3000.0
LOST = 3


@hpc.remote(num_cpus=2)
class Full:
    """Takes all CPUs of a node."""

    def is_there(self) -> bool:
        return True


@serve.deployment(num_replicas=4, max_ongoing_requests=20, max_replicas_per_node=2)
class Work:
    async def __call__(self, request: Any) -> str:
        size = len(await request.body())
        await asyncio.sleep(0.005)
        return f"{request.method} {size} on node {hpc.get_runtime_context().get_node_id()}"


def check(quick: bool) -> Iterator[Finding]:
    """See the top of this file."""
    for name, number in (("killed", signal.SIGKILL), ("silent", signal.SIGSTOP)):
        with nodes(3, cpus=2) as session:
            full = Full.options(scheduling_strategy=NodeAffinitySchedulingStrategy("1", soft=False)).remote()
            hpc.get(full.is_there.remote())
            serve.run(Work.bind())
            until(lambda: len(actors(REPLICA)) == 4, "four replicas")
            with Load(door(), rate=RATE, connections=24, kinds=SAFE) as load:
                load.more(400)
                lost = processes(LOST)
                for pid in lost:
                    with suppress(ProcessLookupError):
                        os.kill(pid, number)
                wanted = load.asked + (1000 if quick else 3000)
                while load.asked < wanted:
                    session.pump(0.05)  # the launcher tells the session of the node's end
                outcome = load.end()
            for pid in lost:
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
        is_kept = not failed(outcome, SAFE) and (quick or worst_ms(outcome, SAFE) <= WORST_MS)
        wanted = "failed=0" if quick else f"failed=0, longest <= {WORST_MS:g} ms"
        there = sum(count for kind in SAFE.split(",") for text, count in outcome[kind]["answers"].items()
                    if text.endswith(f"node {LOST}"))  # fmt: skip
        figure = f"{said(outcome, SAFE)}; {there:,} answers of that node"
        yield Finding(f"a node is {name}: GET and keyed", figure, wanted, is_kept)


if __name__ == "__main__":
    main(check, __doc__)
