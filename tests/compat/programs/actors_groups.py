"""Concurrency groups: one that is blocked does not stop another."""

import asyncio
import threading

import hpc as ray

ray.init(num_cpus=2)


@ray.remote(concurrency_groups={"health": 1, "io": 2})
class Coroutines:
    def __init__(self):
        self.go = threading.Event()

    async def block(self):
        return self.go.wait(30)

    @ray.method(concurrency_group="io")
    async def block_io(self):
        return self.go.wait(30)

    @ray.method(concurrency_group="health")
    async def ping(self):
        await asyncio.sleep(0)
        return "pong"

    @ray.method(concurrency_group="health")
    async def open(self):
        self.go.set()


@ray.remote(concurrency_groups={"health": 1, "io": 2})
class Threads:
    def __init__(self):
        self.go = threading.Event()

    def block(self):
        return self.go.wait(30)

    @ray.method(concurrency_group="io")
    def block_io(self):
        return self.go.wait(30)

    @ray.method(concurrency_group="health")
    def ping(self):
        return "pong"

    @ray.method(concurrency_group="health")
    def open(self):
        self.go.set()


for cls in (Coroutines, Threads):
    for blocking in ("block", "block_io"):
        actor = cls.remote()
        blocked = getattr(actor, blocking).remote()
        print(blocking, ray.get(actor.ping.remote(), timeout=20))
        print(ray.get(actor.ping.options(concurrency_group="health").remote(), timeout=20))
        ray.get(actor.open.remote(), timeout=20)
        print(ray.get(blocked, timeout=20))
