"""References and handles in configurations: copied, pickled by hand, in classes and closures."""

import copy
import dataclasses
import pickle

import hpc as ray

ray.init(num_cpus=2)


@ray.remote
class Store:
    def __init__(self, value):
        self.value = value

    def get(self):
        return self.value

    def read(self, config):
        return ray.get(config.data)


@dataclasses.dataclass
class Config:
    data: object
    store: object
    extra: dict


config = Config(ray.put([1, 2, 3]), Store.remote("kept"), {"refs": [ray.put("a"), ray.put("b")]})
for what, again in (
    ("copy", copy.copy),
    ("deepcopy", copy.deepcopy),
    ("pickle", lambda c: pickle.loads(pickle.dumps(c))),
    ("cloudpickle", lambda c: ray.cloudpickle.loads(ray.cloudpickle.dumps(c))),
    ("replace", dataclasses.replace),
    ("asdict", lambda c: Config(**dataclasses.asdict(c))),
):
    new = again(config)
    print(
        what,
        ray.get(new.data),
        ray.get(new.store.get.remote()),
        ray.get(new.extra["refs"]),
        new.data == config.data,
        new.store == config.store,
    )
print("in an actor:", ray.get(config.store.read.remote(copy.deepcopy(config))))
kept = ray.put("kept")
data = pickle.dumps(kept)
print("from bytes:", ray.get(pickle.loads(data)))
print("method:", ray.get(pickle.loads(pickle.dumps(config.store.get)).remote()))
