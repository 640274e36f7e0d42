"""Retries and restarts, counted by files: exceptions, crashes, lists of exceptions, actors, calls, constructors."""

import os
import tempfile

import hpc as ray

ray.init(num_cpus=2, log_to_driver=False)
folder = tempfile.mkdtemp()


def tries(name):
    path = os.path.join(folder, name)
    with open(path, "a") as file:
        file.write(".")
    return os.path.getsize(path)


@ray.remote
def flaky(name, good, how):
    n = tries(name)
    if n < good:
        if how == "exit":
            os._exit(1)
        raise {"value": ValueError, "key": KeyError, "os": ConnectionError}[how](n)
    return n


def attempt(what, **options):
    name = what.replace(" ", "_")
    how = options.pop("how", "value")
    good = options.pop("good", 3)
    try:
        print(what, "gave", ray.get(flaky.options(**options).remote(name, good, how)))
    except Exception as error:
        path = os.path.join(folder, name)
        print(
            what,
            type(error).__name__.replace("Ray", "").replace("TaskError", "").strip("()"),
            "after",
            os.path.getsize(path),
        )


attempt("exceptions are not retried")
attempt("no retries", max_retries=0, retry_exceptions=True)
attempt("crashes are retried", how="exit")
attempt("crashes with a limit", how="exit", max_retries=1)
attempt("crashes without retries", how="exit", max_retries=0)
attempt("without end", how="exit", max_retries=-1, good=6)


@ray.remote(num_cpus=0)
class Actor:
    def __init__(self, name, bad_starts=0):
        self.name, self.calls = name, 0
        self.starts = tries(name)
        if 1 < self.starts <= 1 + bad_starts:
            os._exit(1)

    def call(self):
        self.calls += 1
        return self.starts, self.calls

    def die(self):
        os._exit(1)

    def die_once(self):
        if tries(self.name + "_once") == 1:
            os._exit(1)
        return "second time"

    def restarted(self):
        return ray.get_runtime_context().was_current_actor_reconstructed


def value(ref):
    try:
        return ray.get(ref)
    except Exception as error:
        return type(error).__name__.replace("Ray", "")


mortal = Actor.remote("mortal")
print("mortal:", value(mortal.call.remote()), value(mortal.die.remote()), value(mortal.call.remote()))
once = Actor.options(max_restarts=1, max_task_retries=1).remote("once")
print(
    "once:",
    value(once.call.remote()),
    value(once.die_once.remote()),
    value(once.call.remote()),
    value(once.restarted.remote()),
)
print("and then:", value(once.die.options(max_task_retries=0).remote()), value(once.call.remote()))
lives = Actor.options(max_restarts=-1, max_task_retries=-1).remote("lives", 2)
print("lives:", value(lives.call.remote()), value(lives.die_once.remote()), value(lives.call.remote()))


@ray.remote(num_cpus=0, max_restarts=1)
class Checkpoints:
    def __init__(self, path):
        self.path = path
        self.total = int(open(path).read()) if os.path.exists(path) else 0

    def add(self, n):
        self.total += n
        with open(self.path, "w") as file:
            file.write(str(self.total))
        return self.total

    def crash(self):
        os._exit(1)


saved = Checkpoints.remote(os.path.join(folder, "saved"))
print("checkpoint:", value(saved.add.remote(5)), value(saved.crash.remote()))
while not isinstance(now := value(saved.add.remote(1)), int):
    pass
print("restored:", now)
