"""Futures of references: concurrent.futures, callbacks, asyncio, gather, time-outs."""

import asyncio
import concurrent.futures
import time

import hpc as ray

ray.init(num_cpus=2)


@ray.remote
def square(n):
    return n * n


@ray.remote
def fail():
    raise KeyError("no")


@ray.remote
def slow():
    time.sleep(60)
    return "slow"


future = square.remote(4).future()
print(isinstance(future, concurrent.futures.Future), future.result(30), future.done())
print(isinstance(fail.remote().future().exception(30), KeyError))
seen = []
futures = [square.remote(n).future() for n in range(20)]
for one in futures:
    one.add_done_callback(lambda done: seen.append(done.result()))
done, pending = concurrent.futures.wait(futures, timeout=30)
print(len(done), len(pending))
while len(seen) < 20:
    time.sleep(0.01)
print(sorted(seen) == [n * n for n in range(20)])


async def main():
    print(await square.remote(5))
    print(await asyncio.gather(*[square.remote(n) for n in range(5)]))
    results = await asyncio.gather(square.remote(2), fail.remote(), return_exceptions=True)
    print(results[0], isinstance(results[1], KeyError))
    try:
        await asyncio.wait_for(slow.remote(), 0.1)
    except asyncio.TimeoutError:
        print("asyncio's time-out")
    done, pending = await asyncio.wait([asyncio.wrap_future(square.remote(3).future())])
    print(len(done), len(pending))


asyncio.run(main())
