"""A service that answers as little as it can, under one peer; and clients that ask it.

    python serve.py serve hpc|ray|uvicorn            serve until stdin ends; prints "@port N" once it answers
    python serve.py load WHO PYTHON SECONDS COUNTS   no-op requests at each number of connections (1,16), by wrk or ours
    python serve.py stream WHO PYTHON CLIENTS CHUNKS GAP_MS    streams of 20 bytes each GAP_MS: the first one, the gaps
    python serve.py turns PYTHON ROUNDS SECONDS COUNTS    hpc, and uvicorn under PYTHON: no-op requests in turns

``load`` and ``stream`` start ``serve`` under PYTHON, and print ``@bench {...}``. All answer "ok"; of uvicorn it is an
application of starlette, of Ray and hpc a deployment with one replica and 100 requests at a time.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import re
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from typing import Any

CHUNK = b"0123456789abcdefghi\n"
AT_A_TIME = 100
START_S = 120.0
GET = b"GET %s HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"


# ---------------------------------------------------------------- who serves


async def chunks(count: int, gap_s: float) -> AsyncIterator[bytes]:
    for _ in range(count):
        yield CHUNK
        await asyncio.sleep(gap_s)


def counts(query: Any) -> tuple[int, float]:
    return int(query.get("n", 1)), float(query.get("gap", 0)) / 1000


def deployment(serve: Any) -> Any:
    from starlette.responses import StreamingResponse

    @serve.deployment(max_ongoing_requests=AT_A_TIME)
    class Bench:
        async def __call__(self, request: Any) -> Any:
            if request.url.path == "/stream":
                return StreamingResponse(chunks(*counts(request.query_params)), media_type="text/plain")
            return "ok"

    return Bench.bind()


def serve_hpc() -> int:
    import hpc
    from hpc.serve import api as serve

    hpc.init(num_cpus=4)
    serve.start(http_options={"host": "127.0.0.1", "port": 0})
    serve.run(deployment(serve))
    import msgspec

    from hpc import spi

    doors = msgspec.msgpack.decode(spi.kv_get("serve", "doors") or b"")
    found = [door for told in doors.values() for door in told if door.startswith("http")]
    return int(found[0].rpartition(":")[2])


def serve_ray() -> int:
    import socket

    import ray
    from ray import serve

    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    ray.init(num_cpus=4, include_dashboard=False, log_to_driver=False)
    serve.start(http_options={"host": "127.0.0.1", "port": port})
    serve.run(deployment(serve))
    return int(port)


def serve_uvicorn() -> None:
    import socket

    import uvicorn
    from starlette.applications import Starlette
    from starlette.responses import PlainTextResponse, StreamingResponse
    from starlette.routing import Route

    async def ok(request: Any) -> Any:
        return PlainTextResponse("ok")

    async def stream(request: Any) -> Any:
        return StreamingResponse(chunks(*counts(request.query_params)), media_type="text/plain")

    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    app = Starlette(routes=[Route("/", ok), Route("/stream", stream)])
    print(f"@port {port}", flush=True)
    server = uvicorn.Server(uvicorn.Config(app, port=port, log_level="warning", access_log=False))

    async def work() -> None:
        serving = asyncio.ensure_future(server.serve())
        await asyncio.to_thread(sys.stdin.read)
        server.should_exit = True
        await serving

    asyncio.run(work())


def serve(who: str) -> None:
    if who == "uvicorn":
        serve_uvicorn()
        return
    port = serve_hpc() if who == "hpc" else serve_ray()
    print(f"@port {port}", flush=True)
    sys.stdin.read()
    if who == "hpc":
        import hpc
        from hpc.serve import api as service

        service.shutdown()
        hpc.shutdown()
    else:
        import ray
        from ray import serve as theirs

        theirs.shutdown()
        ray.shutdown()


@contextlib.contextmanager
def served(who: str, python: str) -> Iterator[tuple[int, int]]:
    """The port of a service in a process of its own, and that process."""
    process = subprocess.Popen(
        [python, __file__, "serve", who],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    assert process.stdout is not None and process.stdin is not None
    try:
        for line in process.stdout:
            if line.startswith("@port "):
                port = int(line.split()[1])
                break
        else:
            raise SystemExit(f"{who} did not begin to serve")
        asyncio.run(answers(port))
        yield port, process.pid
    finally:
        process.stdin.close()
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            process.kill()


async def answers(port: int) -> None:
    """Ask until it answers."""
    until = time.monotonic() + START_S
    while time.monotonic() < until:
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            if (await asyncio.wait_for(ask(port), 10)).startswith(b"HTTP/1.1 200"):
                return
        await asyncio.sleep(0.1)
    raise SystemExit("it does not answer")


async def ask(port: int) -> bytes:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(GET % b"/")
    try:
        return await reader.readuntil(b"\r\n\r\n")
    finally:
        writer.close()


# ---------------------------------------------------------------- load


class Client(asyncio.Protocol):
    """Asks again as soon as it has its answer."""

    def __init__(self, latencies: list[float], state: dict[str, float]) -> None:
        self._latencies = latencies
        self._state = state
        self._input = b""

    def connection_made(self, transport: Any) -> None:
        self._transport = transport
        self._ask()

    def _ask(self) -> None:
        self._began = time.perf_counter()
        self._transport.write(GET % b"/")

    def data_received(self, data: bytes) -> None:
        self._input += data
        if not self._input.endswith((b"ok", b"\r\n0\r\n\r\n")):
            return
        assert self._input.startswith(b"HTTP/1.1 200"), self._input
        self._input = b""
        now = time.perf_counter()
        self._latencies.append(now - self._began)
        if now < self._state["until"]:
            self._ask()
        else:
            self._transport.close()


async def own_load(port: int, connections: int, seconds: float) -> dict[str, float]:
    latencies: list[float] = []
    loop = asyncio.get_running_loop()
    began = time.perf_counter()
    state = {"until": began + seconds}
    for _ in range(connections):
        await loop.create_connection(lambda: Client(latencies, state), "127.0.0.1", port)
    while time.perf_counter() < state["until"]:
        await asyncio.sleep(0.05)
    took = time.perf_counter() - began
    latencies.sort()
    return {"rate": len(latencies) / took, "p50_ms": at(latencies, 0.5), "p99_ms": at(latencies, 0.99)}


def at(values: list[float], share: float) -> float:
    return values[min(len(values) - 1, int(len(values) * share))] * 1000 if values else float("nan")


UNITS = {"us": 0.001, "ms": 1.0, "s": 1000.0}


def wrk_load(port: int, connections: int, seconds: float) -> dict[str, float]:
    command = [
        "wrk",
        "-t1",
        f"-c{connections}",
        f"-d{max(1, round(seconds))}s",
        "--latency",
        f"http://127.0.0.1:{port}/",
    ]
    said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    bad = re.search(r"Non-2xx or 3xx responses: (\d+)", said)
    assert bad is None, said
    shares = {
        share: float(value) * UNITS[unit] for share, value, unit in re.findall(r"(\d+)%\s+([\d.]+)(us|ms|s)\b", said)
    }
    rate = re.search(r"Requests/sec:\s+([\d.]+)", said)
    assert rate is not None, said
    return {"rate": float(rate[1]), "p50_ms": shares["50"], "p99_ms": shares["99"]}


def load(who: str, python: str, seconds: float, connections: list[int]) -> None:
    with served(who, python) as (port, pid):
        measured(port, pid, 16, 1.0)
        record: dict[str, Any] = {}
        for count in connections:
            record |= {f"{key}_{count}": value for key, value in measured(port, pid, count, seconds).items()}
    print("@bench " + json.dumps({**record, "wrk": HAS_WRK}), flush=True)


HAS_WRK = shutil.which("wrk") is not None


def measured(port: int, pid: int, count: int, seconds: float) -> dict[str, float]:
    """What clients see, and the CPU time that each request costs the service, all of its processes together."""
    before, began = cpu_s(pid), time.monotonic()
    found = wrk_load(port, count, seconds) if HAS_WRK else asyncio.run(own_load(port, count, seconds))
    used = cpu_s(pid)
    cpu = sum(used[one] - before.get(one, 0.0) for one in used)
    return {**found, "cpu_us": cpu / (found["rate"] * (time.monotonic() - began)) * 1e6}


def cpu_s(pid: int) -> dict[int, float]:
    """The CPU time of a process and of all below it."""
    below: dict[int, list[int]] = {}
    for name in filter(str.isdigit, os.listdir("/proc")):
        with contextlib.suppress(OSError), open(f"/proc/{name}/stat") as file:
            below.setdefault(int(file.read().rpartition(")")[2].split()[1]), []).append(int(name))
    found, todo = {}, [pid]
    while todo:
        one = todo.pop()
        todo += below.get(one, [])
        spent = 0
        with contextlib.suppress(OSError):
            for task in os.listdir(f"/proc/{one}/task"):
                with open(f"/proc/{one}/task/{task}/schedstat") as file:
                    spent += int(file.read().split()[0])
            found[one] = spent / 1e9
    return found


def turns(python: str, rounds: int, seconds: float, connections: list[int]) -> None:
    """Both stay up, so that each measurement stands beside the other's of the same moment."""
    rows: dict[tuple[int, str], list[dict[str, float]]] = {}
    with served("hpc", sys.executable) as ours, served("uvicorn", python) as theirs:
        services = {"hpc": ours, "uvicorn": theirs}
        for turn in range(rounds + 1):
            for count in connections:
                for who, (port, pid) in services.items():
                    found = measured(port, pid, count, seconds if turn else 1.0)
                    if turn:  # the first one warms up
                        rows.setdefault((count, who), []).append(found)
    for (count, who), found in rows.items():
        middle = {key: statistics.median(one[key] for one in found) for key in found[0]}
        print(f"{count:4} connections, {who:8}", *(f"{key} {value:.2f}" for key, value in middle.items()), flush=True)


