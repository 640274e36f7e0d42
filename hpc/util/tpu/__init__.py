"""Slices of TPUs: reserve whole ones or parts, run on each host, ask what is there. Twin of ``ray.util.tpu``.

A slice is the chips of several nodes that are wired together. Nodes say by labels which slice they are part of
(docs/accelerators.md).
"""

from __future__ import annotations

from hpc.util.tpu.here import (
    get_current_pod_name,
    get_current_pod_worker_count,
    get_num_tpu_chips_on_node,
    init_jax_profiler,
)
from hpc.util.tpu.parts import SubslicePlacementGroup, subslice_placement_group
from hpc.util.tpu.shapes import (
    get_tpu_coordinator_env_vars,
    get_tpu_num_slices_for_workers,
    get_tpu_version_from_type,
    get_tpu_worker_resources,
)
from hpc.util.tpu.slices import (
    SlicePlacementGroup,
    dispatch,
    get_num_ready_tpu_slices,
    get_num_tpu_slices,
    get_tpu_nodes_for_slice,
    get_tpu_slice_name_from_node,
    run_on_slice,
    slice_placement_group,
)

__all__ = [
    "SlicePlacementGroup",
    "SubslicePlacementGroup",
    "dispatch",
    "get_current_pod_name",
    "get_current_pod_worker_count",
    "get_num_ready_tpu_slices",
    "get_num_tpu_chips_on_node",
    "get_num_tpu_slices",
    "get_tpu_coordinator_env_vars",
    "get_tpu_nodes_for_slice",
    "get_tpu_num_slices_for_workers",
    "get_tpu_slice_name_from_node",
    "get_tpu_version_from_type",
    "get_tpu_worker_resources",
    "init_jax_profiler",
    "run_on_slice",
    "slice_placement_group",
    "subslice_placement_group",
]
