"""Classes on pools of actors: what they are made with, what they keep between batches, and how a wrong pool is told."""
# needs: pyarrow, pandas

import hpc as ray
from hpc.data import ActorPoolStrategy, TaskPoolStrategy

ray.init(num_cpus=4)
ctx = ray.data.DataContext.get_current()
ctx.execution_options.preserve_order = True
ctx.enable_progress_bars = False


def show(what, call):
    try:
        print(what, call())
    except Exception as error:
        print(what, type(error).__name__)


class Adds:
    """Made with arguments of all kinds; a batch gets more of them."""

    def __init__(self, by=1, *more, times=1, **named):
        self.by, self.times, self.more, self.named = by, times, more, named

    def __call__(self, batch, add=0, *, factor=1):
        batch = dict(batch)
        batch["id"] = (batch["id"] * self.times + self.by + add) * factor
        return batch


class Rows:
    def __init__(self, by=1):
        self.by = by

    def __call__(self, row, more=0):
        return {"id": row["id"] + self.by + more}


class Many:
    def __call__(self, row):
        return [{"id": row["id"]}, {"id": -row["id"]}]


class Every:
    def __init__(self, of=2):
        self.of = of

    def __call__(self, row):
        return row["id"] % self.of == 0


class Slices:
    """A generator: a batch for each row."""

    def __call__(self, batch):
        for value in batch["id"]:
            yield {"id": [value], "twice": [2 * value]}


class Counts:
    """How many rows the actor has seen so far."""

    def __init__(self):
        self.seen = 0

    def __call__(self, batch):
        self.seen += len(batch["id"])
        return {"id": [self.seen]}


class Async:
    async def __call__(self, row):
        return {"id": row["id"] * 3}


class Fails:
    def __call__(self, batch):
        raise KeyError("no such thing")


class Returns:
    def __call__(self, batch):
        return 5


class NoCall:
    pass


def ids(found):
    return [int(row["id"]) for row in found.take_all()]


ds = ray.data.range(8, override_num_blocks=2)
one = ActorPoolStrategy(size=1)
show("map:", lambda: ids(ds.map(Rows, fn_constructor_args=(10,), fn_kwargs={"more": 100}, compute=one)))
show("flat_map:", lambda: ids(ds.flat_map(Many, compute=one)))
show("filter:", lambda: ids(ds.filter(Every, fn_constructor_args=(4,), compute=one)))
show(
    "map_batches:",
    lambda: ids(
        ds.map_batches(
            Adds,
            compute=one,
            batch_size=4,
            fn_constructor_args=(1, "a", "b"),
            fn_constructor_kwargs={"times": 2, "name": "c"},
            fn_args=(3,),
            fn_kwargs={"factor": 10},
        )
    ),
)
show("a generator:", lambda: [(int(r["id"]), int(r["twice"])) for r in ds.map_batches(Slices, compute=one).take_all()])
show("async:", lambda: sorted(ids(ds.map(Async, compute=one))))
show("state:", lambda: sorted(ids(ds.map_batches(Counts, compute=one, batch_size=4))))
show("grows:", lambda: ids(ds.map_batches(Adds, compute=ActorPoolStrategy(min_size=1, max_size=2)).limit(3)))
show("a group:", lambda: sorted(ids(ds.groupby("id").map_groups(Adds, compute=one))))
show("a call fails:", lambda: ids(ds.map_batches(Fails, compute=one)))
show("a number returned:", lambda: ids(ds.map_batches(Returns, compute=one)))

show("no __call__:", lambda: ds.map_batches(NoCall, compute=one) is not None)
show("arguments of a function:", lambda: ds.map(lambda r: r, fn_constructor_args=(1,)) is not None)
show("named arguments:", lambda: ds.map_batches(lambda b: b, fn_constructor_kwargs={"a": 1}) is not None)
show("a class with tasks:", lambda: ds.map_batches(Adds, compute=TaskPoolStrategy(size=1)) is not None)
show("a function with actors:", lambda: ds.map_batches(lambda b: b, compute=one) is not None)
show("both:", lambda: ds.map_batches(Adds, compute=one, concurrency=1) is not None)
for wrong in (("a", "b"), (1, 2, 3, 4), (2, 1), -1, 1.5, "2"):
    show(f"concurrency {wrong!r}:", lambda wrong=wrong: ds.map_batches(Adds, concurrency=wrong) is not None)
show("compute, a number:", lambda: ds.map_batches(Adds, compute=3) is not None)
for name, make in {
    "calls 0": lambda: ActorPoolStrategy(max_concurrent_calls_per_actor=0),
    "initial below min": lambda: ActorPoolStrategy(min_size=2, max_size=4, initial_size=1),
    "initial alone": lambda: ActorPoolStrategy(initial_size=2),
    "max alone": lambda: ActorPoolStrategy(max_size=3),
    "min 0": lambda: ActorPoolStrategy(min_size=0),
    "size and initial": lambda: ActorPoolStrategy(size=2, initial_size=2),
    "by place": lambda: ActorPoolStrategy(2),
    "threads": lambda: ActorPoolStrategy(size=1, enable_true_multi_threading=True),
}.items():
    show(
        f"{name}:",
        lambda make=make: (lambda p: (p.min_size, p.max_size, p.initial_size, p.enable_true_multi_threading))(make()),
    )
show("equal:", lambda: (one == ActorPoolStrategy(size=1), one == ActorPoolStrategy(size=2), one == TaskPoolStrategy(1)))
