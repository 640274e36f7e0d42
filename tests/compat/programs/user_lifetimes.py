"""Names of actors: get_if_exists, taken ones, namespaces, detached, lists, handles from names in tasks, after kill."""

import time

import hpc as ray

ray.init(num_cpus=2, namespace="mine")


@ray.remote(num_cpus=0)
class Counter:
    def __init__(self, start=0):
        self.n = start

    def add(self):
        self.n += 1
        return self.n

    def name(self):
        return ray.get_runtime_context().get_actor_name()


def attempt(what, make):
    try:
        print(what, make())
    except Exception as error:
        print(what, type(error).__name__)


def gone(name, **where):
    for _ in range(400):
        try:
            ray.get_actor(name, **where)
        except ValueError:
            return True
        time.sleep(0.05)
    return False


first = Counter.options(name="c").remote()
print(ray.get(first.add.remote()), ray.get(first.name.remote()))
print("by name:", ray.get(ray.get_actor("c").add.remote()), ray.get_actor("c") == first)
attempt("taken:", lambda: Counter.options(name="c").remote())
again = Counter.options(name="c", get_if_exists=True).remote(100)
print("get_if_exists:", ray.get(again.add.remote()), again == first)
new = Counter.options(name="d", get_if_exists=True).remote(100)
print("which did not exist:", ray.get(new.add.remote()))
attempt("get_if_exists without a name:", lambda: Counter.options(get_if_exists=True).remote())
attempt("an empty name:", lambda: Counter.options(name="").remote())
attempt("None:", lambda: ray.get(Counter.options(name=None).remote().name.remote()))
attempt("nobody:", lambda: ray.get_actor("nobody"))
attempt("get_actor of nothing:", lambda: ray.get_actor(""))
attempt("get_actor of None:", lambda: ray.get_actor(None))
attempt("get_actor of a number:", lambda: ray.get_actor(5))
attempt("an empty namespace:", lambda: ray.get_actor("c", namespace=""))
other = Counter.options(name="c", namespace="other").remote(50)
print(
    "another namespace:",
    ray.get(ray.get_actor("c", namespace="other").add.remote()),
    ray.get(ray.get_actor("c").add.remote()),
)
attempt("of no namespace:", lambda: ray.get_actor("d", namespace="other"))
print("names:", sorted(ray.util.list_named_actors()))
print("all:", sorted((row["namespace"], row["name"]) for row in ray.util.list_named_actors(all_namespaces=True)))


@ray.remote
def in_task():
    return ray.get(ray.get_actor("c").add.remote()), ray.get_runtime_context().namespace


print("in a task:", ray.get(in_task.remote()))
ray.kill(first)
print("killed:", gone("c"))
free = Counter.options(name="c").remote(7)
print("free again:", ray.get(free.add.remote()))
del free
print("the last handle:", gone("c"))
by_name = ray.get_actor("d")
del new
del by_name
print("of all handles:", gone("d"))
kept = Counter.options(name="kept", lifetime="detached").remote()
print("detached:", ray.get(kept.add.remote()))
del kept
time.sleep(0.3)
print("stays:", ray.get(ray.get_actor("kept").add.remote()))
attempt("detached without a name:", lambda: ray.get(Counter.options(lifetime="detached").remote().add.remote()))
attempt("another lifetime:", lambda: Counter.options(name="x", lifetime="forever").remote())
ray.kill(ray.get_actor("kept"))
print("until it is killed:", gone("kept"))
attempt("killed twice:", lambda: ray.kill(other) or ray.kill(other))
attempt("no_restart given:", lambda: ray.kill(Counter.remote(), no_restart=True))
names = [Counter.options(name=f"n{i}").remote(i) for i in range(5)]
print("many:", [ray.get(ray.get_actor(f"n{i}").add.remote()) for i in range(5)])


@ray.remote
def creates():
    handle = Counter.options(name="made in a task").remote()
    return ray.get(handle.add.remote())


print(ray.get(creates.remote()), "made in a task:", gone("made in a task"))


@ray.remote
def hands_over():
    return Counter.options(name="handed over").remote(1)


handle = ray.get(hands_over.remote())
print("handed over:", ray.get(handle.add.remote()), ray.get_actor("handed over") == handle)
