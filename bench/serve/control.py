"""The controller is killed under load, and then the head: ``python -m bench.serve.control``.

500 requests a second, in turns GET, POST with an Idempotency-Key and POST: none fails. After each death it is measured
how long a new application takes to be deployed and to answer.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from typing import Any

from bench.serve.client import Load
from bench.serve.programs import Finding, controller, door, end, failed, head, main, nodes, said, until
from hpc import serve

KINDS = "get,keyed,post"
DEPLOYED_S = 5.0


@serve.deployment(num_replicas=2, max_ongoing_requests=50)
class Work:
    async def __call__(self, request: Any) -> str:
        return f"{request.method} {os.getpid()}"


def check(quick: bool) -> Iterator[Finding]:
    """See the top of this file."""
    rounds = 1 if quick else 5
    with nodes(1, cpus=16):
        serve.run(Work.bind())
        for name, find in (("controller", controller), ("head", head)):
            yield _killed(name, find, rounds)


def _killed(name: str, find: Callable[[], int], rounds: int) -> Finding:
    deployed = []
    with Load(door(), rate=500, connections=32, kinds=KINDS) as load:
        load.more(300)
        for turn in range(rounds):
            pid = find()
            end(pid)
            deployed.append(_deploy(f"{name}-{turn}"))
            until(lambda pid=pid: find() != pid, f"another {name}")
            load.more(500)
        outcome = load.end()
    figure = f"{said(outcome, KINDS)}; a deploy right after it took {max(deployed):.2f} s at most"
    is_kept = not failed(outcome, KINDS) and max(deployed) <= DEPLOYED_S
    return Finding(f"{rounds} kills of the {name}", figure, f"failed=0, deploy <= {DEPLOYED_S:g} s", is_kept)


def _deploy(name: str) -> float:
    """Seconds until a new application answers."""
    began = time.monotonic()
    handle = serve.run(Work.options(num_replicas=1).bind(), name=name, route_prefix=None)
    handle.options(method_name="__call__").remote(_Asked()).result(timeout_s=30)
    took = time.monotonic() - began
    serve.delete(name, _blocking=False)
    return took


class _Asked:
    """Stands for a request where a handle asks."""

    method = "handle"


if __name__ == "__main__":
    main(check, __doc__)
