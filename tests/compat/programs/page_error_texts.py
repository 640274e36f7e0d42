"""What is in the text of a task's error."""

import hpc as ray

ray.init(num_cpus=2)


def helper(x):
    return 1 // x


@ray.remote
def divides(x):
    return helper(x)


@ray.remote
class Actor:
    def method(self):
        raise RuntimeError("in a method")


try:
    ray.get(divides.remote(0))
except ZeroDivisionError as error:
    text = str(error)
    print("divides" in text, "helper" in text, "return 1 // x" in text, "ZeroDivisionError" in text, "line" in text)
try:
    ray.get(Actor.remote().method.remote())
except RuntimeError as error:
    text = str(error)
    print("Actor.method" in text, "in a method" in text, 'raise RuntimeError("in a method")' in text)
try:
    raise ValueError("outer") from None
except ValueError as error:
    print(error)


@ray.remote
def outer():
    return ray.get(divides.remote(0))


try:
    ray.get(outer.remote())
except ZeroDivisionError as error:
    text = str(error)
    print("outer" in text, "divides" in text, "ray.get(divides.remote(0))" in text)
