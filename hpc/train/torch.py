"""Training with PyTorch: TorchTrainer, and what its training functions call.

torch is imported in the workers, and here only by what needs it. A driver that only calls ``fit`` never loads it, and
without torch this module can be imported all the same.
"""

from __future__ import annotations

import datetime
import importlib
import importlib.util
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from hpc.runs.checkpoint import Checkpoint
from hpc.runs.config import RunConfig
from hpc.runs.validation import CheckpointUploadMode, ValidationTaskConfig
from hpc.train.backend import BackendConfig
from hpc.train.config import ScalingConfig
from hpc.train.controller import Backend
from hpc.train.devices import get_device, get_devices
from hpc.train.group import RankGroup
from hpc.train.loop import current_loop
from hpc.train.torch_checkpoint import TorchCheckpoint
from hpc.train.trainer import DataParallelTrainer

if TYPE_CHECKING:
    import torch

NO_TORCH = "PyTorch is not installed for this Python; `pip install hpc[train]` installs it"


@dataclass
class TorchConfig(BackendConfig):
    """How the process group is made. backend: "nccl" or "gloo", ...; None: nccl with GPUs, else gloo.

    "hpc" is `hpc.collective.torch_backend`, for tensors of the CPU.
    """

    backend: str | None = None
    init_method: str = "env"
    timeout_s: float = 1800

    def __post_init__(self) -> None:
        if self.backend is not None and not isinstance(self.backend, str):
            raise TypeError(f"TorchConfig.backend must be a string, not {type(self.backend).__name__}")
        if self.init_method not in ("env", "tcp"):
            raise ValueError(f'TorchConfig.init_method must be "env" or "tcp", not {self.init_method!r}')
        if self.timeout_s <= 0:
            raise ValueError(f"TorchConfig.timeout_s must be above 0, not {self.timeout_s}")

    @property
    def train_func_context(self) -> Callable[[], Any]:
        """What chooses the rank's device in the thread of the training function: torch has one for each thread."""
        return on_own_device

    @property
    def framework(self) -> str:
        """The framework's name."""
        return "torch"

    def to_dict(self) -> dict[str, Any]:
        """The settings, as plain values."""
        return {"backend": self.backend, "init_method": self.init_method, "timeout_s": self.timeout_s}


@contextmanager
def on_own_device() -> Iterator[None]:
    """In a training function: torch's current device is the rank's first GPU, if it has one."""
    device = get_device()
    if device.type == "cuda":
        import torch

        torch.cuda.set_device(device)
    yield


class TorchTrainer(DataParallelTrainer):
    """Runs a function on every rank of a torch process group.

    The function takes its configuration, or nothing. On every rank torchrun's environment is set and the process group
    initialized before it starts. ``fit`` runs it and returns a Result.
    """

    def __init__(
        self,
        train_loop_per_worker: Callable[..., Any],
        *,
        train_loop_config: dict[str, Any] | None = None,
        torch_config: TorchConfig | None = None,
        scaling_config: ScalingConfig | None = None,
        run_config: RunConfig | None = None,
        datasets: dict[str, Any] | None = None,
        dataset_config: Any = None,
        validation_config: Any = None,
    ) -> None:
        if importlib.util.find_spec("torch") is None:
            raise ImportError(NO_TORCH, name="torch")
        if torch_config is not None and not isinstance(torch_config, TorchConfig):
            raise TypeError(f"torch_config must be a TorchConfig, not {type(torch_config).__name__}")
        self.torch_config = torch_config or TorchConfig()
        super().__init__(
            train_loop_per_worker,
            train_loop_config=train_loop_config,
            backend_config=self.torch_config,
            scaling_config=scaling_config,
            run_config=run_config,
            datasets=datasets,
            dataset_config=dataset_config,
            validation_config=validation_config,
        )

    def backend(self) -> Backend:
        """torch.distributed."""
        return TorchBackend(self.torch_config, self.scaling_config.use_gpu)


