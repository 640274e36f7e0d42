"""Services over HTTP: no-op requests and streams beside uvicorn with starlette, and beside Ray Serve, in turns.

uvicorn runs in Ray's environment, which has uvloop and httptools: so it is as fast as it can be. It is one process; hpc
and Ray have a proxy and a replica. Load comes from wrk where it is installed, else from a client of the probe.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any

from bench.children import Children
from bench.metrics import HPC, RAY, Target
from bench.parts import Skipped, table
from bench.peers import PeerError, find
from bench.tune import Line, gathered, row

LIMIT_S = 240.0
UVICORN = "uvicorn"
CONNECTIONS = (1, 16, 64, 256)
#: Clients that read streams at a time, chunks of each, and the time between two in ms.
STREAMS = ("100", "50", "20")

BARE, FIVE = Target(times=1.0), Target(times=5.0)


def _http(peer: str, target: Target) -> list[Line]:
    lines = []
    for count in CONNECTIONS:
        lines.append(Line(f"no-op, {count} connections: requests/s", f"rate_{count}", (target,), peer, True))
        lines.append(Line(f"no-op, {count} connections: CPU time of a request, us", f"cpu_us_{count}", (target,), peer))
        lines.append(Line(f"no-op, {count} connections: p50, ms", f"p50_ms_{count}", (), peer))
        lines.append(Line(f"no-op, {count} connections: p99, ms", f"p99_ms_{count}", (), peer))
    return lines


def _streams(peer: str) -> list[Line]:
    return [
        Line("a stream alone: ms to the first chunk", "lone_ms", (), peer),
        Line("100 streams, a chunk each 20 ms: ms to the first chunk, p50", "first_p50_ms", (), peer),
        Line("100 streams, a chunk each 20 ms: ms to the first chunk, p99", "first_p99_ms", (), peer),
        Line("100 streams, a chunk each 20 ms: longest gap but 1 %, ms", "gap_p99_ms", (), peer),
        Line("100 streams, a chunk each 20 ms: chunks/s", "chunks", (), peer, True),
        Line("100 streams without a pause: chunks/s", "fast_chunks", (), peer, True),
    ]


def ray_serve_python() -> str:
    """An interpreter with Ray Serve; PeerError says why there is none."""
    import subprocess

    python = find(RAY).python
    if subprocess.run([python, "-c", "import ray.serve, uvicorn"], capture_output=True, timeout=120).returncode != 0:
        raise PeerError("Ray Serve cannot be imported there: it needs ray[serve]")
    return python


def serve(children: Children, quick: bool) -> dict[str, Any]:
    """The tables of no-op requests and of streams: beside uvicorn, then beside Ray."""
    try:
        import hpc.serve.http.server  # noqa: F401
    except ModuleNotFoundError as missing:
        raise Skipped(f"a service needs {missing.name}: pip install 'hpc[serve]'") from None
    pythons, said = {HPC: sys.executable}, ""
    try:
        theirs = ray_serve_python()
        pythons |= {UVICORN: theirs, RAY: theirs}
    except PeerError as error:
        pythons[UVICORN] = sys.executable
        said = f" Ray: {error}."
    rounds, seconds = (1, "1") if quick else (5, "3")
    found: dict[str, list[dict[str, Any]]] = {who: [] for who in pythons}
    for turn in range(rounds):
        for who in _turned(list(pythons), turn):
            python = pythons[who]
            words = ("load", who, python, seconds, ",".join(map(str, CONNECTIONS)))
            (record,) = children.probe(sys.executable, "serve.py", *words, timeout_s=LIMIT_S).records
            (other,) = children.probe(
                sys.executable, "serve.py", "stream", who, python, *STREAMS, timeout_s=LIMIT_S
            ).records
            found[who].append({**record, **other})
    values = {who: gathered(records) for who, records in found.items()}
    rows = []
    for peer, target in ((UVICORN, BARE), (RAY, FIVE)):
        if peer in values:
            rows += [[line[0] + f" (beside {peer})", *line[1:]] for line in _rows(peer, target, values)]
    load = "wrk" if found[HPC][0]["wrk"] else "a client of the probe"
    note = (
        f"The median of {rounds} rounds in turns (lowest…highest), {seconds} s for each number of connections, by "
        f"{load}, on the same cores. One replica, 100 requests at a time. uvicorn: with starlette, uvloop and "
        "httptools, one process."
    )
    return table("Services", note + said, ["what", "hpc", "peer", "hpc better by", "target", "reached"], rows)


def _turned(names: list[str], turn: int) -> list[str]:
    at = turn % len(names)
    return names[at:] + names[:at]


def _rows(peer: str, target: Target, values: dict[str, dict[str, list[float]]]) -> Sequence[list[str]]:
    return [row(line, values[HPC], values[peer]) for line in [*_http(peer, target), *_streams(peer)]]
