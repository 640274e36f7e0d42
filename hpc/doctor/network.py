"""Bandwidth and latency between the nodes of a session, and the copies of each GPU: measured, and those that lag named.

A prober on each node listens on the address that the session uses. Pairs are measured in rounds, all pairs of a round
at once, so that a thousand nodes take as long as eight. The bytes go through plain sockets, as those of NCCL's and
gloo's connections do without a fast fabric.
"""

from __future__ import annotations

import contextlib
import socket
import statistics
import threading
import time
from collections.abc import Mapping, Sequence
from typing import Any

import hpc
from hpc.doctor.finding import Finding, ok, warn
from hpc.doctor.links import SLOW_SHARE, Fault, Link, best_of, faults, rounds, suspects
from hpc.util.scheduling_strategies import NodeAffinitySchedulingStrategy

#: Each direction of a pair is measured for so long.
MEASURE_S = 0.25
#: A partner that does not answer within this time is out of reach.
REACH_S = 5.0
PINGS = 20
#: A slow link takes so long at most for what is on its way at once.
DATA_S, SEND_BUFFER = 60.0, 512 << 10
#: The most pairs that are measured once more.
SECOND_LOOKS = 16
PIECE_BYTES = 256 << 10
#: Slower than this, it is another network that is meant.
SLOW_RATE = 50e6
#: Copied to a GPU and back.
COPY_BYTES = 256 << 20
_PING, _TAKE, _GIVE = 1, 2, 3


class Prober:
    """One node's part. It serves its partners in threads of its own."""

    def __init__(self, address: str) -> None:
        self._server = socket.create_server((address, 0))
        threading.Thread(target=self._accept, name="hpc-prober", daemon=True).start()

    def place(self) -> tuple[str, int]:
        """Where it listens."""
        address, port = self._server.getsockname()[:2]
        return str(address), int(port)

    def measure(self, where: tuple[str, int]) -> tuple[float, float]:
        """The slower of both directions to that prober, in bytes per second, and the latency of one way in seconds.

        (0.0, 0.0) where it is out of reach.
        """
        try:
            with socket.create_connection(where, timeout=REACH_S) as sock:
                _prepare(sock)
                trips = [self._trip(sock) for _ in range(PINGS)]
                return min(self._give(sock), self._take(sock)), min(trips) / 2
        except OSError:
            return 0.0, 0.0

    def _trip(self, sock: socket.socket) -> float:
        began = time.perf_counter()
        sock.sendall(bytes([_PING]))
        _exactly(sock, memoryview(bytearray(1)))
        return time.perf_counter() - began

    def _give(self, sock: socket.socket) -> float:
        sock.sendall(bytes([_TAKE]))
        began = time.perf_counter()
        sent = _send_for(sock, MEASURE_S)
        _exactly(sock, memoryview(bytearray(1)))  # the last byte has come there
        return sent / (time.perf_counter() - began)

    def _take(self, sock: socket.socket) -> float:
        sock.sendall(bytes([_GIVE]))
        began = time.perf_counter()
        received = _receive_all(sock)
        return received / (time.perf_counter() - began)

    def _accept(self) -> None:
        while True:
            sock, _ = self._server.accept()
            threading.Thread(target=self._serve, args=(sock,), daemon=True).start()

    def _serve(self, sock: socket.socket) -> None:
        with contextlib.suppress(OSError), sock:
            _prepare(sock)
            while what := sock.recv(1):
                if what[0] == _PING:
                    sock.sendall(what)
                elif what[0] == _TAKE:
                    _receive_all(sock)
                    sock.sendall(what)
                else:
                    _send_for(sock, MEASURE_S)

    def copies(self) -> dict[str, float] | str:
        """Bytes per second into each GPU and back, the slower of both; or why that is not measured."""
        if not hpc.get_gpu_ids():
            return "no GPU"
        try:
            import torch
        except ImportError:
            return "PyTorch is not installed"
        if not torch.cuda.is_available():
            return f"torch {torch.__version__} finds no GPU"
        return {f"GPU {i}": _copy_rate(torch, i) for i in range(torch.cuda.device_count())}


def _copy_rate(torch: Any, index: int) -> float:
    host = torch.empty(COPY_BYTES, dtype=torch.uint8, pin_memory=True)
    there = torch.empty(COPY_BYTES, dtype=torch.uint8, device=f"cuda:{index}")
    rates = []
    for target, source in ((there, host), (host, there)) * 2:  # the first turn warms up
        torch.cuda.synchronize(index)
        began = time.perf_counter()
        target.copy_(source, non_blocking=True)
        torch.cuda.synchronize(index)
        rates.append(COPY_BYTES / (time.perf_counter() - began))
    return float(min(rates[2:]))


def _prepare(sock: socket.socket) -> None:
    sock.settimeout(DATA_S)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER)


def _send_for(sock: socket.socket, seconds: float) -> int:
    """Pieces with a 1 ahead, then 0."""
    until, sent = time.perf_counter() + seconds, 0
    piece = b"\1" + bytes(PIECE_BYTES)
    while time.perf_counter() < until:
        sock.sendall(piece)
        sent += PIECE_BYTES
    sock.sendall(b"\0")
    return sent


