"""raise ... from, and errors while handling errors."""

import hpc as ray

ray.init(num_cpus=2)
E = ray.exceptions


@ray.remote
def with_from():
    try:
        {}["a"]
    except KeyError as error:
        raise ValueError("second") from error


@ray.remote
def while_handling():
    try:
        {}["a"]
    except KeyError:
        raise ValueError("second")


for function in (with_from, while_handling):
    try:
        ray.get(function.remote())
    except ValueError as error:
        text = str(error)
        print("KeyError: 'a'" in text, "direct cause" in text, "During handling" in text, "ValueError: second" in text)
