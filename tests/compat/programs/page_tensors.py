"""Tensors of torch."""

import hpc as ray

ray.init(num_cpus=2)

# needs: torch
import torch


@ray.remote
def double(t):
    return t * 2


t = torch.arange(6, dtype=torch.float32).reshape(2, 3)
print(torch.equal(ray.get(ray.put(t)), t), ray.get(double.remote(t)).tolist())
print(ray.get(ray.put(t.T)).shape, ray.get(ray.put(t.T)).tolist())
print(ray.get(ray.put(torch.tensor(3))).item(), ray.get(ray.put(torch.empty(0))).shape)
print(ray.get(ray.put(t.bool())).dtype, ray.get(ray.put(t.to(torch.bfloat16))).dtype)
back = ray.get(ray.put(t.clone().requires_grad_()))
print(back.requires_grad, type(ray.get(ray.put(torch.nn.Parameter(t)))).__name__)
model = torch.nn.Linear(2, 1)
same = ray.get(ray.put(model))
print(torch.equal(same.weight, model.weight), sorted(ray.get(ray.put(model.state_dict()))))
print(ray.get(ray.put({"a": t, "b": [t]}))["b"][0].sum().item())
