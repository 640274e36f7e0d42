"""Classes of actors: bases, properties, static and class methods, defaults."""

import hpc as ray

ray.init(num_cpus=2)


class Base:
    kind = "base"

    def __init__(self, x=1):
        self.x = x

    def describe(self):
        return f"{self.kind} {self.x}"

    @staticmethod
    def static(a):
        return a + 1

    @classmethod
    def named(cls):
        return cls.__name__

    @property
    def double(self):
        return 2 * self.x


@ray.remote
class Derived(Base):
    kind = "derived"

    def describe(self):
        return "<" + super().describe() + ">"

    def read(self):
        return self.double

    def _private(self):
        return "private"

    def __len__(self):
        return 7

    def size(self):
        return len(self)


actor = Derived.remote(x=5)
print(ray.get(actor.describe.remote()), ray.get(actor.read.remote()), ray.get(actor.size.remote()))
print(ray.get(actor.static.remote(1)), ray.get(actor.named.remote()), ray.get(actor._private.remote()))
plain = ray.remote(Base).remote()
print(ray.get(plain.describe.remote()), Base(3).describe())
print(ray.get(ray.remote(num_cpus=0)(Base).options(name="opt").remote(9).describe.remote()))
