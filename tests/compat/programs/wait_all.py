"""wait for all, for the first, without fetching, and without any time."""

import hpc as ray

ray.init(num_cpus=2)


@ray.remote
def give(value):
    return value


done, pending = ray.wait([give.remote(n) for n in range(5)], num_returns=5)
print("all of five:", ray.get(done), pending)
left, seen = [give.remote(n) for n in range(6)], []
while left:
    done, left = ray.wait(left)
    seen.append(ray.get(done[0]))
    print("at a time:", len(done), "left:", len(left))
print("in the end:", sorted(seen))
one = ray.put("here")
print("not fetched:", [len(refs) for refs in ray.wait([one], fetch_local=False)])
print("no time:", [len(refs) for refs in ray.wait([one], timeout=0)])
