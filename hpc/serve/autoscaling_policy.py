"""How many replicas a deployment shall have for its load: Ray Serve's policy, and what a user's own policy gets."""

from __future__ import annotations

import math
from typing import Any

from hpc.serve.config import AutoscalingConfig, AutoscalingContext


def default_autoscaling_policy(ctx: AutoscalingContext) -> tuple[int, dict[str, Any]]:
    """As many replicas as the requests need at ``target_ongoing_requests`` each, in steps of the factors.

    The delays are not here: whatever a policy says must hold as long as the configuration demands."""
    config, current = ctx.config, ctx.current_num_replicas
    if current == 0:
        wanted = max(math.ceil(config.up), ctx.capacity_adjusted_min_replicas) if ctx.total_num_requests > 0 else 0
        return wanted, ctx.policy_state
    need = ctx.total_num_requests / config.target
    factor = config.up if need > current else config.down
    wanted = math.ceil(current + factor * (need - current))
    if need < current and wanted >= current:
        wanted = current - 1 if factor < 1 and math.ceil(need) < current else wanted
    return max(wanted, 0), ctx.policy_state


#: Ray's other name of it.
replica_queue_length_autoscaling_policy = default_autoscaling_policy

__all__ = [
    "AutoscalingConfig",
    "AutoscalingContext",
    "default_autoscaling_policy",
    "replica_queue_length_autoscaling_policy",
]
