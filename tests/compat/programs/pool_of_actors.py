"""ActorPool: every method, orders, time-outs, errors, several returns, actors that die, come and go."""

import time

import hpc as ray
from hpc.util import ActorPool
from hpc.util.actor_pool import ActorPool as same

ray.init(num_cpus=2)
print(same is ActorPool)


@ray.remote(num_cpus=0)
class Worker:
    def double(self, x):
        return 2 * x

    def slow(self, x):
        time.sleep(x)
        return x

    def picky(self, x):
        if x == 2:
            raise ValueError("two")
        return x

    @ray.method(num_returns=2)
    def two(self, x):
        return x, -x

    def die(self, x):
        if x == 1:
            ray.actor.exit_actor()
        return x


def double(actor, x):
    return actor.double.remote(x)


def show(what, call):
    try:
        print(what, call())
    except Exception as error:
        kinds = [isinstance(error, kind) for kind in (ValueError, StopIteration, TimeoutError)]
        print(what, type(error).__name__, kinds)


def state(pool):
    return pool.has_next(), pool.has_free()


actors = [Worker.remote(), Worker.remote()]
pool = ActorPool(actors)
print("new:", state(pool))
for n in range(5):
    pool.submit(double, n)
print("submitted:", state(pool))
print("in order:", [pool.get_next() for _ in range(5)], state(pool))
show("no more:", pool.get_next)
show("no more:", pool.get_next_unordered)
pool.submit(lambda a, v: a.slow.remote(v), 0.8)
pool.submit(lambda a, v: a.slow.remote(v), 0.01)
pool.submit(lambda a, v: a.slow.remote(v), 0.02)
print("pending:", state(pool), pool.pop_idle())
print("unordered:", pool.get_next_unordered(), pool.get_next_unordered(), pool.get_next_unordered())

pool.submit(lambda a, v: a.slow.remote(v), 1.0)
show("in time:", lambda: pool.get_next(timeout=0.05))
show("unordered in time:", lambda: pool.get_next_unordered(timeout=0.05))
print("it is still there:", state(pool), pool.get_next(timeout=60))
pool.submit(lambda a, v: a.slow.remote(v), 0.5)
pool.submit(double, 3)
show("given up:", lambda: pool.get_next(timeout=0.05, ignore_if_timedout=True))
print("the next:", pool.get_next(), state(pool))
time.sleep(0.5)
pool = ActorPool(actors)
pool.submit(double, 1)
pool.submit(double, 2)
first = pool.get_next_unordered()
print("unordered, then in order:", first in (2, 4), pool.has_next())
pool = ActorPool(actors)
pool.submit(lambda a, v: a.slow.remote(v), 0.5)
pool.submit(double, 2)
print("the second first:", pool.get_next_unordered())
show("then in order:", pool.get_next)
print("then unordered:", pool.get_next_unordered(), state(pool))

pool = ActorPool(actors)
results = pool.map(double, [1, 2, 3])
print("map is an iterator:", iter(results) is results, next(results), list(results), list(results))
print("map of nothing:", list(pool.map(double, [])), list(pool.map_unordered(double, [])))
print("of a generator:", list(pool.map(double, (x for x in range(4)))), list(pool.map(double, {1: 2, 3: 4})))
print("unordered:", sorted(pool.map_unordered(double, range(6))))
print("as they come:", list(pool.map_unordered(lambda a, v: a.slow.remote(v), [1.0, 0.01])))
unread = pool.map(double, range(5))
print("a map that nobody read:", list(pool.map(double, [10, 20])))
print("more values than actors:", len(list(pool.map(double, range(50)))), state(pool))

found = []
results = pool.map(lambda a, v: a.picky.remote(v), range(5))
while True:
    try:
        found.append(next(results))
    except StopIteration:
        break
    except ValueError as error:
        found.append("error")
        break
print("an error in the middle:", found, "and the rest:", [pool.get_next() for _ in range(2)], state(pool))
for n in (2, 3):
    pool.submit(lambda a, v: a.picky.remote(v), n)
show("get_next that raises:", pool.get_next)
print("the next after it:", pool.get_next(), state(pool))
pool.submit(lambda a, v: a.two.remote(v), 4)
print("several returns:", pool.get_next())
print("several returns, map:", list(pool.map(lambda a, v: a.two.remote(v), [1, 2])))

one = ActorPool([Worker.remote()])
held = one.pop_idle()
print("popped:", held is not None, one.pop_idle(), state(one))
one.submit(double, 7)
print("nobody to do it:", state(one))
print("pushed:", one.push(held), state(one), one.get_next(), state(one))
show("pushed twice:", lambda: one.push(held))
one.submit(lambda a, v: a.slow.remote(v), 0.2)
show("pushed while it works:", lambda: one.push(held))
one.push(actors[0])
print("a second one:", state(one), one.get_next())
empty = ActorPool([])
print("no actors:", state(empty), empty.pop_idle(), list(empty.map(double, [])))

mortal = ActorPool([Worker.remote(), Worker.remote()])
died = []
for n in (1, 5):
    mortal.submit(lambda a, v: a.die.remote(v), n)
for _ in range(2):
    try:
        died.append(mortal.get_next())
    except ray.exceptions.RayActorError as error:
        died.append("RayActorError")
print("one dies:", died, "and leaves the pool:", [mortal.pop_idle() is not None for _ in range(2)])
mortal = ActorPool([Worker.remote(), Worker.remote()])
died = []
for n in (1, 5, 6, 7):
    mortal.submit(lambda a, v: a.die.remote(v), n)
for _ in range(4):
    try:
        died.append(mortal.get_next())
    except ray.exceptions.RayActorError as error:
        died.append("RayActorError")
print("the others do the rest:", died, state(mortal))


@ray.remote(num_cpus=0)
def in_a_task(actors):
    return list(ActorPool(actors).map(double, range(3)))


print("in a task:", ray.get(in_a_task.remote(actors)))
show("a function that returns no reference:", lambda: (pool.submit(lambda a, v: v, 3), pool.get_next()))
