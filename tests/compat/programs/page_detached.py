"""Detached actors and namespaces."""

import hpc as ray

ray.init(num_cpus=2)


@ray.remote
class Store:
    def __init__(self):
        self.values = {}

    def set(self, key, value):
        self.values[key] = value

    def get(self, key):
        return self.values.get(key)


store = Store.options(name="store", lifetime="detached", namespace="shared").remote()
ray.get(store.set.remote("a", 1))
del store
again = ray.get_actor("store", namespace="shared")
print(ray.get(again.get.remote("a")))


@ray.remote
def make():
    made = Store.options(name="made", lifetime="detached", namespace="shared").remote()
    ray.get(made.set.remote("b", 2))


ray.get(make.remote())
print(ray.get(ray.get_actor("made", namespace="shared").get.remote("b")))
try:
    ray.get_actor("store")
except ValueError:
    print("not in this namespace")
ray.kill(again)
while True:
    try:
        ray.get_actor("store", namespace="shared")
    except ValueError:
        break
print("gone")
