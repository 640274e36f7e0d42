"""Scheduling strategies."""

import hpc as ray
from hpc.util.scheduling_strategies import NodeAffinitySchedulingStrategy

ray.init(num_cpus=2)


@ray.remote
def where():
    return ray.get_runtime_context().get_node_id()


here = ray.get_runtime_context().get_node_id()
for strategy in ("DEFAULT", "SPREAD", NodeAffinitySchedulingStrategy(here, soft=False)):
    print(ray.get(where.options(scheduling_strategy=strategy).remote()) == here)
for wrong in ("NEAREST", 5):
    try:
        where.options(scheduling_strategy=wrong).remote()
        print(wrong, "accepted")
    except (ValueError, TypeError) as error:
        print(wrong, type(error).__name__)
soft = NodeAffinitySchedulingStrategy(here, soft=True)
print(soft.soft, soft.node_id == here)
print(len(ray.nodes()), ray.nodes()[0]["Alive"], ray.nodes()[0]["NodeID"] == here, ray.nodes()[0]["Resources"]["CPU"])
