"""Resources of the session and of tasks, and amounts that make no sense."""

import hpc as ray

ray.init(num_cpus=2, num_gpus=1, resources={"disk": 3, "net": 1})
total = ray.cluster_resources()
print(total["CPU"], total["GPU"], total["disk"], total["net"])
print(sorted(k for k in total if k in ("memory", "object_store_memory")))


@ray.remote(num_cpus=0.5, resources={"disk": 1.5})
def half():
    return ray.get_runtime_context().get_assigned_resources()


got = ray.get(half.remote())
print(sorted(got.items()))


@ray.remote
def plain():
    return ray.get_runtime_context().get_assigned_resources()


print(sorted(ray.get(plain.remote()).items()))
print(sorted(ray.get(plain.options(num_cpus=0).remote()).items()))
print(sorted(ray.get(plain.options(num_cpus=2, num_gpus=1).remote()).items()))
for wrong in ({"num_cpus": -1}, {"num_gpus": 1.5}, {"resources": {"CPU": 1}}, {"resources": {"disk": -1}}):
    try:
        plain.options(**wrong).remote()
        print(wrong, "accepted")
    except (ValueError, TypeError, AssertionError) as error:
        print(wrong, type(error).__name__)
