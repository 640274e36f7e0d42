"""What functions take along: globals, closures, references in closures, and what changes later."""

import hpc as ray

ray.init(num_cpus=2)
setting = 1
table = {"a": 1}


@ray.remote
def read():
    return setting, dict(table)


@ray.remote
def write():
    global setting
    setting += 10
    table["b"] = 2
    return setting, dict(table)


print(ray.get(write.remote())[1], setting, table)
setting = 2
print(ray.get(ray.remote(lambda: setting).remote()))


def adder(n):
    @ray.remote
    def add(x):
        return x + n

    return add


print(ray.get([adder(n).remote(100) for n in range(3)]))
ref = ray.put("captured")


@ray.remote
def captured():
    return ray.get(ref)


print(ray.get(captured.remote()))


class Base:
    factor = 2

    def scaled(self, x):
        return x * self.factor


class Derived(Base):
    factor = 3


print(ray.get(ray.remote(lambda: Derived().scaled(5)).remote()))


@ray.remote
def recursion(n):
    return 1 if n == 0 else n * ray.get(recursion.remote(n - 1))


print(ray.get(recursion.remote(5)))
functions = [ray.remote(lambda i=i: i * i) for i in range(4)]
print(ray.get([f.remote() for f in functions]))
