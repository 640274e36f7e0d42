"""Private memory of workers that have run a task and wait: python memory.py hpc|ray.

Private pages (USS) are those that no other process shares: for hpc what a worker has beyond its zygote's pages.
"""

import importlib
import json
import os
import sys
import time
from pathlib import Path

ray = importlib.import_module(sys.argv[1])
WORKERS = 4
ray.init(address="local", num_cpus=WORKERS, include_dashboard=False, log_to_driver=False)


def pid(wait_s: float) -> int:
    time.sleep(wait_s)
    return os.getpid()


def private_mb(process: int) -> float:
    kb = 0
    for line in Path(f"/proc/{process}/smaps_rollup").read_text().splitlines():
        if line.startswith(("Private_Clean", "Private_Dirty")):
            kb += int(line.split()[1])
    return kb / 1000


task = ray.remote(pid)
found = set(ray.get([task.remote(0.3) for _ in range(WORKERS)]))  # long, so that each has a worker of its own
time.sleep(0.5)  # replies are out, background threads have settled
for process in sorted(found):
    print("@bench " + json.dumps({"private_mb": private_mb(process)}), flush=True)
ray.shutdown()
