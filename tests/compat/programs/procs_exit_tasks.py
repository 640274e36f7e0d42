"""sys.exit and os._exit in tasks: what the caller gets, and how often the task runs."""

import os
import sys
import tempfile

import hpc as ray

ray.init(num_cpus=2, log_to_driver=False)
lines = []


def say(*words):
    """Printed at the end, when nobody else prints about workers that died."""
    lines.append(" ".join(str(word) for word in words))


folder = tempfile.mkdtemp()


@ray.remote
def leave(name, how, code):
    with open(os.path.join(folder, name), "a") as file:
        file.write("x")
    if how == "os":
        os._exit(code)
    sys.exit(code)


for how, code in (("sys", 0), ("sys", 3), ("sys", None), ("sys", "a text"), ("os", 0), ("os", 3)):
    for retries in (0, 1):
        name = f"{how} {code} {retries}"
        try:
            say(ray.get(leave.options(max_retries=retries).remote(name, how, code)))
        except ray.exceptions.WorkerCrashedError as error:
            runs = len(open(os.path.join(folder, name)).read())
            say(how, repr(code), "retries", retries, "->", type(error).__name__, "after", runs, "runs")


@ray.remote
def fine():
    return "the next task runs"


say(ray.get(fine.remote()))

ray.shutdown()
print("\n".join(lines))
