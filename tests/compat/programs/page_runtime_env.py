"""Runtime environments: variables, and what is refused."""

import hpc as ray

ray.init(num_cpus=2)

import os


@ray.remote
def variable(name):
    return os.environ.get(name)


print(
    ray.get(variable.options(runtime_env={"env_vars": {"MINE": "1"}}).remote("MINE")), ray.get(variable.remote("MINE"))
)


@ray.remote(runtime_env={"env_vars": {"MINE": "actor"}})
class Actor:
    def variable(self):
        return os.environ.get("MINE")

    def child(self):
        return ray.get(variable.remote("MINE"))


actor = Actor.remote()
print(ray.get(actor.variable.remote()), ray.get(actor.child.remote()))
for env in ({"env_vars": {"A": 1}}, {"env_vars": [1]}, {"working_dir": 3}):
    try:
        variable.options(runtime_env=env).remote("A")
        print("accepted")
    except (TypeError, ValueError) as error:
        print(type(error).__name__)
