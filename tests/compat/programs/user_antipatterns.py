"""What the guide calls anti-patterns: they work all the same, and give the right values."""

import os
import pickle
import queue
import threading

import hpc as ray

ray.init(num_cpus=2)


@ray.remote
def double(x):
    return 2 * x


print("get in a loop:", [ray.get(double.remote(i)) for i in range(5)])
print("get in submission order:", [ray.get(ref) for ref in [double.remote(i) for i in range(5)]])
print("too fine:", sum(ray.get([double.remote(i) for i in range(300)])))
print("all at once:", len(ray.get([double.remote(bytes(1000)) for _ in range(100)])))
large = list(range(20_000))
print("the same large argument again and again:", sum(len(ray.get(double.remote(large))) for _ in range(5)))


@ray.remote
def captures():
    return len(large)


print("a large value in a closure:", ray.get(captures.remote()))


@ray.remote
def returns_put():
    return ray.put("inner")


print("return of put:", ray.get(ray.get(returns_put.remote())))


@ray.remote
def nested_get(refs):
    return sum(ray.get(refs))


print("references in a list:", ray.get(nested_get.remote([double.remote(i) for i in range(4)])))
count = 0


@ray.remote
def counts():
    global count
    count += 1


ray.get([counts.remote() for _ in range(3)])
print("a global is no shared state:", count)


def redefined(n):
    @ray.remote
    def inner(x):
        return x + n

    return ray.get(inner.remote(1))


print("a function made in a loop:", [redefined(n) for n in range(5)])


@ray.remote
class Adder:
    def __init__(self, n):
        self.n = n

    def add(self, x):
        return self.n + x


print("an actor for each call:", [ray.get(Adder.options(num_cpus=0).remote(n).add.remote(1)) for n in range(4)])
actor = Adder.options(num_cpus=0).remote(1)
print(
    "a handle in a list in a dict:",
    ray.get(ray.remote(lambda d: ray.get(d["a"][0].add.remote(2))).remote({"a": [actor]})),
)
print("unnecessary get:", ray.get(double.remote(ray.get(double.remote(3)))))
print("a reference of a reference:", ray.get(ray.get(ray.put([double.remote(4)]))[0]))
data = ray.cloudpickle.dumps(ray.put("pickled by hand"))
print("out of band:", ray.get(pickle.loads(data)))


@ray.remote
def forks():
    pid = os.fork()
    if pid == 0:
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


print("a fork in a task:", ray.get(forks.remote()))


@ray.remote(num_cpus=0)
class Poller:
    def __init__(self):
        self.items = queue.Queue()
        threading.Thread(target=self.work, daemon=True).start()

    def work(self):
        for i in range(3):
            self.items.put(ray.get(double.remote(i)))

    def next(self):
        return self.items.get(timeout=60)


poller = Poller.remote()
print("a thread of an actor that gets:", [ray.get(poller.next.remote()) for _ in range(3)])


@ray.remote(num_cpus=0)
class SelfCaller:
    def me(self):
        return ray.get_runtime_context().current_actor

    def start(self):
        return ray.get_runtime_context().current_actor.end.remote()

    def end(self):
        return "later"


caller = SelfCaller.remote()
print("an actor that calls itself:", ray.get(ray.get(caller.start.remote())))
results = []
for i in range(10):
    results.append(double.remote(i))
    if len(results) > 3:
        ray.wait(results, num_returns=len(results) - 3)
print("backpressure:", ray.get(results))


@ray.remote
def recursive(n):
    return 0 if n == 0 else 1 + ray.get(recursive.remote(n - 1))


print("deeper than there are CPUs:", ray.get(recursive.remote(12)))


@ray.remote
def spawns(n):
    return [double.remote(i) for i in range(n)]


print("references given back:", ray.get(ray.get(spawns.remote(5))))
