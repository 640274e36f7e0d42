# needs: python>=3.11
"""An ExceptionGroup of a task."""

import hpc as ray

ray.init(num_cpus=2)
several = __builtins__.ExceptionGroup


@ray.remote
def fails():
    raise several("several", [ValueError("a"), several("inner", [KeyError("b"), ValueError("c")])])


try:
    ray.get(fails.remote())
except several as group:
    print(group.message, [type(one).__name__ for one in group.exceptions])
    print(isinstance(group, ray.exceptions.RayTaskError), "sub-exception" in str(group))
    values, rest = group.split(ValueError)
    print(len(values.exceptions), [type(one).__name__ for one in rest.exceptions[0].exceptions])

exec("""
try:
    ray.get(fails.remote())
except* ValueError as group:
    print("values", len(group.exceptions))
except* KeyError as group:
    print("keys", len(group.exceptions))
""")
