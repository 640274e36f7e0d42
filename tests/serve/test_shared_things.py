"""What replicas share, in real processes: groups of gangs, actors of a deployment, a policy of an application."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import hpc
from hpc import serve
from hpc.exceptions import ActorDiedError
from hpc.serve import declared, schema
from hpc.serve.config import DeploymentActorConfig, GangSchedulingConfig
from hpc.util.placement_group import placement_group_table
from tests.runtime.running import one_node
from tests.serve.deploying import controller_pid, kill, standing, until


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


@hpc.remote(num_cpus=0)
class Tally:
    """Counts, for all replicas."""

    def __init__(self, start: int = 0) -> None:
        self.count = start

    def add(self) -> tuple[int, int]:
        self.count += 1
        return self.count, os.getpid()


@serve.deployment
class Member:
    """Says which member it is, and counts."""

    async def facts(self) -> tuple[str, int, int]:
        gang = serve.get_replica_context().gang_context
        return gang.gang_id, gang.rank, os.getpid()

    async def add(self) -> Any:
        return await serve.get_deployment_actor("tally").add.remote()

    async def __call__(self) -> str:
        return "here"


def groups() -> list[str]:
    """The groups of gangs that are there."""
    rows = placement_group_table().values()
    return [row["name"] for row in rows if row["name"].startswith("SERVE_GANG::") and row["state"] != "REMOVED"]


def shared() -> list[str]:
    """The names of actors that replicas share."""
    rows = hpc.util.list_named_actors(all_namespaces=True)
    return [row["name"] for row in rows if row["name"].startswith("SERVE_DEPLOYMENT_ACTOR::")]


def members(handle: Any, gangs: int) -> list[tuple[str, int, int]]:
    """The facts of all members, once they are two in each of so many gangs."""

    def found() -> Any:
        try:
            rows: list[tuple[str, int, int]] = handle.broadcast("facts").results()
        except ActorDiedError:  # of one that was on its way to it
            return None
        ranks: dict[str, list[int]] = {}
        for gang, rank, _ in rows:
            ranks.setdefault(gang, []).append(rank)
        return rows if len(ranks) == gangs and all(sorted(one) == [0, 1] for one in ranks.values()) else None

    return list(until(found, f"{gangs} gangs"))


def test_gangs_have_groups_of_their_own_and_end_as_a_whole() -> None:
    app = Member.options(num_replicas=4, gang_scheduling_config=GangSchedulingConfig(gang_size=2)).bind()  # type: ignore[arg-type]
    handle = serve.run(app, route_prefix=None)
    before = members(handle, 2)
    assert len(groups()) == 2
    kill(before[0][2])
    dead = before[0][0]
    until(lambda: dead not in {row[0] for row in members(handle, 2)}, "another gang")
    after = members(handle, 2)
    assert len({row[0] for row in before} & {row[0] for row in after}) == 1
    gone = {row[2] for row in before if row[0] == dead}
    assert not gone & {row[2] for row in after}, "a member of a broken gang serves on"
    until(lambda: len(groups()) == 2, "as many groups as gangs")
    serve.delete("default")
    until(lambda: not groups(), "no groups")


def test_a_gang_without_room_for_all_of_it_begins_nothing() -> None:
    config = GangSchedulingConfig(gang_size=3)
    app = Member.options(num_replicas=3, gang_scheduling_config=config, ray_actor_options={"num_cpus": 6}).bind()
    serve.run_many([serve.RunTarget(app, "large", None)], wait_for_applications_running=False)
    until(lambda: groups(), "the group")
    assert hpc.available_resources().get("CPU") == 16, "a part of a gang has its place"
    assert standing("Member", "large").replica_states == {"STARTING": 3}


def test_replicas_share_an_actor_that_is_replaced_when_it_dies() -> None:
    tally = DeploymentActorConfig(name="tally", actor_class=Tally, init_kwargs={"start": 10})
    handle = serve.run(Member.options(num_replicas=2, deployment_actors=[tally]).bind(), route_prefix=None)
    count, pid = handle.add.remote().result()
    assert count == 11 and handle.add.remote().result()[0] == 12
    kill(controller_pid())
    assert handle.add.remote().result()[0] == 13, "another controller has ended it"
    until(lambda: standing("Member").status.value == "HEALTHY", "another controller")
    assert handle.add.remote().result() == (14, pid)
    kill(pid)

    def again() -> Any:
        try:
            return handle.add.remote().result()
        except Exception:
            return None

    assert until(again, "another actor")[0] == 11
    serve.delete("default")
    until(lambda: not shared(), "the end of the actor")


def test_an_actor_that_cannot_begin_is_told() -> None:
    tally = DeploymentActorConfig(name="tally", actor_class=Tally, init_kwargs={"wrong": 1})
    app = Member.options(deployment_actors=[tally], max_constructor_retry_count=2).bind()
    with pytest.raises(RuntimeError, match="deployment actor 'tally' failed to start 2 times"):
        serve.run(app, route_prefix=None)


MODULE = """
from hpc import serve

@serve.deployment(autoscaling_config={"min_replicas": 1, "max_replicas": 4, "upscale_delay_s": 0})
class First:
    def __init__(self, second):
        self.second = second

@serve.deployment(autoscaling_config={"min_replicas": 1, "max_replicas": 4, "upscale_delay_s": 0})
class Second:
    pass

app = First.bind(Second.bind())
"""


def test_a_policy_of_an_application_scales_all_of_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "scaled_together.py").write_text(MODULE)
    monkeypatch.syspath_prepend(str(tmp_path))
    policy = {"policy_function": "tests.serve.deploying:three_of_each"}
    config = schema.read_config(
        {
            "proxy_location": "Disabled",
            "applications": [
                {
                    "name": "scaled",
                    "route_prefix": None,
                    "import_path": "scaled_together:app",
                    "autoscaling_policy": policy,
                }
            ],
        }
    )
    declared.deploy(config, paths=[str(tmp_path)])
    for name in ("First", "Second"):
        until(lambda name=name: standing(name, "scaled").replica_states == {"RUNNING": 3}, f"three of {name}")  # type: ignore[misc]
