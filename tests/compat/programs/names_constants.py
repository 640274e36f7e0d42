"""Parameters by their names, languages, modes, job errors, checks of placement groups."""

import pickle

import hpc as ray
from hpc.job_submission import JobErrorType, JobStatus
from hpc.util.placement_group import (
    PlacementGroup,
    check_placement_group_index,
    placement_group,
    validate_placement_group,
)

ray.init(num_cpus=2)


@ray.remote
def square(x):
    return x * x


def show(what, call):
    try:
        print(what, call())
    except (TypeError, ValueError) as error:
        print(what, type(error).__name__)


ref = square.remote(3)
ready, rest = ray.wait(ray_waitables=[ref], num_returns=1, timeout=60)
print("wait by name:", ready == [ref], rest)
show("wait of nothing:", lambda: ray.wait())
show("wait of two:", lambda: ray.wait([ref], object_refs=[ref]))
print("cancel by name:", ray.cancel(ray_waitable=ref), ray.get(ref))
show("cancel of nothing:", lambda: ray.cancel())
print("transport:", ref.tensor_transport())

language = ray.Language
print("languages:", language.PYTHON, language.JAVA, language.CPP, repr(language.PYTHON), str(language.CPP))
print("equal:", language.PYTHON == language.PYTHON, language.PYTHON == language.JAVA, language.PYTHON.value())
print("modes:", ray.SCRIPT_MODE, ray.WORKER_MODE)
print("instance:", repr(ray.util.get_node_instance_id()))
print("job errors:", [error.value for error in JobErrorType])
print("texts:", JobErrorType.JOB_ENTRYPOINT_COMMAND_ERROR == "JOB_ENTRYPOINT_COMMAND_ERROR", JobStatus("FAILED"))
print("pickle:", pickle.loads(pickle.dumps(JobErrorType.JOB_ENTRYPOINT_COMMAND_ERROR)).name)

group = placement_group([{"CPU": 1}, {"CPU": 1}])
for index in (0, 1, -1, 3, -2):
    show(f"bundle {index}:", lambda: check_placement_group_index(group, index))
show("without a group:", lambda: check_placement_group_index(PlacementGroup.empty(), -1))
show("bundle 0 of none:", lambda: check_placement_group_index(PlacementGroup.empty(), 0))
for what, given in (
    ("good", {"bundles": [{"CPU": 1}, {"GPU": 1}]}),
    ("all given", {"bundles": [{"CPU": 1}], "strategy": "SPREAD", "lifetime": "detached"}),
    ("labels", {"bundles": [{"CPU": 1}], "bundle_label_selector": [{"zone": "a"}]}),
    ("no bundle", {"bundles": []}),
    ("an empty bundle", {"bundles": [{}]}),
    ("zeros", {"bundles": [{"CPU": 0}]}),
    ("no list", {"bundles": {"CPU": 1}}),
    ("an unknown strategy", {"bundles": [{"CPU": 1}], "strategy": "CLOSE"}),
    ("an unknown lifetime", {"bundles": [{"CPU": 1}], "lifetime": "long"}),
    ("too many labels", {"bundles": [{"CPU": 1}], "bundle_label_selector": [{"a": "b"}, {}]}),
):
    show(f"{what}:", lambda: validate_placement_group(**given))
