"""The state API: actors while they live and when they are dead, nodes, filters."""

import os

import hpc as ray

ray.init(num_cpus=2)
os.environ["RAY_ADDRESS"] = ray.get_runtime_context().gcs_address  # there may be other sessions

import time

from hpc.util import state

ref = ray.put(b"x" * 1_000_000)
print(len(ray.get(ref)))


@ray.remote
class Actor:
    def call(self):
        return 1


actor = Actor.options(name="seen").remote()
ray.get(actor.call.remote())
rows = state.list_actors()
print(len(rows), rows[0].class_name, rows[0].state, rows[0].name)
print(state.get_actor(rows[0].actor_id).state)
print([row.state for row in state.list_nodes()])
print(
    len(state.list_actors(filters=[("state", "=", "DEAD")])),
    len(state.list_actors(filters=[("class_name", "=", "Actor")])),
)
ray.kill(actor)
for _ in range(100):
    if [row.state for row in state.list_actors()] == ["DEAD"]:
        break
    time.sleep(0.1)
print([row.state for row in state.list_actors()])
