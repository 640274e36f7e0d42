"""union, zip, limit; what is lazy; settings; errors of functions and of bad input."""
# needs: pyarrow, pandas

import hpc as ray
from hpc.data import ActorPoolStrategy, DataContext, ExecutionOptions, ExecutionResources, TaskPoolStrategy
from hpc.exceptions import RayTaskError, UserCodeException

ray.init(num_cpus=4)
ray.data.DataContext.get_current().execution_options.preserve_order = True


def show(what, call):
    try:
        print(what, call())
    except Exception as error:
        print(what, type(error).__name__)


ds = ray.data.range(4)
more = ray.data.range(3).map(lambda r: {"id": r["id"] + 10})
show("union:", lambda: [r["id"] for r in ds.union(more).take_all()])
show("union of three:", lambda: ds.union(more, more).count())
show("union with itself:", lambda: ds.union(ds).count())
show("union of other columns:", lambda: ds.union(ray.data.from_items([{"x": 1}])).take_all())
show("union with a list:", lambda: ds.union([1, 2]).count())
show("zip:", lambda: ds.zip(ds.map(lambda r: {"sq": r["id"] ** 2})).take_all())
show("zip of the same names:", lambda: ds.zip(ds).take(2))
show("zip of lengths that differ:", lambda: ds.zip(more).take_all())
show("limit of a union:", lambda: [r["id"] for r in ds.union(more).limit(5).take_all()])
show("limit below 0:", lambda: ds.limit(-1).take_all())
show("limit twice:", lambda: ds.limit(3).limit(2).count())
show("limit above:", lambda: ds.limit(100).count())
show("limit, then filter:", lambda: ds.limit(2).filter(lambda r: r["id"] > 0).take_all())
runs = []
lazy = ds.map(lambda r: 1 / 0)
print("nothing has run")
show("now it has:", lambda: lazy.take_all())
again = ds.map(lambda r: {"x": r["id"]})
show("each time anew:", lambda: (again.count(), again.sum("x"), again.take(1)))
kept = again.materialize()
show("kept:", lambda: (type(kept).__name__, kept.count(), kept.num_blocks() > 0, kept.size_bytes() > 0))
show("num_blocks of a lazy one:", lambda: again.num_blocks())
show("isinstance:", lambda: (isinstance(kept, ray.data.Dataset), isinstance(kept, ray.data.MaterializedDataset)))
show("copy:", lambda: ray.data.Dataset.copy(ds).count())
show("name:", lambda: (ds.name, ds.set_name("here"), ds.name))
show("len:", lambda: len(ds))
show("iter:", lambda: list(iter(ds)))
show("bool:", lambda: bool(ds))
show("input_files:", lambda: ds.input_files())

context = DataContext.get_current()
show("the same:", lambda: context is DataContext.get_current())
for name in (
    "target_max_block_size",
    "target_min_block_size",
    "read_op_min_num_blocks",
    "max_errored_blocks",
    "eager_free",
    "use_polars_sort",
    "actor_task_retry_on_errors",
    "scheduling_strategy",
    "large_args_threshold",
    "default_hash_shuffle_parallelism",
):
    show(f"{name}:", lambda name=name: getattr(context, name))
show("set_config:", lambda: (context.set_config("mine", 5), context.get_config("mine"), context.get_config("other", 1)))
show("copy:", lambda: context.copy() is not context)
show("options:", lambda: (ExecutionOptions().preserve_order, ExecutionOptions(preserve_order=True).preserve_order))
show("resources:", lambda: ExecutionResources(cpu=1, gpu=2, object_store_memory=1024**3))
show("zero:", lambda: ExecutionResources.zero())
show("add:", lambda: ExecutionResources(cpu=1).add(ExecutionResources(cpu=2)))
show(
    "limits and excludes:",
    lambda: ExecutionOptions(
        resource_limits=ExecutionResources(cpu=1), exclude_resources=ExecutionResources(cpu=1)
    ).validate(),
)
for name, make in {
    "size": lambda: ActorPoolStrategy(size=2),
    "min and max": lambda: ActorPoolStrategy(min_size=1, max_size=3),
    "none": lambda: ActorPoolStrategy(),
    "size 0": lambda: ActorPoolStrategy(size=0),
    "min above max": lambda: ActorPoolStrategy(min_size=3, max_size=2),
    "size and min": lambda: ActorPoolStrategy(size=2, min_size=1),
    "in flight 0": lambda: ActorPoolStrategy(max_tasks_in_flight_per_actor=0),
    "initial above max": lambda: ActorPoolStrategy(min_size=1, max_size=2, initial_size=3),
}.items():
    show(f"pool, {name}:", lambda make=make: (lambda p: (p.min_size, p.max_size))(make()))
show("tasks:", lambda: TaskPoolStrategy(size=3).size)
show("tasks 0:", lambda: TaskPoolStrategy(size=0))
show(
    "pools equal:",
    lambda: (ActorPoolStrategy(size=2) == ActorPoolStrategy(size=2), TaskPoolStrategy() == TaskPoolStrategy(1)),
)
small = DataContext.get_current().copy()
small.target_max_block_size = 800
with DataContext.current(small) if hasattr(DataContext, "current") else __import__("contextlib").nullcontext():
    ds = ray.data.range(1000, override_num_blocks=1).map_batches(lambda b: b)
    show("small blocks:", lambda: ds.materialize().num_blocks() > 5)
show("outside again:", lambda: DataContext.get_current() is context)

ds = ray.data.range(4)


def fails(row):
    raise KeyError("no such thing")


def chain(call):
    try:
        call()
    except Exception as error:
        return [
            type(error).__name__,
            isinstance(error, RayTaskError),
            isinstance(error, UserCodeException),
            isinstance(error, KeyError),
            "no such thing" in str(error),
        ]


print("map:", chain(lambda: ds.map(fails).take_all()))
print("map_batches:", chain(lambda: ds.map_batches(fails).materialize()))
print("iterated:", chain(lambda: list(ds.map(fails).iter_batches())))


context = ray.data.DataContext.get_current()
context.max_errored_blocks = 2


def sometimes(batch):
    if 1 in batch["id"]:
        raise ValueError("one")
    return batch


show(
    "errored blocks:",
    lambda: [r["id"] for r in ray.data.range(4, override_num_blocks=4).map_batches(sometimes).take_all()],
)
context.max_errored_blocks = 0
show("map of a number:", lambda: ds.map(5))
show("map_batches of a text:", lambda: ds.map_batches("x"))
show("filter of a class:", lambda: ds.filter(5))
show("num_cpus of text:", lambda: ds.map(lambda r: r, num_cpus="x").take(1))
show("an unknown option:", lambda: ds.map(lambda r: r, nonsense=1).take(1))
show("take of text:", lambda: ds.take("x"))
show("schema of an error:", lambda: type(ds.map(fails).schema()))
