"""Clients that ask a service, and what they see: figures of one peer as a line ``@bench {json}``.

    python load.py load WHO PYTHON SECONDS COUNTS   no-op requests at each number of connections (1,16), by wrk or ours
    python load.py stream WHO PYTHON CLIENTS CHUNKS GAP_MS    streams of 20 bytes each GAP_MS: the first one, the gaps
    python load.py payload WHO PYTHON TIMES MB      a body of each size (1,10) goes there and back, one after the other
    python load.py turns NAMES PYTHON ROUNDS SECONDS COUNTS    no-op requests to several (hpc,uvicorn-uvloop) in turns

Each starts `services.py` for a peer: hpc's own under this interpreter, others under PYTHON.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import re
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from services import CHUNK, POSTS

START_S = 120.0
SERVICES = Path(__file__).with_name("services.py")
#: A script for wrk: a POST in place of a GET.
POST = 'wrk.method = "POST"; wrk.body = "{}"; wrk.headers["Content-Type"] = "application/json"'


def asking(who: str) -> bytes:
    """A request that a peer answers with as little as it can."""
    if who in POSTS:
        kind = b"content-type: application/json\r\ncontent-length: 2\r\n\r\n{}"
        return b"POST %s HTTP/1.1\r\nhost: 127.0.0.1\r\n%s" % (POSTS[who].encode(), kind)
    return getting(b"/")


def getting(path: bytes) -> bytes:
    return b"GET %s HTTP/1.1\r\nhost: 127.0.0.1\r\n\r\n" % path


@contextlib.contextmanager
def served(who: str, python: str) -> Iterator[tuple[int, int]]:
    """The port of a service in a process of its own, and that process."""
    process = subprocess.Popen(
        [python, str(SERVICES), who],
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
        asyncio.run(answers(port, who))
        yield port, process.pid
    finally:
        process.stdin.close()
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            process.kill()


async def answers(port: int, who: str) -> None:
    """Ask until it answers."""
    until = time.monotonic() + START_S
    while time.monotonic() < until:
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            if (await asyncio.wait_for(ask(port, who), 10)).startswith(b"HTTP/1.1 200"):
                return
        await asyncio.sleep(0.1)
    raise SystemExit("it does not answer")


async def ask(port: int, who: str) -> bytes:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(asking(who))
    try:
        return await reader.readuntil(b"\r\n\r\n")
    finally:
        writer.close()


# ---------------------------------------------------------------- load


class Client(asyncio.Protocol):
    """Asks again as soon as it has its answer."""

    def __init__(self, request: bytes, latencies: list[float], state: dict[str, float]) -> None:
        self._request = request
        self._latencies = latencies
        self._state = state
        self._input = b""

    def connection_made(self, transport: Any) -> None:
        self._transport = transport
        self._ask()

    def _ask(self) -> None:
        self._began = time.perf_counter()
        self._transport.write(self._request)

    def data_received(self, data: bytes) -> None:
        self._input += data
        head, end, body = self._input.partition(b"\r\n\r\n")
        length = re.search(rb"content-length: *(\d+)", head.lower())
        is_whole = len(body) == int(length[1]) if length else body.endswith(b"0\r\n\r\n")
        if not end or not is_whole:
            return
        assert self._input.startswith(b"HTTP/1.1 200"), self._input
        self._input = b""
        now = time.perf_counter()
        self._latencies.append(now - self._began)
        if now < self._state["until"]:
            self._ask()
        else:
            self._transport.close()


async def own_load(port: int, who: str, connections: int, seconds: float) -> dict[str, float]:
    latencies: list[float] = []
    loop = asyncio.get_running_loop()
    began = time.perf_counter()
    state = {"until": began + seconds}
    for _ in range(connections):
        await loop.create_connection(lambda: Client(asking(who), latencies, state), "127.0.0.1", port)
    while time.perf_counter() < state["until"]:
        await asyncio.sleep(0.05)
    took = time.perf_counter() - began
    latencies.sort()
    return {"rate": len(latencies) / took, "p50_ms": at(latencies, 0.5), "p99_ms": at(latencies, 0.99)}


def at(values: list[float], share: float) -> float:
    return values[min(len(values) - 1, int(len(values) * share))] * 1000 if values else float("nan")


UNITS = {"us": 0.001, "ms": 1.0, "s": 1000.0}


def wrk_load(port: int, who: str, connections: int, seconds: float) -> dict[str, float]:
    with tempfile.TemporaryDirectory() as folder:
        script = Path(folder, "post.lua")
        script.write_text(POST)
        command = ["wrk", "-t1", f"-c{connections}", f"-d{max(1, round(seconds))}s", "--latency"]
        command += ["-s", str(script)] if who in POSTS else []
        command.append(f"http://127.0.0.1:{port}{POSTS.get(who, '/')}")
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
        measured(port, pid, who, 16, 1.0)
        record: dict[str, Any] = {}
        for count in connections:
            record |= {f"{key}_{count}": value for key, value in measured(port, pid, who, count, seconds).items()}
    print("@bench " + json.dumps({**record, "wrk": HAS_WRK}), flush=True)


HAS_WRK = shutil.which("wrk") is not None


def measured(port: int, pid: int, who: str, count: int, seconds: float) -> dict[str, float]:
    """What clients see, and the CPU time that each request costs the service, all of its processes together."""
    before, began = cpu_s(pid), time.monotonic()
    found = wrk_load(port, who, count, seconds) if HAS_WRK else asyncio.run(own_load(port, who, count, seconds))
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


def turns(names: list[str], python: str, rounds: int, seconds: float, connections: list[int]) -> None:
    """All stay up, so that each measurement stands beside the others' of the same moment."""
    rows: dict[tuple[int, str], list[dict[str, float]]] = {}
    with contextlib.ExitStack() as stack:
        services = {who: stack.enter_context(served(who, own_or(who, python))) for who in names}
        for turn in range(rounds + 1):
            for count in connections:
                for who, (port, pid) in services.items():
                    found = measured(port, pid, who, count, seconds if turn else 1.0)
                    if turn:  # the first one warms up
                        rows.setdefault((count, who), []).append(found)
    for (count, who), found in rows.items():
        middle = {key: statistics.median(one[key] for one in found) for key in found[0]}
        print(f"{count:4} connections, {who:16}", *(f"{key} {value:.2f}" for key, value in middle.items()), flush=True)


