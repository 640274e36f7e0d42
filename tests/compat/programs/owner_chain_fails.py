"""Long chains: of tasks whose first fails, of values, of calls, and of references inside one another."""

import hpc as ray

ray.init(num_cpus=2)


@ray.remote
def fail():
    raise ValueError("the root")


@ray.remote
def step(value):
    return value + 1


@ray.remote
class Counter:
    def step(self, value):
        return value + 1


ref = fail.remote()
for _ in range(300):
    ref = step.remote(ref)
try:
    ray.get(ref)
except ValueError as error:
    print(isinstance(error, ray.exceptions.RayTaskError), "the root" in str(error))
ref = ray.put(0)
for _ in range(300):
    ref = step.remote(ref)
print(ray.get(ref))
counter = Counter.remote()
ref = 0
for _ in range(300):
    ref = counter.step.remote(ref)
print(ray.get(ref))
state = None
for at in range(1000):
    state = ray.put((at, state))
depth = 0
while state is not None:
    at, state = ray.get(state)
    depth += 1
print(depth, at)
