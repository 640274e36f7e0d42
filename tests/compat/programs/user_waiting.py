"""wait, get with a time-out, cancel of what waits, and order, as loops use them."""

import time

import hpc as ray

ray.init(num_cpus=2)


@ray.remote
def after(seconds, value):
    time.sleep(seconds)
    return value


@ray.remote(num_cpus=0)
class Gate:
    def __init__(self):
        self.open_ = False

    async def open(self):
        self.open_ = True

    async def passes(self, value=None):
        import asyncio

        while not self.open_:
            await asyncio.sleep(0.01)
        return value


def attempt(what, make):
    try:
        print(what, make())
    except Exception as error:
        print(what, type(error).__name__, isinstance(error, TimeoutError))


gate = Gate.remote()
closed = gate.passes.remote("through")
attempt("get 0:", lambda: ray.get(closed, timeout=0))
attempt("get 0.1:", lambda: ray.get(closed, timeout=0.1))
attempt("get -1:", lambda: ray.get(ray.put(1), timeout=-1))
attempt("get of both:", lambda: ray.get([ray.put(1), closed], timeout=0.1))
ready, rest = ray.wait([closed, ray.put(1)], timeout=60)
print("one of two:", len(ready), rest == [closed])
print("timeout 0:", ray.wait([closed], timeout=0) == ([], [closed]))
attempt("a negative timeout:", lambda: ray.wait([closed], timeout=-1))
attempt("none wanted:", lambda: ray.wait([closed], num_returns=0))
attempt("twice the same:", lambda: ray.wait([closed, closed]))
attempt("of nothing:", lambda: ray.wait([]))
attempt("of one:", lambda: ray.wait(closed))
attempt("of a tuple:", lambda: ray.wait((closed,), timeout=0))
attempt("of values:", lambda: ray.wait([1, 2]))
attempt("a float:", lambda: ray.wait([closed], num_returns=1.5, timeout=0))
puts = [ray.put(i) for i in range(5)]
ready, rest = ray.wait(puts, num_returns=3)
print("three of five:", len(ready), sorted(ray.get(ready + rest)))
ready, rest = ray.wait([*puts, closed], num_returns=6, timeout=0.2)
print("all but one:", ray.get(ready), len(rest))
ray.get(gate.open.remote())
print("open:", ray.get(closed), ray.wait([closed], timeout=0)[0] == [closed])
failed = ray.remote(lambda: 1 / 0).remote()
print("a failed one is ready:", len(ray.wait([failed], timeout=60)[0]))
slow, fast = Gate.remote().passes.remote(), after.remote(0, "fast")
print("the first:", ray.get(ray.wait([slow, fast])[0]))
print("fetch_local=False:", len(ray.wait([fast], fetch_local=False)[0]))
blocked = ray.remote(lambda x: x).remote(Gate.remote().passes.remote())
print("waits for its argument:", ray.wait([blocked], timeout=0.2)[0])
ray.cancel(blocked)
attempt("cancelled:", lambda: ray.get(blocked, timeout=30))
begin = time.monotonic()
attempt("a time-out that is not reached:", lambda: ray.get(after.remote(0, "value"), timeout=1000))
print("soon:", time.monotonic() - begin < 30)
print("a list of none:", ray.get([]))
attempt("None:", lambda: ray.get(None))
attempt("a nested list:", lambda: ray.get([[ray.put(1)]]))
attempt("a dict:", lambda: ray.get({"a": ray.put(1)}))
attempt("a set:", lambda: ray.get({ray.put(1)}))
attempt("the same twice:", lambda: ray.get([puts[0], puts[0]]))
