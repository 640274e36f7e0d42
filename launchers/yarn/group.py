"""The nodes of an application of YARN's as one group: the first is in this container, the others dial in."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from typing import Any

from hpc.launchers.dial_in import DialInGroup
from hpc.launchers.scheduler import Allocation
from hpc.launchers.yarn import commands


class YarnGroup(DialInGroup):
    """`nodes` of an allocation (all of them by default), in the order of their ranks."""

    def __init__(
        self, alloc: Allocation, *, nodes: int | None = None, fork: bool = False, env: Mapping[str, str] | None = None
    ) -> None:
        env = os.environ if env is None else env
        count = len(alloc.nodes) if nodes is None else nodes
        if count > len(alloc.nodes):
            raise ValueError(f"the allocation has {len(alloc.nodes)} nodes, not {count}")
        super().__init__(count, os.path.join(env.get(commands.FOLDER, "."), commands.JOIN_FILE), fork=fork)
        self.alloc = alloc
        self.hosts = alloc.nodes[:count]
        self._end_s = float(env[commands.END]) if env.get(commands.END) else None

    def start_fields(self) -> dict[str, Any]:
        left_s = None if self._end_s is None else max(0.0, self._end_s - time.time())
        return {"grant_env": commands.GRANT_ENV, "time_left_s": left_s}

    def host_of(self, rank: int) -> str | None:
        return self.hosts[rank]

    def describe(self) -> str:
        return f"{self.size} containers of {self.alloc.job_id}"
