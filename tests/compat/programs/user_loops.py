"""Long loops: chains, pipelines, many small tasks, many small objects, many actors, deep nesting, fan in and out."""

import hpc as ray

ray.init(num_cpus=2)


@ray.remote
def inc(x):
    return x + 1


@ray.remote
def total(*values):
    return sum(values)


@ray.remote
def none():
    pass


ref = 0
for _ in range(300):
    ref = inc.remote(ref)
print("chain:", ray.get(ref))
print("many:", sum(ray.get([inc.remote(i) for i in range(2000)])))
print("one by one:", sum(ray.get(inc.remote(i)) for i in range(200)))
print("none:", set(ray.get([none.remote() for _ in range(300)])))
print("fan in:", ray.get(total.remote(*[inc.remote(i) for i in range(200)])))
refs = [ray.put(i) for i in range(2000)]
print("puts:", sum(ray.get(refs)))
print("tree:", end=" ")
level = [inc.remote(i) for i in range(64)]
while len(level) > 1:
    level = [total.remote(a, b) for a, b in zip(level[::2], level[1::2])]
print(ray.get(level[0]))


@ray.remote
def fib(n):
    return n if n < 2 else sum(ray.get([fib.remote(n - 1), fib.remote(n - 2)]))


print("fib:", ray.get(fib.remote(7)))


@ray.remote(num_cpus=0)
class Counter:
    def __init__(self, n=0):
        self.n = n

    def add(self, k=1):
        self.n += k
        return self.n


counter = Counter.remote()
for _ in range(1000):
    ref = counter.add.remote()
print("calls:", ray.get(ref), ray.get([counter.add.remote(0) for _ in range(500)])[-1])
counters = [Counter.remote(i) for i in range(6)]
print("actors:", [ray.get(c.add.remote()) for c in counters])
for i in range(8):
    last = Counter.remote(i)
    ray.get(last.add.remote())
    ray.kill(last)
print("actors that came and went:", ray.get(counter.add.remote(0)))
pending, seen = [inc.remote(i) for i in range(100)], 0
while pending:
    done, pending = ray.wait(pending, num_returns=min(7, len(pending)))
    seen += sum(ray.get(done))
print("wait:", seen)
a, b = Counter.remote(), Counter.remote()
value = 0
for _ in range(100):
    value = b.add.remote(a.add.remote())
print("to and fro:", ray.get(value))
nested = ray.put("leaf")
for _ in range(100):
    nested = ray.put([nested])
depth = 0
while not isinstance(nested, str):
    nested = ray.get(nested)
    if isinstance(nested, list):
        nested, depth = nested[0], depth + 1
print("nested:", depth, nested)


@ray.remote
def stream(n):
    for i in range(n):
        yield i


print("items:", sum(ray.get(ref) for ref in stream.remote(500)))
print("items of items:", [sum(ray.get(r) for r in stream.remote(n)) for n in range(5)])
