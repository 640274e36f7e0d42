"""Placement groups: made, waited for, used, removed."""

import hpc as ray
from hpc.util.placement_group import placement_group, placement_group_table, remove_placement_group
from hpc.util.scheduling_strategies import PlacementGroupSchedulingStrategy

ray.init(num_cpus=4)
group = placement_group([{"CPU": 1}, {"CPU": 2}], strategy="PACK", name="mine")
print(ray.get(group.ready()) is not None, group.wait(10), group.bundle_count, group.bundle_specs)


@ray.remote(num_cpus=1)
def where():
    current = ray.util.get_current_placement_group()
    return current is not None and current.bundle_count


def strategy(**more):
    return PlacementGroupSchedulingStrategy(placement_group=group, **more)


print(ray.get(where.options(scheduling_strategy=strategy()).remote()))
print(ray.get(where.options(scheduling_strategy=strategy(placement_group_bundle_index=1)).remote()))
print(ray.get(where.remote()))


@ray.remote(num_cpus=1)
def parent():
    return ray.get(where.remote())


capture = strategy(placement_group_capture_child_tasks=True)
print(
    ray.get(parent.options(scheduling_strategy=capture).remote()),
    ray.get(parent.options(scheduling_strategy=strategy()).remote()),
)
table = placement_group_table(group)
print(table["name"], table["strategy"], table["state"], sorted(table["bundles"].items()))
for bad in (
    lambda: placement_group([]),
    lambda: placement_group([{}]),
    lambda: placement_group([{"CPU": 1}], strategy="ANY"),
    lambda: placement_group({"CPU": 1}),
    lambda: where.options(scheduling_strategy=strategy(placement_group_bundle_index=5)).remote(),
):
    try:
        bad()
        print("accepted")
    except (ValueError, TypeError) as error:
        print(type(error).__name__)
print(placement_group([{"CPU": 100}]).wait(0.3))
print(ray.util.get_placement_group("mine").id == group.id, ray.util.get_current_placement_group())
remove_placement_group(group)
try:
    ray.util.get_placement_group("none")
except ValueError as error:
    print("ValueError")
