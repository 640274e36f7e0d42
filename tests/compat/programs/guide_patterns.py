"""Patterns of the guide: limits on pending tasks, pipelines, trees of actors, results as they come."""

import hpc as ray

ray.init(num_cpus=2)


@ray.remote
def work(i):
    return i * i


pending, results = [], []
for i in range(20):
    if len(pending) >= 4:
        done, pending = ray.wait(pending, num_returns=1)
        results += ray.get(done)
    pending.append(work.remote(i))
results += ray.get(pending)
print(sorted(results))


@ray.remote
class Worker:
    def __init__(self, scale):
        self.scale = scale

    def run(self, x):
        return x * self.scale


@ray.remote
class Supervisor:
    def __init__(self, count):
        self.workers = [Worker.options(num_cpus=0).remote(i + 1) for i in range(count)]

    def run(self, x):
        return ray.get([worker.run.remote(x) for worker in self.workers])


print(ray.get(Supervisor.options(num_cpus=0).remote(3).run.remote(10)))


@ray.remote
def split(n):
    return list(range(n))


@ray.remote
def total(values):
    return sum(values)


@ray.remote
def quicksort(values):
    if len(values) < 2:
        return values
    pivot, *rest = values
    low = quicksort.remote([v for v in rest if v < pivot])
    high = quicksort.remote([v for v in rest if v >= pivot])
    return ray.get(low) + [pivot] + ray.get(high)


print(ray.get(total.remote(split.remote(10))), ray.get(quicksort.remote([3, 1, 4, 1, 5, 9, 2, 6])))


@ray.remote
class Progress:
    def __init__(self):
        self.done = {}

    def report(self, task, part):
        self.done[task] = part

    def get(self):
        return self.done


@ray.remote
def task(name, progress):
    for part in range(3):
        ray.get(progress.report.remote(name, part))
    return name


progress = Progress.options(num_cpus=0).remote()
print(sorted(ray.get([task.remote(n, progress) for n in "ab"])), sorted(ray.get(progress.get.remote()).items()))


@ray.remote
class ParameterServer:
    def __init__(self):
        self.values = [0.0] * 3

    def add(self, *gradients):
        self.values = [v + sum(g[i] for g in gradients) for i, v in enumerate(self.values)]
        return self.values


@ray.remote
def gradient(values, k):
    return [v + k for v in values]


server = ParameterServer.options(num_cpus=0).remote()
values = server.add.remote()
for _ in range(3):
    values = server.add.remote(*[gradient.remote(values, k) for k in range(2)])
print(ray.get(values))
