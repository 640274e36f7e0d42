"""An actor needs a CPU to be placed and none to run, unless it says otherwise."""

import hpc as ray

ray.init(num_cpus=2)


@ray.remote
class Plain:
    def ping(self):
        return ray.get_runtime_context().get_assigned_resources()


many = [Plain.remote() for _ in range(6)]
print("six on two CPUs", [dict(sorted(row.items())) for row in ray.get([one.ping.remote() for one in many])][0])
del many
one = Plain.options(num_cpus=2).remote()
print("both", ray.get(one.ping.remote()))


@ray.remote
def task():
    return "ran"


waiting = task.remote()
print("waits", ray.wait([waiting], timeout=1)[0] == [])
ray.kill(one)
print(ray.get(waiting))
