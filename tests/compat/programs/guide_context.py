"""The runtime context, in the driver, in a task and in an actor."""

import hpc as ray

ray.init(num_cpus=2, namespace="space")


def facts():
    context = ray.get_runtime_context()
    return {
        "job": bool(context.get_job_id()),
        "node": bool(context.get_node_id()),
        "task": context.get_task_id() is not None,
        "actor": context.get_actor_id() is not None,
        "actor name": context.get_actor_name(),
        "namespace": context.namespace,
        "worker": bool(context.get_worker_id()),
        "reconstructed": context.was_current_actor_reconstructed if context.get_actor_id() else None,
        "resources": sorted(context.get_assigned_resources().items()) if context.get_task_id() else None,
        "accelerators": context.get_accelerator_ids()["GPU"] if context.get_task_id() else None,
    }


@ray.remote
class Actor:
    def facts(self):
        return facts()

    def me(self):
        return ray.get_runtime_context().current_actor

    def name(self):
        return ray.get_runtime_context().get_task_name()


for place, found in (
    ("driver", facts()),
    ("task", ray.get(ray.remote(facts).remote())),
    ("two CPUs", ray.get(ray.remote(num_cpus=2)(facts).remote())),
    ("actor", ray.get(Actor.options(name="named", num_cpus=1).remote().facts.remote())),
):
    for key, value in found.items():
        print(f"{place}, {key}: {value}")
actor = Actor.remote()
print(ray.get(actor.me.remote()) == actor, ray.get(actor.name.remote()))
same = ray.get(ray.remote(lambda: ray.get_runtime_context().get_job_id()).remote())
print(same == ray.get_runtime_context().get_job_id())
