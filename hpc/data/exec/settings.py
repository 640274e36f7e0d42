"""What the user has asked for, as the machine reads it: a few numbers out of a `DataContext`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

MIB = 1 << 20
#: Blocks are about as large as this, unless the user wants smaller ones.
TYPICAL_BLOCK_BYTES = 32 * MIB
#: Blocks are no smaller than this on purpose.
LEAST_BLOCK_BYTES = MIB


@dataclass(frozen=True)
class RunSettings:
    """The numbers of one run.

    target_bytes: blocks are cut at this size. None: each part gives one block.
    store_share: the part of the object store that the run may use.
    max_errored: parts that may fail (-1: any number).
    attempts: how often work is done again whose actor died.
    init_attempts: how often an actor is started again that failed to begin; ``init_retries``: also where its
    constructor has raised. call_retries: errors of the user's for which a call of an actor is tried
    again. wait_actors_s: a pool gives no work before its least number of actors is up. After so long the run fails.
    grow_at, shrink_at: calls for each that an actor can run: with more a pool grows, with less it shrinks.
    keeps_order: blocks come in the order of their source.
    grow_by: so many actors come at a time, at most.
    stall_s: after so long without any progress, people are told why.
    give_up_s: after so long the run fails.
    """

    target_bytes: int | None = TYPICAL_BLOCK_BYTES
    store_share: float = 0.5
    max_errored: int = 0
    attempts: int = 3
    init_attempts: int = 3
    init_retries: bool = False
    call_retries: tuple[type[BaseException], ...] = ()
    wait_actors_s: float = 0.0
    grow_at: float = 1.75
    shrink_at: float = 0.5
    grow_by: int | None = None
    keeps_order: bool = True
    stall_s: float = 10.0
    give_up_s: float = 1800.0
    cpu_limit: float = float("inf")
    gpu_limit: float = float("inf")
    store_limit: float = float("inf")
    heap_limit: float = float("inf")
    exclude_cpus: float = 0.0
    exclude_gpus: float = 0.0
    exclude_store: float = 0.0
    exclude_heap: float = 0.0


def settings_of(context: Any) -> RunSettings:
    """The settings of a `DataContext`."""
    options = context.execution_options
    limits, without = options.resource_limits, options.exclude_resources
    cap = context.target_max_block_size
    share = context.override_object_store_memory_limit_fraction
    give_up = context.execution_no_progress_timeout_s
    calls, scaling = context.actor_task_retry_on_errors, context.autoscaling_config
    return RunSettings(
        target_bytes=None if cap is None else min(cap, TYPICAL_BLOCK_BYTES),
        store_share=0.5 if share is None else share,
        max_errored=context.max_errored_blocks,
        init_attempts=context.actor_init_max_retries,
        init_retries=context.actor_init_retry_on_errors,
        call_retries=(Exception,) if calls is True else tuple(calls or ()),
        wait_actors_s=max(0.0, context.wait_for_min_actors_s),
        grow_at=scaling.actor_pool_util_upscaling_threshold,
        shrink_at=scaling.actor_pool_util_downscaling_threshold,
        keeps_order=options.preserve_order,
        grow_by=scaling.actor_pool_max_upscaling_delta,
        give_up_s=give_up if give_up and give_up > 0 else float("inf"),
        cpu_limit=limits.cpu,
        gpu_limit=limits.gpu,
        store_limit=limits.object_store_memory,
        heap_limit=limits.memory,
        exclude_cpus=without.cpu,
        exclude_gpus=without.gpu,
        exclude_store=without.object_store_memory,
        exclude_heap=without.memory,
    )


def block_target(wanted: int | None, store_bytes: int, stages: int) -> int | None:
    """The size of blocks for a store of which so many bytes may be used: each stage holds a few of them at a time."""
    if wanted is None:
        return None
    return max(min(wanted, LEAST_BLOCK_BYTES), min(wanted, store_bytes // (8 * max(1, stages))))
