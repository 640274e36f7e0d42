"""Modules of the program's own folder: functions, classes, errors and packages that workers import."""

import os
import sys

HELPERS = """
import dataclasses

TABLE = {"n": 1}


def twice(x):
    return 2 * x


@dataclasses.dataclass(frozen=True)
class Point:
    x: int
    y: int = 0


class Model:
    def __init__(self, w):
        self.w = w

    def __call__(self, x):
        return self.w * x

    def fit(self):
        self.w += 1
        return self


class MyError(ValueError):
    level = 3
"""
with open("helpers_here.py", "w") as file:
    file.write(HELPERS)
os.makedirs("packaged/inner", exist_ok=True)
for name, text in {
    "packaged/__init__.py": "",
    "packaged/inner/__init__.py": "from .deep import deep\n",
    "packaged/inner/deep.py": "def deep():\n    return __name__\n",
}.items():
    with open(name, "w") as file:
        file.write(text)
sys.path.insert(0, os.getcwd())
import helpers_here
from packaged.inner import deep

import hpc as ray

ray.init(num_cpus=2)


@ray.remote
def uses(x):
    return helpers_here.twice(x), helpers_here.Point(x), deep()


@ray.remote
def same(x):
    return x


@ray.remote
def raises():
    raise helpers_here.MyError("told", 7)


@ray.remote(num_cpus=0)
class Trainer:
    def __init__(self, model):
        self.model = model

    def step(self):
        return self.model.fit()

    def table(self, value):
        helpers_here.TABLE["n"] += value
        return helpers_here.TABLE["n"]


print(ray.get(uses.remote(3)))
print(
    ray.get(same.remote(helpers_here.Point(1, 2))) == helpers_here.Point(1, 2),
    ray.get(same.remote(helpers_here.Point)) is helpers_here.Point,
)
print(ray.get(ray.remote(helpers_here.twice).remote(4)), ray.get(ray.remote(deep).remote()))
trainer = Trainer.remote(helpers_here.Model(2))
print(ray.get(trainer.step.remote())(10), type(ray.get(trainer.step.remote())) is helpers_here.Model)
print(ray.get(ray.remote(helpers_here.Model).options(num_cpus=0).remote(3).__call__.remote(5)))
print(ray.get(trainer.table.remote(5)), ray.get(trainer.table.remote(5)), helpers_here.TABLE["n"])
try:
    ray.get(raises.remote())
except helpers_here.MyError as error:
    print(
        "MyError",
        isinstance(error, ray.exceptions.RayTaskError),
        type(error.cause).__name__,
        error.cause.args,
        error.level,
    )


def main():
    return ray.get([same.remote(i) for i in range(3)])


if __name__ == "__main__":
    print(main())
print(ray.get(ray.remote(lambda: __name__).remote()))
