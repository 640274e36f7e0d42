"""A notebook's cells: init again, definitions made anew, errors in a cell and going on afterwards."""

import hpc as ray

ray.init(num_cpus=2)
CELLS = (
    "import numpy as np\ndata = np.arange(10)",
    "ray.init(num_cpus=2, ignore_reinit_error=True)",
    "@ray.remote\ndef f(x):\n    return int(x.sum()) + offset",
    "ray.get(f.remote(data))",
    "offset = 1",
    "ray.get(f.remote(data))",
    "@ray.remote\ndef f(x):\n    return int(x.sum()) + offset",
    "print(ray.get(f.remote(data)))",
    "offset = 2",
    "print('old offset', ray.get(f.remote(data)))",
    "@ray.remote\nclass A:\n    def __init__(self):\n        self.x = 1\n    def get(self):\n        return self.x + z",
    "a = A.remote()\nray.get(a.get.remote())",
    "print('the actor lives:', isinstance(a, ray.actor.ActorHandle))",
    "z = 3",
    "@ray.remote\nclass A:\n    def __init__(self):\n        self.x = 1\n    def get(self):\n        return self.x + z",
    "a = A.remote()\nprint(ray.get(a.get.remote()))",
    "refs = [f.remote(data[:i]) for i in range(4)]",
    "print(ray.get(refs))",
    "f(data)",
    "a.get()",
    "A()",
    "ray.get(refs[0], refs[1])",
    "ray.get([1, 2])",
    "f.remote()",
    "ray.wait(refs[0])",
    "ray.wait(refs, num_returns=9)",
    "ray.put(refs[0])",
    "print(ray.get(ray.get(ray.put([refs[0]]))[0]))",
    "f.options(num_cpu=1).remote(data)",
    "f.remote(data).remote()",
    "refs[0] + 1",
    "for x in refs[0]: pass",
    "len(refs[0])",
    "bool(refs[0]) and print('a reference is true')",
    "a.missing.remote()",
    "ray.get(a)",
    "ray.kill(refs[0])",
    "ray.cancel(a)",
    "ray.get_actor('nobody')",
    "ray.remote(num_cpus=1)(3)",
    "@ray.remote(5)\ndef g(): pass",
    "@ray.remote()\ndef g(): pass",
    "@ray.remote(num_cpus=-1)\ndef g(): pass",
    "@ray.remote(num_returns=-1)\ndef g(): pass",
    "ray.shutdown()",
    "ray.get(refs[0])",
)
scope = {"ray": ray, "__name__": "__main__"}
for number, cell in enumerate(CELLS, 1):
    try:
        exec(compile(cell, f"<cell {number}>", "exec"), scope)
    except Exception as error:
        classes = [c.__name__ for c in type(error).__mro__ if c.__module__ == "builtins" and c is not object]
        print(f"cell {number}: {cell.splitlines()[-1]}: {classes[0]}")
print("end")
