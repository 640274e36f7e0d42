"""Resources as people ask for them: fractions, custom ones, memory; what waits, what comes back, wrong options."""

import time

import hpc as ray
from hpc.util.scheduling_strategies import NodeAffinitySchedulingStrategy, PlacementGroupSchedulingStrategy

ray.init(num_cpus=4, resources={"license": 2, "Special": 1}, object_store_memory=100 * 1024 * 1024)


@ray.remote
def given():
    return {k: v for k, v in sorted(ray.get_runtime_context().get_assigned_resources().items())}


def attempt(what, make):
    try:
        print(what, make())
    except Exception as error:
        print(what, type(error).__name__)


print("default:", ray.get(given.remote()))
for options in (
    {"num_cpus": 2},
    {"num_cpus": 0.5},
    {"num_cpus": 0},
    {"resources": {"license": 1}},
    {"resources": {"license": 0.25, "Special": 0.5}, "num_cpus": 1},
    {"memory": 1024 * 1024},
):
    print(options, ray.get(given.options(**options).remote()))
for options in (
    {"resources": {"CPU": 1}},
    {"resources": {"license": -1}},
    {"resources": ["license"]},
    {"num_cpus": "two"},
    {"num_cpus": 1.5},
    {"num_gpus": -1},
    {"memory": -5},
    {"scheduling_strategy": "FASTEST"},
    {"scheduling_strategy": 5},
    {"num_returns": 0},
    {"num_returns": "many"},
    {"max_retries": -2},
    {"max_calls": -1},
    {"name": 5},
    {"lifetime": "detached"},
    {"max_restarts": 1},
    {"max_concurrency": 2},
    {"no_such": 1},
):
    try:
        given.options(**options)
        print(options, "accepted")
    except Exception as error:
        print(options, type(error).__name__)
print("spread:", len(ray.get([given.options(scheduling_strategy="SPREAD").remote() for _ in range(4)])))
here = ray.get_runtime_context().get_node_id()
node = NodeAffinitySchedulingStrategy(node_id=here, soft=False)
print(
    "here:",
    ray.get(ray.remote(lambda: ray.get_runtime_context().get_node_id()).options(scheduling_strategy=node).remote())
    == here,
)


@ray.remote(resources={"license": 1}, num_cpus=0)
class Licensed:
    def ping(self):
        return "pong"


actors = [Licensed.remote() for _ in range(3)]
print("two of three:", len(ray.wait([a.ping.remote() for a in actors], num_returns=2, timeout=60)[0]))
last = [a.ping.remote() for a in actors]
ready, waiting = ray.wait(last, num_returns=3, timeout=0.5)
print("one waits:", len(waiting))
ray.kill(actors[0])
print("until another ends:", ray.get(last[2]))
del actors
group = ray.util.placement_group([{"CPU": 1}, {"CPU": 1, "license": 1}], strategy="PACK")
print("group:", group.wait(60), group.bundle_count, group.bundle_specs)
in_group = PlacementGroupSchedulingStrategy(placement_group=group, placement_group_bundle_index=1)
print(
    "in it:",
    sorted(
        k
        for k in ray.get(given.options(scheduling_strategy=in_group, resources={"license": 1}).remote())
        if "group" not in k
    ),
)
attempt("too large for the bundle:", lambda: given.options(num_cpus=2, scheduling_strategy=in_group).remote())
wrong = PlacementGroupSchedulingStrategy(placement_group=group, placement_group_bundle_index=7)
attempt("no such bundle:", lambda: given.options(scheduling_strategy=wrong).remote())
ray.util.remove_placement_group(group)
for _ in range(200):
    if ray.available_resources().get("license", 0) == 2 and ray.available_resources()["CPU"] == 4:
        break
    time.sleep(0.05)
print("all is back:", ray.available_resources()["CPU"], ray.available_resources()["license"])
never = given.options(num_cpus=100).remote()
print("never:", ray.wait([never], timeout=0.5)[0])
