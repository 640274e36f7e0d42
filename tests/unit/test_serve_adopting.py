"""What a controller does with the state that another one has left: replicas, proxies, and how many there shall be."""

from __future__ import annotations

import itertools
from typing import Any

import pytest

from hpc.serve.config import AutoscalingConfig, AutoscalingPolicy, DeploymentConfig, ProxyLocation
from hpc.serve.control import commands as say
from hpc.serve.control.autoscale import SILENT_S, capacity_of
from hpc.serve.control.fleet import MAX_BACKOFF_S, Deployment
from hpc.serve.control.machine import Machine
from hpc.serve.control.proxies import CHECK_EVERY_S, MIN_DRAIN_S
from hpc.serve.control.state import Writer, restore
from hpc.serve.messages import HandleMetrics, ReplicaFacts
from hpc.serve.schema import DeploymentStatus, ProxyStatus, ReplicaState
from hpc.serve.specs import AppSpec, DeploymentSpec


class Told:
    """A machine, what it said, and its successor."""

    def __init__(self, policy_of: Any = None) -> None:
        self._numbers = itertools.count()
        self._more = () if policy_of is None else (policy_of,)
        self.machine = self._made()
        self.machine.nodes(["1"], [], "1", 0.0)

    def _made(self) -> Machine:
        return Machine(lambda: f"r{next(self._numbers)}", *self._more)

    def deploy(self, version: str, now: float, **options: Any) -> list[Any]:
        spec = DeploymentSpec("d", b"", b"", DeploymentConfig(**options), version)
        self.machine.deploy([AppSpec("app", "/", "d", [spec])], now)
        return self.machine.take()

    def begun(self, said: list[Any], now: float) -> list[Any]:
        """All that were to start have begun; all that were to take their configuration have it."""
        for command in said:
            if isinstance(command, say.Start):
                self.machine.replica_begun(command.replica, ReplicaFacts(1, "1", ""), b"handle", now)
            elif isinstance(command, say.Reconfigure):
                self.machine.reconfigured(command.replica, "", now)
        return self.machine.take()

    def succeeded(self, now: float) -> list[Any]:
        """The controller dies, and another one goes on."""
        writer = Writer()
        kept = writer.state_of(self.machine)
        self.machine = self._made()
        restore(self.machine, kept, writer.blobs.__getitem__)
        self.machine.nodes(["1"], [], "1", now)
        self.machine.adopt(now)
        return self.machine.take()

    @property
    def one(self) -> Deployment:
        (found,) = self.machine.deployments.values()
        return found


def kinds(said: list[Any], *wanted: type) -> list[Any]:
    return [command for command in said if isinstance(command, wanted)]


def test_a_replica_that_has_not_begun_takes_nobodys_place_after_a_controllers_death() -> None:
    told = Told()
    told.begun(told.deploy("a", 0.0, num_replicas=2), 1.0)
    assert len(kinds(told.deploy("b", 2.0, num_replicas=2), say.Start, say.Drain)) == 2
    said = told.succeeded(3.0)
    draining = {replica.id for replica in told.one.replicas.values() if replica.state is ReplicaState.STOPPING}
    assert {command.replica for command in kinds(said, say.Drain, say.Kill)} == draining and len(draining) == 1
    assert told.one.good == "a" and told.one.status is DeploymentStatus.UPDATING
    (new,) = [replica for replica in told.one.live if replica.version == "b"]
    told.machine.replica_dead(new.id, "there is no actor", 3.1, True)
    assert told.one.failures == 0, "nobody knows whether it was ever made"
    assert len(kinds(told.machine.take(), say.Start)) == 1


def test_requests_of_a_replica_that_was_found_again_come_to_their_end() -> None:
    told = Told()
    told.begun(told.deploy("a", 0.0, num_replicas=2), 1.0)
    told.succeeded(2.0)
    assert {replica.state for replica in told.one.live} == {ReplicaState.RECOVERING}
    told.machine.delete(["app"], 2.1)
    said = told.machine.take()
    assert len(kinds(said, say.Drain)) == 2 and not kinds(said, say.Kill)


def test_a_proxy_that_drains_goes_on_so_and_asks_for_no_time() -> None:
    told = Told()
    proxies = told.machine.proxies
    proxies.location = ProxyLocation.HeadOnly
    proxies.settle([], {"1", "2"}, 0.0)
    proxies.ready("1", ("unix:/s",), 0.0)
    proxies.head = "2"
    proxies.settle([], {"1", "2"}, 1.0)
    proxies.ready("2", ("unix:/s",), 1.0)
    proxies.settle([], {"1", "2"}, 1.0 + MIN_DRAIN_S)
    assert proxies.table["1"].status is ProxyStatus.DRAINING
    proxies.table["2"].next_check = 10_000.0
    assert proxies.next_at() == 10_000.0 > 1.0 + MIN_DRAIN_S + CHECK_EVERY_S
    told.machine.take()
    proxies.adopt()
    assert told.machine.take() == [say.DrainProxy("1", 3600.0), say.StartProxy("2")]


