"""Tasks that make tasks, pass references on, and return them."""

import hpc as ray

ray.init(num_cpus=2)


@ray.remote
def fib(n):
    if n < 2:
        return n
    return sum(ray.get([fib.remote(n - 1), fib.remote(n - 2)]))


@ray.remote
def outer():
    return [inner.remote(i) for i in range(3)]


@ray.remote
def inner(i):
    return i * 10


@ray.remote
def kind(value):
    return type(value).__name__


@ray.remote
def inside(container):
    return {key: type(value).__name__ for key, value in container.items()}


@ray.remote
def add(a, b):
    return a + b


print(ray.get(fib.remote(6)))
refs = ray.get(outer.remote())
print([type(ref).__name__ for ref in refs], ray.get(refs))
ref = ray.put("value")
print(ray.get(kind.remote(ref)), ray.get(kind.remote([ref])), ray.get(inside.remote({"a": ref, "b": 1})))
total = ray.put(0)
for i in range(20):
    total = add.remote(total, i)
print(ray.get(total))
print(ray.get(ray.get(ray.put([ray.put(7)]))[0]))
print(ray.get(ray.get(outer.remote())[1]))
tree = [add.remote(i, i) for i in range(8)]
while len(tree) > 1:
    tree = [add.remote(tree[i], tree[i + 1]) for i in range(0, len(tree), 2)]
print(ray.get(tree[0]))
