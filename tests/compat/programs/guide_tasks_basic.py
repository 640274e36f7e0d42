"""The first page of the guide: tasks, their results, options, several return values."""

import time

import hpc as ray

ray.init(num_cpus=2)


@ray.remote
def square(x):
    return x * x


@ray.remote(num_returns=3)
def three():
    return 1, "two", [3]


@ray.remote
def keywords(a, b=2, *rest, c, d=4, **more):
    return [a, b, rest, c, d, sorted(more.items())]


print(ray.get([square.remote(i) for i in range(10)]))
one, two, rest = three.remote()
print(ray.get(one), ray.get(two), ray.get([rest]))
print(ray.get(keywords.remote(1, c=3)))
print(ray.get(keywords.remote(1, 2, 3, 4, c=5, d=6, e=7, f=8)))
print(ray.get(square.options(num_cpus=1, name="renamed").remote(4)))
a, b = square.options(num_returns=1).remote(5), three.options(num_returns=3).remote()
print(ray.get(a), ray.get(b))
try:
    square(3)
except TypeError as error:
    print(type(error).__name__, str(error).split(". ")[0])
print(callable(square), isinstance(square.remote(1), ray.ObjectRef))
double = ray.remote(lambda x: 2 * x)
print(ray.get(double.remote(21)))
print(ray.get(ray.remote(num_cpus=1)(lambda: "options first").remote()))
start = time.time()
print(ray.get(ray.remote(num_returns=0)(lambda: None).remote() or ray.put("no reference")))
