"""runtime_env as people use it: variables, folders, modules; of sessions, tasks, actors and nested ones."""

import os
import tempfile

import hpc as ray

folder = tempfile.mkdtemp()
for path, text in {
    "work/config.txt": "from the folder",
    "work/local_module.py": "VALUE = 'local module'\n",
    "mods/shipped/__init__.py": "NAME = 'shipped package'\n",
}.items():
    os.makedirs(os.path.dirname(os.path.join(folder, path)), exist_ok=True)
    with open(os.path.join(folder, path), "w") as file:
        file.write(text)
ray.init(num_cpus=2, runtime_env={"env_vars": {"A": "session", "B": "session"}}, log_to_driver=False)


@ray.remote
def env(*names):
    return [os.environ.get(name) for name in names]


@ray.remote(num_cpus=0)
class Box:
    def env(self, *names):
        return [os.environ.get(name) for name in names]

    def starts(self):
        return ray.get(env.remote("A", "B", "C"))


def attempt(what, make):
    try:
        print(what, make())
    except Exception as error:
        print(what, type(error).__name__)


print("of the session:", ray.get(env.remote("A", "B")), os.environ.get("A"))
own = {"env_vars": {"B": "own", "C": "own"}}
print("of a task:", ray.get(env.options(runtime_env=own).remote("A", "B", "C")))
print("not of the next:", ray.get(env.remote("A", "B", "C")))
print("of an actor:", ray.get(Box.options(runtime_env=own).remote().env.remote("A", "B", "C")))
print("of what it starts:", ray.get(Box.options(runtime_env=own).remote().starts.remote()))


@ray.remote(runtime_env={"env_vars": {"C": "decorated"}})
def decorated():
    return os.environ.get("C"), ray.get(env.remote("C"))[0]


print("decorated:", ray.get(decorated.remote()))
print("refers to another:", ray.get(env.options(runtime_env={"env_vars": {"D": "${A}-x"}}).remote("D")))


def in_folder():
    import local_module

    return open("config.txt").read(), local_module.VALUE, os.environ.get("A")


def with_module():
    import shipped

    return shipped.NAME


work = {"working_dir": os.path.join(folder, "work")}
modules = {"py_modules": [os.path.join(folder, "mods", "shipped")]}
attempt("a folder of a task:", lambda: ray.get(ray.remote(in_folder).options(runtime_env=work).remote()))
attempt("modules of a task:", lambda: ray.get(ray.remote(with_module).options(runtime_env=modules).remote()))
attempt("without:", lambda: ray.get(ray.remote(lambda: __import__("shipped").NAME).remote()))
attempt(
    "a RuntimeEnv:",
    lambda: ray.get(env.options(runtime_env=ray.runtime_env.RuntimeEnv(env_vars={"C": "class"})).remote("C")),
)
attempt("numbers:", lambda: ray.get(env.options(runtime_env={"env_vars": {"C": 1}}).remote("C")))
attempt("a list:", lambda: ray.get(env.options(runtime_env={"env_vars": ["C"]}).remote("C")))
attempt("a string:", lambda: env.options(runtime_env="C").remote("C"))
attempt(
    "no such folder:",
    lambda: ray.get(env.options(runtime_env={"working_dir": os.path.join(folder, "missing")}).remote("C")),
)
attempt("empty:", lambda: ray.get(env.options(runtime_env={}).remote("A")))
attempt("None:", lambda: ray.get(env.options(runtime_env=None).remote("A")))
print(
    "what a task knows:",
    ray.get(
        ray.remote(lambda: dict(ray.get_runtime_context().runtime_env.get("env_vars", {})))
        .options(runtime_env=own)
        .remote()
    ),
)
ray.shutdown()
ray.init(num_cpus=2, runtime_env={**work, **modules}, log_to_driver=False)
print("of the session:", ray.get(ray.remote(in_folder).remote()), ray.get(ray.remote(with_module).remote()))
