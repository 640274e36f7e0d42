"""torch's CPU tensors: no copy on the way out of the store, and writing to them harms nobody."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

import hpc
from runtime.running import one_node, settle

torch = pytest.importorskip("torch", reason="needs PyTorch")
pytestmark = pytest.mark.torch


@pytest.fixture(autouse=True, scope="module")
def session(no_leaks_of_module: None) -> Iterator[None]:
    with one_node():
        yield


@pytest.fixture(autouse=True)
def nothing_stays(no_leaks: None) -> Iterator[None]:
    yield
    settle()


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "int64", "bool", "complex64", "float16"])
def test_all_kinds(dtype):
    kind = getattr(torch, dtype)
    small = torch.arange(24).reshape(2, 3, 4).to(kind)
    large = torch.arange(300_000).reshape(300, 1000).to(kind)
    for tensor in (small, large, large.T, large[::2], small[0, 0, 0]):
        back = hpc.get(hpc.put({"tensor": tensor}))["tensor"]
        assert back.dtype == kind and back.shape == tensor.shape and torch.equal(back, tensor)


def test_reading_takes_no_memory_and_writing_is_private():
    ref = hpc.put(torch.ones(4 << 20))
    one, two = hpc.get(ref), hpc.get(ref)
    before = private_bytes()
    assert float(one.sum()) == 4 << 20
    assert private_bytes() - before < 4 << 20  # 16 MiB are read
    one[:1000] = 7
    assert float(two[:1000].sum()) == 1000
    assert float(hpc.get(ref)[0]) == 1

    @hpc.remote
    def double(tensor):
        tensor *= 2
        return tensor

    assert float(hpc.get(double.remote(ref))[-1]) == 2
    assert float(hpc.get(ref)[-1]) == 1


def private_bytes() -> int:
    with open("/proc/self/smaps_rollup") as file:
        return sum(int(line.split()[1]) * 1024 for line in file if line.startswith(("Private_Dirty", "Anonymous")))


def test_the_memory_is_free_again_when_tensors_are_gone():
    for value in range(20):  # 20 times 40 MB in a store of 128 MiB
        ref = hpc.put(torch.full((10 << 20,), value, dtype=torch.float32))
        assert float(hpc.get(ref)[5]) == value


def test_gradients_and_special_tensors():
    weights = torch.nn.Parameter(torch.ones(1000))
    leaf = torch.ones(1000, requires_grad=True)
    sparse = torch.eye(50).to_sparse()
    model = torch.nn.Linear(100, 300)
    got = hpc.get(hpc.put([weights, leaf, sparse, model, torch.empty(0, 3)]))
    assert isinstance(got[0], torch.nn.Parameter) and got[0].requires_grad
    assert got[1].requires_grad and got[1].is_leaf
    assert torch.equal(got[2].to_dense(), torch.eye(50))
    assert torch.equal(got[3].weight, model.weight)
    assert got[4].shape == (0, 3)
