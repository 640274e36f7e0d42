"""RAY_RUNTIME_ENV_HOOK: a function that gets the runtime_env of init and returns the one to use."""

import os
import sys
import types

import hpc as ray

site = types.ModuleType("site_of_mine")
sys.modules["site_of_mine"] = site
seen = []


def hook(env):
    seen.append(env)
    return {**(env or {}), "env_vars": {**(env or {}).get("env_vars", {}), "SITE": "here"}}


site.hook = hook
os.environ["RAY_RUNTIME_ENV_HOOK"] = "site_of_mine.hook"


@ray.remote
def variables():
    return os.environ.get("SITE"), os.environ.get("OWN")


ray.init(num_cpus=1)
print(seen, ray.get(variables.remote()), ray.get_runtime_context().runtime_env.get("env_vars"))
ray.shutdown()
ray.init(num_cpus=1, runtime_env={"env_vars": {"OWN": "mine"}})
print(seen[1:], ray.get(variables.remote()))
print(ray.get(variables.options(runtime_env={"env_vars": {"SITE": "there"}}).remote()), len(seen))
ray.shutdown()
for wrong in ("site_of_mine.nothing", "nowhere_at_all.hook"):
    os.environ["RAY_RUNTIME_ENV_HOOK"] = wrong
    try:
        ray.init(num_cpus=1)
        print("connected")
    except Exception as error:
        print(wrong, type(error).__name__)
    ray.shutdown()
