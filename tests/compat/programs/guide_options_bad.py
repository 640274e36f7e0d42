"""Options that are wrong: when they are refused, and by what."""

import hpc as ray

ray.init(num_cpus=2)


def f():
    return 1


class A:
    def m(self):
        return 1


def show(what, call):
    try:
        call()
        print(what, "accepted")
    except (ValueError, TypeError, AttributeError) as error:
        print(what, type(error).__name__)


for options in (
    {"nonsense": 1},
    {"num_returns": -1},
    {"num_returns": "some"},
    {"max_retries": -2},
    {"max_calls": -1},
    {"retry_exceptions": 3},
    {"name": 3},
    {"runtime_env": 3},
    {"scheduling_strategy": 3},
    {"max_restarts": 1},
    {"lifetime": "detached"},
    {"memory": -1},
    {"accelerator_type": 3},
    {"label_selector": 3},
):
    show(f"task {options}", lambda: ray.remote(**options)(f))
for options in (
    {"nonsense": 1},
    {"max_restarts": -2},
    {"max_task_retries": -2},
    {"max_concurrency": 0},
    {"max_concurrency": -1},
    {"lifetime": "long"},
    {"name": 3},
    {"namespace": 3},
    {"num_returns": 2},
    {"max_retries": 1},
    {"max_pending_calls": -2},
    {"concurrency_groups": 3},
    {"get_if_exists": 1},
):
    show(f"actor {options}", lambda: ray.remote(**options)(A))
show("options of a function", lambda: ray.remote(f).options(nonsense=1).remote())
show("options of a class", lambda: ray.remote(A).options(nonsense=1).remote())
