"""References in asyncio code of the driver."""

import hpc as ray

ray.init(num_cpus=2)

import asyncio
import concurrent.futures


@ray.remote
def give(i):
    return i


@ray.remote
def fail():
    raise ValueError("v")


async def main():
    print(await give.remote(1))
    print(await asyncio.gather(*[give.remote(i) for i in range(4)]))
    print(await asyncio.wait_for(give.remote(5), timeout=60))
    try:
        await fail.remote()
    except ValueError as error:
        print("ValueError", isinstance(error, ray.exceptions.RayTaskError))
    tasks = [asyncio.ensure_future(give.remote(i)) for i in range(3)] if False else [give.remote(i) for i in range(3)]
    print(sorted([await task for task in tasks]))
    slow = ray.remote(lambda: __import__("time").sleep(60)).remote()
    try:
        await asyncio.wait_for(slow, timeout=0.2)
    except asyncio.TimeoutError:
        print("TimeoutError")
    ray.cancel(slow, force=True)


asyncio.run(main())
futures = [give.remote(i).future() for i in range(3)]
print(sorted(f.result() for f in concurrent.futures.as_completed(futures)))
print(type(futures[0]).__module__)
try:
    fail.remote().future().result()
except ValueError:
    print("ValueError of a future")
