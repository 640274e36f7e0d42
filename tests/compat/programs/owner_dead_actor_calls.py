"""An actor dies: its calls, those that use their values, and what comes later all end with ActorDiedError."""

import os
import time

import hpc as ray

ray.init(num_cpus=2)
errors = ray.exceptions


@ray.remote
class Mortal:
    def pid(self):
        return os.getpid()

    def die(self):
        os._exit(1)

    def hang(self):
        time.sleep(60)

    def use(self, value):
        return value


def show(what, ref):
    try:
        print(what, ray.get(ref, timeout=30))
    except Exception as error:
        print(what, isinstance(error, errors.ActorDiedError), isinstance(error, errors.RayActorError))


mortal = Mortal.remote()
ray.get(mortal.pid.remote())
dying = mortal.die.remote()
queued = [mortal.pid.remote() for _ in range(3)]
used = mortal.use.remote(dying)
show("dying", dying)
for ref in queued:
    show("queued", ref)
show("used", used)
show("later", mortal.pid.remote())
show("later with a value", mortal.use.remote(1))

mortal = Mortal.remote()
ray.get(mortal.pid.remote())
hanging = mortal.hang.remote()
used = mortal.use.remote(hanging)
ray.kill(mortal)
show("killed", hanging)
show("killed, used", used)
show("killed, later", mortal.pid.remote())
ray.kill(mortal)
print("killed twice")
