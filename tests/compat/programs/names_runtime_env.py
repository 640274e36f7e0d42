"""RuntimeEnv and RuntimeEnvConfig: what can be asked of them, given to them, and what they refuse."""

import json
import os
from dataclasses import dataclass

import hpc as ray
from hpc.runtime_env import RuntimeEnv, RuntimeEnvConfig

ray.init(num_cpus=2)
os.makedirs("code")
with open("requirements.txt", "w") as file:
    file.write("six==1.0\nattrs\n")


def show(what, call):
    try:
        print(what, call())
    except (TypeError, ValueError) as error:
        print(what, type(error).__name__)


ENVIRONMENTS = {
    "empty": RuntimeEnv(),
    "variables": RuntimeEnv(env_vars={"A": "1"}),
    "directory": RuntimeEnv(working_dir=os.path.abspath("code")),
    "pip": RuntimeEnv(pip=["six"]),
    "pip as a dict": RuntimeEnv(pip={"packages": ["six"], "pip_check": True}),
    "pip of a file": RuntimeEnv(pip="requirements.txt"),
    "uv": RuntimeEnv(uv=["six"]),
    "conda": RuntimeEnv(conda="base"),
    "container": RuntimeEnv(container={"image": "x", "run_options": ["a"]}),
    "image": RuntimeEnv(image_uri="u"),
}
METHODS = (
    "conda_config", "conda_env_name", "conda_uri", "env_vars", "has_conda", "has_pip", "has_py_container", "has_uv",
    "has_working_dir", "image_uri", "java_jars", "nsight", "pip_config", "plugin_uris", "plugins", "py_container_image",
    "py_container_run_options", "py_container_worker_path", "py_executable", "py_modules", "py_modules_uris",
    "rocprof_sys", "uv_config", "virtualenv_name", "working_dir", "working_dir_uri",
)  # fmt: skip
for name, env in ENVIRONMENTS.items():
    found = {method: getattr(env, method)() for method in METHODS}
    print(name, {method: value for method, value in found.items() if value not in (None, False, [], {}, "")})
    print(name, "and empty:", [(method, value) for method, value in found.items() if value in (None, [], {}, "")])

env = RuntimeEnv(env_vars={"A": "1"}, config={"setup_timeout_seconds": 5})
print("a dict:", isinstance(env, dict), env["env_vars"], RuntimeEnv(env_vars={"A": "1"}) == {"env_vars": {"A": "1"}})
print("get:", env.get("env_vars"), env.get("nothing"), env.get("nothing", 3), env.get(name="env_vars", default=1))


@dataclass
class Variables:
    A: str


print("get as a class:", env.get("env_vars", data_class=Variables), env.get("nothing", data_class=Variables))
print("its config:", env["config"]["setup_timeout_seconds"], type(env.to_dict()) is dict, env.to_dict()["env_vars"])
env.set("env_vars", {"B": "2"})
print("set:", env.env_vars())
env["env_vars"] = {"C": "3"}
print("set as an item:", env.env_vars())
show("set to nonsense:", lambda: env.set("env_vars", {"B": 2}))
show("set as an item to nonsense:", lambda: env.__setitem__("env_vars", 3))
show("a directory that is not there:", lambda: env.set("working_dir", "/not/there"))
print("unchanged:", env.env_vars(), env.working_dir())
show("an extension that is none:", lambda: env.get_extension("nonsense"))
text = RuntimeEnv(env_vars={"A": "1"}, working_dir=os.path.abspath("code")).serialize()
print("serialize:", sorted(json.loads(text)), json.loads(text)["env_vars"])
print("deserialize:", RuntimeEnv.deserialize('{"env_vars": {"A": "1"}}'), type(RuntimeEnv.deserialize("{}")).__name__)
print("there and back:", RuntimeEnv.deserialize(text) == json.loads(text))
print("paths of others:", RuntimeEnv.deserialize('{"working_dir": "/of/another"}').working_dir())
print("fields:", {"env_vars", "working_dir", "pip", "conda", "uv", "config"} <= RuntimeEnv.known_fields)
show("pip and conda:", lambda: RuntimeEnv(pip=["six"], conda="base"))

config = RuntimeEnvConfig()
print("config:", config["setup_timeout_seconds"], config["eager_install"], config["log_files"])
print("given:", RuntimeEnvConfig(5, False, ["a"]), RuntimeEnvConfig(log_files=["a"])["log_files"])
print("by default:", RuntimeEnvConfig.default_config() == config, sorted(RuntimeEnvConfig.known_fields))
print("to_dict:", config.to_dict() == config, type(config.to_dict()).__name__)
parse = RuntimeEnvConfig.parse_and_validate_runtime_env_config
print("of a dict:", parse({"setup_timeout_seconds": 3})["setup_timeout_seconds"], parse(config) is config)
show("of a number:", lambda: parse(3))
for bad in ({"setup_timeout_seconds": 0}, {"setup_timeout_seconds": "5"}, {"eager_install": 1}, {"log_files": "a"}):
    show(f"{bad}:", lambda: RuntimeEnvConfig(**bad))
show("numbers among files:", lambda: RuntimeEnvConfig(log_files=[1]))
show("no limit:", lambda: RuntimeEnvConfig(setup_timeout_seconds=-1)["setup_timeout_seconds"])


@ray.remote
def variable():
    return os.environ.get("A"), ray.get_runtime_context().runtime_env.env_vars()


print("in a task:", ray.get(variable.options(runtime_env=RuntimeEnv(env_vars={"A": "1"})).remote()))
print("from JSON:", ray.get(variable.options(runtime_env=RuntimeEnv.deserialize('{"env_vars": {"A": "2"}}')).remote()))
