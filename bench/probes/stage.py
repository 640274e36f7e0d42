"""Inside a job of N nodes: an environment is packed, brought to the nodes in two ways, and imported on all of them.

python stage.py VENV JOBS LOCAL MODULE: one record, in seconds: "pack" and "again", "scheduler" (by the scheduler's own
command) and "tree", "shared" and "own" (the slowest import, from the shared environment and from the nodes' disks);
"shared_opens" and "own_opens": how many files of the shared environment one import looks for.
"""

import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from hpc.core.node.address import node_address
from hpc.launchers.registry import find_place
from hpc.launchers.staging import pack
from hpc.launchers.staging.deliver import deliver


class WithoutBroadcast:
    """A scheduler that copies no files."""

    def __init__(self, scheduler: Any) -> None:
        self.scheduler = scheduler

    def on_each(self, *args: Any) -> Any:
        return self.scheduler.on_each(*args)

    def broadcast(self, *args: Any) -> None:
        return None


def timed(work: Any) -> tuple[float, Any]:
    before = time.monotonic()
    found = work()
    return time.monotonic() - before, found


def slowest(place: Any, python: str, module: str) -> float:
    code = f"import time; t = time.monotonic(); import {module}; print(time.monotonic() - t)"
    (command,) = place.scheduler.on_each(place.alloc, place.alloc.nodes, [python, "-c", code])
    done = subprocess.run(command.argv, env=dict(command.env), capture_output=True, text=True, timeout=120, check=True)
    return max(float(line) for line in done.stdout.split())


def looked_for(python: str, module: str, prefix: str) -> int:
    with tempfile.TemporaryDirectory() as folder:
        trace = ["strace", "-f", "-qq", "-e", "trace=%file", "-o", f"{folder}/trace"]
        subprocess.run([*trace, python, "-c", f"import {module}"], check=True, capture_output=True, timeout=120)
        return sum(f'"{prefix}/' in line for line in Path(folder, "trace").read_text().splitlines())


def main() -> None:
    venv, jobs, local, module = sys.argv[1:]
    place = find_place()
    assert place.alloc is not None
    nodes, addr = place.alloc.nodes, node_address(wanted=None, loopback=False, many_nodes=True).addr
    first_s, packed = timed(lambda: pack.pack([venv], Path(jobs)))
    again_s, _ = timed(lambda: pack.pack([venv], Path(jobs)))
    shared = f"{venv}/bin/python"
    slowest(place, shared, module)  # what is read for the first time is in memory from now on
    record = {"pack": first_s, "again": again_s, "mb": packed.facts["bytes"] / 1e6, "files": packed.facts["files"]}
    record |= {"shared": slowest(place, shared, module), "shared_opens": looked_for(shared, module, venv)}
    for name, scheduler in (("scheduler", place.scheduler), ("tree", WithoutBroadcast(place.scheduler))):
        took_s, staged = timed(lambda s=scheduler: deliver(packed, s, place.alloc, nodes, local, lambda: None, addr))
        record[name] = took_s
        own = staged.around.python
        slowest(place, own, module)
        record |= {"own": slowest(place, own, module), "own_opens": looked_for(own, module, venv)}
        staged.clear()
    print("@bench " + json.dumps(record), flush=True)


if __name__ == "__main__":
    main()
