"""The session that belongs to where this process runs: over the nodes of its allocation, or on this machine."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from hpc.launchers.base import NodeGroup
from hpc.launchers.local import LocalGroup
from hpc.launchers.session import Session
from hpc.launchers.slurm import allocation


def group_here(local: bool = False) -> NodeGroup:
    """The nodes that are there for this process."""
    alloc = None if local else allocation(os.environ)
    if alloc is None:
        return LocalGroup(1)
    from hpc.launchers.slurm_group import SlurmGroup, ask_job

    return SlurmGroup(alloc, job=ask_job(alloc))


def session_here(local: bool = False, overrides: Mapping[str, Any] | None = None) -> Session:
    """A session, not started yet, over the nodes that are there for this process."""
    group = group_here(local)
    config = {"loopback": True} if isinstance(group, LocalGroup) else {}
    return Session(group, overrides=dict(overrides or {}), config=config)
