"""The text shows file, line and source."""

import hpc as ray

ray.init(num_cpus=2)
E = ray.exceptions


def helper():
    return 1 / 0  # the line itself


@ray.remote
def fails():
    return (lambda: helper())()


try:
    ray.get(fails.remote())
except ZeroDivisionError as error:
    text = str(error)
    print("return 1 / 0  # the line itself" in text, __file__ in text, "in helper" in text, "in fails" in text)
