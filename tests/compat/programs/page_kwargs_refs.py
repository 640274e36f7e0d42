"""References among positional, keyword, nested and starred arguments."""

import hpc as ray

ray.init(num_cpus=2)


@ray.remote
def show(*args, **kwargs):
    kind = lambda v: "ref" if isinstance(v, ray.ObjectRef) else v
    return [kind(a) for a in args], {k: kind(v) for k, v in sorted(kwargs.items())}


one, two = ray.put(1), ray.put("two")
print(ray.get(show.remote(one, two)))
print(ray.get(show.remote(a=one, b=two)))
print(ray.get(show.remote(*[one, two, 3], **{"c": one})))
args, kwargs = ray.get(show.remote([one], x={"k": two}))
print(type(args[0][0]).__name__, type(kwargs["x"]["k"]).__name__)
print(ray.get(show.remote((one, 2))))
print(ray.get(show.remote(show.remote(1))))
