"""Environments that are set up before anybody needs them: by a worker that then waits for work. Pure."""

from __future__ import annotations

from hpc.core.raylet.leasing import Leasing
from hpc.core.wire import PrepareEnv


def prepare(leasing: Leasing, msg: PrepareEnv) -> None:
    """Start a worker that sets the environment up, unless there is one of it. Where that fails the tasks hear of it
    that wait for the same then; those that come later have it tried again."""
    env = tuple(sorted(msg.env.items()))
    if len(leasing.procs) < leasing.max_procs and not any(proc.env == env for proc in leasing.procs.values()):
        leasing.start_worker(env)
