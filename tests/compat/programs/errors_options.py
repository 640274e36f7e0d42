"""Options that do not exist, where they are given and when that is said."""

import hpc as ray


def tell(what, do):
    try:
        do()
        print(what, "accepted")
    except Exception as error:
        print(what, type(error).__name__, "nonsense" in str(error))


tell("init:", lambda: ray.init(num_cpus=2, nonsense=1))
ray.init(num_cpus=2)
tell("init again:", lambda: ray.init(num_cpus=2))
tell("init again, of no consequence:", lambda: ray.init(ignore_reinit_error=True, nonsense=1))


@ray.remote
def function():
    return 1


@ray.remote
class Actor:
    def method(self):
        return 1


actor = Actor.remote()
ref = function.remote()
tell("a function's options:", lambda: function.options(nonsense=1))
tell("a class's options:", lambda: Actor.options(nonsense=1))
tell("a method's options:", lambda: actor.method.options(nonsense=1).remote())
tell("a method's, of an actor:", lambda: actor.method.options(max_restarts=1).remote())
tell("a function's, of an actor:", lambda: function.options(max_restarts=1))
tell("a class's, of a task:", lambda: Actor.options(num_returns=1))
tell("remote, of a function:", lambda: ray.remote(nonsense=1)(lambda: 1))
tell("remote, of a class:", lambda: ray.remote(nonsense=1)(type("B", (), {})))
tell("method:", lambda: ray.method(nonsense=1)(lambda self: 1))
tell("remote of a number:", lambda: ray.remote(1))
tell("options by position:", lambda: function.options(5))
tell("get:", lambda: ray.get(ref, nonsense=1))
tell("put:", lambda: ray.put(1, nonsense=1))
tell("wait:", lambda: ray.wait([ref], nonsense=1))
tell("cancel:", lambda: ray.cancel(ref, nonsense=1))
tell("kill:", lambda: ray.kill(actor, nonsense=1))
tell("shutdown:", lambda: ray.shutdown(nonsense=1))
