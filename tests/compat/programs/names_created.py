"""Names of tasks, of calls and of the making of actors, in the list of tasks and in a task's own context."""

import time

import hpc as ray
from hpc.util.state import list_tasks

ray.init(num_cpus=2)


def names():
    context = ray.get_runtime_context()
    return context.get_task_name(), context.get_task_function_name()


@ray.remote
class Box:
    def __init__(self):
        pass

    def names(self):
        return names()


@ray.remote
class Broken:
    def __init__(self):
        raise ValueError("broken")

    def names(self):
        return names()


@ray.remote
def task():
    return names()


def rows(wanted, state):
    end = time.monotonic() + 30
    while True:
        found = [(r.name, r.func_or_class_name, r.type, r.state) for r in list_tasks(limit=100, detail=True)]
        found = sorted(row for row in found if row[0] in wanted)
        if len(found) == len(wanted) and all(row[3] in state for row in found) or time.monotonic() > end:
            return found
        time.sleep(0.2)


print(ray.get(task.remote()))
print(ray.get(task.options(name="of options").remote()))
anonymous, named = Box.remote(), Box.options(name="box").remote()
away = Box.options(name="far", namespace="away").remote()
print(ray.get([actor.names.remote() for actor in (anonymous, named, away)]))
bad = Broken.options(name="bad").remote()
try:
    ray.get(bad.names.remote())
except ray.exceptions.RayActorError as error:
    print("Broken.__init__" in str(error))
for row in rows(
    ["Box.__init__", "box:Box.__init__", "far:Box.__init__", "bad:Broken.__init__"], ["FINISHED", "FAILED"]
):
    print(row)
