"""torch tensors: kinds, strides, memory formats."""
# needs: torch

import warnings

import torch

import hpc as ray

warnings.simplefilter("ignore")
ray.init(num_cpus=2)
base = torch.arange(24.0).reshape(4, 6)


class Sub(torch.Tensor):
    pass


named = base.clone()
named.note = "x"
MANY = {
    "plain": base,
    "transposed": base.t(),
    "sliced": base[:, ::2],
    "row": base[1],
    "column": base[:, 1],
    "expanded": torch.ones(1, 3).expand(5, 3),
    "scalar expanded": torch.tensor(1.0).expand(3),
    "channels last": torch.ones(2, 3, 4, 5).to(memory_format=torch.channels_last),
    "permuted": torch.ones(2, 3, 4).permute(2, 0, 1),
    "nested": torch.nested.nested_tensor([torch.ones(2), torch.ones(3)]),
    "sparse": base.to_sparse(),
    "csr": base.to_sparse_csr(),
    "quantized": torch.quantize_per_tensor(base, 0.1, 0, torch.qint8),
    "requires grad": base.clone().requires_grad_(),
    "parameter": torch.nn.Parameter(base),
    "subclass": base.clone().as_subclass(Sub),
    "bfloat16": base.bfloat16(),
    "bool": base > 3,
    "conjugated": torch.complex(base, base).conj(),
    "negative": torch.complex(base, base).conj().imag,
    "scalar": torch.tensor(3.0),
    "empty": torch.empty(0, 3),
    "with an attribute": named,
}


@ray.remote
def same(x):
    return x


def equal(a, b):
    if a.is_nested:
        return all(torch.equal(x, y) for x, y in zip(a.unbind(), b.unbind()))
    if a.layout is not torch.strided:
        return torch.equal(a.to_dense(), b.to_dense())
    return torch.equal(a.dequantize(), b.dequantize()) if a.is_quantized else torch.equal(a, b)


for name, value in MANY.items():
    for how in ("put", "task"):
        back = ray.get(ray.put([value]))[0] if how == "put" else ray.get(same.remote(value))
        shape = back.layout if back.is_nested or back.layout is not torch.strided else back.stride()
        print(
            name,
            how,
            type(back).__name__,
            back.dtype,
            shape,
            back.requires_grad,
            equal(value, back),
            sorted(back.__dict__),
        )
model = torch.nn.Sequential(torch.nn.Linear(3, 2), torch.nn.ReLU())
again = ray.get(same.remote(model))
print(
    "model:",
    all(torch.equal(a, b) for a, b in zip(model.parameters(), again.parameters())),
    [p.requires_grad for p in again.parameters()],
)
print("state dict:", sorted(ray.get(ray.put(model.state_dict()))))
