"""ActorPool as its page shows it, and where it says no."""

import hpc as ray
from hpc.util import ActorPool

ray.init(num_cpus=3)


@ray.remote
class Doubles:
    def double(self, x):
        if x == 13:
            raise ValueError("thirteen")
        return 2 * x


def show(what, call):
    try:
        print(what, call())
    except Exception as error:
        print(what, type(error).__name__, isinstance(error, ValueError))


actors = [Doubles.remote() for _ in range(2)]
pool = ActorPool(actors)
show("map", lambda: list(pool.map(lambda a, v: a.double.remote(v), range(6))))
show("map_unordered", lambda: sorted(pool.map_unordered(lambda a, v: a.double.remote(v), range(6))))
for i in range(4):
    pool.submit(lambda a, v: a.double.remote(v), i)
show("has_next", pool.has_next)
show("has_free", pool.has_free)
show("get_next", pool.get_next)
show("unordered", lambda: sorted(pool.get_next_unordered() for _ in range(3)))
show("has_next", pool.has_next)
show("get_next of none", pool.get_next)
show("error", lambda: list(pool.map(lambda a, v: a.double.remote(v), [1, 13])))
show("push", lambda: pool.push(actors[0]))
one = ActorPool([actors[0]])
show("pop", lambda: one.pop_idle() == actors[0])
show("pop of none", one.pop_idle)
