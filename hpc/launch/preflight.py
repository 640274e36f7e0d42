"""`--preflight`: the nodes are measured before the script begins, in a session of their own, and slow ones left out.

The script may be plain ranks, which have no runtime to measure with. And a node that is left out may be the one with
the head. So it is another session, for some seconds, on the same nodes.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from typing import Any

from hpc.launch.work import Driver
from hpc.launchers.loop import SessionLoop
from hpc.launchers.node_group import NodeGroup
from hpc.launchers.session import Session
from hpc.launchers.session_errors import StartError
from hpc.settings import errors
from hpc.settings.errors import CliError
from hpc.settings.options import Settings

#: A measurement takes seconds, however many nodes there are.
LIMIT_S = 120.0
STOP_S = 5.0


def fit_nodes(
    settings: Settings, make: Callable[[], NodeGroup], loop: SessionLoop, say: Callable[[str], object]
) -> NodeGroup:
    """Measure the nodes of the loop's session, which has not begun, and end it. Returns the nodes for the script.

    make: another group of all nodes. Raises StartError where they do not come, and CliError where too few are left.
    """
    session = loop.session
    try:
        session.start()
        loop.until(lambda: session.state != "starting")
        if session.state != "ready":
            raise session.failure or StartError(session.lost or "the session ended", session.missing())
        found = _measure(session, loop)
        unfit = {_host_of(session, int(node)): "" for node in found["unfit"]}
    finally:
        session.begin_stop(STOP_S, "the nodes have been measured")
        loop.until(lambda: session.state == "ended")
        loop.close()
    for text in words(found["rows"]):
        say(f"hpc: preflight: {text}")
    if not unfit or settings["preflight"] != "exclude":
        return make()
    names = ", ".join(unfit)
    session.first.refused.update(dict.fromkeys(unfit, "it is slow"))
    others = session.first.without_refused()
    least = settings["min_nodes"] or 1
    if others is None:
        say(f"hpc: preflight: {names} cannot be left out: {session.first.describe()}")
        return make()
    if others.size < least:
        raise CliError(
            "TOO-FEW-NODES", f"without {names} there are {others.size} nodes, and at least {least} are asked for",
            why="the preflight found the others slow or broken", fix=f"--min-nodes={others.size}, or --preflight alone",
            exit_code=errors.EXIT_TOO_FEW_NODES,
        )  # fmt: skip
    say(f"hpc: preflight: {names} left out; {others.size} nodes go on")
    return others


def words(rows: list[Mapping[str, Any]]) -> list[str]:
    """What was found, a line each: what is wrong, else that all is well."""
    bad = [row for row in rows if row["level"] != "ok"]
    return [f"{row['node'] or 'all nodes'}: {row['check']}: {row['seen']}" for row in bad] or [
        "; ".join(f"{row['check']} {row['seen']}" for row in rows) or "one node without a GPU: nothing to measure"
    ]


def _host_of(session: Session, node: int) -> str:
    info = session.nodes[node]
    return info.group.host_of(info.rank) or info.host or f"node {node}"


def _measure(session: Session, loop: SessionLoop) -> dict[str, Any]:
    """In a process of its own, as any driver."""
    node_dir = session.local_dir() or str(session.add_gateway().hello["dir"])
    address = str(session.head.hello.get("head_ep", "")) if session.head is not None else ""
    env = {**os.environ, "HPC_SESSION_DIR": node_dir, "HPC_ADDRESS": address}
    with tempfile.NamedTemporaryFile("r") as file:
        driver = Driver([sys.executable, "-m", "hpc.doctor.preflight", file.name], env)
        try:
            loop.until(lambda: driver.poll() is not None, time.monotonic() + LIMIT_S)
        finally:
            if driver.poll() is None:
                driver.signal(signal.SIGKILL)
        try:
            found: dict[str, Any] = json.load(file)
        except ValueError:
            raise StartError("the preflight has not ended well", session.missing()) from None
    return found
