"""References inside values, arguments, results and actors; who gets the value and who the reference."""

import hpc as ray

ray.init(num_cpus=2)


@ray.remote
def kind(value):
    return type(value).__name__


@ray.remote
def kinds(values):
    return [type(value).__name__ for value in values]


@ray.remote
def make(n):
    return [ray.put(at) for at in range(n)]


@ray.remote
def forward(refs):
    return make.remote(ray.get(refs[0]))


@ray.remote
class Keeper:
    def keep(self, refs):
        self.refs = refs

    def get(self):
        return ray.get(self.refs)

    def give(self):
        return self.refs


ref = ray.put(3)
print(ray.get(kind.remote(ref)), ray.get(kinds.remote([ref, 1])), ray.get(kind.remote(value=ref)))
print(ray.get(ray.get(make.remote(3))))
print(ray.get(ray.get(ray.get(forward.remote([ref])))))
keeper = Keeper.remote()
ray.get(keeper.keep.remote([ray.put("a"), ray.put("b")]))
print(ray.get(keeper.get.remote()), ray.get(ray.get(keeper.give.remote())))
given = ray.get(keeper.give.remote())
ray.get(keeper.keep.remote([]))
print(ray.get(given))
print(ref == ray.get(ray.put([ref]))[0], len({ref, ray.get(ray.put([ref]))[0]}))
