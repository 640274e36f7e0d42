"""Which GPUs tasks and actors see, and that theirs is a process that has run without none."""

import os

import hpc as ray

ray.init(num_cpus=2, num_gpus=2)


@ray.remote
def look():
    return os.getpid(), os.environ.get("CUDA_VISIBLE_DEVICES"), ray.get_gpu_ids()


cpu = [ray.get(look.remote()) for _ in range(3)]
gpu = ray.get(look.options(num_gpus=1).remote())
print("without:", {(row[1], tuple(row[2])) for row in cpu})
print("with one:", len(gpu[1].split(",")), len(gpu[2]), gpu[0] in {row[0] for row in cpu})
two = ray.get(look.options(num_gpus=2).remote())
print("with two:", two[1], two[2])
part = ray.get(look.options(num_gpus=0.5).remote())
print("with half:", len(part[1].split(",")), len(part[2]))


@ray.remote(num_gpus=1)
class Holder:
    def ids(self):
        return ray.get_gpu_ids(), os.environ["CUDA_VISIBLE_DEVICES"]


holders = [Holder.remote() for _ in range(2)]
rows = ray.get([holder.ids.remote() for holder in holders])
print("actors:", sorted(int(ids[0]) for ids, _ in rows), sorted(visible for _, visible in rows))
