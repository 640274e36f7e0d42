"""What must hold of a simulated service (`hpc.serve.control.world`): after each event, and when all is quiet."""

from __future__ import annotations

from typing import Any

from hpc.serve.control import commands as say
from hpc.serve.control.fleet import Deployment
from hpc.serve.messages import ReplicaID, helper_name
from hpc.serve.schema import DeploymentStatus, ReplicaState

#: A `hpc.serve.control.world.World`, which has these checks made.
World = Any


def check_step(world: World, said: list[Any]) -> None:
    """After each event: never are there more replicas than a target and its surge. Never do fewer than the floor
    take requests because some were told to end."""
    drained = {command.replica for command in said if isinstance(command, say.Drain)} - world.drained
    world.drained |= drained
    for one in world.machine.deployments.values():
        wanted = one.wanted(world.machine.share)
        moving = {replica.unit for replica in one.live if replica.state is ReplicaState.PENDING_MIGRATION}
        staying = [replica for replica in one.live if replica.unit not in moving]
        sizes = one.sizes | {one.spec.config.gang_size}  # a gang that is larger than what is too many stays
        most = wanted.target + wanted.surge + (max(sizes) - 1 if len(sizes) > 1 else 0)
        assert len(staying) <= most, f"{len(staying)} replicas of {one.id}, where {most} may be"
        _check_floor(world, one, drained)


def _check_floor(world: World, one: Deployment, drained: set[ReplicaID]) -> None:
    ended = [ident for ident in drained if ident.deployment_id == one.id and ident.unique_id not in world.unwell]
    if not ended or one.deleting:
        return
    actors = [world.actors.get(replica.id) for replica in one.serving]
    serving, floor = sum(actor is None or actor.begun for actor in actors), one.wanted(world.machine.share).floor
    assert serving >= floor, f"{serving} replicas of {one.id} take requests after {len(ended)} ended, not {floor}"


def check_end(world: World) -> None:
    """After the quiet: all is whole or has failed for good, and each request of a living deployment is over."""
    for one in world.machine.deployments.values():
        if one.failed:
            assert one.status is DeploymentStatus.DEPLOY_FAILED, f"{one.id} is {one.status}"
            wanted = one.wanted(world.machine.share)
            if wanted.good:  # its replicas serve behind the version that has failed
                most = wanted.target + max(one.sizes | {1}) - 1
                assert wanted.target <= len(one.serving) <= most, f"{one.id} has failed: {len(one.serving)} serve"
                assert set(one.states()) <= {ReplicaState.RUNNING}, f"{one.id} has failed: {one.states()}"
        else:
            count = one.wanted_count(world.machine.share)
            assert one.status is DeploymentStatus.HEALTHY, f"{one.id} is {one.status}: {one.states()} of {count}"
            assert one.states() == ({ReplicaState.RUNNING: count} if count else {}), f"{one.id}: {one.states()}"
            assert sorted(replica.rank for replica in one.live) == list(range(count)), "ranks have holes"
    known = {replica.id for one in world.machine.deployments.values() for replica in one.replicas.values()}
    assert set(world.actors) == known, f"{set(world.actors) ^ known} are known to one only"
    _check_gangs(world)
    for call in world.calls.values():
        there = world.machine.deployments.get(call.deployment)
        if not call.outcome and not world.moves and there is not None and there.serving:
            raise AssertionError(f"request {call.ident} of {call.deployment} is {call.state}")


def _check_gangs(world: World) -> None:
    """Each gang is whole, and has its group; each shared actor is one that the machine knows."""
    gangs: dict[str, list[Any]] = {}
    names = set()
    for one in world.machine.deployments.values():
        names |= {helper_name(one.id, *key) for key in one.helpers}
        for replica in one.replicas.values():
            if replica.gang is not None:
                gangs.setdefault(replica.gang.pg_name, []).append(replica)
    assert world.groups == set(gangs), f"{world.groups ^ set(gangs)} are groups of one only"
    for name, members in gangs.items():
        ranks = sorted(each.gang.rank for each in members)
        assert ranks == list(range(members[0].gang.world_size)), f"gang {name} has {ranks}"
        assert len({each.version for each in members}) == 1, f"gang {name} has several versions"
    assert set(world.helpers) == names, f"{set(world.helpers) ^ names} are known to one only"
    assert not world.hanging & names, f"{world.hanging & names} hang, and nothing takes their places"
