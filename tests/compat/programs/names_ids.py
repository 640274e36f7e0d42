"""Ids of references, tasks, jobs, actors, nodes: what they are and how they compare and travel."""

import copy
import pickle

import hpc as ray

ray.init(num_cpus=2)


@ray.remote
def square(x):
    return x * x


@ray.remote
class Counter:
    def __init__(self):
        self.n = 0

    def add(self):
        self.n += 1
        return self.n


ref, counter = square.remote(3), Counter.remote()
context = ray.get_runtime_context()
print(
    "types:",
    type(ref).__name__,
    type(ref.task_id()).__name__,
    type(ref.job_id()).__name__,
    type(counter._actor_id).__name__,
)
print("hex and binary:", type(ref.hex()).__name__, type(ref.binary()).__name__, type(ref.task_id().binary()).__name__)
print("the job's id:", ref.job_id().hex() == context.get_job_id(), ref.job_id() == context.job_id)
print("the task's job:", ref.task_id().job_id() == ref.job_id())
print("the actor's id:", ray.get(counter.add.remote()), counter._actor_id == copy.copy(counter)._actor_id)
print(
    "same bytes:",
    ray.TaskID(ref.task_id().binary()) == ref.task_id(),
    ray.TaskID.from_hex(ref.task_id().hex()) == ref.task_id(),
)
print("in sets:", len({ref.task_id(), ray.TaskID(ref.task_id().binary())}))
print(
    "pickle:",
    pickle.loads(pickle.dumps(ref.task_id())) == ref.task_id(),
    pickle.loads(pickle.dumps(context.job_id)) == context.job_id,
)
print("nil:", ray.TaskID.nil().is_nil(), ray.ActorID.nil().is_nil(), ref.task_id().is_nil(), ref.is_nil())
print("not equal:", ref.task_id() == counter._actor_id, ref.task_id() == ref.task_id().binary(), ref == ref.hex())
print(
    "random:",
    ray.PlacementGroupID.from_random() == ray.PlacementGroupID.from_random(),
    ray.UniqueID.from_random().is_nil(),
)
print(
    "names:",
    ray.ObjectID is ray.ObjectRef,
    [
        getattr(ray, n).__name__
        for n in ("ActorClassID", "FunctionID", "NodeID", "WorkerID", "UniqueID", "PlacementGroupID")
    ],
)
for what, make in (("a short id", lambda: ray.TaskID(b"x")), ("a text", lambda: ray.TaskID("x"))):
    try:
        make()
    except (TypeError, ValueError) as error:
        print(what, type(error).__name__)
print("repr:", repr(ref), repr(counter), repr(ref.task_id()), repr(counter._actor_id))
print("f-string:", f"{ref}" == repr(ref), str(counter) == repr(counter))
