"""Applications of a service, in real processes: deployed, changed step by step, scaled, killed, deleted."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import hpc
from hpc import serve
from hpc.serve.exceptions import RayServeException
from tests.runtime.running import one_node
from tests.serve.deploying import controller_pid, failed, kill, load, pids, standing, until


@pytest.fixture(scope="module")
def service() -> Iterator[None]:
    with one_node(num_cpus=16):
        serve.start(proxy_location="Disabled")
        yield
        serve.shutdown()


@pytest.fixture(autouse=True)
def empty(service: None) -> Iterator[None]:
    """No application is left of a test."""
    yield
    for name in serve.status().applications:
        serve.delete(name)


@serve.deployment(num_replicas=2)
class Pid:
    """Says which process it is."""

    def __init__(self, version: str = "") -> None:
        self.version = version
        self.config: Any = None
        if version.startswith("bad"):
            raise ValueError(f"no {version}")

    def reconfigure(self, config: Any) -> None:
        if config == "bad":
            raise ValueError("a bad config")
        self.config = config

    def __call__(self) -> int:
        return os.getpid()

    def facts(self) -> tuple[str, Any]:
        return self.version, self.config

    def slow(self, seconds: float) -> int:
        time.sleep(seconds)
        return os.getpid()


def test_an_application_runs_and_says_so() -> None:
    handle = serve.run(Pid.bind("a"))
    assert handle.facts.remote().result() == ("a", None)
    assert len(pids(handle, 2)) == 2
    one = serve.status().applications["default"]
    assert (one.status, one.message) == ("RUNNING", "")
    assert one.deployments["Pid"].replica_states == {"RUNNING": 2}
    assert (one.deployments["Pid"].status, one.deployments["Pid"].status_trigger) == (
        "HEALTHY",
        "CONFIG_UPDATE_COMPLETED",
    )
    assert serve.get_app_handle("default").facts.remote().result() == ("a", None)
    assert serve.get_deployment_handle("Pid", "default").facts.remote().result() == ("a", None)


def test_a_new_user_config_restarts_nothing() -> None:
    handle = serve.run(Pid.options(user_config={"a": 1}).bind())
    before = pids(handle, 2)
    handle = serve.run(Pid.options(user_config={"a": 2}, max_ongoing_requests=7).bind())
    assert [handle.facts.remote().result()[1] for _ in range(8)] == [{"a": 2}] * 8
    assert pids(handle, 2) == before


def test_the_same_again_changes_nothing_and_other_arguments_restart() -> None:
    handle = serve.run(Pid.bind("a"))
    before = pids(handle, 2)
    assert pids(serve.run(Pid.bind("a")), 2) == before
    assert not pids(serve.run(Pid.bind("b")), 2) & before


def test_an_update_with_a_surge_fails_no_request() -> None:
    deployment = Pid.options(num_replicas=3, max_surge_percent=34)
    handle = serve.run(deployment.bind("a"))
    before = pids(handle, 3)
    with load(handle.facts) as given:
        until(lambda: len(given) > 20)
        serve.run(deployment.bind("b"))
        after = len(given)
        until(lambda: len(given) > after + 20)
    assert not failed(given)
    assert given[0] == ("a", None) and given[-20:] == [("b", None)] * 20
    assert not pids(handle, 3) & before


def test_an_update_that_cannot_begin_leaves_the_old_one() -> None:
    deployment = Pid.options(num_replicas=3, max_surge_percent=34, max_constructor_retry_count=2)
    handle = serve.run(deployment.bind("a"))
    before = pids(handle, 3)
    with load(handle.facts) as given, pytest.raises(RuntimeError, match="no bad"):
        serve.run(deployment.bind("bad"))
    assert not failed(given) and set(given) == {("a", None)}
    assert (standing("Pid").status, standing("Pid").status_trigger) == ("DEPLOY_FAILED", "REPLICA_STARTUP_FAILED")
    assert pids(handle, 3) == before
    (killed, *_) = before
    kill(killed)
    until(lambda: killed not in pids(handle, 3))
    assert {handle.facts.remote().result() for _ in range(12)} == {("a", None)}
    serve.run(deployment.bind("c"))
    assert handle.facts.remote().result() == ("c", None)


def test_an_update_without_a_surge_replaces_step_by_step() -> None:
    handle = serve.run(Pid.bind("a"))
    with load(handle.facts) as given:
        serve.run(Pid.bind("b"))
    assert not failed(given)
    assert handle.facts.remote().result() == ("b", None)


def test_one_that_never_begins_says_why() -> None:
    with pytest.raises(RuntimeError, match="no bad2"):
        serve.run(Pid.options(num_replicas=1).bind("bad2"))
    assert serve.status().applications["default"].status == "DEPLOY_FAILED"
    assert "no bad2" in standing("Pid").message
    with pytest.raises(RuntimeError, match="a bad config"):
        serve.run(Pid.options(num_replicas=1, user_config="bad").bind("c"))


def test_a_config_that_replicas_refuse_is_said_and_some_serve_on() -> None:
    deployment = Pid.options(num_replicas=3, max_constructor_retry_count=2)
    handle = serve.run(deployment.bind())
    before = pids(handle, 3)
    with pytest.raises(RuntimeError, match="a bad config"):
        serve.run(deployment.options(user_config="bad").bind())
    assert standing("Pid").status == "DEPLOY_FAILED"
    assert len(pids(handle, 2) & before) == 2
    serve.run(deployment.options(user_config="good").bind())
    assert [handle.facts.remote().result()[1] for _ in range(8)] == ["good"] * 8
    assert len(pids(handle, 3)) == 3


def test_a_group_whose_replica_and_controller_died_together_is_given_back() -> None:
    handle = serve.run(Pid.options(num_replicas=1, placement_group_bundles=[{"CPU": 1}]).bind())
    (replica,), first = pids(handle, 1), controller_pid()
    kill(first)
    kill(replica)
    until(lambda: controller_pid() != first)
    until(lambda: replica not in pids(handle, 1) and standing("Pid").status == "HEALTHY")

    def groups() -> int:
        rows = hpc.util.placement_group_table().values()
        return sum(row["state"] != "REMOVED" and row["name"].startswith("SERVE_GROUP") for row in rows)

    until(lambda: groups() == 1)
    serve.delete("default")
    until(lambda: groups() == 0)


def test_the_number_of_replicas_changes_in_place() -> None:
    handle = serve.run(Pid.bind())
    before = pids(handle, 2)
    serve.run(Pid.options(num_replicas=4).bind())
    assert pids(handle, 4) > before
    assert standing("Pid").status_trigger == "UPSCALE_COMPLETED"
    serve.run(Pid.options(num_replicas=1).bind())
    assert len(pids(handle, 1)) == 1
    assert standing("Pid").status_trigger == "DOWNSCALE_COMPLETED"


@serve.deployment(
    max_ongoing_requests=2,
    autoscaling_config={
        "min_replicas": 0,
        "max_replicas": 3,
        "target_ongoing_requests": 1,
        "upscale_delay_s": 0,
        "downscale_delay_s": 0.1,
        "look_back_period_s": 0.2,
        "metrics_interval_s": 0.1,
    },
)
class Scaled:
    """Grows with its requests."""

    def __call__(self, path: str) -> int:
        while not os.path.exists(path):
            time.sleep(0.01)
        return os.getpid()


def test_replicas_come_with_requests_and_go_without(tmp_path: Path) -> None:
    handle = serve.run(Scaled.bind())
    assert standing("Scaled").replica_states == {}
    gate = tmp_path / "gate"
    some = [handle.remote(str(gate)) for _ in range(6)]
    until(lambda: standing("Scaled").replica_states.get("RUNNING") == 3)
    gate.touch()
    assert 1 <= len({response.result() for response in some}) <= 3
    until(lambda: standing("Scaled").replica_states == {})
    assert handle.remote(str(gate)).result(timeout_s=20) > 0


def test_a_killed_replica_is_replaced() -> None:
    handle = serve.run(Pid.bind())
    before = pids(handle, 2)
    killed = min(before)
    kill(killed)
    until(lambda: standing("Pid").status == "HEALTHY" and killed not in pids(handle, 2))
    after = pids(handle, 2)
    assert len(after - before) == 1 and standing("Pid").status_trigger == "UNSPECIFIED"


def test_requests_go_on_without_the_controller_and_the_next_adopts() -> None:
    handle = serve.run(Pid.options(user_config={"a": 1}).bind("a"))
    before, first = pids(handle, 2), controller_pid()
    with load(handle) as given:
        until(lambda: len(given) > 20)
        kill(first)
        after = len(given)
        until(lambda: len(given) > after + 20)
        until(lambda: controller_pid() != first)
        until(lambda: standing("Pid").replica_states == {"RUNNING": 2})
    assert not failed(given) and set(given) == before
    assert standing("Pid").status == "HEALTHY"
    serve.run(Pid.options(user_config={"a": 2}).bind("a"))
    assert pids(handle, 2) == before
    assert handle.facts.remote().result() == ("a", {"a": 2})
    kill(controller_pid())
    serve.run(Pid.options(num_replicas=3, user_config={"a": 2}).bind("a"))
    assert pids(handle, 3) > before


def test_deleting_lets_requests_end() -> None:
    handle = serve.run(Pid.bind())
    slow = handle.slow.remote(1.0)
    until(lambda: handle.remote().result())
    serve.delete("default")
    assert slow.result() > 0
    assert "default" not in serve.status().applications
    with pytest.raises(RayServeException, match="does not exist"):
        serve.get_app_handle("default")


@serve.deployment(health_check_period_s=0.1, health_check_timeout_s=1)
class Sick:
    """Is well until it is told otherwise."""

    def __init__(self) -> None:
        self.is_sick = False

    def check_health(self) -> None:
        if self.is_sick:
            raise RuntimeError("sick")

    def __call__(self, is_sick: bool = False) -> int:
        self.is_sick = self.is_sick or is_sick
        return os.getpid()


def test_a_replica_that_is_not_well_is_replaced() -> None:
    handle = serve.run(Sick.bind())
    first = handle.remote(True).result()
    until(lambda: handle.remote().result() != first)
    until(lambda: standing("Sick").status == "HEALTHY")


@serve.deployment
class Sum:
    """Asks two others."""

    def __init__(self, left: Any, right: Any) -> None:
        self.left, self.right = left, right["handle"]

    async def __call__(self, x: int) -> int:
        return await self.left.remote(x) + await self.right.remote(x)


@serve.deployment
def twice(x: int) -> int:
    """Doubles."""
    return 2 * x


def test_applications_among_arguments_are_handles() -> None:
    double = twice.bind()
    handle = serve.run(Sum.bind(double, {"handle": twice.options(name="again").bind()}), name="sums")
    assert handle.remote(3).result() == 12
    assert set(serve.status().applications["sums"].deployments) == {"twice", "again", "Sum"}
    serve.run(Sum.bind(double, {"handle": double}), name="sums")
    assert handle.remote(3).result() == 12
    assert set(serve.status().applications["sums"].deployments) == {"twice", "Sum"}


def test_two_applications_cannot_have_one_route() -> None:
    serve.run(Pid.bind(), name="one", route_prefix="/x")
    with pytest.raises(RayServeException, match="being used by application"):
        serve.run(Pid.bind(), name="two", route_prefix="/x")
    serve.run(Pid.bind(), name="two", route_prefix="/y")
    with pytest.raises(ValueError, match="there is no application 'three'"):
        serve.split("one", {"one": 1, "three": 1})
    serve.split("one", {"one": 9, "two": 1})
    assert serve.splits()["one"].rows == [("one", 9.0), ("two", 1.0)]
    serve.promote("one", "two")
    assert serve.splits() == {}


def test_nothing_is_left_of_a_service() -> None:
    serve.run(Pid.bind())
    serve.shutdown()
    assert serve.status() == serve.schema.ServeStatus()
    assert hpc.spi.kv_keys("serve") == []
    until(lambda: "serve" not in {row["namespace"] for row in hpc.util.list_named_actors(all_namespaces=True)})
    serve.start(proxy_location="Disabled")


def test_a_proxy_that_is_being_made_at_the_end_is_not_left() -> None:
    pytest.importorskip("httptools")
    serve.shutdown()
    for _ in range(3):
        serve.start(proxy_location="HeadOnly")
        serve.shutdown()
        until(lambda: "serve" not in {row["namespace"] for row in hpc.util.list_named_actors(all_namespaces=True)})
    serve.start(proxy_location="Disabled")


def test_an_application_takes_the_place_of_one_of_its_name_that_ran_in_this_process() -> None:
    local = serve.run(Pid.bind(), _local_testing_mode=True)
    assert local.remote().result() == os.getpid()
    handle = serve.run(Pid.bind())
    assert handle.remote().result(timeout_s=30) in pids(handle, 2)
    assert serve.get_app_handle("default").remote().result(timeout_s=30) != os.getpid()
