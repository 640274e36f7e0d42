"""The names of accelerator types; shutdown that waits."""

import os

import hpc as ray
from hpc.util import accelerators
from hpc.util.accelerators import NVIDIA_A100, NVIDIA_TESLA_V100

makers = ("APPLE", "AWS", "GOOGLE", "INTEL", "METAX", "MOBILINT", "NVIDIA_TESLA")
names = [name for name in dir(accelerators) if name.startswith(makers) and name != "NVIDIA_TESLA_A100"]
print(NVIDIA_A100, NVIDIA_TESLA_V100, accelerators.NVIDIA_H100)
for name in names:
    print(name, getattr(accelerators, name))
ray.init(num_cpus=1, resources={"accelerator_type:A100": 1})


@ray.remote(accelerator_type=NVIDIA_A100)
def there():
    return os.getpid()


pid = ray.get(there.remote())
print("a task on this type:", pid != os.getpid())
print("shutdown:", ray.shutdown(wait_for_processes=True), ray.is_initialized())
print("again:", ray.shutdown(wait_for_processes=False))
