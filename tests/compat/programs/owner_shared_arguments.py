"""One value for many: put once and given to many tasks and calls; changed copies do not come back."""

import numpy as np

import hpc as ray

ray.init(num_cpus=2)


@ray.remote
def total(array, factor):
    return float(array.sum()) * factor


@ray.remote
def change(values):
    values.append(4)
    return values


@ray.remote
def write(array):
    try:
        array[0] = 5
        return "written"
    except ValueError as error:
        return str(error)


array = ray.put(np.ones(200_000))
print(ray.get([total.remote(array, n) for n in range(5)]))
values = [1, 2, 3]
print(ray.get(change.remote(values)), values)
ref = ray.put(values)
print(ray.get(change.remote(ref)), ray.get(ref))
print(ray.get(write.remote(array)))
print(ray.get(array).flags.writeable, ray.get(array) is ray.get(array))
values.append(9)
print(ray.get(ref))
