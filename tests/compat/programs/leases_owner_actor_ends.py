"""What an actor and a task have put, when actors end."""

import time

import hpc as ray

ray.init(num_cpus=2)


@ray.remote
class Maker:
    def make(self):
        return [ray.put("x" * 300_000), ray.put("small")]

    def value(self):
        return "y" * 300_000


def show(label, refs):
    for what, ref in zip(("large", "small"), refs):
        try:
            print(label, what, len(ray.get(ref, timeout=20)))
        except Exception as error:
            print(label, what, type(error).__name__, isinstance(error, ray.exceptions.ObjectLostError))


maker = Maker.remote()
refs = ray.get(maker.make.remote())
value = maker.value.remote()
ray.wait([value])
show("alive", refs)
del maker
time.sleep(2)
show("after the last handle", refs)
show("its results", [value])

maker = Maker.remote()
refs = ray.get(maker.make.remote())
ray.kill(maker)
time.sleep(2)
show("after kill", refs)


@ray.remote
def make():
    return [ray.put("x" * 300_000)]


kept = ray.get(make.remote())
actors = [Maker.remote() for _ in range(3)]
ray.get([actor.make.remote() for actor in actors])
del actors
time.sleep(2)
show("of a task", kept)
