"""Replicas leave, and an application is deleted, while streams run: ``python -m bench.serve.leaving``.

Streams of 30 s are read through the door while 4 replicas become 1, and again while the application is deleted. Each
stream is whole, and replicas that leave end after their streams. Short requests come meanwhile: none fails.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from typing import Any

from starlette.responses import StreamingResponse

from bench.serve.client import Connection, Load
from bench.serve.programs import REPLICA, Finding, actors, door, failed, main, one_node, said, until
from hpc import serve

STREAMS, GAP_S = 12, 0.1
#: How long until all streams have begun.
BEGIN_S = 1.0


@serve.deployment(num_replicas=4, max_ongoing_requests=20, graceful_shutdown_wait_loop_s=0.5,
                  graceful_shutdown_timeout_s=90)  # fmt: skip
class Streams:
    async def __call__(self, request: Any) -> Any:
        count = int(request.query_params.get("n", 0))
        return StreamingResponse(self.pieces(count)) if count else "short"

    async def pieces(self, count: int) -> Any:
        for number in range(count):
            yield f"{number}\n"
            await asyncio.sleep(GAP_S)


def whole(count: int) -> bytes:
    """What a stream is."""
    return b"".join(b"%d\n" % number for number in range(count))


async def streams(address: str, count: int) -> list[Any]:
    """Read all at once; each one's body, or its error."""
    request = b"GET /?n=%d HTTP/1.1\r\nhost: localhost\r\n\r\n" % count
    connections = [Connection(address) for _ in range(STREAMS)]
    found = await asyncio.gather(*(one.ask(request) for one in connections), return_exceptions=True)
    for one in connections:
        one.close()
    return [one if isinstance(one, BaseException) else one[1] for one in found]


def during(address: str, count: int, change: Any) -> tuple[int, float, float]:
    """Streams that run while something changes: how many are not whole, and how long both took."""

    async def work() -> tuple[int, float, float]:
        began = time.monotonic()
        reading = asyncio.ensure_future(streams(address, count))
        await asyncio.sleep(BEGIN_S)
        await asyncio.to_thread(change)
        changed_s = time.monotonic() - began
        found = await reading
        return sum(one != whole(count) for one in found), changed_s, time.monotonic() - began

    return asyncio.run(work())


def check(quick: bool) -> Iterator[Finding]:
    """See the top of this file."""
    count = int((5 if quick else 30) / GAP_S)
    with one_node():
        serve.run(Streams.bind())
        address = door()
        with Load(address, rate=100, connections=8) as load:
            load.more(100)
            broken, changed_s, took_s = during(
                address, count, lambda: serve.run(Streams.options(num_replicas=1).bind())
            )
            until(lambda: len(actors(REPLICA)) == 1, "one replica")
            load.more(100)
            outcome = load.end()
        figure = f"streams: failed={broken} of {STREAMS}; scaled after {changed_s:.1f} of {took_s:.1f} s; "
        yield Finding("4 to 1 replica", f"{figure}short: {said(outcome, 'get')}", "failed=0, both",
                      not broken and not failed(outcome, "get"))  # fmt: skip
        broken, changed_s, took_s = during(address, count, lambda: serve.delete("default"))
        figure = f"streams: failed={broken} of {STREAMS}; deleted after {changed_s:.1f} of {took_s:.1f} s"
        yield Finding("a delete", figure, "failed=0", not broken)


if __name__ == "__main__":
    main(check, __doc__)
