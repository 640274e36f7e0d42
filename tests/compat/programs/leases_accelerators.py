"""Accelerators of each kind: their ids, the variables that show them, amounts that make no sense."""

import os

import hpc as ray

held = {"TPU": 4, "NPU": 2, "HPU": 2, "neuron_cores": 4, "RBLN": 1, "FURIOSA": 1, "MBLT": 1, "TTNPU": 1}
ray.init(num_cpus=2, num_gpus=2, resources=held)
print({name: ray.cluster_resources()[name] for name in ("GPU", *held)})
NAMES = (
    "CUDA_VISIBLE_DEVICES", "TPU_VISIBLE_CHIPS", "TPU_CHIPS_PER_HOST_BOUNDS", "TPU_HOST_BOUNDS",
    "ASCEND_RT_VISIBLE_DEVICES", "HABANA_VISIBLE_MODULES", "NEURON_RT_VISIBLE_CORES", "RBLN_DEVICES", "FURIOSA_DEVICES",
    "QBRUNTIME_VISIBLE_DEVICES", "TT_VISIBLE_DEVICES",
)  # fmt: skip


@ray.remote(num_cpus=0)
def look():
    ids = ray.get_runtime_context().get_accelerator_ids()
    return {name: ids[name] for name in sorted(ids) if ids[name]}, {
        n: os.environ[n] for n in NAMES if os.environ.get(n)
    }


print(sorted(ray.get_runtime_context().get_accelerator_ids()))
print("none", ray.get(look.remote()))
for name in ("GPU", *held):
    for amount in (0.5, 1, 1.5, 2, 3, 4):
        if amount > held.get(name, 2):
            continue
        options = {"num_gpus": amount} if name == "GPU" else {"resources": {name: amount}}
        try:
            ids, shown = ray.get(look.options(**options).remote())
            print(name, amount, {n: len(found) for n, found in ids.items()}, sorted(shown))
        except ValueError:
            print(name, amount, "ValueError")
print(ray.get(look.options(resources={"TPU": 4}).remote())[1]["TPU_VISIBLE_CHIPS"])
print(ray.get(look.options(num_gpus=2, resources={"NPU": 2, "neuron_cores": 4}).remote()))
for value in ("1", "true", "0"):
    env = {"RAY_EXPERIMENTAL_NOSET_CUDA_VISIBLE_DEVICES": value}
    print(value, len(ray.get(look.options(num_gpus=1, runtime_env={"env_vars": env}).remote())[1]))
    env["CUDA_VISIBLE_DEVICES"] = "7"
    print(value, ray.get(look.options(num_gpus=1, runtime_env={"env_vars": env}).remote())[1])
print("own", ray.get(look.options(runtime_env={"env_vars": {"CUDA_VISIBLE_DEVICES": "7"}}).remote())[1])
env = {"RAY_EXPERIMENTAL_NOSET_TPU_VISIBLE_CHIPS": "1"}
print(ray.get(look.options(resources={"TPU": 1}, runtime_env={"env_vars": env}).remote()))
