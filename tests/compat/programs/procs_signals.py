"""Which signals programs find that a task starts, and what signals do in tasks."""

import os
import signal
import subprocess
import sys
import time

import hpc as ray

ray.init(num_cpus=2, log_to_driver=False)

SHOW = """
import signal
for name in ("SIGINT", "SIGTERM", "SIGUSR1", "SIGUSR2", "SIGHUP", "SIGCHLD", "SIGALRM"):
    handler = signal.getsignal(getattr(signal, name))
    print(name, "default" if handler in (signal.SIG_DFL, signal.default_int_handler) else handler)
print("blocked", signal.pthread_sigmask(signal.SIG_BLOCK, ()))
"""


@ray.remote
def show():
    return subprocess.run([sys.executable, "-c", SHOW], capture_output=True, text=True).stdout


@ray.remote
class Shows:
    def show(self):
        return subprocess.run([sys.executable, "-c", SHOW], capture_output=True, text=True).stdout


print(ray.get(show.remote()))
print("the same in an actor:", ray.get(Shows.remote().show.remote()) == ray.get(show.remote()))


@ray.remote
def program_ends_by(name):
    process = subprocess.Popen(["sleep", "60"])
    process.send_signal(getattr(signal, name))
    return process.wait()


for name in ("SIGINT", "SIGTERM", "SIGUSR1", "SIGUSR2", "SIGHUP", "SIGKILL"):
    print("sleep ends by", name, ray.get(program_ends_by.remote(name)))


@ray.remote
def own_handlers():
    got = []
    signal.signal(signal.SIGUSR1, lambda *_: got.append("USR1"))
    signal.signal(signal.SIGALRM, lambda *_: got.append("ALRM"))
    os.kill(os.getpid(), signal.SIGUSR1)
    signal.setitimer(signal.ITIMER_REAL, 0.05)
    time.sleep(0.3)
    return got


print("own handlers:", ray.get(own_handlers.remote()))


@ray.remote
def times_out():
    def late(*_):
        raise TimeoutError("too late")

    signal.signal(signal.SIGALRM, late)
    signal.setitimer(signal.ITIMER_REAL, 0.05)
    try:
        time.sleep(10)
    except TimeoutError as error:
        return f"caught {error}"


print("an alarm:", ray.get(times_out.remote()))


@ray.remote(max_retries=0)
def interrupted(catch):
    try:
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(5)
    except KeyboardInterrupt:
        if catch:
            return "caught KeyboardInterrupt"
        raise


print("an interrupt:", ray.get(interrupted.remote(True)))
try:
    ray.get(interrupted.remote(False))
except ray.exceptions.TaskCancelledError as error:
    print("not caught: TaskCancelledError", isinstance(error, ray.exceptions.RayError))
