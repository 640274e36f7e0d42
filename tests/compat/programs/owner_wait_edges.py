"""ray.wait at its edges: empty lists, wrong things, duplicates, too many, negative times."""

import hpc as ray

ray.init(num_cpus=2)


@ray.remote
def one():
    return 1


ref = one.remote()


def show(what, call):
    try:
        print(what, call())
    except Exception as error:
        print(what, type(error).__name__)


show("nothing:", lambda: ray.wait([]))
show("nothing, at once:", lambda: ray.wait([], timeout=0))
show("nothing, five of it:", lambda: ray.wait([], num_returns=5))
show("two of one:", lambda: ray.wait([ref], num_returns=2))
show("none of one:", lambda: ray.wait([ref], num_returns=0))
show("below none:", lambda: ray.wait([ref], num_returns=-1))
show("twice the same:", lambda: ray.wait([ref, ref]))
show("a tuple:", lambda: ray.wait((ref,)))
show("a set:", lambda: ray.wait({ref}))
show("a single one:", lambda: ray.wait(ref))
show("a list with a number:", lambda: ray.wait([ref, 3]))
show("a negative time:", lambda: ray.wait([ref], timeout=-1))
show("None:", lambda: ray.wait(None))
pending = [one.remote() for _ in range(3)]
rounds = 0
while pending:
    done, pending = ray.wait(pending)
    rounds += 1
print("rounds", rounds)
show("once too often:", lambda: ray.wait(pending))
show("get of nothing:", lambda: ray.get([]))
