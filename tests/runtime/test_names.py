"""Names that programs written for Ray use: ids, the runtime context, copies of references, older options."""

from __future__ import annotations

import asyncio
import copy
import pickle
import time
from collections.abc import Iterator
from typing import Any

import pytest

import hpc
from hpc.util.state import get_actor, get_task, list_tasks
from runtime.running import one_node


@pytest.fixture(scope="module", autouse=True)
def session() -> Iterator[None]:
    with one_node(num_cpus=4, labels={"zone": "a"}):
        yield


@hpc.remote
def same(value: Any) -> Any:
    return value


@hpc.remote
def context_in_a_task() -> dict[str, Any]:
    context = hpc.get_runtime_context()
    return {
        **context.get(),
        "function": context.get_task_function_name(),
        "name": context.get_task_name(),
        "same": context.task_id.hex() == context.get_task_id(),
        "actor": context.actor_id,
        "group": context.get_placement_group_id(),
    }


@hpc.remote
class Asks:
    def context(self) -> tuple[Any, ...]:
        context = hpc.get_runtime_context()
        return context.get(), context.get_task_function_name(), context.actor_id.hex() == context.get_actor_id()

    def me(self) -> Any:
        return hpc.get_runtime_context().current_actor

    def held(self, box: dict[str, Any]) -> Any:
        return hpc.get(box["ref"])


def test_ids_are_values_that_have_text_and_bytes() -> None:
    ref, asks = same.remote(1), Asks.remote()
    hpc.get([ref, asks.me.remote()])
    assert get_task(ref.task_id().hex())["state"] == "FINISHED"
    assert get_actor(asks._actor_id.hex())["class_name"] == "Asks"
    assert ref.job_id().hex() == hpc.get_runtime_context().get_job_id()
    assert ref.task_id().job_id() == ref.job_id()
    assert hpc.TaskID.from_hex(ref.task_id().hex()) == ref.task_id() == hpc.TaskID(ref.task_id().binary())
    assert pickle.loads(pickle.dumps(asks._actor_id)) == asks._actor_id != ref.task_id()
    assert hpc.ObjectID is hpc.ObjectRef
    assert hpc.PlacementGroupID.nil().is_nil() and not ref.task_id().is_nil()
    assert repr(hpc.NodeID.from_hex("1")) == "NodeID(1)" and hpc.NodeID.from_hex("1").binary() == b"1"
    with pytest.raises(ValueError, match="takes 20 bytes, not 1"):
        hpc.TaskID(b"x")
    with pytest.raises(TypeError, match="takes bytes, not str"):
        hpc.ActorID("x")  # type: ignore[arg-type]


def test_a_task_knows_its_function_and_its_ids() -> None:
    seen = hpc.get(context_in_a_task.options(name="other").remote())
    assert seen["function"] == f"{__name__}.context_in_a_task" and seen["name"] == "other"
    assert seen["same"] and seen["actor"] is None and seen["group"] is None
    assert seen["job_id"] == hpc.get_runtime_context().job_id and seen["node_id"] == hpc.NodeID.from_hex("1")
    assert isinstance(seen["task_id"], hpc.TaskID) and "actor_id" not in seen


def test_an_actor_knows_its_method_and_hands_out_a_handle_to_itself() -> None:
    asks = Asks.options(max_task_retries=2).remote()
    ids, name, agree = hpc.get(asks.context.remote())
    assert name == f"{__name__}.Asks.context" and agree and ids["actor_id"] == asks._actor_id
    me = hpc.get(asks.me.remote())
    assert me == asks and me._hpc_options == asks._hpc_options
    assert hpc.get(me.context.remote())[0]["actor_id"] == asks._actor_id


def test_a_driver_has_no_task_and_no_actor() -> None:
    context = hpc.get_runtime_context()
    assert sorted(context.get()) == ["job_id", "namespace", "node_id"]
    assert context.get_task_function_name() is None and context.get_placement_group_id() is None
    assert context.get_node_labels()["zone"] == "a" and context.get_session_name() == context.get_job_id()
    for name, error in (("task_id", AssertionError), ("actor_id", AssertionError), ("current_actor", RuntimeError)):
        with pytest.raises(error):
            getattr(context, name)


@pytest.mark.parametrize("again", [copy.copy, copy.deepcopy, lambda box: pickle.loads(pickle.dumps(box))])
def test_references_and_handles_in_a_config_can_be_copied_and_pickled(again: Any) -> None:
    box = again({"ref": hpc.put("there"), "asks": Asks.remote()})
    assert hpc.get(box["ref"]) == "there"
    assert hpc.get(box["asks"].held.remote(box)) == "there"


def test_what_is_pickled_by_hand_lives_on_without_other_references() -> None:
    data = hpc.cloudpickle.dumps(hpc.put("there"))
    assert hpc.get(pickle.loads(data)) == "there"


def test_as_future_is_one_of_the_running_loop() -> None:
    async def main() -> list[int]:
        return [await same.remote(1).as_future(), *await asyncio.gather(same.remote(2), same.remote(3))]

    assert asyncio.run(main()) == [1, 2, 3]


def rings() -> list[Any]:
    row: list[Any] = [1]
    row.append(row)
    table: dict[str, Any] = {"nodes": []}
    table["nodes"].append({"parent": table})
    return [row, table]


