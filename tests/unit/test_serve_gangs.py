"""Gangs of replicas, actors that replicas share, and policies of applications, by the machine of the control plane."""

from __future__ import annotations

import itertools
import math
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

import hpc
from hpc.serve.config import (
    AutoscalingConfig,
    AutoscalingPolicy,
    DeploymentActorConfig,
    DeploymentConfig,
    GangSchedulingConfig,
)
from hpc.serve.control import commands as say
from hpc.serve.control.machine import Machine
from hpc.serve.control.rollout import Row, Wanted, by_gangs, plan
from hpc.serve.control.state import Writer, restore
from hpc.serve.messages import DeploymentID, HandleMetrics, ReplicaFacts, helper_name
from hpc.serve.policies import Policies
from hpc.serve.schema import DeploymentStatus, DeploymentStatusTrigger, ReplicaState, ServeApplicationSchema
from hpc.serve.specs import AppSpec, DeploymentSpec, HelperSpec

RUNS, STARTS = ReplicaState.RUNNING, ReplicaState.STARTING
FACTS = ReplicaFacts(1, "1", "")


def machine(imported: Any = lambda what: what) -> Machine:
    numbers = itertools.count(1)
    return Machine(lambda: f"r{next(numbers)}", imported=imported)


def gangs_of(size: int, **options: Any) -> DeploymentConfig:
    return DeploymentConfig(gang_scheduling_config=GangSchedulingConfig(gang_size=size), **options)


def deploy(it: Machine, config: DeploymentConfig, version: str = "v1", helpers: tuple[str, ...] = ()) -> Any:
    spec = DeploymentSpec("d", b"", b"", config, version, helpers=[HelperSpec(name, b"") for name in helpers])
    it.deploy([AppSpec("app", "/", "d", [spec])], 0.0)
    return it.deployments[DeploymentID("d", "app")]


def begun(it: Machine, commands: list[Any], now: float = 1.0) -> None:
    for command in commands:
        if isinstance(command, say.Start):
            it.replica_begun(command.replica, FACTS, b"handle", now)


def kinds(commands: list[Any], kind: type) -> list[Any]:
    return [command for command in commands if isinstance(command, kind)]


def test_a_gang_begins_as_one_and_serves_when_all_of_it_can() -> None:
    it = machine()
    one = deploy(it, gangs_of(2, num_replicas=4))
    starts = kinds(it.take(), say.Start)
    assert [start.gang.rank for start in starts] == [0, 1, 0, 1]
    assert len({start.gang.pg_name for start in starts}) == 2
    assert starts[0].gang.member_replica_ids == [start.replica.unique_id for start in starts[:2]]
    begun(it, starts[:3])
    assert [row.id for row in one.serving] == [start.replica for start in starts[:2]]
    begun(it, starts[3:])
    assert len(one.serving) == 4 and one.status is DeploymentStatus.HEALTHY


def test_a_gang_with_a_dead_member_is_replaced_as_a_whole() -> None:
    it = machine()
    one = deploy(it, gangs_of(2, num_replicas=4))
    starts = kinds(it.take(), say.Start)
    begun(it, starts)
    it.take()
    it.replica_dead(starts[0].replica, "it was killed", 100.0)
    said = it.take()
    assert [command.replica for command in kinds(said, say.Kill)] == [starts[1].replica]
    again = kinds(said, say.Start)
    assert [start.gang.rank for start in again] == [0, 1] and again[0].gang.gang_id != starts[0].gang.gang_id
    assert not kinds(said, say.FreeGang), "the group is given back while a member has its place"
    it.replica_dead(starts[1].replica, "it was ended", 101.0)
    assert [command.name for command in kinds(it.take(), say.FreeGang)] == [starts[0].gang.pg_name]
    begun(it, again)
    assert len(one.serving) == 4


def test_a_member_that_cannot_begin_takes_its_gang_with_it() -> None:
    it = machine()
    one = deploy(it, gangs_of(3, num_replicas=3))
    starts = kinds(it.take(), say.Start)
    begun(it, starts[:1])
    it.replica_failed(starts[1].replica, "no", 1.0)
    assert {command.replica for command in kinds(it.take(), say.Kill)} == {start.replica for start in starts}
    assert one.failures == 1, "a gang that fails is one attempt"


def test_a_change_of_code_goes_by_whole_gangs() -> None:
    wanted = by_gangs(Wanted(4, "b", batch=1, gangs={"a": 2, "b": 2}), [2])
    assert wanted.batch == 2
    old = [Row("g1", "a", RUNS, size=2), Row("g2", "a", RUNS, size=2, order=1)]
    made = plan(wanted, old)
    assert made.stop == ["g2"] and made.start == {"b": 1}
    assert not plan(wanted, [old[0], Row("g3", "b", STARTS, size=2, order=2)])