# ---------------------------------------------------------------- streams


async def read_stream(port: int, path: bytes, firsts: list[float], gaps: list[float]) -> int:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    began = time.perf_counter()
    writer.write(GET % path)
    await reader.readuntil(b"\r\n\r\n")
    found, before, size = 0, began, 0
    while True:
        data = await reader.read(65536)
        if not data:
            break
        now = time.perf_counter()
        size += data.count(CHUNK)
        if CHUNK in data:
            (gaps if found else firsts).append(now - before)
            found, before = found + 1, now
        if data.endswith(b"0\r\n\r\n"):
            break
    writer.close()
    return size


async def streams(port: int, clients: int, count: int, gap_ms: float) -> dict[str, float]:
    firsts: list[float] = []
    gaps: list[float] = []
    path = b"/stream?n=%d&gap=%g" % (count, gap_ms)
    began = time.perf_counter()
    sizes = await asyncio.gather(*(read_stream(port, path, firsts, gaps) for _ in range(clients)))
    took = time.perf_counter() - began
    assert all(size == count for size in sizes), (sizes, count)
    firsts.sort()
    gaps.sort()
    return {
        "chunks": sum(sizes) / took,
        "first_p50_ms": at(firsts, 0.5),
        "first_p99_ms": at(firsts, 0.99),
        "gap_p99_ms": at(gaps, 0.99),
    }


def stream(who: str, python: str, clients: int, count: int, gap_ms: float) -> None:
    with served(who, python) as (port, _):
        asyncio.run(streams(port, 4, 10, 1))
        lone: list[float] = []
        for _ in range(30):
            lone.append(asyncio.run(streams(port, 1, 3, 1))["first_p50_ms"])
        record = asyncio.run(streams(port, clients, count, gap_ms))
        fast = asyncio.run(streams(port, clients, count, 0))
    lone.sort()
    record |= {"lone_ms": lone[len(lone) // 2], "fast_chunks": fast["chunks"]}
    print("@bench " + json.dumps(record), flush=True)


if __name__ == "__main__":
    what, *words = sys.argv[1:]
    if what == "serve":
        serve(words[0])
    elif what == "load":
        load(words[0], words[1], float(words[2]), [int(one) for one in words[3].split(",")])
    elif what == "turns":
        turns(words[0], int(words[1]), float(words[2]), [int(one) for one in words[3].split(",")])
    else:
        stream(words[0], words[1], int(words[2]), int(words[3]), float(words[4]))
