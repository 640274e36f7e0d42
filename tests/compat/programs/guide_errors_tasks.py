"""Errors of tasks: what is raised where, what it is an instance of, and what goes on."""

import hpc as ray

ray.init(num_cpus=2)


class Mine(Exception):
    def __init__(self, code, text="mine"):
        super().__init__(code, text)
        self.code = code


@ray.remote
def fail(error):
    raise error


@ray.remote
def use(value):
    return value


@ray.remote
def through():
    return ray.get(fail.remote(ValueError("deep")))


@ray.remote
def caught():
    try:
        ray.get(fail.remote(ValueError("deep")))
    except ValueError as error:
        return f"caught {type(error).__name__}"


@ray.remote
def chained():
    try:
        {}["missing"]
    except KeyError as error:
        raise RuntimeError("outer") from error


for error in (ValueError("v"), KeyError("k"), Mine(7), ZeroDivisionError(), StopIteration(3), AssertionError("a")):
    try:
        ray.get(fail.remote(error))
    except Exception as got:
        print(
            type(error).__name__,
            isinstance(got, type(error)),
            isinstance(got, ray.exceptions.RayTaskError),
        )
try:
    ray.get(fail.remote(Mine(9)))
except Mine as error:
    print(error.code, type(error.cause).__name__, error.cause.code)
for call in (lambda: use.remote(fail.remote(ValueError("first"))), through.remote, chained.remote):
    try:
        ray.get(call())
    except Exception as error:
        print(type(error.cause).__name__, isinstance(error, ray.exceptions.RayTaskError))
print(ray.get(caught.remote()))
refs = [use.remote(1), fail.remote(ValueError("x")), use.remote(3)]
print(ray.get([refs[0], refs[2]]), len(ray.wait(refs, num_returns=3)[0]))
try:
    ray.get(refs)
except ValueError:
    print("one of the list")
try:
    raise ray.exceptions.RayTaskError.make_dual_exception_type if False else ValueError("local")
except ValueError as error:
    print(error)