def own_or(who: str, python: str) -> str:
    """The interpreter that serves."""
    return sys.executable if who.startswith("hpc") else python


# ---------------------------------------------------------------- payloads


def echo(port: int, size: int) -> float:
    """Seconds for a body of this size to go there and come back, on a connection of its own."""
    body = bytes(size)
    head = b"POST /echo HTTP/1.1\r\nhost: 127.0.0.1\r\nconnection: close\r\ncontent-length: %d\r\n\r\n" % size
    with socket.create_connection(("127.0.0.1", port)) as sock:
        began = time.perf_counter()
        sock.sendall(head + body)
        found, end = bytearray(), -1
        while end < 0 or len(found) < end + 4 + size:
            data = sock.recv(1 << 20)
            if not data:
                break
            found += data
            end = found.find(b"\r\n\r\n", 0, 4096) if end < 0 else end
        took = time.perf_counter() - began
    assert found.startswith(b"HTTP/1.1 200") and len(found) >= end + 4 + size, bytes(found[:200])
    return took


def payload(who: str, python: str, times: int, sizes: list[int]) -> None:
    record: dict[str, float] = {}
    with served(who, python) as (port, pid):
        for size in sizes:
            echo(port, size << 20)
            before = cpu_s(pid)
            found = [echo(port, size << 20) * 1e3 for _ in range(times)]
            used = cpu_s(pid)
            record[f"p50_ms_{size}"] = statistics.median(found)
            record[f"cpu_ms_{size}"] = sum(used[one] - before.get(one, 0.0) for one in used) / times * 1e3
    print("@bench " + json.dumps(record), flush=True)


# ---------------------------------------------------------------- streams


async def read_stream(port: int, path: bytes, firsts: list[float], gaps: list[float]) -> int:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    began = time.perf_counter()
    writer.write(getting(path))
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


def main(what: str, *words: str) -> None:
    if what == "load":
        load(words[0], words[1], float(words[2]), numbers(words[3]))
    elif what == "turns":
        turns(words[0].split(","), words[1], int(words[2]), float(words[3]), numbers(words[4]))
    elif what == "payload":
        payload(words[0], words[1], int(words[2]), numbers(words[3]))
    else:
        stream(words[0], words[1], int(words[2]), int(words[3]), float(words[4]))


def numbers(words: str) -> list[int]:
    return [int(one) for one in words.split(",")]


if __name__ == "__main__":
    main(*sys.argv[1:])
