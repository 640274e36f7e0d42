"""The runtime context in a driver, a task, an actor and a placement group."""

import warnings

import hpc as ray

warnings.simplefilter("ignore")
print("it connects:", type(ray.get_runtime_context()).__name__, ray.is_initialized())
ray.shutdown()
ray.init(num_cpus=4)


def facts():
    c = ray.get_runtime_context()
    out = {
        "get": sorted(c.get()),
        "job": c.job_id.hex() == c.get_job_id(),
        "node": c.node_id.hex() == c.get_node_id() == ray.nodes()[0]["NodeID"],
        "task name": c.get_task_name(),
        "group": c.get_placement_group_id(),
        "no group": c.current_placement_group_id.is_nil(),
        "capture": c.should_capture_child_tasks_in_placement_group,
        "labels": isinstance(c.get_node_labels(), dict),
        "session": isinstance(c.get_session_name(), str),
        "temp": isinstance(c.get_temp_dir(), str),
        "env": c.get_runtime_env_string(),
        "gpus": c.get_accelerator_ids()["GPU"],
        "ids": c.get_resource_ids()["GPU"],
        "namespace": isinstance(c.namespace, str),
        "worker": isinstance(c.get_worker_id(), str),
        "address": isinstance(c.gcs_address, str),
    }
    for name in ("task_id", "actor_id", "current_actor", "was_current_actor_reconstructed"):
        try:
            out[name] = type(getattr(c, name)).__name__
        except Exception as error:
            out[name] = type(error).__name__
    for name in ("get_task_id", "get_actor_id", "get_actor_name", "get_task_function_name"):
        out[name] = type(getattr(c, name)()).__name__
    return [f"{key}: {value}" for key, value in out.items()]


@ray.remote
def task():
    return facts()


@ray.remote
class Actor:
    def ask(self):
        return facts()

    def me(self):
        return ray.get_runtime_context().current_actor

    def name(self):
        c = ray.get_runtime_context()
        return c.get_actor_name(), c.get_task_name(), c.get_task_function_name().split(".", 1)[1]

    def resources(self):
        return ray.get_runtime_context().get_assigned_resources()


for line in facts():
    if not line.startswith("was_"):
        print("driver", line)
for line in ray.get(task.remote()):
    if not line.startswith("was_"):
        print("task", line)
actor = Actor.options(name="asked", num_cpus=1).remote()
for line in ray.get(actor.ask.remote()):
    print("actor", line)
print("a handle of itself:", ray.get(ray.get(actor.me.remote()).name.remote()))
print("resources:", ray.get(actor.resources.remote()))
print("named task:", [line for line in ray.get(task.options(name="mine").remote()) if "task name" in line])
