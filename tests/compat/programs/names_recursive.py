"""Values that contain themselves or each other."""

import hpc as ray

ray.init(num_cpus=2)


class Node:
    def __init__(self, name):
        self.name, self.links = name, []


def ring():
    a = [1]
    a.append(a)
    return a


def table():
    d = {"n": 1}
    d["me"] = d
    return d


def graph():
    a, b = Node("a"), Node("b")
    a.links.append(b)
    b.links.append(a)
    return a


def pair():
    a, b = [], []
    a.append(b)
    b.append(a)
    return a


@ray.remote
def same(x):
    return x


@ray.remote
def makes():
    return ring()


@ray.remote
class Keeps:
    def keep(self, x):
        self.x = x

    def give(self):
        return self.x


CHECKS = (
    (ring, lambda v: v[1] is v),
    (table, lambda v: v["me"] is v),
    (graph, lambda v: v.links[0].links[0] is v),
    (pair, lambda v: v[0][0] is v),
)
keeps = Keeps.remote()
for make, check in CHECKS:
    keeps.keep.remote(make())
    print(
        make.__name__,
        check(ray.get(ray.put(make()))),
        check(ray.get(same.remote(make()))),
        check(ray.get(same.remote(x=make()))),
        check(ray.get(keeps.give.remote())),
    )
print("made in a task:", ray.get(makes.remote())[0])
print("afterwards:", ray.get(same.remote(1)))
