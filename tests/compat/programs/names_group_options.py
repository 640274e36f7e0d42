"""Placement groups the older way: placement_group=..., placement_group_bundle_index=..., ..._capture_child_tasks=..."""

import warnings

import hpc as ray

warnings.simplefilter("ignore")
ray.init(num_cpus=4)
pg = ray.util.placement_group([{"CPU": 1}, {"CPU": 1}])
ray.get(pg.ready())
print(
    "group:",
    type(pg.id).__name__,
    type(pg.id.hex()).__name__,
    pg.bundle_count,
    pg.bundle_specs,
    pg.id == ray.get(pg.ready()).id,
)


@ray.remote(num_cpus=1)
def inside():
    group = ray.util.get_current_placement_group()
    return group is not None and group.id == pg.id


@ray.remote(num_cpus=1)
class A:
    def inside(self):
        return ray.util.get_current_placement_group() is not None


@ray.remote(num_cpus=1)
def parent(**options):
    return ray.get(inside.options(num_cpus=0, **options).remote())


def show(what, call):
    try:
        print(what, call())
    except Exception as error:
        print(what, type(error).__name__)


show("none:", lambda: ray.get(inside.remote()))
show("task:", lambda: ray.get(inside.options(placement_group=pg).remote()))
show("bundle 1:", lambda: ray.get(inside.options(placement_group=pg, placement_group_bundle_index=1).remote()))
show(
    "decorated:",
    lambda: ray.get(
        ray.remote(num_cpus=1, placement_group=pg)(lambda: ray.util.get_current_placement_group() is not None).remote()
    ),
)
show("actor:", lambda: ray.get(A.options(placement_group=pg, placement_group_bundle_index=0).remote().inside.remote()))
show(
    "captures:", lambda: ray.get(parent.options(placement_group=pg, placement_group_capture_child_tasks=True).remote())
)
show("captures not:", lambda: ray.get(parent.options(placement_group=pg).remote()))
show(
    "leaves:",
    lambda: ray.get(
        parent.options(placement_group=pg, placement_group_capture_child_tasks=True).remote(placement_group=None)
    ),
)
show("default:", lambda: ray.get(inside.options(placement_group="default").remote()))
show("both:", lambda: inside.options(placement_group=pg, scheduling_strategy="SPREAD").remote())
show("no such bundle:", lambda: inside.options(placement_group=pg, placement_group_bundle_index=7).remote())
show("an index alone:", lambda: inside.options(placement_group_bundle_index=1).remote())
show("too large:", lambda: inside.options(placement_group=pg, num_cpus=2).remote())
table = ray.util.placement_group_table(pg)
print("table:", table["state"], table["strategy"], table["bundles"], table["placement_group_id"] == pg.id.hex())
print("by id:", sorted(ray.util.placement_group_table()) == [pg.id.hex()])
ray.util.remove_placement_group(pg)
named = ray.util.placement_group([{"CPU": 1}], strategy="SPREAD", name="named")
print("named:", named.wait(30), ray.util.get_placement_group("named").id == named.id)
show("unknown:", lambda: ray.util.get_placement_group("unknown"))
