"""ray.get: what it takes and what it says to the rest."""

import hpc as ray

ray.init(num_cpus=2)
ref = ray.put(7)


def show(what, call):
    try:
        print(what, call())
    except Exception as error:
        print(what, type(error).__name__)


show("one:", lambda: ray.get(ref))
show("list:", lambda: ray.get([ref, ref]))
show("empty:", lambda: ray.get([]))
show("number:", lambda: ray.get(3))
show("None:", lambda: ray.get(None))
show("text:", lambda: ray.get("text"))
show("dict:", lambda: ray.get({"a": ref}))
show("list with a number:", lambda: ray.get([ref, 3]))
show("nested list:", lambda: ray.get([[ref]]))
show("zero time:", lambda: ray.get(ref, timeout=0))
show("put of a reference:", lambda: ray.put(ref))
show("put of a list of one:", lambda: ray.get(ray.get(ray.put([ref]))[0]))
