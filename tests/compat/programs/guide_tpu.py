"""What a slice of TPUs is made of, and one whose chips are all on one host."""

import hpc as ray
from hpc.util import tpu
from hpc.util.accelerators import GOOGLE_TPU_V4

for kind in ("TPU-V6E", "v4", "tpu7x", "TPU-V5LITEPOD"):
    print(kind, tpu.get_tpu_version_from_type(kind))
for wrong in ("v9", "A100", ""):
    try:
        tpu.get_tpu_version_from_type(wrong)
    except ValueError as error:
        print(wrong, type(error).__name__)
for topology, kind, each, count in (
    ("2x2x2", "TPU-V4", None, 1), ("4x4", "v6e", None, 2), ("2x4", "v6e", None, 1), ("4x4", "v6e", {"TPU": 1}, 1),
    ("4x4", "v6e", {"TPU": 3}, 1), ("4x4", "v6e", {"TPU": 0}, 1), ("2x2x1", "v5p", {"CPU": 8}, 1),
):  # fmt: skip
    try:
        print(topology, kind, tpu.get_tpu_worker_resources(topology, kind, each, count))
    except ValueError as error:
        print(topology, kind, type(error).__name__)
    print(tpu.get_tpu_num_slices_for_workers(topology, kind, 9, each))
print(tpu.get_tpu_coordinator_env_vars("10.0.0.1", 2, 1))
print(tpu.get_num_tpu_slices("2x2x1", GOOGLE_TPU_V4), tpu.get_num_ready_tpu_slices("2x2x1", "v4"))
ray.init(num_cpus=2, resources={"TPU": 4}, labels={"ray.io/tpu-pod-type": "v4-8", "ray.io/tpu-slice-name": "mine"})
print(tpu.get_num_tpu_slices("2x2x1", "TPU-V4"), tpu.get_num_ready_tpu_slices("2x2x1", "TPU-V4"))
print(tpu.get_num_tpu_chips_on_node(), [tpu.get_tpu_slice_name_from_node(node) for node in ray.nodes()])
print(len(tpu.get_tpu_nodes_for_slice("mine")), tpu.get_tpu_nodes_for_slice("other"))


@ray.remote
def chips(extra, more=0):
    return ray.get_runtime_context().get_accelerator_ids()["TPU"], extra, more


held = tpu.slice_placement_group("2x2x1", "v4")
print(held.num_hosts, held.num_bundles, held.num_slices, held.chips_per_host, held.devices_per_host)
print(held.topology, held.accelerator_version, held.tpu_resource_per_chip, held.bundle_resources)
print(held.bundle_label_selector, held.head_placement_groups, held.placement_group == held.slice_placement_group)
print(ray.get(tpu.run_on_slice(chips, "x", tpu_slice=held, more=3)))
try:
    print(held.slice_placement_groups)
except ValueError as error:
    print(type(error).__name__)
held.shutdown()
print(held.slice_placement_group)
two = tpu.slice_placement_group("2x2x1", "v4", resources_per_bundle={"TPU": 2}, pg_per_slice=True)
print(len(two.slice_placement_groups), two.num_bundles, sorted(ray.get(tpu.run_on_slice(chips, 1, tpu_slice=two))))
two.shutdown()
for wrong in (
    {"topology": "3x3", "accelerator_version": "v4"}, {"topology": "2x2x1", "accelerator_version": "v9"},
    {"topology": "2x2x1", "accelerator_version": "v4", "chips_per_vm": 0},
    {"topology": "2x2x1", "accelerator_version": "v4", "bundle_label_selector": [{}, {}]},
):  # fmt: skip
    try:
        tpu.SlicePlacementGroup(**wrong)
    except ValueError as error:
        print(type(error).__name__)
for arguments in ((print,), (chips, 1)):
    try:
        tpu.run_on_slice(*arguments)
    except (TypeError, ValueError) as error:
        print(type(error).__name__)
