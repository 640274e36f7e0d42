"""Handles that are passed around, and the end of an actor with its last one."""

import time

import hpc as ray

ray.init(num_cpus=3)


@ray.remote
class Counter:
    def __init__(self):
        self.n = 0

    def add(self, by=1):
        self.n += by
        return self.n

    def me(self):
        return ray.get_runtime_context().current_actor


@ray.remote
def use(counter, times):
    return ray.get([counter.add.remote() for _ in range(times)])[-1]


@ray.remote
def nested(box):
    return ray.get(box["counters"][0].add.remote(10))


@ray.remote
class Holder:
    def __init__(self, counter):
        self.counter = counter

    def add(self):
        return ray.get(self.counter.add.remote(100))

    def make(self):
        self.other = Counter.remote()
        return self.other


counter = Counter.remote()
print(ray.get(use.remote(counter, 3)))
print(ray.get(nested.remote({"counters": [counter]})))
holder = Holder.remote(counter)
print(ray.get(holder.add.remote()))
other = ray.get(holder.make.remote())
print(ray.get(other.add.remote()), other == counter)
print(ray.get(ray.put(counter)) == counter, ray.get(counter.me.remote()) == counter)
closure = ray.remote(lambda: ray.get(counter.add.remote(1000)))
print(ray.get(closure.remote()))
refs = [Counter.remote().add.remote(5) for _ in range(3)]
print(ray.get(refs))

named = Counter.options(name="named").remote()
print(ray.get(ray.get_actor("named").add.remote()))
again = Counter.options(name="named", get_if_exists=True).remote()
print(ray.get(again.add.remote()), again == named)
try:
    Counter.options(name="named").remote()
except ValueError as error:
    print("taken", isinstance(error, ValueError))
del named, again
for _ in range(200):
    try:
        ray.get_actor("named")
    except ValueError:
        print("gone")
        break
    time.sleep(0.05)
kept = Counter.options(name="detached", lifetime="detached").remote()
del kept
time.sleep(0.3)
print(ray.get(ray.get_actor("detached").add.remote()))
ray.kill(ray.get_actor("detached"))
print(ray.get([Counter.options(num_cpus=0).remote().add.remote(i) for i in range(4)]))
