"""What services cost, beside their peers in turns: requests of HTTP, streams, bodies, calls of handles, changes.

uvicorn with starlette stands beside as the least that a server does: one process, with uvloop or with asyncio's own
loop, as hpc's replicas have it. hpc serves its application too (ingress). Load comes from wrk where it is installed,
else from a client of the probe. Peers that are far off take part in the first round alone: they begin slowly.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from bench.children import Children, MeasureError
from bench.metrics import HPC, RAY
from bench.parts import table
from bench.peers import BENTOML, LITSERVE, PeerError, find, imports
from bench.stats import ratio, summary
from bench.table import NOTHING, cell, number

LIMIT_S = 240.0
INGRESS, UVLOOP, ASYNCIO = "hpc-ingress", "uvicorn-uvloop", "uvicorn-asyncio"
THROUGHPUT, HAPROXY = "ray-throughput", "ray-haproxy"
#: Peers by the probe's names, in words.
NAMES = {
    HPC: "hpc",
    INGRESS: "hpc, ingress",
    UVLOOP: "uvicorn, uvloop",
    ASYNCIO: "uvicorn, asyncio",
    RAY: "Ray",
    THROUGHPUT: "Ray, throughput",
    HAPROXY: "Ray, HAProxy",
    LITSERVE: "LitServe",
    BENTOML: "BentoML",
}
#: They take part in all rounds.
NEAR = (HPC, INGRESS, UVLOOP, ASYNCIO)
OF_RAY = (RAY, THROUGHPUT, HAPROXY)
CONNECTIONS = (1, 16, 64, 256)
#: Clients that read streams at a time, chunks of each, and the time between two in ms.
STREAMS = ("100", "50", "20")
SIZES_MB = (1, 10)


@dataclass(frozen=True)
class Figure:
    """A line. ``times``: how many times better than a peer it is to be; ``over``: at most so much more than a peer's;
    ``at_most``, ``at_least``: limits of its own."""

    what: str
    key: str
    higher: bool = False
    times: Mapping[str, float] = field(default_factory=dict)
    over: Mapping[str, float] = field(default_factory=dict)
    at_most: float | None = None
    at_least: float | None = None

    def targets(self) -> str:
        """In words."""
        out = [f"≥ {times:g}× {NAMES[peer]}" for peer, times in self.times.items()]
        out += [f"≤ {NAMES[peer]} + {more:g}" for peer, more in self.over.items()]
        out += [f"≤ {self.at_most:g}"] if self.at_most is not None else []
        out += [f"≥ {self.at_least:g}"] if self.at_least is not None else []
        return ", ".join(out) or NOTHING

    def verdict(self, medians: Mapping[str, float]) -> str:
        """Whether it is as is wanted."""
        ours, found = medians.get(HPC), []
        if ours is None or not (self.times or self.over or self.at_most is not None or self.at_least is not None):
            return NOTHING
        for peer, times in self.times.items():
            found.append(ratio(ours, medians[peer], self.higher) >= times if peer in medians else None)
        for peer, more in self.over.items():
            found.append(ours <= medians[peer] + more if peer in medians else None)
        if self.at_most is not None:
            found.append(ours <= self.at_most)
        if self.at_least is not None:
            found.append(ours >= self.at_least)
        if False in found:
            return "NO"
        return "not measured" if None in found else "yes"


Records = Mapping[str, Sequence[Mapping[str, float]]]


def row(figure: Figure, records: Records, peers: Sequence[str]) -> list[str]:
    """A line as cells: what, each peer, by how much hpc is better than each, the targets, whether they are reached."""
    values = {peer: [one[figure.key] for one in records.get(peer, ()) if figure.key in one] for peer in peers}
    medians = {peer: statistics.median(found) for peer, found in values.items() if found}
    cells = [cell(summary(values[peer])) for peer in peers]
    better = []
    for peer in peers:
        if peer not in (HPC, INGRESS) and peer in medians and HPC in medians:
            better.append(f"{number(ratio(medians[HPC], medians[peer], figure.higher))}×")
        elif peer not in (HPC, INGRESS):
            better.append(NOTHING)
    return [figure.what, *cells, " / ".join(better), figure.targets(), figure.verdict(medians)]


def _http() -> Iterator[Figure]:
    for count in CONNECTIONS:
        what = f"{count} connection{'' if count == 1 else 's'}"
        yield Figure(f"{what}: requests/s", f"rate_{count}", True, {UVLOOP: 1.0, RAY: 5.0})
        yield Figure(f"{what}: CPU time of a request, µs", f"cpu_us_{count}")
        yield Figure(f"{what}: p50, ms", f"p50_ms_{count}")
        yield Figure(f"{what}: p99, ms", f"p99_ms_{count}")


def _payload() -> Iterator[Figure]:
    for size in SIZES_MB:
        yield Figure(f"{size} MB there and back: p50, ms", f"p50_ms_{size}", times={RAY: 1.0})
        yield Figure(f"{size} MB there and back: CPU time, ms", f"cpu_ms_{size}")


STREAM = (
    Figure("a stream alone: ms to the first piece", "lone_ms", over={UVLOOP: 2.0}),
    Figure("100 streams, a piece each 20 ms: ms to the first one, p50", "first_p50_ms"),
    Figure("100 streams, a piece each 20 ms: ms to the first one, p99", "first_p99_ms"),
    Figure("100 streams, a piece each 20 ms: longest gap but 1 %, ms", "gap_p99_ms"),
    Figure("100 streams, a piece each 20 ms: pieces/s", "chunks", True),
    Figure("100 streams without a pause: pieces/s", "fast_chunks", True),
)
CALLS = (
    Figure("calls/s of a driver, 100 in flight", "calls", True, {RAY: 5.0}, at_least=20_000),
    Figure("a call alone: p50, µs", "p50_us", times={RAY: 1.0}),
    Figure("a call alone: p99, µs", "p99_us"),
    Figure("a chain of 3 deployments: calls/s, 100 in flight", "chain", True, {RAY: 5.0}),
    Figure("a chain of 3 deployments, alone: p50, µs", "chain_p50_us", times={RAY: 1.0}),
    Figure("batches of 32 that take 5 ms: rows/s, 128 in flight", "batch_rows", True, {RAY: 1.0}),
    Figure("a lone request of a batch, with a wait of 10 ms: p99, ms", "batch_lone_p99_ms", at_most=17.0),
    Figure("a stream of a handle: items/s", "stream_items", True, {RAY: 1.0}),
)
CHANGES = (
    Figure("0 to 1 replica: s until the first answer", "zero_s", at_most=0.3),
    Figure("1 to 8 replicas under load: s", "eight_s"),
    Figure("1 to 8 replicas under load: requests that failed", "eight_failed", at_most=0),
    Figure("an update of 4 replicas under load: s", "update_s"),
    Figure("an update of 4 replicas under load: requests", "update_asked"),
    Figure("an update of 4 replicas under load: requests that failed", "update_failed", at_most=0),
)


class Measuring:
    """The peers that are there, and what was found of each so far."""

    def __init__(self, children: Children, quick: bool, rounds: int, say: Callable[[str], None]) -> None:
        self.children = children
        self.quick = quick
        self.rounds = 1 if quick else rounds
        self.said: list[str] = []
        self._load_before = os.getloadavg()[0]
        self._say = say
        self._pythons: dict[str, str | None] = {HPC: sys.executable, INGRESS: sys.executable}

    def about(self) -> str:
        """How busy the machine was, and who is not there."""
        return " ".join([f"The machine's load before it was {self._load_before:.1f}.", *self.said])

    def python(self, who: str) -> str | None:
        """The interpreter of a peer; None where there is none, which is said once."""
        kind = who.partition("-")[0]
        if kind == "uvicorn":
            if self.python(RAY) is None and not imports(sys.executable, "uvicorn, uvloop, starlette"):
                return self._absent(who, "uvicorn and uvloop are not installed")
            return self.python(RAY) or sys.executable
        if who not in self._pythons:
            self._pythons[who] = None
            try:
                self._pythons[who] = _python(kind)
            except PeerError as error:
                return self._absent(who, str(error))
        return self._pythons[who]

    def _absent(self, who: str, why: str) -> None:
        text = f"{NAMES[who]}: {why}."
        if text not in self.said:
            self.said.append(text)
            self._say(f"  {text}")

    def load(self, what: str, how: str, who: str, *words: str) -> dict[str, float] | None:
        """The figures of a service that a client of ours asks."""
        python = self.python(who)
        if python is None:
            return None
        return self._run(what, who, sys.executable, "load.py", how, who, python, *words)

    def probe(self, what: str, who: str, script: str, *words: str) -> dict[str, float] | None:
        """The figures of a peer by a script that it runs itself."""
        python = self.python(who)
        return None if python is None else self._run(what, who, python, script, *words)

    def _run(self, what: str, who: str, python: str, script: str, *words: str) -> dict[str, float] | None:
        """What is found, which is said at once. None where it failed, which is said too."""
        try:
            (record,) = self.children.probe(python, f"serve/{script}", *words, timeout_s=LIMIT_S).records
        except MeasureError as error:
            self._absent(who, f"{what} failed: {str(error)[:200]}")
            return None
        shown = ", ".join(f"{key} {number(value)}" for key, value in record.items() if not isinstance(value, bool))
        self._say(f"  {what:8} {NAMES[who]:16} {shown}")
        found: dict[str, float] = record
        return found

    def turns(self, found: dict[str, list[dict[str, float]]], ask: Callable[[str], dict[str, float] | None]) -> None:
        """All rounds, the peers of ``found`` in turns."""
        names = list(found)
        for turn in range(self.rounds):
            at = turn % len(names)
            for who in names[at:] + names[:at]:
                if turn and who not in (*NEAR, RAY):
                    continue
                if turn and who == RAY and len(names) > 2:
                    continue
                record = ask(who)
                found[who] += [record] if record else []


def _python(kind: str) -> str:
    python = find(kind).python
    if kind == RAY:
        command = [python, "-c", "import ray.serve, uvicorn, uvloop"]
        if subprocess.run(command, capture_output=True, timeout=120).returncode != 0:
            raise PeerError("Ray Serve cannot be imported there: it needs ray[serve]")
    return python


# ---------------------------------------------------------------- tables


@dataclass
class Check:
    """One table of figures. ``ask``: measures a peer once."""

    title: str
    peers: tuple[str, ...]
    figures: Sequence[Figure]
    note: str
    ask: Callable[[Measuring, str], dict[str, float] | None]

    def table(self, measuring: Measuring, found: Records) -> dict[str, Any]:
        """What was found so far."""
        peers = [peer for peer in self.peers if found.get(peer)]
        others = " / ".join(NAMES[peer] for peer in peers if peer not in (HPC, INGRESS))
        rows = [row(figure, found, peers) for figure in self.figures]
        how = f"The median of {max(map(len, found.values()), default=0)} rounds in turns (lowest…highest)."
        better = f"hpc better than {others}" if others else "hpc better"
        head = ["what", *(NAMES[peer] for peer in peers), better, "target", "reached"]
        return table(self.title, " ".join([how, self.note, measuring.about()]), head, rows)


def _asked_http(measuring: Measuring, who: str) -> dict[str, float] | None:
    return measuring.load("http", "load", who, ("1", "2")[not measuring.quick], ",".join(map(str, CONNECTIONS)))


def _asked_stream(measuring: Measuring, who: str) -> dict[str, float] | None:
    return measuring.load("stream", "stream", who, *STREAMS)


def _asked_payload(measuring: Measuring, who: str) -> dict[str, float] | None:
    return measuring.load("payload", "payload", who, ("10", "30")[not measuring.quick], ",".join(map(str, SIZES_MB)))


def _asked_calls(measuring: Measuring, who: str) -> dict[str, float] | None:
    return measuring.probe("calls", who, "calls.py", who, ("0.5", "2")[not measuring.quick])


def _asked_changes(measuring: Measuring, who: str) -> dict[str, float] | None:
    return measuring.probe("changes", who, "changes.py", who, "1")


CHECKS = {
    "http": Check(
        "Services: no-op requests of HTTP",
        tuple(NAMES),
        tuple(_http()),
        "One replica, 100 requests at a time. uvicorn serves an application of starlette by httptools in one process, "
        "and ingress is the same application served by hpc; LitServe and BentoML answer a POST with JSON. CPU time is "
        "that of all processes of a service. The client shares the cores.",
        _asked_http,
    ),
    "stream": Check(
        "Services: streams",
        (HPC, INGRESS, UVLOOP, ASYNCIO, RAY, THROUGHPUT),
        STREAM,
        "Pieces of 20 bytes by starlette's StreamingResponse.",
        _asked_stream,
    ),
    "payload": Check(
        "Services: large bodies",
        (HPC, INGRESS, UVLOOP, ASYNCIO, RAY, THROUGHPUT),
        tuple(_payload()),
        "A body of a POST comes back, one after the other, each on a connection of its own.",
        _asked_payload,
    ),
    "calls": Check(
        "Services: calls of handles",
        (HPC, RAY, THROUGHPUT),
        CALLS,
        "One replica of each deployment, methods that are coroutines, a driver that asks.",
        _asked_calls,
    ),
    "changes": Check(
        "Services: changes under load",
        (HPC, RAY),
        CHANGES,
        "Plain Python deployments, by handles. 16 callers at once while replicas are added.",
        _asked_changes,
    ),
}
