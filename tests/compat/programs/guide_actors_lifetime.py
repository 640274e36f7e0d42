"""How actors end: their last handle, kill, exit_actor, restarts."""

import os

import hpc as ray

ray.init(num_cpus=2)


@ray.remote
class Actor:
    def __init__(self):
        self.calls = 0

    def call(self):
        self.calls += 1
        return self.calls

    def pid(self):
        return os.getpid()

    def leave(self):
        ray.actor.exit_actor()

    def crash(self):
        os._exit(1)


def outcome(call):
    try:
        return ray.get(call())
    except ray.exceptions.RayActorError as error:
        return type(error).__name__


actor = Actor.remote()
print(outcome(actor.call.remote))
ray.kill(actor)
print(outcome(actor.call.remote), outcome(actor.call.remote))
actor = Actor.remote()
print(outcome(actor.leave.remote), outcome(actor.call.remote))
actor = Actor.options(max_restarts=1).remote()
print(outcome(actor.call.remote), outcome(actor.call.remote))
first = ray.get(actor.pid.remote())
outcome(actor.crash.remote)
while True:
    try:
        second = ray.get(actor.pid.remote())
        break
    except ray.exceptions.ActorUnavailableError:
        pass
print(first != second, outcome(actor.call.remote))
outcome(actor.crash.remote)
print(outcome(actor.call.remote))
try:
    ray.kill("actor")
except ValueError as error:
    print("ValueError", str(error).split(".")[0][:40])


@ray.remote
class Failing:
    def __init__(self):
        raise ValueError("in the constructor")

    def call(self):
        return 1


failing = Failing.remote()
try:
    ray.get(failing.call.remote())
except ray.exceptions.RayActorError as error:
    print(type(error).__name__, "in the constructor" in str(error))
