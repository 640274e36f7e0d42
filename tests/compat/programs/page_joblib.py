"""joblib's backend."""

import hpc as ray

ray.init(num_cpus=2)

# needs: joblib
import joblib

from hpc.util.joblib import register_ray

register_ray()


def square(x):
    return x * x


with joblib.parallel_backend("ray"):
    print(joblib.Parallel()(joblib.delayed(square)(i) for i in range(6)))
with joblib.parallel_backend("ray"):
    try:
        joblib.Parallel()(joblib.delayed(lambda x: 1 // x)(i) for i in range(2))
    except ZeroDivisionError:
        print("ZeroDivisionError")
