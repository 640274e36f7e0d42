"""How programs of the driver end: exit codes, handlers of atexit, and work that still runs."""

import subprocess
import sys

HEAD = """
import atexit
import sys
import time
import hpc as ray
atexit.register(print, "handler of the driver")
ray.init(num_cpus=2, log_to_driver=False)

@ray.remote
def sleep(s):
    time.sleep(s)
    return s

@ray.remote
class Box:
    def ready(self):
        return True

box = Box.remote()
ray.get(box.ready.remote())
running = sleep.remote(100)
"""
for end in (
    "",
    "sys.exit(5)",
    "raise ValueError('at the end')",
    "ray.shutdown()",
    "ray.shutdown(); ray.init(num_cpus=1, log_to_driver=False); print(ray.get(sleep.remote(0)), ray.is_initialized())",
):
    done = subprocess.run([sys.executable, "-c", HEAD + end], capture_output=True, text=True, timeout=120)
    said = [line for line in done.stdout.splitlines() if "raylet)" not in line]
    print(end or "falls off the end", "->", done.returncode, said)
