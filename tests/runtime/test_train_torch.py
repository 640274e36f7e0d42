"""What hpc.train.torch has for models, loaders, precision and checkpoints, on real ranks."""

from __future__ import annotations

import importlib.util
import random
import warnings
from functools import partial

import numpy as np
import pytest

import hpc
from hpc.train import RunConfig, ScalingConfig
from hpc.train.torch import TorchCheckpoint, TorchConfig, TorchTrainer
from runtime.running import one_node

#: What the workers of these tests import.
WORKER_IMPORTS = "torch torch._dynamo"

pytestmark = [
    pytest.mark.torch,
    pytest.mark.skipif(importlib.util.find_spec("torch") is None, reason="needs PyTorch: pip install hpc[train]"),
]


@pytest.fixture(scope="module", autouse=True)
def session():
    with one_node(num_cpus=2):
        yield


def on_two_ranks(function, tmp_path, backend=None, **env):
    return (
        TorchTrainer(
            function,
            torch_config=TorchConfig(backend=backend, timeout_s=60),
            scaling_config=ScalingConfig(num_workers=2),
            run_config=RunConfig(storage_path=tmp_path, worker_runtime_env={"env_vars": env} if env else None),
        )
        .fit()
        .return_value
    )


def trained(prepare, optimizer=lambda o: o, backward=lambda loss: loss.backward(), half=None):
    """Five steps of a network of two layers, on this rank's half of the batch; the losses over the whole batch."""
    import torch

    class Layers(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.layers = torch.nn.ModuleList([torch.nn.Linear(8, 8), torch.nn.Linear(8, 8)])
            self.last = torch.nn.Linear(8, 1)

        def forward(self, x):
            for layer in self.layers:
                x = torch.tanh(layer(x))
            return self.last(x)

    torch.manual_seed(7 + (half or 0))  # rank 0's weights are those of one that trains alone
    model = prepare(Layers())
    opt = optimizer(torch.optim.SGD(model.parameters(), lr=0.2))
    torch.manual_seed(3)
    x = torch.randn(16, 8)
    y = x.sum(1, keepdim=True).sin()
    losses = []
    for _ in range(5):
        mine = slice(None) if half is None else slice(half, None, 2)
        opt.zero_grad()
        loss = torch.nn.functional.mse_loss(model(x[mine]), y[mine])
        backward(loss)
        opt.step()
        whole = loss.detach().clone()
        if half is not None:
            torch.distributed.all_reduce(whole)
            whole /= 2
        losses.append(whole.item())
    return model, losses


EACH_WAY = (
    ("ddp", {}),
    ("fsdp", {}),
    ("fsdp2", {}),
    ("fsdp2", {"submodules": lambda module: type(module).__name__ == "Linear", "reshard_after_forward": False}),
)


def test_models_made_parallel_in_each_way_train_like_one_that_is_trained_alone(tmp_path):
    def train():
        import torch

        from hpc.train.torch import prepare_model

        rank = hpc.train.get_context().get_world_rank()
        _, alone = trained(lambda model: model)
        found = []
        for strategy, kwargs in EACH_WAY:
            prepare = partial(prepare_model, parallel_strategy=strategy, parallel_strategy_kwargs=kwargs)
            model, losses = trained(prepare, half=rank)
            assert losses == pytest.approx(alone, rel=1e-4), strategy
            sharded = [name for name, module in model.named_modules() if type(module).__name__.startswith("FSDP")]
            found.append((type(model).__name__, sharded))
        single = torch.nn.Linear(1, 1)
        with pytest.raises(ValueError, match=r'must be "ddp", "fsdp", "fsdp2" or None'):
            prepare_model(single, parallel_strategy="zero")
        with pytest.raises(TypeError, match="submodules must be classes of modules"):
            prepare_model(single, parallel_strategy="fsdp2", parallel_strategy_kwargs={"submodules": "Linear"})
        return found

    layers = ["", "layers.0", "layers.1"]
    assert on_two_ranks(train, tmp_path) == [
        ("DistributedDataParallel", []),
        ("FullyShardedDataParallel", []),
        ("FSDPLayers", layers),
        ("FSDPLayers", [*layers, "last"]),
    ]


def test_the_backend_hpc_is_there_by_its_name_and_trains_models_of_each_kind(tmp_path):
    def train():
        import torch

        from hpc.train.torch import prepare_model

        rank = hpc.train.get_context().get_world_rank()
        _, alone = trained(lambda model: model)
        for strategy in ("ddp", "fsdp", "fsdp2"):
            _, losses = trained(partial(prepare_model, parallel_strategy=strategy), half=rank)
            assert losses == pytest.approx(alone, rel=1e-4), strategy
        return torch.distributed.get_backend()

    assert on_two_ranks(train, tmp_path, "hpc") == "hpc"


@pytest.mark.parametrize("dtype", [None, "float16"])
def test_mixed_precision_computes_in_half_and_learns_all_the_same(tmp_path, dtype):
    def train():
        import torch

        from hpc.train.torch import accelerate, backward, prepare_model, prepare_optimizer

        _, exact = trained(lambda model: model)
        accelerate(amp=True, dtype=dtype)
        with pytest.raises(RuntimeError, match="can be called once"):
            accelerate(amp=True)
        seen = []

        def prepare(model):
            model.last.register_forward_hook(lambda module, args, out: seen.append(out.dtype))
            return prepare_model(model)

        rank = hpc.train.get_context().get_world_rank()
        _, losses = trained(prepare, prepare_optimizer, backward, half=rank)
        assert seen[0] is (torch.float16 if dtype else torch.bfloat16)
        steps = list(dict.fromkeys(losses))  # a step whose scale was too large is left out: the next loss is the same
        assert len(steps) >= 4 and steps == pytest.approx(exact[: len(steps)], rel=0.05)
        assert losses != exact and losses[-1] < losses[0]
        if dtype:
            with pytest.raises(ValueError, match='float16 needs "ddp"'):
                prepare_model(torch.nn.Linear(1, 1), parallel_strategy="fsdp2")
            weight = torch.nn.Parameter(torch.ones(2))
            optimizer = prepare_optimizer(torch.optim.SGD([weight], lr=1.0))
            assert isinstance(optimizer, torch.optim.Optimizer)
            schedule = torch.optim.lr_scheduler.StepLR(optimizer, 1, 0.5)
            weight.grad = torch.tensor([float("inf"), 1.0])
            backward(torch.zeros(1, requires_grad=True).sum())
            before = optimizer.state_dict()["grad_scaler"]["scale"]
            optimizer.step()
            assert weight.tolist() == [1.0, 1.0]  # left out
            state = optimizer.state_dict()
            assert state["grad_scaler"]["scale"] == before / 2
            backward((weight * torch.tensor([4.0, 0.0])).sum())
            weight.grad = None
            backward((weight * torch.tensor([4.0, 0.0])).sum())
            optimizer.unscale_()
            assert weight.grad.tolist() == [4.0, 0.0]
            torch.nn.utils.clip_grad_norm_([weight], 1.0)
            optimizer.step()
            schedule.step()
            assert weight.tolist() == pytest.approx([0.0, 1.0], abs=1e-4) and optimizer.param_groups[0]["lr"] == 0.5
            optimizer.load_state_dict(state)
            assert optimizer.param_groups[0]["lr"] == 1.0
        return True

    assert on_two_ranks(train, tmp_path)


def test_loaders_keep_their_batches_and_other_helpers_do_what_they_say(tmp_path):
    def train():
        import torch
        from torch.utils.data import DataLoader, IterableDataset, TensorDataset, WeightedRandomSampler

        from hpc.train.torch import accelerate, backward, enable_reproducibility, prepare_data_loader, prepare_optimizer

        accelerate()  # without mixed precision its helpers change nothing
        weight = torch.nn.Parameter(torch.ones(1))
        optimizer = torch.optim.SGD([weight], lr=0.5)
        assert prepare_optimizer(optimizer) is optimizer
        backward((3 * weight).sum())
        assert weight.grad.item() == 3.0
        drawn = []
        for _ in range(2):
            enable_reproducibility(3)
            drawn.append((torch.rand(2).tolist(), random.random(), np.random.rand()))
        assert drawn[0] == drawn[1] and torch.are_deterministic_algorithms_enabled()
        assert drawn[0][0] == pytest.approx([0.0043, 0.1056], abs=1e-4)  # those of torch.manual_seed(3)
        data = TensorDataset(torch.arange(10.0))
        weighted = DataLoader(data, batch_size=3, sampler=WeightedRandomSampler([1.0] * 10, 10))
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            made = prepare_data_loader(weighted)
        assert made.sampler.shuffle and sorted(len(batch[0]) for batch in made) == [2, 3]
        assert prepare_data_loader(weighted, add_dist_sampler=False) is weighted
        single = [item[0].item() for item in prepare_data_loader(DataLoader(data, batch_size=None))]
        ahead = prepare_data_loader(DataLoader(data, num_workers=1, prefetch_factor=5, persistent_workers=True))

        class Stream(IterableDataset):
            def __iter__(self):
                return iter(range(4))

        stream = [batch.tolist() for batch in prepare_data_loader(DataLoader(Stream(), batch_size=2))]
        with pytest.raises(ValueError, match="batch_sampler of its own"):
            prepare_data_loader(DataLoader(data, batch_sampler=[[0], [1]]))
        return [str(w.message) for w in caught], single, (ahead.prefetch_factor, ahead.persistent_workers), stream

    said, single, ahead, stream = on_two_ranks(train, tmp_path)
    assert len(said) == 1 and "replaces the WeightedRandomSampler" in said[0] and "add_dist_sampler=False" in said[0]
    assert single == [0.0, 2.0, 4.0, 6.0, 8.0]
    assert ahead == (5, True)
    assert stream == [[0, 1], [2, 3]]


def test_a_checkpoint_of_torch_gives_its_model_back():
    import torch

    model = torch.nn.Linear(2, 1)
    weights = TorchCheckpoint.from_state_dict({f"module.{name}": value for name, value in model.state_dict().items()})
    loaded = weights.get_model(torch.nn.Linear(2, 1))
    assert torch.equal(loaded.weight, model.weight)
    with pytest.raises(ValueError, match="holds weights only"):
        weights.get_model()
    whole = TorchCheckpoint.from_model(model)
    assert torch.equal(whole.get_model().weight, model.weight)
    with pytest.raises(ValueError, match="more than weights"):
        whole.get_model(torch.nn.Linear(2, 1))
    assert isinstance(TorchCheckpoint.from_directory(whole.path), TorchCheckpoint)
    with pytest.raises(RuntimeError, match=r"has no model\.pt"):
        TorchCheckpoint("/").get_model()
