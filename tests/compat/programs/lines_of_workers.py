"""Lines of workers at the driver: whose name is in front, on which stream they come, and equal ones as a number."""

import os
import re
import subprocess
import sys

PROGRAM = """
import sys, time
import hpc as ray

ray.init(num_cpus=4)

@ray.remote
class Says:
    def say(self, number):
        print(f"step {number} of all")

@ray.remote
class Named:
    def __repr__(self):
        return "Named(7)"

    def say(self):
        print("in a method")
        print("on stderr", file=sys.stderr)

@ray.remote
def task(text):
    print("in a task of", text)

def outer():
    @ray.remote
    def inner():
        print("in an inner function")
    return inner

says = [Says.remote() for _ in range(4)]
ray.get([one.say.remote(number) for number, one in enumerate(says)])
named = Named.options(name="other").remote()
ray.get(named.say.remote())
ray.get([task.remote("mine"), task.options(name="called so").remote("somebody"), outer().remote()])
time.sleep(1.0)
"""


def run(**env):
    """The lines of the program's two streams, without colours, numbers of processes and what is said once."""
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM], env={**os.environ, **env}, capture_output=True, text=True, timeout=100
    )
    found = []
    for stream in (done.stdout, done.stderr):
        text = re.sub(r"\x1b\[[0-9;]*m", "", stream)
        text = re.sub(r"pid=\d+", "pid", re.sub(r"step \d", "step n", text))
        text = re.sub(r"(\[repeated \dx across cluster\]).*", r"\1", text)
        found.append(sorted(line for line in text.splitlines() if re.search(r"^\(.*pid\) |of all|^in |^on ", line)))
    return found


for env in ({}, {"RAY_DEDUP_LOGS_ALLOW_REGEX": "of all$", "RAY_DEDUP_LOGS_SKIP_REGEX": "stderr|step"}):
    out, err = run(**env)
    print(env)
    for line in out:
        print("   out", line)
    for line in err:
        print("   err", line)