def _receive_all(sock: socket.socket) -> int:
    received, piece = 0, memoryview(bytearray(PIECE_BYTES))
    while _exactly(sock, memoryview(bytearray(1)))[0]:
        _exactly(sock, piece)
        received += PIECE_BYTES
    return received


def _exactly(sock: socket.socket, into: memoryview) -> memoryview:
    left = into
    while left:
        count = sock.recv_into(left)
        if not count:
            raise ConnectionResetError("the other end has closed")
        left = left[count:]
    return into


def measure(nodes: Sequence[Mapping[str, Any]]) -> tuple[list[Link], list[dict[str, float] | str]]:
    """The links between these nodes, rows of `hpc.nodes()`, by their place in the list; and each node's copies."""
    probers = [
        hpc.remote(Prober)
        .options(
            num_cpus=0, num_gpus=node["Resources"].get("GPU", 0), max_concurrency=4,
            scheduling_strategy=NodeAffinitySchedulingStrategy(node["NodeID"], soft=False),
        )
        .remote(node["NodeManagerAddress"])
        for node in nodes
    ]  # fmt: skip
    try:
        places = hpc.get([prober.place.remote() for prober in probers])
        links: list[Link] = []
        for pairs in rounds(len(nodes)):
            found = hpc.get([probers[a].measure.remote(places[b]) for a, b in pairs])
            links += [Link(a, b, *figures) for (a, b), figures in zip(pairs, found, strict=True)]
        for a, b in suspects(len(nodes), links)[:SECOND_LOOKS]:
            links.append(Link(a, b, *hpc.get(probers[a].measure.remote(places[b]))))
        return links, hpc.get([prober.copies.remote() for prober in probers])
    finally:
        for prober in probers:
            hpc.kill(prober)


def findings(hosts: Sequence[str], links: Sequence[Link], copies: Sequence[Mapping[str, float] | str]) -> list[Finding]:
    """What to say of the network and of the GPUs."""
    found = [_network(fault, hosts) for fault in faults(len(hosts), links)]
    links = best_of(links)
    if links and not found:
        slowest = min(links, key=lambda link: link.rate)
        latency = max(link.latency_s for link in links)
        pair = f"{hosts[slowest.a]} and {hosts[slowest.b]}"
        seen = f"at least {_rate(slowest.rate)} ({pair}) and at most {latency * 1e6:.0f} us over {len(links)} pairs"
        fix = "the slow network? --interface=NAME names the fast one"
        found.append(warn("links", seen, fix) if slowest.rate < SLOW_RATE else ok("links", seen))
    rates = {
        (host, gpu): rate
        for host, one in zip(hosts, copies, strict=True)
        if not isinstance(one, str)
        for gpu, rate in one.items()
    }
    lagging = _lagging(list(rates.items()))
    found += [
        Finding(
            "gpu copies", "warn", f"{gpu} copies {_rate(rates[host, gpu])}, others {_rate(usual)}",
            _LEAVE_OUT.format(host), host,
        )
        for (host, gpu), usual in lagging
    ]  # fmt: skip
    reasons = sorted({one for one in copies if isinstance(one, str)})
    if rates and not lagging:
        found.append(ok("gpu copies", f"at least {_rate(min(rates.values()))}, {len(rates)} GPUs"))
    if reasons and not rates:
        found.append(ok("gpu copies", f"not measured: {', '.join(reasons)}"))
    return found


def unfit(count: int, links: Sequence[Link], copies: Sequence[Mapping[str, float] | str]) -> list[int]:
    """The nodes that are broken or slow, or have a slow GPU. Of a slow link between sound nodes neither is."""
    found = {fault.node for fault in faults(count, links) if fault.kind != "link"}
    rates = [((str(i), gpu), r) for i, one in enumerate(copies) if not isinstance(one, str) for gpu, r in one.items()]
    return sorted(found | {int(node) for (node, _), _ in _lagging(rates)})


def _lagging(rates: Sequence[tuple[tuple[str, str], float]]) -> list[tuple[tuple[str, str], float]]:
    usual = statistics.median(rate for _, rate in rates) if len(rates) > 2 else 0.0
    return [(name, usual) for name, rate in rates if rate < SLOW_SHARE * usual]


_LEAVE_OUT = "ask the scheduler to leave out {}, and tell the centre"


def _network(fault: Fault, hosts: Sequence[str]) -> Finding:
    host = hosts[fault.node]
    if fault.kind == "broken":
        return Finding("links", "fail", "no other node reaches it", _LEAVE_OUT.format(host), host)
    if fault.kind == "slow":
        seen = f"{_rate(fault.value)} at best, other nodes {_rate(fault.usual)}"
        return Finding("links", "warn", seen, _LEAVE_OUT.format(host), host)
    if fault.kind == "late":
        seen = f"{fault.value * 1e6:.0f} us one way at best, other nodes {fault.usual * 1e6:.0f} us"
        return Finding("links", "warn", seen, _LEAVE_OUT.format(host), host)
    seen = f"{_rate(fault.value)} with {hosts[fault.other]}, other pairs {_rate(fault.usual)}"
    return Finding("links", "warn", seen, "tell the centre: a cable or a switch between them", host)


def _rate(rate: float) -> str:
    return f"{rate / 1e9:.2f} GB/s" if rate >= 1e9 else f"{rate / 1e6:.1f} MB/s"
