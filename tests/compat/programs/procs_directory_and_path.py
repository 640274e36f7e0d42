"""The working directory of tasks, and which modules they find."""

import os

with open("beside_it.py", "w") as file:
    file.write("VALUE = 'from the module beside the script'\n")
os.makedirs("elsewhere", exist_ok=True)
with open("data.txt", "w") as file:
    file.write("some data")

import hpc as ray  # noqa: E402

ray.init(num_cpus=2, log_to_driver=False)


@ray.remote
def where():
    return os.getcwd()


@ray.remote
def reads():
    with open("data.txt") as file:
        return file.read()


@ray.remote
def imports(name):
    return __import__(name).VALUE


@ray.remote
class Box:
    def where(self):
        return os.getcwd()

    def move(self):
        os.chdir("elsewhere")
        return os.path.basename(os.getcwd())


print("as the driver:", ray.get(where.remote()) == os.getcwd())
print("a relative file:", ray.get(reads.remote()))
print(ray.get(imports.remote("beside_it")))
try:
    ray.get(imports.remote("no_such_module"))
except ModuleNotFoundError as error:
    print("No module named 'no_such_module'" in str(error))
box = Box.remote()
print("an actor too:", ray.get(box.where.remote()) == os.getcwd(), ray.get(box.move.remote()))
print("it stays there:", os.path.basename(ray.get(box.where.remote())))


@ray.remote
def main_module():
    import __main__

    return __name__, hasattr(__main__, "where")


print(ray.get(main_module.remote())[0])
