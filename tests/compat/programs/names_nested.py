"""Names of functions and classes made in others, and of tasks with a name of their own; what is counted by name."""

import time

import hpc as ray
from hpc.util.state import list_tasks, summarize_actors, summarize_objects, summarize_tasks

ray.init(num_cpus=2)


def names():
    context = ray.get_runtime_context()
    return context.get_task_name(), context.get_task_function_name()


class Outer:
    @staticmethod
    def static():
        return names()

    class Inner:
        def method(self):
            return names()


def make():
    def inner():
        return names()

    def outer():
        def deep():
            return names()

        return deep

    class In:
        def method(self):
            return names()

    def bad():
        raise ValueError("on purpose")

    return ray.remote(inner), ray.remote(outer()), ray.remote(In), ray.remote(bad)


inner, deep, In, bad = make()
static = ray.remote(Outer.static)
for task in (inner, deep, static, ray.remote(lambda: names()), inner.options(name="named")):
    print(ray.get(task.remote()))
in_function, in_class = In.remote(), ray.remote(Outer.Inner).remote()
print(ray.get([in_function.method.remote(), in_class.method.remote()]))
for name in ("bad", "named bad"):
    try:
        ray.get(bad.options(name=name).remote())
    except ValueError as error:
        first = str(error).splitlines()[0]
        print(name in first, "<locals>" in first)
WANTED = [
    "<lambda>",
    "In.__init__",
    "In.method",
    "Inner.method",
    "bad",
    "deep",
    "inner",
    "named",
    "named bad",
    "static",
]


def ended():
    rows = [row for row in list_tasks(limit=100, detail=True) if row.name in WANTED]
    return rows if all(row.state in ("FINISHED", "FAILED") for row in rows) else []


end = time.monotonic() + 30
while len({row.name for row in ended()}) < len(WANTED) and time.monotonic() < end:
    time.sleep(0.2)
for row in sorted((row.name, row.func_or_class_name, row.type, row.state) for row in ended()):
    print(row)
tasks = summarize_tasks()["cluster"]
for name in WANTED:
    print(tasks["summary"][name])
print(
    tasks["summary_by"], sorted(tasks), tasks["total_tasks"], tasks["total_actor_tasks"], tasks["total_actor_scheduled"]
)
actors = summarize_actors()["cluster"]
print(actors["summary_by"], sorted(actors), actors["total_actors"])
print([row["state_counts"] for row in actors["summary"].values()])
kept = ray.put(bytes(2**20))
objects = summarize_objects()["cluster"]
print(objects["summary_by"], sorted(objects), objects["callsite_enabled"], sorted(objects["summary"]))
print(objects["total_size_mb"] >= 1, objects["summary"]["disabled"]["total_size_mb"] == objects["total_size_mb"])