@pytest.mark.parametrize(("before", "after"), [(2, 4), (4, 2), (3, 2), (2, 3), (1, 4), (4, 1)])
@pytest.mark.parametrize("surge", [0, 6])
def test_gangs_of_another_size_take_the_place_of_old_ones(before: int, after: int, surge: int) -> None:
    numbers = itertools.count(100)
    rows = [Row(f"old{at}", "a", RUNS, size=before, order=at) for at in range(12 // before)]
    for _ in range(40):
        wanted = by_gangs(
            Wanted(12, "b", surge, 2, gangs={"a": before, "b": after}), {row.size for row in rows} | {after}
        )
        made = plan(wanted, rows)
        rows = [row for row in rows if row.id not in made.stop]
        assert sum(row.size for row in rows if row.serves) >= wanted.floor
        rows += [Row(f"new{next(numbers)}", "b", RUNS, size=after) for _ in range(made.start.get("b", 0))]
    assert [row.version for row in rows] == ["b"] * (12 // after)


def test_the_number_of_replicas_is_one_of_whole_gangs() -> None:
    with pytest.raises(ValueError, match=r"num_replicas \(3\) must be a multiple of gang_size \(2\)"):
        gangs_of(2, num_replicas=3)
    with pytest.raises(ValueError, match="max_replicas_per_node is not allowed"):
        gangs_of(2, num_replicas=2, max_replicas_per_node=1)
    with pytest.raises(ValueError, match=r"autoscaling_config.max_replicas \(5\) must be a multiple"):
        gangs_of(2, autoscaling_config=AutoscalingConfig(max_replicas=5))
    with pytest.raises(NotImplementedError, match="RESTART_GANG"):
        GangSchedulingConfig(gang_size=2, runtime_failure_policy="RESTART_REPLICA")  # type: ignore[arg-type]
    it = machine()
    scaling = AutoscalingConfig(min_replicas=2, max_replicas=6, target_ongoing_requests=1, upscale_delay_s=0)
    one = deploy(it, gangs_of(2, autoscaling_config=scaling))
    begun(it, it.take())
    it.note_handle(HandleMetrics("caller", "app", "d", 3), 2.0)
    assert one.target == 4, "three requests need two gangs of two"


def test_replicas_begin_when_the_actors_that_they_share_are_there() -> None:
    it = machine()
    one = deploy(it, DeploymentConfig(), helpers=("cache",))
    said = it.take()
    assert kinds(said, say.StartHelper) and not kinds(said, say.Start)
    it.helper_begun(one.id, "v1", "cache", "", 1.0)
    begun(it, it.take())
    assert one.status is DeploymentStatus.HEALTHY
    it.actors_seen({helper_name(one.id, "v1", "cache")}, 20.0)
    assert not kinds(it.take(), say.StartHelper)
    it.actors_seen(set(), 21.0)
    assert [command.helper.name for command in kinds(it.take(), say.StartHelper)] == ["cache"]
    deploy(it, DeploymentConfig(), "v2", ("cache",))
    said = it.take()
    assert [command.version for command in kinds(said, say.StartHelper)] == ["v2"]
    it.helper_begun(one.id, "v2", "cache", "", 30.0)
    begun(it, it.take(), 31.0)
    for command in kinds(said, say.Drain):
        it.replica_dead(command.replica, "it was ended", 32.0)
    said = it.take()
    begun(it, said, 33.0)
    assert one.status is DeploymentStatus.HEALTHY
    assert [command.version for command in kinds(said + it.take(), say.KillHelper)] == ["v1"]


def test_the_good_version_comes_back_with_the_actors_that_it_shares() -> None:
    it = machine()
    config = DeploymentConfig(max_constructor_retry_count=1)
    one = deploy(it, config, helpers=("cache",))
    it.helper_begun(one.id, "v1", "cache", "", 1.0)
    begun(it, it.take())
    deploy(it, config, "v2", ("cache",))
    for command in kinds(it.take(), say.Drain):
        it.replica_dead(command.replica, "it was ended", 20.0)
    it.helper_begun(one.id, "v2", "cache", "", 21.0)
    said = it.take()
    assert [command.version for command in kinds(said, say.KillHelper)] == ["v1"]
    (start,) = kinds(said, say.Start)
    it.replica_failed(start.replica, "no", 22.0)
    it.replica_dead(start.replica, "it was ended", 23.0)
    assert one.status is DeploymentStatus.DEPLOY_FAILED
    said = it.take()
    assert [command.version for command in kinds(said, say.StartHelper)] == ["v1"]
    assert [command.version for command in kinds(said, say.KillHelper)] == ["v2"]
    it.helper_begun(one.id, "v1", "cache", "", 24.0)
    begun(it, it.take(), 25.0)
    assert [replica.version for replica in one.serving] == ["v1"]


def test_a_shared_actor_that_always_fails_ends_the_attempt() -> None:
    it = machine()
    one = deploy(it, DeploymentConfig(max_constructor_retry_count=3), helpers=("cache",))
    for at in range(3):
        assert kinds(it.take(), say.StartHelper)
        it.helper_begun(one.id, "v1", "cache", "it fails", at * 100.0)
        it.tick(at * 100.0 + 50)
    assert (one.status, one.trigger) == (
        DeploymentStatus.DEPLOY_FAILED,
        DeploymentStatusTrigger.DEPLOYMENT_ACTOR_FAILED,
    )
    assert "'cache' failed to start 3 times" in one.message and not kinds(it.take(), say.StartHelper)


def test_another_controller_finds_what_replicas_share() -> None:
    it = machine()
    one = deploy(it, gangs_of(2, num_replicas=2), helpers=("cache",))
    it.helper_begun(one.id, "v1", "cache", "", 1.0)
    begun(it, it.take())
    writer = Writer()
    kept = writer.state_of(it)
    other = machine()
    restore(other, kept, writer.blobs.__getitem__)
    other.adopt(2.0)
    said = other.take()
    (sweep,) = kinds(said, say.Sweep)
    gang = next(iter(one.replicas.values())).gang
    assert sweep == say.Sweep((gang.pg_name,), (helper_name(one.id, "v1", "cache"),))
    assert [command.helper.name for command in kinds(said, say.StartHelper)] == ["cache"]


def test_shared_actors_have_names_of_their_own_and_classes_of_actors() -> None:
    cls = hpc.remote(type("Cache", (), {}))
    with pytest.raises(ValueError, match=r"unique names. Duplicate name\(s\): \['a'\]"):
        DeploymentConfig(deployment_actors=[DeploymentActorConfig(name="a", actor_class=cls)] * 2)
    with pytest.raises(ValueError, match=r"with @hpc\.remote"):
        DeploymentActorConfig(name="a", actor_class=3)


def both(it: Machine, policy: str) -> list[Any]:
    scaling = AutoscalingConfig(min_replicas=0, max_replicas=8, upscale_delay_s=0, downscale_delay_s=0)
    specs = [DeploymentSpec(name, b"", b"", DeploymentConfig(autoscaling_config=scaling), "v1") for name in "de"]
    app = AppSpec("app", "/", "d", specs, autoscaling_policy=AutoscalingPolicy(policy_function=policy))
    it.deploy([app], 0.0)
    return list(it.deployments.values())


def test_a_good_version_of_large_gangs_serves_behind_one_that_fails() -> None:
    rows = [Row("a", "new", RUNS)]
    wanted = Wanted(1, "new", failed=True, good="good", gangs={"good": 3, "new": 1})
    assert plan(wanted, []).start == {"good": 1} and not plan(wanted, rows)
    assert plan(Wanted(4, "new", failed=True, good="good", gangs={"good": 3}), rows).start == {"good": 1}
    assert not plan(wanted, [Row("b", "good", RUNS, size=3)])


def test_a_shared_actor_that_answers_nothing_is_replaced() -> None:
    it = machine()
    one = deploy(it, DeploymentConfig(health_check_period_s=10, health_check_timeout_s=3), helpers=("cache",))
    it.helper_begun(one.id, "v1", "cache", "", 1.0)
    begun(it, it.take())
    about = (one.id, "v1", "cache")
    for asked_at, is_well in ((11.0, False), (21.0, True), (31.0, False), (41.0, False), (51.0, False)):
        it.tick(asked_at)
        assert kinds(it.take(), say.CheckHelper) == [say.CheckHelper(*about, 3)]
        it.tick(asked_at + 1)
        assert not kinds(it.take(), say.CheckHelper), "it is asked already"
        it.helper_checked(*about, is_well, asked_at)
    commands = it.take()
    assert kinds(commands, say.KillHelper) == [say.KillHelper(*about)] and kinds(commands, say.StartHelper)
    it.helper_begun(*about, "", 52.0)
    assert one.is_whole(1.0) and one.helpers["v1", "cache"].misses == 0
    it.helper_checked(one.id, "v1", "other", False, 53.0)


def test_a_shared_actors_options_are_not_those_of_the_service() -> None:
    with pytest.raises(ValueError, match="'cache' must not have lifetime, name: the service names the actor"):
        DeploymentActorConfig(name="cache", actor_class="m:C", actor_options={"name": "x", "lifetime": "detached"})
    assert DeploymentActorConfig(name="cache", actor_class="m:C", actor_options={"num_cpus": 2}).actor_options


def test_one_policy_decides_for_all_deployments_of_an_application() -> None:
    seen = []

    class Together:
        def __init__(self, **options: Any) -> None:
            seen.append(options)

        def __call__(self, contexts: dict[DeploymentID, Any]) -> Any:
            total = sum(ctx.total_num_requests for ctx in contexts.values())
            seen.append({ident.name: dict(ctx.policy_state) for ident, ctx in contexts.items()})
            return dict.fromkeys(contexts, total), {ident: {"total": total} for ident in contexts}

    it = machine(lambda what: Together)
    first, second = both(it, "somewhere:Together")
    it.note_handle(HandleMetrics("caller", "app", "d", 3), 1.0)
    assert (first.target, second.target) == (3, 3)
    it.tick(2.0)
    assert seen[0] == {} and seen[-1] == {"d": {"total": 3}, "e": {"total": 3}}
    assert seen.count({}) == 1, "a policy that is a class is made once"


@pytest.mark.parametrize(
    "said",
    [
        3,
        {DeploymentID("x", "app"): 1},
        ({}, 3),
        ({DeploymentID("d", "app"): 2}, {DeploymentID("d", "app"): 3}),
        {DeploymentID("d", "app"): None},
        {DeploymentID("d", "app"): math.nan},
        {DeploymentID("d", "app"): math.inf},
        {DeploymentID("d", "app"): 2, DeploymentID("e", "app"): "two"},
    ],
)
def test_a_policy_that_fails_changes_nothing_and_is_told(said: Any) -> None:
    it = machine(lambda what: lambda contexts: said)
    first, second = both(it, "somewhere:bad")
    it.note_handle(HandleMetrics("caller", "app", "d", 3), 1.0)
    assert (first.target, second.target) == (0, 0)
    assert "the autoscaling policy of the application failed" in first.message


@pytest.mark.parametrize("together", [True, False])
def test_a_state_of_a_policy_that_cannot_be_kept_is_a_failure_of_it(together: bool) -> None:
    state = {"lock": threading.Lock()}

    def bad(ctx: Any) -> Any:
        if together:
            return dict.fromkeys(ctx, 5), dict.fromkeys(ctx, state)
        ctx.policy_state.update(state)
        return 5, ctx.policy_state

    if together:
        it = machine(lambda what: bad)
        one, _ = both(it, "somewhere:bad")
    else:
        it = Machine(lambda: "r1", lambda spec: bad)
        one = deploy(it, DeploymentConfig(autoscaling_config=AutoscalingConfig(min_replicas=1, upscale_delay_s=0)))
    before = one.target
    it.note_handle(HandleMetrics("caller", "app", "d", 3), 1.0)
    assert one.target == before and "cannot pickle" in one.message
    assert Writer().state_of(it)


def test_the_policy_of_an_application_that_is_gone_is_not_kept() -> None:
    it = machine(imported=lambda what: lambda contexts: dict.fromkeys(contexts, 0))
    config = DeploymentConfig(autoscaling_config=AutoscalingConfig(min_replicas=0))
    spec = DeploymentSpec("d", b"", b"", config, "v1")
    policy = AutoscalingPolicy(policy_function="m:p")
    it.deploy([AppSpec("app", "/", "d", [spec], autoscaling_policy=policy)], 0.0)
    it.tick(0.0)
    assert set(it.scaling._made) == {"app"}
    it.delete(["app"], 1.0)
    assert not it.scaling._made


def test_a_policy_that_has_changed_is_imported_anew_when_something_is_deployed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "own_policy.py").write_text("from own_numbers import number\ndef policy(ctx): return number\n")
    (tmp_path / "own_numbers.py").write_text("number = 1\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    one = Policies()
    first = one.imported("own_policy:policy")
    assert first(None) == 1
    one.renew()
    assert one.imported("own_policy:policy") is first, "nothing has changed"
    (tmp_path / "own_numbers.py").write_text("number = 22\n")
    assert one.imported("own_policy:policy") is first, "nothing was deployed"
    one.renew()
    assert one.imported("own_policy:policy")(None) == 22
    (tmp_path / "own_policy.py").unlink()
    one.renew()
    with pytest.raises(ImportError):
        one.imported("own_policy:policy")
    for name in ("own_policy", "own_numbers"):
        sys.modules.pop(name, None)


def test_the_policy_of_an_application_is_one_of_a_file() -> None:
    app = ServeApplicationSchema(import_path="a:b", autoscaling_policy={"policy_function": "m:f"})
    assert (
        app.policy == AutoscalingPolicy(policy_function="m:f")
        and app.plain()["autoscaling_policy"]["policy_kwargs"] == {}
    )
    with pytest.raises(ValueError, match="autoscaling_policy has no nonsense"):
        ServeApplicationSchema(import_path="a:b", autoscaling_policy={"nonsense": 1})
