"""Numbers of init in the shapes that programs use."""

import hpc as ray

ray.init(num_cpus=2.0, object_store_memory=200e6)
print("CPU", ray.cluster_resources()["CPU"], "store", 190e6 < ray.cluster_resources()["object_store_memory"] <= 200e6)
ray.shutdown()


@ray.remote(memory=1e8)
def reserved():
    return ray.get_runtime_context().get_assigned_resources().get("memory")


ray.init(num_cpus=1, resources={"x": 2})
print("memory", ray.get(reserved.remote()))
print("x", ray.cluster_resources()["x"])
ray.shutdown()
for wrong in ({"num_cpus": -1}, {"object_store_memory": -5}, {"resources": {"x": -1}}, {"object_store_memory": "1e9"}):
    try:
        ray.init(**wrong)
        print(wrong, "accepted")
        ray.shutdown()
    except (ValueError, TypeError) as error:
        print(wrong, type(error).__name__)
