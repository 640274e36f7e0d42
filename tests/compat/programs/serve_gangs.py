"""Gangs of replicas, and actors that the replicas of a deployment share."""

import os
import time

import hpc as ray
from hpc import serve
from hpc.serve.config import DeploymentActorConfig, GangSchedulingConfig

ray.init(num_cpus=16)
serve.start(proxy_location="Disabled")


@ray.remote(num_cpus=0)
class Counter:
    def __init__(self, start=0):
        self.count = start

    def add(self):
        self.count += 1
        return self.count

    def about(self):
        found = serve.get_deployment_actor_context()
        return found.app_name, found.deployment, found.actor_name, found.code_version is not None

    def end(self):
        os._exit(1)


@serve.deployment(
    num_replicas=4,
    ray_actor_options={"num_cpus": 0.5},
    gang_scheduling_config=GangSchedulingConfig(gang_size=2),
    deployment_actors=[DeploymentActorConfig(name="counter", actor_class=Counter, init_kwargs={"start": 10})],
)
class Member:
    def __init__(self):
        self.counter = serve.get_deployment_actor("counter")

    async def facts(self):
        here = serve.get_replica_context()
        gang = here.gang_context
        is_known = gang.member_replica_ids[gang.rank] == here.replica_id.unique_id
        return gang.gang_id, gang.rank, gang.world_size, is_known, here.rank.rank, here.world_size, os.getpid()

    async def add(self):
        return await serve.get_deployment_actor("counter").add.remote()

    async def about(self):
        return await self.counter.about.remote()

    async def end_counter(self):
        self.counter.end.remote()


def gangs():
    return sorted(handle.broadcast("facts").results(), key=lambda row: row[4])


def tried(what):
    end = time.time() + 60
    while time.time() < end:
        try:
            found = what()
        except Exception:
            found = None
        if found:
            return found
        time.sleep(0.1)
    return None


handle = serve.run(Member.bind(), route_prefix=None)
rows = gangs()
print("gangs", len({row[0] for row in rows}), "ranks in them", sorted(row[1] for row in rows))
print("sizes", {row[2] for row in rows}, "know their members", {row[3] for row in rows})
print("ranks", [row[4] for row in rows], "of", {row[5] for row in rows})

print("shared", handle.add.remote().result(), handle.add.remote().result())
print("about", handle.about.remote().result())
handle.end_counter.remote().result()
print("another one", tried(lambda: handle.add.remote().result()))

before = {row[0] for row in rows}
os.kill(rows[0][6], 9)
after = tried(lambda: [row for row in gangs() if len(gangs()) == 4 and {one[0] for one in gangs()} != before])
now = {row[0] for row in gangs()}
print("after a death: stays", len(before & now), "new", len(now - before), "replicas", len(gangs()))
serve.shutdown()


def refused(**options):
    try:
        serve.deployment(**options)(Member.func_or_class)
        print("taken")
    except ValueError as error:
        told = [line.split(" [type")[0] for line in str(error).splitlines()]
        print(
            next(
                line.split("Value error, ")[-1].split(" Please")[0].split(" Use")[0]
                for line in told
                if "must" in line or "not allowed" in line
            )
        )


refused(num_replicas=3, gang_scheduling_config={"gang_size": 2})
refused(num_replicas=2, max_replicas_per_node=1, gang_scheduling_config={"gang_size": 2})
refused(num_replicas=2, placement_group_strategy="PACK", gang_scheduling_config={"gang_size": 2})
twice = [{"name": "a", "actor_class": Counter}, {"name": "a", "actor_class": Counter}]
refused(deployment_actors=twice)
for ask in (lambda: serve.get_deployment_actor("counter"), serve.get_deployment_actor_context):
    try:
        ask()
    except Exception as error:
        print(type(error).__name__, error)
