"""What programs that break a service share: sessions, the processes of a service, what each program says."""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import hpc
from bench.chaos import named
from hpc import serve
from hpc.core.node.reap import descendants
from hpc.launchers.local.group import LocalGroup
from hpc.launchers.session import Session
from hpc.serve.http.door import told
from hpc.serve.messages import CONTROLLER_NAME
from hpc.util.state import list_actors

PATIENCE_S = 60.0
PROXY, REPLICA = "SERVE_PROXY_ACTOR", "SERVE_REPLICA"


@dataclass(frozen=True)
class Finding:
    """A row of the table. ``figure`` says how many have failed."""

    what: str
    figure: str
    wanted: str
    is_kept: bool


def main(check: Callable[[bool], Iterator[Finding]], about: str | None) -> None:
    """Run a program: a line for each finding, and 1 where a promise is not kept."""
    parser = argparse.ArgumentParser(description=about)
    parser.add_argument("--quick", action="store_true", help="shorter, and no times are judged")
    parser.add_argument("--tell", action="store_true", help="end with 0 in any case: the lines say what is not kept")
    given, is_kept = parser.parse_args(), True
    for one in check(given.quick):
        print(f"{one.what}: {one.figure} (wanted: {one.wanted}) {'ok' if one.is_kept else 'NO'}", flush=True)
        print("@bench " + json.dumps(asdict(one)), flush=True)
        is_kept = is_kept and one.is_kept
    sys.exit(0 if is_kept or given.tell else 1)


def until(is_so: Callable[[], Any], what: str) -> Any:
    """Wait for something that no event tells of; what it gives."""
    end = time.monotonic() + PATIENCE_S
    while not (found := is_so()):
        if time.monotonic() > end:
            raise SystemExit(f"{what} did not come to be within {PATIENCE_S:g} s")
        time.sleep(0.02)
    return found


# ---------------------------------------------------------------- what became of requests


def failed(outcome: Mapping[str, Any], kinds: str) -> int:
    """How many requests of these kinds have failed."""
    return sum(sum(outcome[kind]["failed"].values()) for kind in kinds.split(","))


def said(outcome: Mapping[str, Any], kinds: str) -> str:
    """Outcomes in words."""
    found = [outcome[kind] for kind in kinds.split(",")]
    text = f"failed={failed(outcome, kinds)} of {sum(one['asked'] for one in found):,}"
    reasons = sum((Counter(one["failed"]) for one in found), Counter())
    text += f" ({', '.join(f'{count} {why}' for why, count in reasons.items())})" if reasons else ""
    return f"{text}, p99 {max(one['p99_ms'] for one in found):.0f} ms, longest {worst_ms(outcome, kinds):.0f} ms"


def worst_ms(outcome: Mapping[str, Any], kinds: str) -> float:
    """The longest that a request took."""
    return float(max(outcome[kind]["worst_ms"] for kind in kinds.split(",")))


# ---------------------------------------------------------------- sessions


@contextmanager
def one_node(num_cpus: int = 16) -> Iterator[None]:
    """A session of one node with a service that listens on TCP too."""
    hpc.init(num_cpus=num_cpus, object_store_memory=256 << 20)
    try:
        serve.start(http_options={"host": "127.0.0.1", "port": 0})
        yield
        serve.shutdown()
    finally:
        hpc.shutdown()


@contextmanager
def nodes(count: int, cpus: int = 4, **config: Any) -> Iterator[Session]:
    """A session of local nodes, each a supervisor of its own. This process is the driver, on the first of them."""
    overrides = {"num_cpus": cpus, "object_store_bytes": 128 << 20}
    session = Session(LocalGroup(count), overrides=overrides, config={"loopback": True, **config})
    session.start()
    try:
        session.wait_ready(PATIENCE_S)
        hpc.init(address=session.local_dir())
        serve.start(http_options={"host": "127.0.0.1", "port": 0})
        yield session
        serve.shutdown()
    finally:
        hpc.shutdown()
        session.stop(2.0)


def door(node: str = "1", kind: str = "http") -> str:
    """Where the proxy of a node listens: `http`, or `unix`."""

    def found() -> str | None:
        return next((one for one in told().get(node, []) if one.startswith(kind)), None)

    return str(until(found, f"a door of node {node}"))


@contextmanager
def gateway(folder: Path) -> Iterator[str]:
    """A gateway in a process of its own; its socket."""
    path = folder / "gateway.sock"
    command = [sys.executable, "-m", "hpc", "serve", "gateway", str(folder), "--socket", str(path)]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    try:
        until(path.exists, "the gateway")
        yield f"unix:{path}"
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()


# ---------------------------------------------------------------- processes


def actors(prefix: str) -> list[dict[str, Any]]:
    """The actors of the service that live, by the beginning of their names."""
    rows = [row for row in list_actors() if row["name"].startswith(prefix) and row["state"] == "ALIVE"]
    return [row for row in rows if row["pid"]]


def controller() -> int:
    """The process of the controller."""
    (row,) = until(lambda: actors(CONTROLLER_NAME), "a controller")
    return int(row["pid"])


def end(pid: int) -> None:
    """kill -9."""
    with suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)


def supervisor(node: int) -> int:
    """The first process of a node."""
    row = next(one for one in hpc.nodes() if one["NodeID"] == str(node))
    about = json.loads(Path(row["RayletSocketName"]).with_name("session.json").read_text())
    return int(about["pid"])


def head() -> int:
    """The process of the head."""

    def found() -> int | None:
        pids = named(supervisor(1), "hpc-head")
        return pids[0] if pids else None

    return int(until(found, "a head"))


def processes(node: int) -> list[int]:
    """All processes of a node."""
    root = supervisor(node)
    return [root, *descendants(root)]


def memory_mb(pid: int) -> float:
    """The memory of a process that is its own, in MB."""
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    kb = sum(int(line.split()[1]) for line in lines if line.startswith(("Private_Clean", "Private_Dirty")))
    return kb / 1024
