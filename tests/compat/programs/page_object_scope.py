"""References that live on in containers, and values that come from dead tasks."""

import hpc as ray

ray.init(num_cpus=2)

import gc


@ray.remote
def make():
    return [ray.put(i) for i in range(3)]


@ray.remote
class Keeper:
    def keep(self, refs):
        self.refs = refs

    def get(self):
        return ray.get(self.refs)


keeper = Keeper.remote()
refs = [ray.put(f"value {i}") for i in range(3)]
ray.get(keeper.keep.remote(refs))
del refs
gc.collect()
print(ray.get(keeper.get.remote()))
inner = ray.get(make.remote())
print(ray.get(inner))
nested = ray.put([ray.put([ray.put("deep")])])
print(ray.get(ray.get(ray.get(nested)[0])[0]))


@ray.remote
def chain(n):
    return n if n == 0 else chain.remote(n - 1)


ref = chain.remote(3)
while isinstance(ref, ray.ObjectRef):
    ref = ray.get(ref)
print(ref)
