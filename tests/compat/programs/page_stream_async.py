"""Async iteration over a stream, its states, its early end."""

import hpc as ray

ray.init(num_cpus=2)

import asyncio


@ray.remote
def numbers(n):
    for i in range(n):
        yield i


@ray.remote
def fails(n):
    for i in range(n):
        yield i
    raise ValueError("end")


async def main():
    found = []
    async for ref in numbers.remote(3):
        found.append(await ref)
    print(found)
    found = []
    try:
        async for ref in fails.remote(2):
            found.append(await ref)
    except ValueError:
        print("ValueError after", found)


asyncio.run(main())
stream = numbers.remote(100)
print(ray.get(next(stream)))
del stream
print(ray.get(next(numbers.remote(1))))
stream = numbers.remote(2)
print([ray.get(r) for r in stream], [ray.get(r) for r in stream])
stream = fails.remote(0)
try:
    ray.get(next(stream))
except ValueError as error:
    print("ValueError at once")
try:
    next(stream)
except StopIteration:
    print("StopIteration then")
print(iter(stream) is stream)
