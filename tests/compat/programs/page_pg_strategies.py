"""Strategies of placement groups on one node, what never fits, ready as a reference."""

import hpc as ray

ray.init(num_cpus=2)

from hpc.util.placement_group import placement_group, placement_group_table, remove_placement_group

for strategy in ("PACK", "SPREAD", "STRICT_PACK"):
    group = placement_group([{"CPU": 0.5}, {"CPU": 0.5}], strategy=strategy)
    print(strategy, group.wait(60), len(placement_group_table(group)["bundles"]))
    remove_placement_group(group)
group = placement_group([{"CPU": 0.5}, {"CPU": 0.5}], strategy="STRICT_SPREAD")
print(group.wait(0.5))
remove_placement_group(group)
group = placement_group([{"CPU": 1}])
print(len(ray.wait([group.ready()], timeout=60)[0]))


@ray.remote
def inside():
    return "inside"


print(ray.get(inside.options(placement_group=group).remote()))
print(ray.get(inside.options(placement_group=group, placement_group_bundle_index=0).remote()))
print(ray.get(inside.options(placement_group=None).remote()))
remove_placement_group(group)
print(placement_group_table(group)["state"])
