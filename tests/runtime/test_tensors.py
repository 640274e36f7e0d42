"""torch's CPU tensors: no copy on the way out of the store, and writing to them harms nobody."""

from __future__ import annotations

import os
from collections.abc import Iterator

import numpy as np
import pytest

import hpc
from hpc import spi
from runtime.running import one_node, settle

#: What the workers of these tests import.
WORKER_IMPORTS = "torch torch._dynamo"

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


def test_strides_and_memory_formats_stay():
    base = torch.arange(24.0).reshape(4, 6)
    images = torch.rand(2, 3, 8, 8).to(memory_format=torch.channels_last)
    for tensor in (base.t(), base[:, ::2], base[1:, 1:], images, torch.rand(2, 3, 4).permute(2, 0, 1)):
        back = hpc.get(hpc.put([tensor]))[0]
        assert back.stride() == tensor.stride() and torch.equal(back, tensor)
    assert hpc.get(hpc.put(images)).is_contiguous(memory_format=torch.channels_last)


def test_what_is_expanded_takes_the_room_of_one_row_and_a_column_that_of_itself():
    wide = torch.rand(1, 1000).expand(1000, 1000)
    back = hpc.get(hpc.put(wide))
    assert back.stride() == (0, 1) and torch.equal(back, wide) and back.untyped_storage().nbytes() == 4000
    column = torch.rand(1000, 1000)[:, 3]
    back = hpc.get(hpc.put(column))
    assert torch.equal(back, column) and back.untyped_storage().nbytes() == 4000


def test_nested_sparse_and_quantized_tensors_and_subclasses():
    class Own(torch.Tensor):
        pass

    base = torch.arange(6.0).reshape(2, 3)
    nested = torch.nested.nested_tensor([torch.ones(2), torch.ones(3)])
    assert [part.tolist() for part in hpc.get(hpc.put(nested)).unbind()] == [[1, 1], [1, 1, 1]]
    for sparse in (base.to_sparse(), base.to_sparse_csr()):
        back = hpc.get(hpc.put(sparse))
        assert back.layout is sparse.layout and torch.equal(back.to_dense(), base)
    quantized = torch.quantize_per_tensor(base, 0.1, 0, torch.qint8)
    assert torch.equal(hpc.get(hpc.put(quantized)).dequantize(), quantized.dequantize())
    assert type(hpc.get(hpc.put([base.as_subclass(Own)]))[0]).__name__ == "Own"
    parameter = hpc.get(hpc.put(torch.nn.Parameter(base)))
    assert type(parameter) is torch.nn.Parameter and parameter.requires_grad and torch.equal(parameter, base)


def test_an_array_of_the_store_becomes_one_that_may_be_written_to_without_a_copy():
    ref = hpc.put(np.arange(1 << 20))
    stored = hpc.get(ref)
    before, open_before = private_bytes(), len(os.listdir("/proc/self/fd"))
    own = [spi.private(stored[part:]) for part in range(0, 100_000, 1000)]
    assert private_bytes() - before < 4 << 20 and len(os.listdir("/proc/self/fd")) == open_before
    assert all(one[0] == 1000 * place for place, one in enumerate(own))
    own[0][:] = 7
    assert stored[1] == 1 and own[1][0] == 1000 and own[0].shape == stored.shape and own[0].dtype == stored.dtype
    assert spi.private(np.arange(8)) is None and spi.private(stored[::2]) is None


def test_pictures_of_a_batch_are_written_to_and_their_block_stays_as_it_was():
    pictures = hpc.data.from_numpy(np.full((64, 128, 128, 3), 5, np.uint8)).materialize()
    one, two = [batch["data"] for batch in pictures.iter_torch_batches(batch_size=32)]
    before = private_bytes()
    assert int(one.max()) == 5 and private_bytes() - before < 1 << 20  # a batch has 1.5 MiB
    one += 1
    assert int(one.min()) == 6 and int(two.max()) == 5
    del one, two
    assert all(int(batch["data"].max()) == 5 for batch in pictures.iter_torch_batches(batch_size=64))
