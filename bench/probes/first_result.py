"""How long until a first result: import, init, one task, shutdown; under the interpreter of the module under test.

python first_result.py hpc|ray
"""

import time

began = time.monotonic()  # the same clock for all processes of a machine: the parent knows when it started us

import importlib  # noqa: E402
import json  # noqa: E402
import sys  # noqa: E402

clock = time.monotonic
start = clock()
ray = importlib.import_module(sys.argv[1])
imported = clock()
ray.init(address="local", num_cpus=2, include_dashboard=False)
ready = clock()


@ray.remote
def add(x: int) -> int:
    return x + 1


assert ray.get(add.remote(1)) == 2
first = clock()
ray.shutdown()
ended = clock()
record = {
    "import_s": imported - start,
    "init_s": ready - imported,
    "first_s": first - imported,
    "shutdown_s": ended - first,
    "first_at": first,
    "interpreter_at": began,
}
print("@bench " + json.dumps(record), flush=True)
