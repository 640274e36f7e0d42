"""The dashboard's process: its two doors, what it tells the user, and its end.

One door is a socket in the directory of this machine's node, which only its user can enter; ssh forwards a port to it.
The other is a port of 127.0.0.1, for a browser on this machine and for proxies. Both want the token.
"""

from __future__ import annotations

import asyncio
import os
import signal
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import uvicorn

from hpc.dashboard.app import build
from hpc.dashboard.asking import Question
from hpc.dashboard.callers import Caller
from hpc.dashboard.feed import Feed
from hpc.dashboard.gate import Keys
from hpc.dashboard.pages.registry import QUESTIONS

#: The port on the user's own machine in the line that is printed.
LOCAL_PORT = 8265
#: The dashboard gives way to the work of its node.
NICE = 10
#: How often is asked for jobs, where somebody looks at them: a scheduler has many who ask.
JOBS_S = 15.0
#: How often the end of the session is looked for, and Ctrl-C; and how long pages may take to read that it has ended.
LOOK_S = 0.2
LAST_WORDS_S = 3.0


class Wanted(NamedTuple):
    """What the user asks for. ``hosts`` and ``root``: how a proxy reaches the server; ``login``: a machine to go by."""

    port: int = 0
    hosts: tuple[str, ...] = ()
    root: str = ""
    login: str = ""


def serve(directory: str, wanted: Wanted, say: Callable[[str], None], jobs: Callable[[], dict[str, Any]]) -> int:
    """Serve the pages until Ctrl-C, or until the session has ended; returns the exit code. The process is a driver of
    the session already; ``directory`` is its node's. ``jobs`` asks for what the page of jobs shows."""
    os.nice(max(0, NICE - os.nice(0)))
    path = Path(directory) / f"dashboard-{os.getpid()}.sock"
    try:
        with _unix_door(path) as inner, _port_door(wanted.port) as outer:
            return asyncio.run(_serve(path, inner, outer, wanted, say, jobs))
    finally:
        path.unlink(missing_ok=True)


async def _serve(
    path: Path,
    inner: socket.socket,
    outer: socket.socket,
    wanted: Wanted,
    say: Callable[[str], None],
    jobs: Callable[[], dict[str, Any]],
) -> int:
    keys, feed = Keys(), Feed({**QUESTIONS, "jobs": Question(jobs, JOBS_S, is_outside=True)})
    port = outer.getsockname()[1]

    def entered() -> None:
        say(f"a browser has come in; for another one: {link(port, wanted.root, keys.token)}")

    app = build(feed, keys, wanted.hosts, wanted.root, entered)
    server = uvicorn.Server(
        uvicorn.Config(
            app, http=Caller, log_config=None, access_log=False, timeout_graceful_shutdown=1, ws="none",
            server_header=False,
        )
    )  # fmt: skip
    for line in greeting(str(path), port, keys.token, wanted, _user(), socket.gethostname()):
        say(line)
    serving = asyncio.create_task(server.serve(sockets=[inner, outer]))
    while not serving.done():
        if feed.asker.ended:
            say(feed.asker.ended)
            await asyncio.sleep(LAST_WORDS_S)
            server.should_exit = True
            feed.end()
            await serving
            return 0
        await asyncio.wait([serving], timeout=LOOK_S)
        if server.should_exit:  # else the server waits for those who follow a page, and complains of them
            feed.end()
    await serving
    return 128 + signal.SIGINT if server.force_exit else 0


def greeting(path: str, port: int, token: str, wanted: Wanted, user: str, host: str) -> list[str]:
    """What the user is told: the line for a terminal at home, and the links."""
    jump = f"-J {user}@{wanted.login} " if wanted.login else ""
    return [
        f"dashboard of this session, on {host}:",
        f"  from your own machine:  ssh -N {jump}-L {LOCAL_PORT}:{path} {user}@{host}",
        f"  then open:              {link(LOCAL_PORT, '', token)}",
        f"  on this machine:        {link(port, wanted.root, token)}",
        "  a link lets one browser in; Ctrl-C ends the dashboard, and nothing else",
    ]


def link(port: int, root: str, token: str) -> str:
    """An address with the token behind the #, a part that browsers send to nobody."""
    return f"http://localhost:{port}{root.rstrip('/')}/#{token}"


def _unix_door(path: Path) -> socket.socket:
    door = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    before = os.umask(0o177)
    try:
        door.bind(str(path))
    finally:
        os.umask(before)
    door.listen(64)
    return door


def _port_door(port: int) -> socket.socket:
    door = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    door.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    door.bind(("127.0.0.1", port))
    door.listen(64)
    return door


def _user() -> str:
    import pwd

    try:
        return pwd.getpwuid(os.getuid()).pw_name
    except KeyError:  # in a container without its host's users
        return os.environ.get("USER", str(os.getuid()))
