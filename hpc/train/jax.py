"""Training with JAX: JaxTrainer makes all ranks one JAX program, on GPUs, TPUs or CPUs.

jax is imported in the workers only. A driver that calls ``fit`` never loads it.
"""

from __future__ import annotations

import importlib
import importlib.util
import os
import socket
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from hpc.runs.config import RunConfig
from hpc.train.backend import Backend, BackendConfig, RankCalls
from hpc.train.config import ScalingConfig
from hpc.train.loop import current_loop
from hpc.train.trainer import DataParallelTrainer
from hpc.util.tpu import get_tpu_coordinator_env_vars

NO_JAX = "JAX is not installed for this Python; `pip install hpc[jax]` installs it for CPUs, `jax[cuda12]` for GPUs"


@dataclass
class JaxConfig(BackendConfig):
    """Where JAX computes: on TPUs, on GPUs, or on neither: then on CPUs. JAX_PLATFORMS, where you set it, stays."""

    use_tpu: bool = False
    use_gpu: bool = False

    def __post_init__(self) -> None:
        for name in ("use_tpu", "use_gpu"):
            if not isinstance(getattr(self, name), bool):
                raise TypeError(f"JaxConfig.{name} must be a bool, not {type(getattr(self, name)).__name__}")
        if self.use_tpu and self.use_gpu:
            raise ValueError("JaxConfig has use_tpu and use_gpu: give one of them")

    @property
    def platform(self) -> str:
        """JAX's name of it."""
        return "tpu" if self.use_tpu else "cuda" if self.use_gpu else "cpu"

    @property
    def backend_cls(self) -> type[Backend]:
        """jax.distributed."""
        return JaxBackend

    @property
    def framework(self) -> str:
        """The framework's name."""
        return "jax"

    def to_dict(self) -> dict[str, Any]:
        """The settings, as plain values."""
        return {"use_tpu": self.use_tpu, "use_gpu": self.use_gpu}


class JaxTrainer(DataParallelTrainer):
    """Runs a function on every rank of one JAX program: jax.devices() has the devices of all ranks.

    The function takes its configuration, or nothing. Import jax inside of it. jax_config: without one it follows
    ``scaling_config``.
    """

    def __init__(
        self,
        train_loop_per_worker: Callable[..., Any],
        *,
        train_loop_config: dict[str, Any] | None = None,
        jax_config: JaxConfig | None = None,
        scaling_config: ScalingConfig | None = None,
        dataset_config: Any = None,
        run_config: RunConfig | None = None,
        datasets: dict[str, Any] | None = None,
        validation_config: Any = None,
    ) -> None:
        if importlib.util.find_spec("jax") is None:
            raise ImportError(NO_JAX, name="jax")
        if jax_config is not None and not isinstance(jax_config, JaxConfig):
            raise TypeError(f"jax_config must be a JaxConfig, not {type(jax_config).__name__}")
        scaling = scaling_config if isinstance(scaling_config, ScalingConfig) else ScalingConfig()
        if jax_config is None:
            jax_config = JaxConfig(use_tpu=scaling.use_tpu, use_gpu=scaling.use_gpu)
        for name in ("use_gpu", "use_tpu"):
            if getattr(jax_config, name) and not getattr(scaling, name):
                raise ValueError(
                    f"JaxConfig({name}=True), but the workers hold none: set ScalingConfig({name}=True) too"
                )
        super().__init__(
            train_loop_per_worker,
            train_loop_config=train_loop_config,
            backend_config=jax_config,
            scaling_config=scaling_config,
            run_config=run_config,
            datasets=datasets,
            dataset_config=dataset_config,
            validation_config=validation_config,
        )


class JaxBackend(Backend):
    """jax.distributed on all ranks, when there are several. Rank 0 serves it, on a port that it keeps."""

    def on_start(self, worker_group: RankCalls, backend_config: Any) -> None:
        """Import jax everywhere, then meet."""
        addresses = worker_group.execute(_load_jax, backend_config.platform)
        if len(worker_group) > 1:
            worker_group.execute(_meet, addresses[0])

    def on_shutdown(self, worker_group: RankCalls, backend_config: Any) -> None:
        """Leave, all ranks at the same time."""
        if len(worker_group) > 1:
            worker_group.execute(_part)


_kept: socket.socket | None = None


def _load_jax(platform: str) -> str:
    """In a worker: import jax for this platform; rank 0 returns the address at which it will serve."""
    global _kept
    identity = current_loop("_load_jax").identity
    # The session says when it ends (should_checkpoint). JAX's own service would take SIGTERM away from this process.
    os.environ.setdefault("JAX_ENABLE_PREEMPTION_SERVICE", "false")
    os.environ.setdefault("JAX_CPU_COLLECTIVES_IMPLEMENTATION", "gloo")
    if not os.environ.get("JAX_PLATFORMS"):
        os.environ["JAX_PLATFORMS"] = platform
    try:
        jax: Any = importlib.import_module("jax")  # its types differ from version to version
    except ImportError as error:
        raise ImportError(f"{NO_JAX} (on node {identity.node}: {error})", name="jax") from error
    # Where something had imported jax before, it has read the variables already.
    jax.config.update("jax_platforms", os.environ["JAX_PLATFORMS"])
    jax.config.update("jax_cpu_collectives_implementation", os.environ["JAX_CPU_COLLECTIVES_IMPLEMENTATION"])
    if identity.world_rank != 0:
        return ""
    family = socket.AF_INET6 if ":" in identity.address else socket.AF_INET
    _kept = socket.socket(family, socket.SOCK_STREAM)
    # Bound, and not listening: JAX's service can bind the same port beside it, and no other program gets it meanwhile.
    _kept.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    _kept.bind((identity.address, 0))
    host = f"[{identity.address}]" if family == socket.AF_INET6 else identity.address
    return f"{host}:{_kept.getsockname()[1]}"


def _meet(coordinator: str) -> None:
    """In a worker: initialize jax.distributed."""
    jax: Any = importlib.import_module("jax")
    identity = current_loop("_meet").identity
    _reach_by(identity.address)
    if slices := os.environ.get("MEGASCALE_NUM_SLICES"):
        host, number = coordinator.rpartition(":")[0], int(os.environ["MEGASCALE_SLICE_ID"])
        os.environ.update(get_tpu_coordinator_env_vars(host, int(slices), number))
    jax.distributed.initialize(
        coordinator,
        identity.world_size,
        identity.world_rank,
        local_device_ids=list(identity.devices) or None,
        coordinator_bind_address=coordinator,
        cluster_detection_method="deactivate",
    )


def _reach_by(address: str) -> None:
    """Let gloo's connections use the node's address. JAX would take that of the host's name: often 127.0.1.1."""
    xla_bridge: Any = importlib.import_module("jax._src.xla_bridge")
    made_by: Any = getattr(xla_bridge, "_jax", None) or xla_bridge.xla_client._xla
    make = made_by.make_gloo_tcp_collectives

    def make_gloo_tcp_collectives(*args: Any, **kwargs: Any) -> Any:
        if not args[1:] and kwargs.get("interface") is None:
            kwargs["hostname"] = kwargs.get("hostname") or address
        return make(*args, **kwargs)

    made_by.make_gloo_tcp_collectives = make_gloo_tcp_collectives


def _part() -> None:
    """In a worker: leave jax.distributed, unless the training function has done so."""
    jax: Any = importlib.import_module("jax")
    jax.distributed.shutdown()


__all__ = ["JaxConfig", "JaxTrainer"]
