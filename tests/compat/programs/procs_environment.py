"""Environment variables that workers see."""

import os
import subprocess

import hpc as ray

os.environ["SET_BEFORE"] = "before"
ray.init(num_cpus=2, runtime_env={"env_vars": {"OF_THE_JOB": "job", "BOTH": "job"}}, log_to_driver=False)
os.environ["SET_AFTER"] = "after"
NAMES = ("SET_BEFORE", "SET_AFTER", "OF_THE_JOB", "BOTH", "OF_THE_TASK")


@ray.remote
def seen():
    return {name: os.environ.get(name) for name in NAMES}


@ray.remote
def by_a_program():
    return subprocess.run("echo $SET_BEFORE $OF_THE_JOB", shell=True, capture_output=True, text=True).stdout.strip()


@ray.remote
class Box:
    def seen(self):
        return {name: os.environ.get(name) for name in NAMES}

    def change(self):
        os.environ["CHANGED"] = "by the actor"

    def changed(self):
        return os.environ.get("CHANGED")


@ray.remote
def inherits():
    return ray.get(seen.remote())


print(ray.get(seen.remote()))
print(ray.get(seen.options(runtime_env={"env_vars": {"BOTH": "task", "OF_THE_TASK": "task"}}).remote()))
print(ray.get(Box.remote().seen.remote()))
print(ray.get(by_a_program.remote()))
print(ray.get(inherits.options(runtime_env={"env_vars": {"OF_THE_TASK": "parent"}}).remote()))
box = Box.remote()
ray.get(box.change.remote())
print(ray.get(box.changed.remote()), "and in the driver", os.environ.get("CHANGED"))
try:
    seen.options(runtime_env={"env_vars": {"NUMBER": 1}}).remote()
    print("a number is taken")
except TypeError as error:
    print("a number:", type(error).__name__)
