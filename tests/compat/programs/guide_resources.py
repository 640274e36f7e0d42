"""Resources: what there is, what is in use, what does not fit."""

import hpc as ray

ray.init(num_cpus=4, num_gpus=2, resources={"custom": 3})


def whole(found):
    return {k: v for k, v in sorted(found.items()) if k in ("CPU", "GPU", "custom")}


print(whole(ray.cluster_resources()))


@ray.remote(num_cpus=1, num_gpus=1, resources={"custom": 1})
class Holder:
    def gpus(self):
        return ray.get_gpu_ids()


@ray.remote(num_gpus=0.5)
def half():
    return ray.get_gpu_ids()


@ray.remote(num_gpus=2)
def both():
    return sorted(ray.get_gpu_ids())


print(ray.get(both.remote()))
holder = Holder.remote()
print(len(ray.get(holder.gpus.remote())), type(ray.get(holder.gpus.remote())[0]).__name__)
print(ray.get_gpu_ids(), len(ray.get(half.remote())))
for options in (
    {"num_cpus": -1},
    {"num_gpus": 1.5},
    {"resources": {"CPU": 1}},
    {"resources": {"a": -1}},
    {"num_cpus": "2"},
):
    try:
        ray.remote(**options)(lambda: None).remote()
        print(options, "accepted")
    except (ValueError, TypeError) as error:
        print(options, type(error).__name__)
ready, waiting = ray.wait([ray.remote(num_cpus=100)(lambda: 1).remote()], timeout=0.5)
print(len(ready), len(waiting))
nodes = ray.nodes()
print(len(nodes), nodes[0]["Alive"], nodes[0]["Resources"]["CPU"])
print(ray.get(ray.remote(num_cpus=0)(lambda: "none needed").remote()))
print(ray.get(ray.remote(num_cpus=0.5, resources={"custom": 0.01})(lambda: "part").remote()))
