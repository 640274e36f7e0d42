"""The state API: tasks and calls while they run and when they have ended, actors, filters."""

import os
import tempfile
import time

import hpc as ray
from hpc.util.state import (
    get_actor,
    get_task,
    list_actors,
    list_nodes,
    list_placement_groups,
    list_tasks,
)

ray.init(num_cpus=4)
os.environ["RAY_ADDRESS"] = ray.get_runtime_context().gcs_address  # there may be other sessions
gate = os.path.join(tempfile.mkdtemp(), "gate")


@ray.remote
def job():
    return 1


@ray.remote
def fails():
    raise ValueError("no")


@ray.remote
class Box:
    def __init__(self):
        self.open = False

    def work(self):
        while not os.path.exists(gate):
            time.sleep(0.02)

    def next(self):
        return 1


def rows(wanted, state):
    end = time.monotonic() + 20
    while True:
        found = sorted(
            {
                (r.name, r.type, r.state, r.func_or_class_name)
                for r in list_tasks(limit=100, detail=True)
                if r.name in wanted
            }
        )
        if len(found) >= len(wanted) and all(r[2] in state for r in found) or time.monotonic() > end:
            return found
        time.sleep(0.1)


box = Box.options(name="box").remote()
ray.get(box.next.remote())
work, later = box.work.remote(), box.next.remote()
for row in rows(["Box.work"], ["RUNNING"]):
    print("while it runs:", *row)
open(gate, "w").close()
refs = [job.remote(), fails.remote(), job.options(name="other").remote()]
ray.wait(refs, num_returns=3)
ray.get([work, later])
for row in rows(["job", "Box.work", "Box.next"], ["FINISHED"]):
    print("ended:", *row)
for row in rows(["fails"], ["FAILED"]):
    print("failed:", *row)
print("custom name:", [(r[0], r[1]) for r in rows(["other"], ["FINISHED"])])
print("filter:", sorted({r.name for r in list_tasks(filters=[("type", "=", "ACTOR_TASK")])}))
print("not:", sorted({r.name for r in list_tasks(filters=[("type", "=", "NORMAL_TASK"), ("state", "!=", "FAILED")])}))
row = get_actor(id=box._actor_id.hex())
print("actor:", row.class_name, row.state, row.name, row.actor_id == box._actor_id.hex())
print("actors:", [(r.class_name, r.state) for r in list_actors()], list_actors(filters=[("state", "=", "DEAD")]))
print("nothing:", get_actor(id="f" * 32), get_task(id="f" * 48))
print(
    "nodes:",
    [(r.state, r.resources_total["CPU"], r.node_id == ray.get_runtime_context().get_node_id()) for r in list_nodes()],
)
pg = ray.util.placement_group([{"CPU": 1}])
ray.get(pg.ready())
print("groups:", [(r.state, r.placement_group_id == pg.id.hex()) for r in list_placement_groups()])
