"""Metrics are made, set, and refuse what is wrong."""

import hpc as ray

ray.init(num_cpus=2)

from hpc.util.metrics import Counter, Gauge, Histogram

counter = Counter("requests", description="all", tag_keys=("route",))
counter.inc(1, {"route": "a"})
counter.set_default_tags({"route": "b"})
counter.inc()
gauge = Gauge("level")
gauge.set(3)
histogram = Histogram("time", boundaries=[1, 2])
histogram.observe(1.5)
print(counter.info["name"], counter.info["tag_keys"], gauge.info["description"])
for bad in (
    lambda: counter.inc(0),
    lambda: counter.inc(-1),
    lambda: counter.inc(1, {"other": "x"}),
    lambda: Histogram("h", boundaries=[]),
    lambda: Histogram("h", boundaries=[-1]),
    lambda: Counter(""),
    lambda: Counter(3),
    lambda: Counter("c", tag_keys="a"),
    lambda: counter.set_default_tags({"x": "y"}),
):
    try:
        bad()
        print("accepted")
    except (ValueError, TypeError) as error:
        print(type(error).__name__)
