"""Proxies are killed behind a gateway, and at their own doors: ``python -m bench.serve.proxies``.

Two nodes have a proxy each. Through the gateway no request fails that may run twice, while the proxies of both are
killed in turns. A client that has the door of a proxy open sees its connections break: these are counted.
"""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from bench.serve.client import Load
from bench.serve.programs import PROXY, Finding, actors, door, end, failed, gateway, main, nodes, said, until
from hpc import serve

SAFE, RATE = "get,keyed", 300


@serve.deployment(num_replicas=4, max_ongoing_requests=30, max_replicas_per_node=2)
class Work:
    async def __call__(self, request: Any) -> str:
        size = len(await request.body())
        await asyncio.sleep(0.005)
        return f"{request.method} {size}"


def proxies() -> dict[str, int]:
    """The processes of the proxies by their names."""
    return {row["name"]: int(row["pid"]) for row in actors(PROXY)}


def kill_in_turns(load: Load, kills: int) -> None:
    """Kill one, wait until there is another one that serves, and go on with the other node's."""
    names = sorted(until(lambda: len(found := proxies()) == 2 and found, "two proxies"))
    for turn in range(kills):
        name = names[turn % 2]
        pid = until(lambda name=name: proxies().get(name), "a proxy")
        load.more(200)
        end(pid)
        until(lambda name=name, pid=pid: proxies().get(name) not in (None, pid), "another proxy")
    load.more(300)


def check(quick: bool) -> Iterator[Finding]:
    """See the top of this file."""
    kills = 2 if quick else 10
    with tempfile.TemporaryDirectory() as place, nodes(2):
        folder = Path(place, "r")
        folder.mkdir(mode=0o700)
        serve.run(Work.bind())
        serve.announce(str(folder), apps=["default"])
        with gateway(folder) as address, Load(address, rate=RATE, connections=16, kinds=SAFE) as load:
            kill_in_turns(load, kills)
            outcome = load.end()
        serve.withdraw(0.0)
        yield Finding(f"{kills} kills of proxies, through a gateway: GET and keyed", said(outcome, SAFE), "failed=0",
                      not failed(outcome, SAFE))  # fmt: skip
        with Load(door(kind="unix"), rate=RATE, connections=16, kinds=SAFE) as load:
            kill_in_turns(load, 2)
            outcome = load.end()
        yield Finding("2 kills of proxies, at the door of one", said(outcome, SAFE), "told", True)


if __name__ == "__main__":
    main(check, __doc__)
