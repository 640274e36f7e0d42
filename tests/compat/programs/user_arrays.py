"""Arrays that are got are read-only views, copies can be written: nested, sliced, structured, large and small."""

import numpy as np

import hpc as ray

ray.init(num_cpus=2)


@ray.remote
def writes(a):
    try:
        a[0] = 5
        return "written"
    except ValueError as error:
        return f"ValueError {error}"


@ray.remote
def same(x):
    return x


@ray.remote
def flags(a):
    return a.flags.writeable, a.flags.owndata, a.flags.c_contiguous, a.flags.f_contiguous, a.dtype.str, a.shape


LARGE, SMALL = np.zeros(200_000), np.zeros(4)
for name, array in (("large", LARGE), ("small", SMALL)):
    print(name, "argument:", ray.get(writes.remote(array)))
    print(name, "reference:", ray.get(writes.remote(ray.put(array))))
    print(name, "keyword:", ray.get(writes.remote(a=array)))
    got = ray.get(ray.put(array))
    print(name, "got:", got.flags.writeable, got.flags.owndata)
    got = ray.get(same.remote(array))
    print(name, "result:", got.flags.writeable)
    inside = ray.get(ray.put({"a": [array]}))["a"][0]
    print(name, "inside a dict:", inside.flags.writeable)
    mine = got.copy()
    mine[0] = 1
    print(name, "the copy:", mine[0], got[0], array[0])
captured = (np.zeros(4), np.zeros(20_000))


@ray.remote
def uses_captured():
    return [a.flags.writeable for a in captured]


print("captured by a function:", ray.get(uses_captured.remote()))
array = np.arange(60_000).reshape(200, 300)
for name, view in (
    ("whole", array),
    ("transposed", array.T),
    ("strided", array[::2, ::3]),
    ("fortran", np.asfortranarray(array)),
    ("reversed", array[::-1]),
    ("broadcast", np.broadcast_to(np.arange(300), (200, 300))),
    ("zero-dimensional", np.array(3)),
    ("empty", np.zeros((0, 3))),
    ("structured", np.zeros(3, dtype=[("x", "i4"), ("y", "f8")])),
    ("strings", np.array(["a", "bcd"])),
    ("objects", np.array([{"a": 1}, None], dtype=object)),
    ("bool", np.array([True, False])),
    ("big endian", np.arange(3, dtype=">i4")),
    ("times", np.array(["2020-01-01"], dtype="datetime64[D]")),
    ("complex", np.array([1j])),
    ("half", np.array([1.5], dtype="f2")),
):
    back = ray.get(same.remote(view))
    print(name, ray.get(flags.remote(view)), np.array_equal(back, view), back.dtype == view.dtype)
refs = [ray.put(np.full(50_000, i)) for i in range(20)]
views = ray.get(refs)
del refs
print("views outlive references:", sum(int(v[0]) for v in views))
first = views[3]
del views
for _ in range(50):
    ray.put(np.ones(100_000))
print("after more puts:", int(first.sum()))
array = np.zeros(200_000)
ref = ray.put(array)
array[0] = 1
print("put took a copy:", ray.get(ref)[0])
a, b = ray.get([ref, ref])
print("the same memory:", np.shares_memory(a, b))


class Sub(np.ndarray):
    unit = None


sub = np.arange(5.0).view(Sub)
back = ray.get(same.remote(sub))
print("subclass:", type(back).__name__, back.sum())
print("masked:", ray.get(same.remote(np.ma.array([1, 2, 3], mask=[0, 1, 0]))).sum())
matrix = ray.get(same.remote(np.matrix([[1, 2], [3, 4]])))
print("matrix:", type(matrix).__name__, (matrix * matrix).tolist())
rng = np.random.default_rng(1)
expected = np.random.default_rng(1).random()
print("a generator of numbers:", ray.get(ray.remote(lambda r: r.random()).remote(rng)) == expected)


@ray.remote
class Holder:
    def __init__(self, a):
        self.a = a

    def add(self):
        try:
            self.a += 1
        except ValueError:
            self.a = self.a + 1
            return "copied", float(self.a[0])
        return "in place", float(self.a[0])


print("an actor's array:", ray.get(Holder.remote(np.zeros(200_000)).add.remote()))
