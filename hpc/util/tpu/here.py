"""What this process's machine is in a slice of TPUs."""

from __future__ import annotations

import logging
import os

from hpc import spi
from hpc.util.tpu.shapes import SMALL

log = logging.getLogger(__name__)
PROFILER_PORT = 9999


def get_current_pod_name() -> str | None:
    """The name of the slice that this machine is part of; None where it is part of none."""
    return spi.tpu_here().name or None


def get_current_pod_worker_count() -> int | None:
    """How many hosts that slice has; None where this machine has no chips or nobody says the slice's type."""
    here = spi.tpu_here()
    version, _, cores = here.pod_type.partition("-")
    on_host = here.chips * (1 if version in SMALL else 2)
    return -(-int(cores) // on_host) if on_host and cores else None


def get_num_tpu_chips_on_node() -> int:
    """How many TPU chips this machine has, by its device files."""
    return spi.tpu_here().chips


def init_jax_profiler(port: int | None = None) -> None:
    """Start JAX's profiler in this process, at the port, else at that of ``JAX_PROFILER_PORT``, else at 9999. What
    keeps it from starting is logged, not raised: a training goes on without it."""
    try:
        import jax  # type: ignore[import-not-found, import-untyped, unused-ignore]
    except ImportError:
        log.warning("JAX is not installed: there is nothing to profile")
        return
    try:
        chosen = int(os.environ.get("JAX_PROFILER_PORT", PROFILER_PORT)) if port is None else port
        jax.profiler.start_server(chosen)
    except Exception as error:
        log.error("JAX's profiler does not start: %s", error)
        return
    log.info("JAX's profiler is at port %d", chosen)
