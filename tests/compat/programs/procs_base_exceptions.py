"""Exceptions that are not of class Exception, raised in tasks and methods."""

import hpc as ray

ray.init(num_cpus=2, log_to_driver=False)


class Mine(BaseException):
    pass


@ray.remote(max_retries=0)
def task(kind):
    raise {"KeyboardInterrupt": KeyboardInterrupt, "GeneratorExit": GeneratorExit, "Mine": Mine}[kind]("said")


@ray.remote
class Box:
    def method(self, kind):
        raise {"KeyboardInterrupt": KeyboardInterrupt, "GeneratorExit": GeneratorExit, "Mine": Mine}[kind]("said")

    def ready(self):
        return "lives on"


for kind in ("KeyboardInterrupt", "GeneratorExit", "Mine"):
    box = Box.remote()
    for what, ref in (("task", task.remote(kind)), ("method", box.method.remote(kind))):
        try:
            ray.get(ref)
        except ray.exceptions.TaskCancelledError:
            print(what, kind, "-> TaskCancelledError")
        except ray.exceptions.RayTaskError as error:
            print(what, kind, "->", type(error.cause).__name__, error.cause)
    print("the actor", ray.get(box.ready.remote()))