@pytest.mark.parametrize("value", rings(), ids=["list", "dict"])
def test_values_that_contain_themselves_travel(value: Any) -> None:
    for back in (hpc.get(hpc.put(value)), hpc.get(same.remote(value))):
        assert (back[1] if isinstance(back, list) else back["nodes"][0]["parent"]) is back


def test_a_graph_of_shared_parts_is_not_walked_along_all_its_paths() -> None:
    value: list[Any] = [1]
    for _ in range(200):
        value = [value, value]
    back = hpc.get(same.remote(value))
    assert back[0] is back[1]


def test_what_is_too_deep_for_pickle_is_an_error_and_nothing_more() -> None:
    value: list[Any] = []
    for _ in range(50_000):
        value = [value]
    for use in (hpc.put, same.remote):
        with pytest.raises((pickle.PicklingError, RecursionError), match="recursion"):
            use(value)
    while value:
        value = value[0]
    assert hpc.get(same.remote(1)) == 1


@hpc.remote
def group_of_a_child(**options: Any) -> Any:
    @hpc.remote(num_cpus=0)
    def child() -> Any:
        return hpc.get_runtime_context().get_placement_group_id()

    return hpc.get(child.options(**options).remote())


def test_the_older_options_of_placement_groups_mean_the_strategy() -> None:
    group = hpc.util.placement_group([{"CPU": 1}, {"CPU": 1}])
    hpc.get(group.ready())
    inside = group_of_a_child.options(placement_group=group, placement_group_capture_child_tasks=True)
    assert hpc.get(inside.remote()) == group.id.hex() == hpc.PlacementGroupID(group.id.binary()).hex()
    assert hpc.get(inside.remote(placement_group=None)) is None
    assert hpc.get(inside.options(placement_group_bundle_index=1).remote(placement_group="default")) == group.id.hex()
    for options, error in (
        ({"placement_group": 3}, TypeError),
        ({"placement_group_bundle_index": 0}, ValueError),
        ({"placement_group": group, "scheduling_strategy": "SPREAD"}, ValueError),
    ):
        with pytest.raises(error, match="placement_group"):
            same.options(**options)
    hpc.util.remove_placement_group(group)


@hpc.remote
class Gate:
    def __init__(self) -> None:
        self.open = asyncio.Event()

    async def wait(self) -> None:
        await self.open.wait()

    async def release(self) -> None:
        self.open.set()


def test_a_call_has_one_name_and_type_while_it_runs_and_afterwards() -> None:
    gate = Gate.remote()
    hpc.get(gate.__ray_ready__.remote())
    ref = gate.wait.remote()

    def row(state: str) -> Any:
        end = time.monotonic() + 60
        while True:
            assert time.monotonic() < end, f"the call is not {state}"
            found = [r for r in list_tasks(limit=1000) if r.task_id == ref.task_id().hex()]
            if found and found[0].state == state:
                return found[0]

    for state in ("RUNNING", "FINISHED"):
        seen = row(state)
        assert (seen.name, seen.func_or_class_name, seen.type) == ("Gate.wait", "Gate.wait", "ACTOR_TASK")
        hpc.get(gate.release.remote())
    hpc.get(same.remote(1))
    kinds = {r.name: r.type for r in list_tasks(limit=1000)}
    assert kinds["Gate.__init__"] == "ACTOR_CREATION_TASK" and kinds["same"] == "NORMAL_TASK"


def test_a_job_config_says_namespace_and_environment() -> None:
    config = hpc.job_config.JobConfig(ray_namespace="theirs", runtime_env={"env_vars": {"A": "1"}})
    config.set_metadata("who", "me")
    assert (config.ray_namespace, config.runtime_env, config.metadata["who"]) == (
        "theirs", {"env_vars": {"A": "1"}}, "me",
    )  # fmt: skip
    with pytest.raises(NotImplementedError, match="lifetime"):
        hpc.job_config.JobConfig(default_actor_lifetime="detached")


def test_the_address_of_the_node_is_the_same_for_the_driver_and_its_tasks() -> None:
    address = hpc.util.get_node_ip_address()
    assert address == hpc.nodes()[0]["NodeManagerAddress"] != ""
    assert hpc.get(hpc.remote(hpc.util.get_node_ip_address).remote()) == address


def test_a_rented_machine_has_the_id_that_its_environment_says(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HPC_CLOUD_INSTANCE_ID", "RAY_CLOUD_INSTANCE_ID"):
        monkeypatch.delenv(name, raising=False)
    assert hpc.util.get_node_instance_id() == ""
    monkeypatch.setenv("RAY_CLOUD_INSTANCE_ID", "i-1")
    assert hpc.util.get_node_instance_id() == "i-1"
    monkeypatch.setenv("HPC_CLOUD_INSTANCE_ID", "i-2")
    assert hpc.util.get_node_instance_id() == "i-2"


def test_wait_and_cancel_take_their_older_names_and_one_list_only() -> None:
    ref = hpc.put(1)
    assert hpc.wait(object_refs=[ref]) == hpc.wait(ray_waitables=[ref]) == ([ref], [])
    hpc.cancel(object_ref=ref)
    hpc.cancel(ray_waitable=ref)
    for call in (
        lambda: hpc.wait([ref], object_refs=[ref]),
        lambda: hpc.wait(num_returns=1),
        lambda: hpc.cancel(ref, object_ref=ref),
        lambda: hpc.cancel(force=True),
        lambda: hpc.wait(None),
    ):
        with pytest.raises(TypeError, match=r"hpc\.(wait|cancel)"):
            call()
