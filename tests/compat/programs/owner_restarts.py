"""max_restarts and max_task_retries: what is repeated, what fails, what the actor remembers."""

import os

import hpc as ray

ray.init(num_cpus=2, log_to_driver=False)
errors = ray.exceptions


@ray.remote
class Fragile:
    def __init__(self):
        self.calls = 0

    def count(self):
        self.calls += 1
        return self.calls

    def die(self):
        os._exit(1)

    def die_once(self, path):
        if not os.path.exists(path):
            open(path, "w").close()
            os._exit(1)
        return "the second attempt"

    def use(self, value):
        return f"used {value}"


def show(what, ref):
    try:
        print(what, ray.get(ref, timeout=60))
    except Exception as error:
        print(what, type(error).__name__)


actor = Fragile.options(max_restarts=1, max_task_retries=1).remote()
show("count", actor.count.remote())
show("count", actor.count.remote())
once = actor.die_once.remote(os.path.abspath("mark"))
used = actor.use.remote(once)
show("once", once)
show("used", used)
show("anew", actor.count.remote())
show("the last death", actor.die.remote())
show("dead", actor.count.remote())

actor = Fragile.options(max_restarts=-1, max_task_retries=0).remote()
show("count", actor.count.remote())
failed = actor.die.remote()
try:
    ray.get(failed, timeout=60)
except errors.RayActorError as error:
    print("not repeated", isinstance(error, errors.RayActorError))
while True:
    try:
        print("back", ray.get(actor.count.remote(), timeout=60))
        break
    except errors.ActorUnavailableError:
        pass

actor = Fragile.options(max_restarts=0, max_task_retries=3).remote()
show("no restart", actor.die.remote())