class TorchBackend:
    """Makes the process group. As under torchrun a store outlives it, which rank 0's process serves.

    The store takes a free port by itself: a port that is looked for first may be taken by the time that it is used.
    TORCHELASTIC_USE_AGENT_STORE makes init_process_group join it.
    """

    def __init__(self, config: TorchConfig, use_gpu: bool) -> None:
        self.config = config
        self.name = config.backend or ("nccl" if use_gpu else "gloo")
        self.use_gpu = use_gpu

    def on_start(self, group: RankGroup) -> None:
        """Import torch everywhere, then make the group."""
        ports = group.run(_load_torch, self.use_gpu, self.config.timeout_s)
        address = group.identities[0].address
        group.run(_join, self.name, self.config.init_method, address, ports[0], self.config.timeout_s)

    def on_end(self, group: RankGroup) -> None:
        """Leave the group, all ranks at the same time."""
        group.run(_leave)


_store: Any = None


def _load_torch(use_gpu: bool, timeout_s: float) -> int:
    """In a worker: import torch, with the threads that this worker has; rank 0 returns the port of the store."""
    global _store
    identity = current_loop("_load_torch").identity
    try:
        import torch
        from torch import distributed
    except ImportError as error:
        raise ImportError(f"{NO_TORCH} (on node {identity.node}: {error})", name="torch") from error
    threads = os.environ["OMP_NUM_THREADS"].split(",")[0]
    if threads.isdigit() and int(threads) > 0:
        torch.set_num_threads(int(threads))
    if use_gpu and not torch.cuda.is_available():
        raise RuntimeError(f"use_gpu=True, but torch {torch.__version__} on node {identity.node} finds no GPU")
    dist: Any = distributed
    if not dist.is_available():
        raise RuntimeError(f"torch {torch.__version__} on node {identity.node} has no torch.distributed")
    if identity.world_rank != 0:
        return 0
    limit = datetime.timedelta(seconds=timeout_s)
    _store = dist.TCPStore(identity.address, 0, None, True, limit, wait_for_workers=False)
    return int(_store.port)


def _join(backend: str, init_method: str, address: str, port: int, timeout_s: float) -> None:
    """In a worker: join the process group."""
    import torch
    import torch.distributed as dist

    identity = current_loop("_join").identity
    os.environ.update(MASTER_ADDR=address, MASTER_PORT=str(port), TORCHELASTIC_USE_AGENT_STORE="True")
    os.environ.setdefault("TORCH_NCCL_ASYNC_ERROR_HANDLING", "1")
    os.environ.setdefault("ACCELERATE_TORCH_DEVICE", str(get_device()))
    if identity.devices:
        torch.cuda.set_device(identity.devices[0])
    if "hpc" in (part.rpartition(":")[2] for part in backend.split(",")):
        importlib.import_module("hpc.collective.torch_backend")  # torch knows it from now on
    dist.init_process_group(
        backend,
        init_method="env://" if init_method == "env" else f"tcp://{address}:{port}",
        rank=identity.world_rank,
        world_size=identity.world_size,
        timeout=datetime.timedelta(seconds=timeout_s),
    )


def _leave() -> None:
    """In a worker: leave the process group, unless the training function has done so."""
    import torch.distributed as dist

    if dist.is_initialized():
        dist.destroy_process_group()


def prepare_model(
    model: torch.nn.Module,
    move_to_device: bool | torch.device = True,
    parallel_strategy: str | None = "ddp",
    parallel_strategy_kwargs: dict[str, Any] | None = None,
) -> torch.nn.Module:
    """The model on this rank's device, made parallel when there are several ranks.

    parallel_strategy: "ddp" is DistributedDataParallel, "fsdp" FullyShardedDataParallel, "fsdp2" fully_shard, None
    leaves the model as it is. All ranks begin with rank 0's weights.

    parallel_strategy_kwargs go to what is named there. "fsdp2" has ``submodules`` beside them: classes of modules, or
    a function of a module, that say which are sharded each for itself. Without it those are the items of ModuleLists.
    """
    from hpc.train.torch_loop import prepare_model as prepare

    return prepare(model, move_to_device, parallel_strategy, parallel_strategy_kwargs)


