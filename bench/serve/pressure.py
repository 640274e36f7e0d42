"""More requests than there is room for, slow readers, a body of 1 GB: ``python -m bench.serve.pressure``.

100 clients ask a deployment that runs 4 requests and lets 10 wait: the others are told to come again, and all that are
accepted are answered. Then the memory of proxy and replica is looked at while ten clients read a large answer at a byte
a second, and while one sends 1 GB.
"""

from __future__ import annotations

import asyncio
import socket
import threading
import time
from collections.abc import Iterator
from typing import Any

from starlette.responses import StreamingResponse

from bench.serve.client import Load
from bench.serve.programs import PROXY, REPLICA, Finding, actors, door, main, memory_mb, one_node, said, until
from hpc import serve
from hpc.serve.config import BackpressureConfig

CLIENTS, READERS = 100, 10
MOST_MB = 100.0
PIECE = bytes(1 << 20)


@serve.deployment(max_ongoing_requests=4, max_queued_requests=10,
                  backpressure_config=BackpressureConfig(status_code=429, retry_after_s=1.0))  # fmt: skip
class Narrow:
    async def __call__(self, request: Any) -> str:
        await asyncio.sleep(0.05)
        return "ok"


@serve.deployment(max_ongoing_requests=50)
class Large:
    async def __call__(self, request: Any) -> Any:
        if request.scope["path"] == "/down":
            return StreamingResponse(self.pieces(int(request.query_params["mb"])))
        size = 0
        async for part in request.stream():
            size += len(part)
        return str(size)

    async def pieces(self, count: int) -> Any:
        for _ in range(count):
            yield PIECE


class Watch:
    """The largest memory of proxy and replica together while the block runs, above what it was before."""

    def __enter__(self) -> Watch:
        self._pids = [int(row["pid"]) for row in (*actors(PROXY), *actors(REPLICA))]
        self._before = self._now()
        self.grown_mb = 0.0
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._look)
        self._thread.start()
        return self

    def _now(self) -> float:
        return sum(map(memory_mb, self._pids))

    def _look(self) -> None:
        while not self._over.wait(0.1):
            self.grown_mb = max(self.grown_mb, self._now() - self._before)

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()


def connected(address: str) -> socket.socket:
    """A connection to a door of TCP."""
    host, _, port = address.rpartition("//")[2].rpartition(":")
    return socket.create_connection((host, int(port)), timeout=60)


def upload(address: str, size: int) -> tuple[float, bytes]:
    """Seconds for a body of this size, and what is answered."""
    with connected(address) as sock:
        began = time.monotonic()
        sock.sendall(b"POST / HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\ncontent-length: %d\r\n\r\n" % size)
        for _ in range(size >> 20):
            sock.sendall(PIECE)
        answer = b""
        while data := sock.recv(65536):
            answer += data
        return time.monotonic() - began, answer.rpartition(b"\r\n\r\n")[2]


def slow_readers(address: str, seconds: float) -> int:
    """Ten clients that read a byte a second of 200 MB each; how many connections broke meanwhile."""
    readers = [connected(address) for _ in range(READERS)]
    broken = 0
    for sock in readers:
        sock.sendall(b"GET /down?mb=200 HTTP/1.1\r\nhost: localhost\r\n\r\n")
    until_s = time.monotonic() + seconds
    while time.monotonic() < until_s:
        time.sleep(1.0)
        broken += sum(not sock.recv(1) for sock in readers)
    for sock in readers:
        sock.close()
    return broken


def check(quick: bool) -> Iterator[Finding]:
    """See the top of this file."""
    with one_node():
        serve.run(Narrow.bind(), name="narrow", route_prefix="/")
        address = door()
        with Load(address, connections=CLIENTS, kinds="get") as load, Watch() as watch:
            time.sleep(3 if quick else 15)
            outcome = load.end()
        told = outcome["get"]
        refused = told["failed"].get("429", 0)
        figure = f"failed={told['asked'] - told['ok'] - refused} of {told['asked'] - refused:,} that were accepted; "
        figure += f"{refused:,} told 429, {told['retry_after']:,} with Retry-After; memory +{watch.grown_mb:.0f} MB"
        is_kept = set(told["failed"]) == {"429"} and told["retry_after"] == refused and watch.grown_mb < MOST_MB
        yield Finding(f"{CLIENTS} clients, room for 14", figure, "failed=0, < 100 MB", is_kept)
        serve.delete("narrow")
        serve.run(Large.bind(), name="large", route_prefix="/")
        until(lambda: upload(address, 1 << 20)[1] == b"%d" % (1 << 20), "the application")
        size = (100 if quick else 1000) << 20
        with Watch() as watch:
            took_s, answer = upload(address, size)
        figure = (
            f"failed={int(answer != b'%d' % size)}; {size / took_s / 1e6:.0f} MB/s, memory +{watch.grown_mb:.0f} MB"
        )
        yield Finding(f"an upload of {size >> 20:,} MB", figure, f"failed=0, < {MOST_MB:g} MB",
                      answer == b"%d" % size and watch.grown_mb < MOST_MB)  # fmt: skip
        with Watch() as watch, Load(address, rate=50, connections=4, kinds="keyed") as load:
            broken = slow_readers(address, 5 if quick else 20)
            outcome = load.end()
        figure = f"failed={broken}; memory +{watch.grown_mb:.0f} MB; others: {said(outcome, 'keyed')}"
        is_kept = not broken and watch.grown_mb < MOST_MB and not outcome["keyed"]["failed"]
        yield Finding(f"{READERS} clients that read a byte a second", figure, f"failed=0, < {MOST_MB:g} MB", is_kept)


if __name__ == "__main__":
    main(check, __doc__)
