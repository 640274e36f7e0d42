"""`hpc stop`: the end of a session that `hpc start` began, or of one of its nodes.

It names its session by the directory that the host keeps locked, never by a list of processes.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from typing import Any

from hpc.cli.session import host_named
from hpc.cli.words import parse_alone
from hpc.settings.errors import CliError
from hpc.settings.options import Option

END_S = 5.0  # between the last word of a host and its end
USAGE = "hpc stop [options]"
TABLE = (
    Option("session", ("--session",), "text", "the session's id (default: the only one)", "", metavar="ID"),
    Option("node", ("--node",), "count", "end this node only", "", metavar="N"),
    Option("grace", ("--grace",), "duration", "how long processes may take to end (5s)", "", metavar="TIME"),
    Option(
        "drain",
        ("--drain",),
        "duration",
        "with --node: so long before nothing new begins there (0s)",
        "",
        metavar="TIME",
    ),
)


def run(words: list[str]) -> int:
    """End what the words name; returns the exit code."""
    return stop(parse_alone("stop", TABLE, words))


def stop(given: Mapping[str, Any]) -> int:
    """End a session that `hpc start` began, or one of its nodes."""
    import select

    from hpc.core.node.process import open_pidfd
    from hpc.host.talk import HostError, ask_host

    info = host_named(given.get("session") or "auto", "--session")
    grace_s = given.get("grace", 5.0)
    drain_s = given.get("drain", 0.0)
    if drain_s and "node" not in given:
        raise CliError("USAGE", "--drain is for one node: --node=N", fix="hpc stop --node=N --drain=TIME")
    request = {"op": "stop", "grace_s": grace_s}
    if "node" in given:
        request = {"op": "remove_node", "node": given["node"], "grace_s": grace_s, "drain_s": drain_s}
    try:
        ended = None
        with contextlib.suppress(ProcessLookupError):  # a host in another container, say
            ended = open_pidfd(info.pid)
        ask_host(info, request, timeout_s=drain_s + 2 * grace_s + 60.0)
        if ended is not None and "node" not in given:
            select.select([ended], [], [], END_S)
    except (HostError, ConnectionError) as error:
        raise CliError("REFUSED", f"session {info.session} was not stopped: {error}") from None
    print(
        f"node {given['node']} has left session {info.session}" if "node" in given else f"session {info.session} ended"
    )
    return 0
