"""Values of many references: order, tuples, the same one twice, a generator of references."""

import hpc as ray

ray.init(num_cpus=2)


@ray.remote
def give(i):
    return i


refs = [give.remote(i) for i in range(200)]
print(sum(ray.get(refs)), ray.get(refs)[:3], ray.get(refs[::-1])[:3])
print(ray.get([refs[0], refs[0]]))
try:
    print(ray.get(tuple(refs[:2])))
except Exception as error:
    print(type(error).__name__)
try:
    print(ray.get(ref for ref in refs[:2]))
except Exception as error:
    print(type(error).__name__)
try:
    print(ray.get({"a": refs[0]}))
except Exception as error:
    print(type(error).__name__)
print(ray.get([ray.put(i) for i in range(3)] + refs[:2]))
