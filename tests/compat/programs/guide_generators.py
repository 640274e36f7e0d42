"""Streaming generators: items as they come, errors in between, of actors, passed on."""

import hpc as ray

ray.init(num_cpus=2)


@ray.remote
def count(n):
    for i in range(n):
        yield i


@ray.remote
def breaks(at):
    for i in range(5):
        if i == at:
            raise ValueError(f"at {i}")
        yield i


@ray.remote
class Source:
    def numbers(self, n):
        for i in range(n):
            yield i


print([ray.get(ref) for ref in count.remote(4)])
print(type(count.remote(1)).__name__)
stream = count.remote(3)
print(ray.get(next(stream)), ray.get(next(stream)), ray.get(next(stream)))
try:
    next(stream)
except StopIteration:
    print("StopIteration")
found = []
try:
    for ref in breaks.remote(2):
        found.append(ray.get(ref))
except ValueError as error:
    print("ValueError after", found)
source = Source.remote()
print([ray.get(ref) for ref in source.numbers.options(num_returns="streaming").remote(3)])
print([ray.get(ref) for ref in source.numbers.remote(2)])
print(sum(ray.get(ref) for ref in count.options(num_returns="streaming").remote(100)))
refs = list(count.remote(3))
print(len(refs), ray.get(refs))
empty = count.remote(0)
print(list(empty))
static = count.options(num_returns=3).remote(3)
print(ray.get(static))
ready, rest = ray.wait([count.remote(2)], timeout=10)
print(len(ready), len(rest))
