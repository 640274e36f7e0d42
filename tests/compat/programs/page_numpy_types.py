"""Scalars and arrays of numpy keep their types."""

import hpc as ray

ray.init(num_cpus=2)

import numpy as np

for value in (
    np.float32(1.5),
    np.int8(3),
    np.bool_(True),
    np.datetime64("2020-01-01"),
    np.array(5),
    np.array([]),
    np.ma.array([1, 2], mask=[0, 1]),
    np.array([None, "x"], dtype=object),
    np.arange(10)[::2],
    np.zeros((2, 0)),
):
    back = ray.get(ray.put(value))
    print(
        type(back).__name__,
        getattr(back, "dtype", None),
        getattr(back, "shape", None),
        np.asarray(back).tolist() == np.asarray(value).tolist(),
    )
