"""Names that options give to calls of actors, and names of classes made in functions and classes."""

import time

import hpc as ray
from hpc.util.state import list_actors, list_tasks

ray.init(num_cpus=2)


def names():
    context = ray.get_runtime_context()
    return context.get_task_name(), context.get_task_function_name()


class Outer:
    class Inner:
        def plain(self):
            return names()


@ray.remote
class Coroutines:
    async def coroutine(self):
        return names()

    async def items(self):
        yield names()

    def bad(self):
        raise ValueError("on purpose")


def make():
    class Plain:
        def plain(self):
            return names()

        def bad(self):
            raise ValueError("on purpose")

    return ray.remote(Plain)


coroutines, plain, inner = Coroutines.remote(), make().remote(), ray.remote(Outer.Inner).remote()
print(ray.get([plain.plain.options(name="first").remote() for _ in range(2)]))
print(ray.get([plain.plain.remote(), plain.plain._remote((), name="second"), inner.plain.remote()]))
print(ray.get(coroutines.coroutine.options(name="third").remote()))
print([ray.get(ref) for ref in coroutines.items.options(name="fourth", num_returns="streaming").remote()])
for actor in (plain, coroutines):
    for method in (actor.bad.options(name="fifth"), actor.bad):
        try:
            ray.get(method.remote())
        except ValueError as error:
            first = str(error).splitlines()[0]
            print("fifth" in first, ".bad" in first, "<locals>.bad" in first)
try:
    ray.get(plain.plain.options(name=3).remote())
except TypeError:
    print("a number is no name")
try:
    ray.method(name="sixth")
except Exception:
    print("a method has no name")
else:
    print("a method may have a name")
WANTED = {"first", "second", "third", "fourth", "fifth", "Plain.plain", "Plain.bad", "Inner.plain"}


def rows():
    return [row for row in list_tasks(limit=100, detail=True) if row.name in WANTED]


end = time.monotonic() + 30
while {row.name for row in rows() if row.state in ("FINISHED", "FAILED")} < WANTED and time.monotonic() < end:
    time.sleep(0.2)
for row in sorted((row.name, row.func_or_class_name, row.type, row.state) for row in rows()):
    print(row)
print(sorted(row.class_name for row in list_actors()))
print([repr(actor).partition(",")[0] for actor in (plain, inner)])
