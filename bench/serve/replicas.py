"""Replicas are killed under load, 20 times in 60 s: ``python -m bench.serve.replicas``.

500 requests a second come to the door of the node, in turns GET and POST with an Idempotency-Key: none of them fails.
Others are POSTs without a key, 50 a second. Of these at most those fail that a killed replica had begun: each is
answered 500, and none hangs.
"""

from __future__ import annotations

import asyncio
import os
import random
import time
from collections.abc import Iterator
from typing import Any

from bench.serve.client import Load
from bench.serve.programs import REPLICA, Finding, actors, door, end, failed, main, one_node, said, until
from hpc import serve

#: Connections of POSTs without a key: at most so many are under way at a time.
UNSAFE = 4
REPLICAS = 3


@serve.deployment(num_replicas=REPLICAS, max_ongoing_requests=20)
class Work:
    async def __call__(self, request: Any) -> str:
        size = len(await request.body())
        await asyncio.sleep(0.005)
        return f"{request.method} {size} {os.getpid()}"


def check(quick: bool) -> Iterator[Finding]:
    """See the top of this file."""
    kills, every_s = (5, 1.0) if quick else (20, 3.0)
    draw = random.Random(3)
    with one_node():
        serve.run(Work.bind())
        address = door()
        with (
            Load(address, rate=500, connections=32, kinds="get,keyed") as safe,
            Load(address, rate=50, connections=UNSAFE, kinds="post") as unsafe,
        ):
            safe.more(300)
            began, killed = time.monotonic(), 0
            while killed < kills:
                there = until(lambda: len(found := actors(REPLICA)) >= 2 and found, "two replicas")
                end(int(draw.choice(there)["pid"]))
                killed += 1
                time.sleep(max(0.0, began + killed * every_s - time.monotonic()))
            safe.more(300)
            kept, others = safe.end(), unsafe.end()
    what = f"{kills} replicas killed, one each {every_s:g} s"
    yield Finding(f"{what}: GET and keyed", said(kept, "get,keyed"), "failed=0", not failed(kept, "get,keyed"))
    most = kills * UNSAFE
    is_kept = failed(others, "post") <= most and set(others["post"]["failed"]) <= {"500"}
    yield Finding(f"{what}: POST", said(others, "post"), f"failed<={most}, each 500", is_kept)


if __name__ == "__main__":
    main(check, __doc__)
