"""A node leaves a session that goes on: it drains first, and ends as soon as nothing is lost by that."""

from __future__ import annotations

import time
from collections.abc import Callable

from hpc.launchers.loop import SessionLoop

LOOK_S = 0.05


def leave(
    loop: SessionLoop,
    node: int,
    drain_s: float,
    why: str,
    grace_s: float,
    gone: Callable[[], object] = lambda: None,
) -> None:
    """Have a node drain for ``drain_s`` seconds at most, then end it; ``gone`` is called when it has been told so.

    It ends sooner once no task and no actor is there any more, and all values have moved.
    """
    session = loop.session
    until_s = time.monotonic() + drain_s
    if drain_s > 0:
        session.drain_node(node, drain_s, why)

    def look() -> None:
        info = session.nodes.get(node)
        if info is None or info.state == "gone" or session.state in ("stopping", "ended"):
            return
        if info.drained or time.monotonic() >= until_s:
            session.remove_node(node, grace_s)
            gone()
        else:
            loop.at(min(until_s, time.monotonic() + LOOK_S), look)

    look()
