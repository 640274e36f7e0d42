"""Names of actors and their namespaces."""

import hpc as ray

ray.init(num_cpus=2, namespace="colors")
print(ray.get_runtime_context().namespace)


@ray.remote
class Box:
    def __init__(self, value=0):
        self.value = value

    def get(self):
        return self.value

    def namespace(self):
        return ray.get_runtime_context().namespace


red = Box.options(name="red").remote(1)
blue = Box.options(name="red", namespace="shapes").remote(2)
print(ray.get(ray.get_actor("red").get.remote()), ray.get(ray.get_actor("red", namespace="shapes").get.remote()))
print(ray.get(red.namespace.remote()))
for name, space in (("green", None), ("red", "none")):
    try:
        ray.get_actor(name, namespace=space)
    except ValueError:
        print(name, space, "ValueError")
try:
    Box.options(name="red").remote()
except ValueError:
    print("taken: ValueError")
same = Box.options(name="red", get_if_exists=True).remote(9)
print(ray.get(same.get.remote()))
print(ray.util.list_named_actors())
rows = ray.util.list_named_actors(all_namespaces=True)
print(sorted((row["namespace"], row["name"]) for row in rows))
for wrong in ("", 5):
    try:
        Box.options(name=wrong).remote()
        print("accepted", repr(wrong))
    except (ValueError, TypeError) as error:
        print(repr(wrong), type(error).__name__)
