"""A task whose argument failed."""

import hpc as ray

ray.init(num_cpus=2)
E = ray.exceptions


@ray.remote
def first():
    raise ValueError("bad")


@ray.remote
def second(x):
    return x


@ray.remote
class Actor:
    def use(self, x):
        return x


actor = Actor.remote()
for ref in (
    second.remote(first.remote()),
    second.remote(second.remote(first.remote())),
    actor.use.remote(first.remote()),
):
    try:
        ray.get(ref)
    except ValueError as error:
        print(
            type(error).__name__,
            isinstance(error, E.RayTaskError),
            "first" in str(error),
            "ValueError: bad" in str(error),
        )
