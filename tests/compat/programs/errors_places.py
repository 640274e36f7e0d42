"""The wrong thing given to get, wait, cancel and kill, and things of an earlier session."""

import hpc as ray

ray.init(num_cpus=2)


def tell(what, do):
    try:
        print(what, do())
    except Exception as error:
        print(what, type(error).__name__, isinstance(error, ValueError))


@ray.remote
def one():
    return 1


@ray.remote(num_returns="streaming")
def items():
    yield 1


@ray.remote
class Actor:
    def method(self):
        return 1


actor, ref, generator = Actor.remote(), one.remote(), items.remote()
ray.get([actor.method.remote(), ref])
tell("get of a generator:", lambda: type(ray.get(generator)).__name__)
tell("get of a list with a generator:", lambda: ray.get([generator]))
tell("get of both:", lambda: ray.get([ref, generator]))
tell("get of a list with a number:", lambda: ray.get([ref, 5]))
tell("get of a list of lists:", lambda: ray.get([[ref]]))
tell("get of a number:", lambda: ray.get(5))
tell("wait for a generator:", lambda: [len(part) for part in ray.wait([generator])])
tell("cancel of a number:", lambda: ray.cancel(5))
tell("cancel of a list:", lambda: ray.cancel([ref]))
tell("cancel of an actor:", lambda: ray.cancel(actor))
tell("cancel of what was put:", lambda: ray.cancel(ray.put(1)))
tell("cancel of what is finished:", lambda: ray.cancel(ref))
tell("kill of a number:", lambda: ray.kill(5))
tell("kill of a reference:", lambda: ray.kill(ref))
put = ray.put(1)
ray.shutdown()
ray.init(num_cpus=2)
tell("earlier, get:", lambda: ray.get(ref, timeout=5))
tell("earlier, get of what was put:", lambda: ray.get(put, timeout=5))
tell("earlier, wait:", lambda: ray.wait([ref], timeout=5))
tell("earlier, cancel:", lambda: ray.cancel(ref))
tell("earlier, cancel by force:", lambda: ray.cancel(ref, force=True))
tell("earlier, cancel of a generator:", lambda: ray.cancel(generator))
tell("earlier, kill:", lambda: ray.kill(actor))
tell("earlier, the function:", lambda: ray.get(one.remote()))
