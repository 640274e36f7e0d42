"""Names that are taken."""

import hpc as ray

ray.init(num_cpus=2)
E = ray.exceptions


@ray.remote
class Named:
    def alive(self):
        return True


kept = Named.options(name="one").remote()
try:
    Named.options(name="one").remote()
except ValueError as error:
    print(isinstance(error, E.ActorAlreadyExistsError), "one" in str(error))
print(ray.get(Named.options(name="one", get_if_exists=True).remote().alive.remote()))
