"""Labels of a node and their selectors."""

import hpc as ray
from hpc.util.scheduling_strategies import DoesNotExist, Exists, In, NodeLabelSchedulingStrategy, NotIn

ray.init(num_cpus=2, labels={"zone": "a", "disk": "fast"})
labels = ray.nodes()[0]["Labels"]
print(labels["zone"], labels["disk"])


@ray.remote
def where():
    return "ran"


print(ray.get(where.options(label_selector={"zone": "a"}).remote()))
print(ray.get(where.options(label_selector={"zone": "in(a,b)"}).remote()))
print(ray.get(where.options(label_selector={"zone": "!b"}).remote()))
ref = where.options(label_selector={"zone": "b"}).remote()
print("never", ray.wait([ref], timeout=1)[0])
for hard in ({"zone": In("a", "c")}, {"zone": NotIn("b")}, {"zone": Exists()}, {"none": DoesNotExist()}):
    print(ray.get(where.options(scheduling_strategy=NodeLabelSchedulingStrategy(hard=hard)).remote()))


@ray.remote
class Actor:
    def ping(self):
        return "pong"


print(ray.get(Actor.options(label_selector={"disk": "fast"}).remote().ping.remote()))
