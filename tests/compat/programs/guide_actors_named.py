"""Named actors: looked up, taken, in namespaces, gone."""

import hpc as ray

ray.init(num_cpus=2, namespace="here")


@ray.remote
class Box:
    def __init__(self, what="empty"):
        self.what = what

    def get(self):
        return self.what


box = Box.options(name="box").remote("full")
print(ray.get(ray.get_actor("box").get.remote()))
print(ray.get(ray.get_actor("box", namespace="here").get.remote()))
try:
    Box.options(name="box").remote()
except ValueError as error:
    print("ValueError taken")
try:
    ray.get_actor("none")
except ValueError as error:
    print("ValueError", str(error).split(".")[0].split(",")[0][:40])
same = Box.options(name="box", get_if_exists=True).remote("other")
print(ray.get(same.get.remote()), same == box)
new = Box.options(name="new", get_if_exists=True).remote("made")
print(ray.get(new.get.remote()))
elsewhere = Box.options(name="box", namespace="there").remote("there")
print(ray.get(ray.get_actor("box", namespace="there").get.remote()))
print(sorted(ray.util.list_named_actors()))
print(sorted((row["namespace"], row["name"]) for row in ray.util.list_named_actors(all_namespaces=True)))


@ray.remote
def find(name):
    return ray.get(ray.get_actor(name).get.remote())


print(ray.get(find.remote("new")))
ray.kill(box)
try:
    ray.get(box.get.remote())
except ray.exceptions.RayActorError as error:
    print(type(error).__name__)
for name in ("", 3):
    try:
        Box.options(name=name).remote()
    except (ValueError, TypeError) as error:
        print(type(error).__name__)
