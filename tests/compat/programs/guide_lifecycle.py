"""init and shutdown: twice, in turns, by itself, as a context."""

import hpc as ray

print(ray.is_initialized())
context = ray.init(num_cpus=2)
print(ray.is_initialized(), bool(context.address_info["node_id"]), type(context).__name__ if False else "")
try:
    ray.init(num_cpus=2)
except RuntimeError as error:
    print("RuntimeError")
ray.init(num_cpus=2, ignore_reinit_error=True)
ray.shutdown()
ray.shutdown()
print(ray.is_initialized())
for function in (lambda: ray.get(ray.put(1)),):
    print(function(), ray.is_initialized())
ray.shutdown()
with ray.init(num_cpus=1):
    print(ray.get(ray.remote(lambda: "in the block").remote()))
print(ray.is_initialized())


@ray.remote
def late():
    return "made before init"


ray.init(num_cpus=2)
print(ray.get(late.remote()))
ray.shutdown()
ray.init(num_cpus=1)
print(ray.get(late.remote()), ray.cluster_resources()["CPU"])
for bad in ({"num_cpus": -1}, {"address": "nonsense:1:2"}):
    try:
        ray.shutdown()
        ray.init(**bad)
        print(bad, "accepted")
    except Exception as error:
        print(bad, type(error).__name__ in ("ValueError", "ConnectionError"))