def test_a_configuration_that_every_replica_refuses_fails_and_spares_those_that_serve() -> None:
    told = Told()
    options = {"num_replicas": 3, "max_constructor_retry_count": 3}
    told.begun(told.deploy("a", 0.0, **options), 1.0)
    assert told.one.status is DeploymentStatus.HEALTHY
    said, now = told.deploy("a", 2.0, user_config="bad", **options), 2.0
    while said and now < 100.0:
        now += 1.0
        for command in said:
            if isinstance(command, (say.Start, say.Reconfigure)):
                told.machine.replica_failed(command.replica, "a bad config", now)
            elif isinstance(command, say.Kill):
                told.machine.replica_dead(command.replica, "it was ended", now)
        told.machine.tick(now + MAX_BACKOFF_S)
        said = kinds(told.machine.take(), say.Start, say.Reconfigure, say.Kill)
    assert told.one.status is DeploymentStatus.DEPLOY_FAILED and "a bad config" in told.one.message
    assert len(told.one.serving) == 2
    said = told.deploy("a", now, user_config="good", **options)
    while said:
        said = told.begun(said, now)
    assert told.one.status is DeploymentStatus.HEALTHY and len(told.one.serving) == 3


# ---------------------------------------------------------------- how many there shall be


def serving(told: Told, until: float, now: float = 0.0, **options: Any) -> int:
    """How many replicas serve in the end, where all begin at once and time passes in seconds."""
    said = told.deploy("a", now, **options) if options else told.machine.take()
    while True:
        while said:
            said = told.begun(said, now)
            for command in kinds(said, say.Drain, say.Kill):
                told.machine.replica_dead(command.replica, "it was ended", now)
        if now >= until:
            return len(told.one.serving)
        now += 1.0
        told.machine.tick(now)
        said = told.machine.take()


def scaled(**options: Any) -> dict[str, Any]:
    return {"autoscaling_config": AutoscalingConfig(**options)}


def test_what_is_too_much_from_the_beginning_ends_without_any_request() -> None:
    options = scaled(initial_replicas=4, max_replicas=4, downscale_delay_s=5)
    assert serving(Told(), 4.0, **options) == 4 and serving(Told(), 7.0, **options) == 1


def test_a_policy_of_a_user_is_asked_before_the_first_request() -> None:
    options = scaled(max_replicas=4, upscale_delay_s=0, policy=AutoscalingPolicy(policy_function="my:own"))
    assert serving(Told(lambda spec: lambda ctx: 3), 3.0, **options) == 3

    def missing(spec: Any) -> Any:
        raise ModuleNotFoundError("no module named my")

    told = Told(missing)
    assert serving(told, 3.0, **options) == 1
    assert "no module named my" in told.one.message


def test_a_controller_that_has_heard_no_caller_yet_ends_no_replica() -> None:
    told = Told()
    options = scaled(max_replicas=4, upscale_delay_s=0, downscale_delay_s=0)
    told.begun(told.deploy("a", 0.0, **options), 0.0)
    told.machine.note_handle(HandleMetrics("r", "app", "d", 8, {}), 0.0)
    assert serving(told, 1.0) == 4
    told.succeeded(2.0)
    for replica in told.one.live:
        told.machine.replica_begun(replica.id, ReplicaFacts(1, "1", ""), b"handle", 2.0)
    assert serving(told, 2.0 + SILENT_S - 1, 2.0) == 4
    assert serving(told, 2.0 + SILENT_S + 2, 2.0 + SILENT_S - 1) == 1


def test_a_share_of_the_capacity_counts_once() -> None:
    told = Told()
    options = scaled(min_replicas=2, max_replicas=10, upscale_delay_s=0)
    told.machine.set_capacity(50.0, 0.0)
    told.begun(told.deploy("a", 0.0, **options), 0.0)
    told.machine.note_handle(HandleMetrics("r", "app", "d", 100, {}), 0.0)
    assert serving(told, 1.0) == 5
    assert [capacity_of(count, 0.5) for count in (1, 3, 5)] == [1, 2, 3]
    told.machine.set_capacity(0.0, 1.0)
    assert serving(told, 2.0, 1.0) == 0


def test_a_target_alone_is_to_be_kept_and_is_the_next_ones() -> None:
    told = Told()
    spec = DeploymentSpec("d", b"", b"", DeploymentConfig(max_replicas_per_node=1, num_replicas=2), "1")
    told.machine.deploy([AppSpec("app", "/", "d", [spec], external_scaler_enabled=True)], 0.0)
    told.begun(told.machine.take(), 0.0)
    told.machine.is_unsaved = False
    told.machine.scale("app", "d", 3, 1.0)
    assert told.machine.is_unsaved
    told.machine.take()
    told.machine.is_unsaved = False
    told.machine.scale("app", "d", 3, 1.0)
    assert not told.machine.is_unsaved
    told.machine.set_capacity(50.0, 2.0)
    assert told.machine.is_unsaved
    told.succeeded(3.0)
    assert (told.one.target, told.machine.target_capacity) == (3, 50.0)


def test_a_route_that_was_given_is_not_given_twice() -> None:
    told = Told()
    for app, route in (("old", "/"), ("new", None)):
        spec = DeploymentSpec("d", b"", b"", DeploymentConfig(), "1")
        told.machine.deploy([AppSpec(app, route, "d", [spec])], 0.0)
    told.machine.promote("old", "new", 1.0)
    told.succeeded(2.0)
    told.machine.promote("old", "new", 2.0)  # whoever asked has no answer of the controller that has done it
    table = told.machine.apps.table
    assert (table["old"].spec.route_prefix, table["new"].spec.route_prefix) == (None, "/")
    told.machine.promote("new", "old", 3.0)
    assert (table["old"].spec.route_prefix, table["new"].spec.route_prefix) == ("/", None)
    told.machine.promote("old", "new", 4.0)
    assert table["new"].spec.route_prefix == "/"
    told.machine.deploy([AppSpec("new", None, "d", [spec])], 5.0)
    with pytest.raises(ValueError, match="no route"):
        told.machine.promote("old", "new", 6.0)
