"""What a run's compilers have made, for the next one: `--cache DIR`."""

from __future__ import annotations

import os
from collections.abc import Callable

from hpc.core.node import caches
from hpc.launchers.session import Session


def tell_problems(session: Session, say: Callable[[str], object]) -> None:
    """What went wrong as nodes began, and did not stop them; alike of many nodes: once."""
    told: dict[str, int] = {}
    for info in session.ready():
        problem = str(info.hello.get("problem") or "")
        told[problem] = told.get(problem, 0) + 1
    for problem, count in told.items():
        if problem:
            say(f"hpc: {problem}" + (f" ({count} nodes alike)" if count > 1 else ""))


def keep_caches(archive_dir: str | None, session: Session, say: Callable[[str], object]) -> None:
    """Add what is new on this machine's node to the archive. One node is enough: ranks compile the same."""
    if not archive_dir or session.state != "ready":
        return
    node_dir = session.local_dir()
    if node_dir is None:
        say("hpc: the caches are not kept: hpc-launch runs on no node of this session")
        return
    try:
        new = caches.pack(os.path.expanduser(archive_dir), caches.folder_of(node_dir))
    except OSError as error:
        say(f"hpc: the caches are not kept: {error}")
        return
    if new:
        say(f"hpc: {new} compiled files are kept in {archive_dir}")
