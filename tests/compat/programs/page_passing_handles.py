"""Handles in containers, closures, results, other actors."""

import hpc as ray

ray.init(num_cpus=2)


@ray.remote
class Box:
    def __init__(self, value):
        self.value = value

    def get(self):
        return self.value


@ray.remote
def through_list(boxes):
    return ray.get([box.get.remote() for box in boxes])


@ray.remote
def make(value):
    box = Box.remote(value)
    ray.get(box.get.remote())
    return box


boxes = [Box.remote(i) for i in range(3)]
print(ray.get(through_list.remote(boxes)))
print(ray.get(through_list.remote({"a": boxes[0]}.values() and [boxes[1]])))
made = ray.get(make.remote("made"))
print(ray.get(made.get.remote()))
print(ray.get(ray.remote(lambda: ray.get(boxes[2].get.remote())).remote()))
stored = ray.get(ray.put({"box": boxes[0]}))
print(ray.get(stored["box"].get.remote()), stored["box"] == boxes[0], hash(stored["box"]) == hash(boxes[0]))


@ray.remote
class Registry:
    def __init__(self):
        self.known = {}

    def add(self, name, box):
        self.known[name] = box

    def find(self, name):
        return self.known[name]


registry = Registry.remote()
ray.get(registry.add.remote("x", boxes[1]))
print(ray.get(ray.get(registry.find.remote("x")).get.remote()))
