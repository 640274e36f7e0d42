"""Scheduling strategies on one node."""

import hpc as ray

ray.init(num_cpus=2)

from hpc.util.scheduling_strategies import NodeAffinitySchedulingStrategy


@ray.remote
def node():
    return ray.get_runtime_context().get_node_id()


here = ray.get_runtime_context().get_node_id()
print(ray.get(node.remote()) == here)
print(ray.get(node.options(scheduling_strategy="SPREAD").remote()) == here)
print(ray.get(node.options(scheduling_strategy="DEFAULT").remote()) == here)
print(ray.get(node.options(scheduling_strategy=NodeAffinitySchedulingStrategy(here, soft=False)).remote()) == here)
try:
    node.options(scheduling_strategy="ANYWHERE").remote()
except ValueError:
    print("ValueError")
print(ray.nodes()[0]["NodeID"] == here, ray.nodes()[0]["Alive"])
