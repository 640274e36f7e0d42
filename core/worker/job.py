"""What a worker takes over from the driver whose work it does: where it finds modules, where it works, how it logs."""

from __future__ import annotations

import os
import sys
from typing import Any

from hpc.core.node.output import name_again
from hpc.core.process.context import process

LOGGING = "hpc.core.worker.logformat"


def enter_job(job: dict[str, Any]) -> None:
    """Make the driver's modules importable here, work where it works, and log as it says."""
    name_again()
    at = len(process.paths)  # what the runtime environment names comes first
    for path in reversed(job.get("sys_path", [])):
        if path not in sys.path:
            sys.path.insert(at, path)
    cwd = job.get("cwd")
    if cwd and not process.working_dir:
        try:
            os.chdir(cwd)
        except OSError:
            print(f"hpc: the driver's directory {cwd} does not exist on this node", file=sys.stderr)
    if job.get("logging") or LOGGING in sys.modules:  # it may be another driver's
        from hpc.core.worker.logformat import apply

        apply(job.get("logging"))
