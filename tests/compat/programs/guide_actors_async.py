"""Async actors: calls that wait for one another, gather, errors, async generators."""

import asyncio

import hpc as ray

ray.init(num_cpus=2)


@ray.remote
class Meeting:
    def __init__(self):
        self.event = asyncio.Event()
        self.seen = 0

    async def wait(self):
        self.seen += 1
        await self.event.wait()
        return self.seen

    async def open(self):
        self.event.set()

    async def count(self):
        return self.seen

    async def fail(self):
        await asyncio.sleep(0)
        raise KeyError("k")

    async def numbers(self, n):
        for i in range(n):
            await asyncio.sleep(0)
            yield i

    def plain(self):
        return "plain"


@ray.remote
def value():
    return 5


meeting = Meeting.remote()
waiting = [meeting.wait.remote() for _ in range(5)]
while ray.get(meeting.count.remote()) < 5:
    pass
ray.get(meeting.open.remote())
print(ray.get(waiting))
try:
    ray.get(meeting.fail.remote())
except KeyError as error:
    print("KeyError", isinstance(error, ray.exceptions.RayTaskError))
print([ray.get(ref) for ref in meeting.numbers.options(num_returns="streaming").remote(3)])
print(ray.get(meeting.plain.remote()))


async def main():
    print(await value.remote())
    print(await asyncio.gather(*[meeting.count.remote() for _ in range(3)]))
    done, pending = await asyncio.wait([asyncio.ensure_future(asyncio.wrap_future(value.remote().future()))])
    print(len(done), len(pending))
    found = []
    async for ref in meeting.numbers.options(num_returns="streaming").remote(3):
        found.append(await ref)
    print(found)
    try:
        await meeting.fail.remote()
    except KeyError:
        print("KeyError awaited")


asyncio.run(main())
