"""How a service stands after each step: applications, deployments, triggers, numbers of replicas."""

import time

import hpc as ray
from hpc import serve

ray.init(num_cpus=16)
serve.start(proxy_location="Disabled")


def text(what):
    return getattr(what, "value", what)


def show(when, app="default"):
    found = serve.status().applications.get(app)
    if found is None:
        print(when, "-", "no application")
        return
    print(when, "-", text(found.status), "message" if found.message else "")
    for name, one in sorted(found.deployments.items()):
        states = {text(state): count for state, count in one.replica_states.items() if count}
        print("   ", name, text(one.status), text(one.status_trigger), states, "message" if one.message else "")


def settled(is_so):
    end = time.time() + 60
    while not is_so() and time.time() < end:
        time.sleep(0.1)


@serve.deployment(graceful_shutdown_wait_loop_s=0.1)
class One:
    def __init__(self, how="well"):
        if how == "bad":
            raise ValueError("it is bad")
        self.how = how
        self.config = None
        self.sick = False

    def reconfigure(self, config):
        self.config = config

    def __call__(self, what=None):
        return self.how, self.config, what


handle = serve.run(One.bind())
show("deployed")
print(handle.remote(1).result())
serve.run(One.options(num_replicas=3).bind())
settled(lambda: serve.status().applications["default"].deployments["One"].replica_states == {"RUNNING": 3})
show("three")
serve.run(One.options(num_replicas=1, user_config={"a": 1}).bind())
settled(lambda: serve.status().applications["default"].deployments["One"].replica_states == {"RUNNING": 1})
show("one, configured")
print(handle.remote(2).result())
serve.run(One.options(user_config={"a": 2}).bind("other"))
settled(lambda: serve.status().applications["default"].deployments["One"].replica_states == {"RUNNING": 1})
show("another version")
print(handle.remote(3).result())

try:
    serve.run(One.options(max_constructor_retry_count=2).bind("bad"), name="bad", route_prefix="/bad")
except RuntimeError as error:
    print("RuntimeError", "bad" in str(error))
settled(lambda: not serve.status().applications["bad"].deployments["One"].replica_states)
show("bad", "bad")
serve.delete("bad")
show("deleted", "bad")

try:
    serve.run(One.options(max_surge_percent=100, max_constructor_retry_count=2).bind("bad"))
except RuntimeError as error:
    print("RuntimeError", "failed" in str(error))
show("a bad version")
print(handle.remote(4).result())
serve.run(One.bind("good again"))
settled(lambda: serve.status().applications["default"].deployments["One"].replica_states == {"RUNNING": 1})
show("good again")
print(handle.remote(5).result())


@serve.deployment
class Two:
    def __init__(self, one):
        self.one = one

    async def __call__(self, x):
        return await self.one.remote(x)


handle = serve.run(Two.bind(One.options(name="Inner").bind()), name="two", route_prefix="/two")
show("two deployments", "two")
print(handle.remote(6).result())
print(sorted(serve.status().applications))
for name, call in {
    "no app": lambda: serve.get_app_handle("none"),
    "no deployment": lambda: serve.get_deployment_handle("none", "two"),
    "outside": lambda: serve.get_deployment_handle("Inner"),
    "route taken": lambda: serve.run(One.bind(), name="three", route_prefix="/two"),
    "no application": lambda: serve.run(One),
    "bad route": lambda: serve.run(One.bind(), name="three", route_prefix="x"),
    "bad route end": lambda: serve.run(One.bind(), name="three", route_prefix="/x/"),
}.items():
    try:
        call()
        print(name, "passes")
    except Exception as error:
        print(name, type(error).__name__)
print(serve.get_app_handle("two").remote(7).result())
print(serve.get_deployment_handle("Inner", "two").remote(8).result())
serve.delete("none")
serve.shutdown()
print(serve.status().applications)
try:
    serve.get_app_handle("two")
except Exception as error:
    print(type(error).__name__)
