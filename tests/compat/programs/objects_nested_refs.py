"""References inside values, arguments and results."""

import hpc as ray

ray.init(num_cpus=2)


@ray.remote
def inner(x):
    return x + 1


@ray.remote
def outer(x):
    return inner.remote(x)


@ray.remote
def kinds(a, b):
    return type(a).__name__, type(b[0]).__name__, ray.get(b[0])


ref = ray.put(5)
print(ray.get(kinds.remote(ref, [ref])))
print(ray.get(ray.get(outer.remote(1))))
box = ray.put({"a": [ref, (ref, ref)]})
found = ray.get(box)
print(found["a"][0] == ref, found["a"][1][1] == ref, ray.get(found["a"][0]))
print(ray.get(ray.get(ray.put([ray.put([ray.put(7)])]))[0])[0] != ref)
try:
    ray.put(ref)
    print("put of a reference: allowed")
except TypeError:
    print("put of a reference: TypeError")
print(hash(ref) == hash(found["a"][0]), ref in {found["a"][0]}, repr(ref).startswith("ObjectRef("))