def prepare_data_loader(
    data_loader: torch.utils.data.DataLoader[Any],
    add_dist_sampler: bool = True,
    move_to_device: bool = True,
    auto_transfer: bool = True,
) -> torch.utils.data.DataLoader[Any]:
    """The loader with this rank's share of the data (a DistributedSampler), its batches on this rank's device.

    With shuffling, call ``loader.sampler.set_epoch(epoch)`` before each epoch. auto_transfer: batches are copied to
    the GPU while it computes.
    """
    from hpc.train.torch_loop import prepare_data_loader as prepare

    return prepare(data_loader, add_dist_sampler, move_to_device, auto_transfer)


def enable_reproducibility(seed: int = 0) -> None:
    """Seed torch, numpy and random, and use algorithms that give the same numbers each time.

    What has no such algorithm raises RuntimeError when it is called.
    """
    import random

    import numpy
    import torch

    torch.manual_seed(seed)
    random.seed(seed)
    numpy.random.seed(seed)
    torch.use_deterministic_algorithms(True)
    torch.backends.cudnn.benchmark = False
    os.environ["CUBLAS_WORKSPACE_CONFIG"] = ":4096:8"


def accelerate(amp: bool = False, dtype: torch.dtype | str | None = None) -> None:
    """With ``amp``, compute in mixed precision from now on. Call it before the model and the optimizer are prepared.

    `prepare_model` then makes models whose forward runs inside autocast, and returns float32. dtype: by default
    bfloat16, which needs no scaling, and float16 on GPUs without it.
    """
    from hpc.train.torch_amp import accelerate as begin

    begin(amp, dtype)


def prepare_optimizer(optimizer: torch.optim.Optimizer) -> torch.optim.Optimizer:
    """The optimizer; in float16 one whose steps unscale the gradients, and leave a step out where they are infinite.

    That one has ``unscale_()``, to be called before gradients are clipped. Its state_dict has the scale too.
    """
    from hpc.train.torch_amp import prepare_optimizer as prepare

    return prepare(optimizer)


def backward(tensor: torch.Tensor) -> None:
    """The backward pass from this loss; in float16 from the scaled one."""
    from hpc.train.torch_amp import backward as go

    go(tensor)


def report_state(
    metrics: dict[str, Any],
    state: dict[str, Any],
    *,
    checkpoint_dir_name: str | None = None,
    checkpoint_upload_mode: CheckpointUploadMode = CheckpointUploadMode.SYNC,
    validation: bool | ValidationTaskConfig = False,
) -> None:
    """Report metrics, with a checkpoint of a state that lies on all ranks together: see `hpc.train.report`.

    state: modules (DDP, FSDP or plain), the optimizer of the one module, tensors, and values that can be pickled, by
    name. Each rank writes its part, by torch.distributed.checkpoint; any number of ranks can load it (`load_state`).
    With ASYNC the state is copied in memory, and the training goes on while the copy is written; the next call waits
    until it is.
    """
    from hpc.train.sharded import report_state as report

    report(metrics, state, checkpoint_dir_name, checkpoint_upload_mode, validation)


def load_state(state: dict[str, Any], checkpoint: Checkpoint | None = None) -> bool:
    """Fill a state, as `report_state` takes it, from a checkpoint that was made by it: the latest, unless one is given.

    Modules, optimizers and tensors are filled in place, other values are replaced. All ranks must call it. False where
    there is no checkpoint. Raises ValueError for a checkpoint of another kind.
    """
    from hpc.train.sharded import load_state as load

    return load(state, checkpoint)


__all__ = [
    "TorchCheckpoint",
    "TorchConfig",
    "TorchTrainer",
    "accelerate",
    "backward",
    "enable_reproducibility",
    "get_device",
    "get_devices",
    "load_state",
    "prepare_data_loader",
    "prepare_model",
    "prepare_optimizer",
    "report_state",
]
