"""init and shutdown, several times."""

import hpc as ray

context = ray.init(num_cpus=2)
print(ray.is_initialized(), sorted(k for k in ("address", "session_dir", "node_id") if k in context.address_info))
try:
    ray.init(num_cpus=2)
except RuntimeError:
    print("twice: RuntimeError")
again = ray.init(num_cpus=2, ignore_reinit_error=True)
print("ignored:", type(again).__name__ == type(context).__name__)
ray.shutdown()
ray.shutdown()
print(ray.is_initialized())
with ray.init(num_cpus=1):
    print("inside", ray.is_initialized(), ray.cluster_resources()["CPU"])
print("outside", ray.is_initialized())
try:
    ray.init(no_such_option=1)
except Exception as error:
    print("unknown:", type(error).__name__)
