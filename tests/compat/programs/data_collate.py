"""Batches of torch as a training loop takes them: collate functions, dtypes, devices, loops that are left and begun."""
# needs: pyarrow, pandas, torch

import numpy as np
import torch

import hpc as ray
from hpc.data.collate_fn import ArrowBatchCollateFn, CollateFn, NumpyBatchCollateFn, PandasBatchCollateFn

ray.init(num_cpus=2)
ray.data.DataContext.get_current().execution_options.preserve_order = True


def show(what, call):
    try:
        print(what, call())
    except Exception as error:
        print(what, type(error).__name__)


ds = ray.data.from_items([{"x": i / 2, "n": i, "l": [i] * (i % 3 + 1), "t": "ab"[i % 2]} for i in range(7)])


def look(batch):
    if isinstance(batch, torch.Tensor):
        return tuple(batch.shape), str(batch.dtype), batch.tolist()
    if isinstance(batch, dict):
        return {name: look(one) for name, one in batch.items()}
    if isinstance(batch, (list, tuple)):
        return type(batch)(look(one) for one in batch)
    return type(batch).__name__


def batches(columns=("x", "n"), **how):
    return [look(batch) for batch in ds.select_columns(list(columns)).iter_torch_batches(batch_size=4, **how)]


def padded(batch):
    rows = [torch.as_tensor(np.array(row)) for row in batch["l"]]
    return torch.nn.utils.rnn.pad_sequence(rows, batch_first=True), torch.tensor([len(row) for row in rows])


class Table(ArrowBatchCollateFn):
    def __call__(self, batch):
        return {"n": torch.as_tensor(batch.column("n").to_numpy().copy()), "of": type(batch).__name__}


class Frame(PandasBatchCollateFn):
    def __call__(self, batch):
        return torch.as_tensor(batch[["x", "n"]].to_numpy(), dtype=torch.float32)


class Arrays(NumpyBatchCollateFn):
    def __init__(self, scale):
        self.scale = scale

    def __call__(self, batch):
        return [torch.as_tensor(batch["n"] * self.scale), torch.as_tensor(batch["x"].copy())]


class Plain(CollateFn):
    def __call__(self, batch):
        return batch


class Fails(NumpyBatchCollateFn):
    def __call__(self, batch):
        raise ValueError("a batch that is not wanted")


show("as it is:", batches)
show("of rows of lists:", lambda: batches(["l"]))
show("padded:", lambda: batches(["l"], collate_fn=padded))
show("of text:", lambda: batches(["t"]))
show("text left to a function:", lambda: batches(["t"], collate_fn=lambda b: torch.tensor([ord(c) for c in b["t"]])))
show("of tables:", lambda: batches(collate_fn=Table()))
show("of frames:", lambda: batches(collate_fn=Frame()))
show("of arrays:", lambda: batches(collate_fn=Arrays(10)))
show("of the base:", lambda: batches(collate_fn=Plain()))
show("of one that fails:", lambda: batches(collate_fn=Fails()))
show("of its class:", lambda: batches(collate_fn=Frame))
show("of no function:", lambda: batches(collate_fn=3))
show("returns None:", lambda: batches(collate_fn=lambda b: None))
show("returns numpy:", lambda: batches(collate_fn=lambda b: b["n"]))
show("a tuple:", lambda: batches(collate_fn=lambda b: (torch.as_tensor(b["n"].copy()), "name")))
show("on a device:", lambda: batches(collate_fn=lambda b: torch.as_tensor(b["n"].copy()), device="meta")[0])
show("a device:", lambda: [b["n"].device.type for b in ds.select_columns(["n"]).iter_torch_batches(device="meta")])
show("a device that is none:", lambda: batches(device="moon"))
show("None:", lambda: [b["n"].device.type for b in ds.select_columns(["n"]).iter_torch_batches(device=None)])
show("dtypes:", lambda: batches(dtypes=torch.float16))
show("of each:", lambda: batches(dtypes={"x": torch.float32, "n": torch.int8}))
show("of some:", lambda: batches(dtypes={"x": torch.float32}))
show("of another:", lambda: batches(["n"], dtypes={"z": torch.float32}))
show("no dtype:", lambda: batches(["n"], dtypes="float33"))
show("the last dropped:", lambda: len(batches(drop_last=True)))
show(
    "whole blocks:",
    lambda: [len(b["n"]) for b in ds.repartition(1).select_columns(["n"]).iter_torch_batches(batch_size=None)],
)
loop = ds.select_columns(["n"]).iter_torch_batches(batch_size=3)
show("two loops:", lambda: [[b["n"].tolist() for b in loop] for _ in (1, 2)])
first = iter(loop)
show("left:", lambda: next(first)["n"].tolist())
first = None
show("begun anew:", lambda: next(iter(loop))["n"].tolist())
mixed = ds.select_columns(["n"]).iter_torch_batches(batch_size=7, local_shuffle_buffer_size=7, local_shuffle_seed=3)
show("shuffled, the same each time:", lambda: next(iter(mixed))["n"].tolist() == next(iter(mixed))["n"].tolist())
show("all of them:", lambda: sorted(next(iter(mixed))["n"].tolist()))
batch = next(iter(ds.select_columns(["n"]).iter_torch_batches(batch_size=3)))
batch["n"] += 1
show("may be written to:", lambda: batch["n"].tolist())
show("nulls:", lambda: [look(b) for b in ray.data.from_items([{"a": 1}, {"a": None}]).iter_torch_batches()])
show("truth values:", lambda: [look(b) for b in ray.data.from_items([{"a": True}]).iter_torch_batches()])
show("of nothing:", lambda: [look(b) for b in ds.filter(lambda r: False).iter_torch_batches()])
left, right = ds.select_columns(["n"]).streaming_split(2, equal=True)


@ray.remote
def take(part):
    return sum(len(b["n"]) for b in part.iter_batches(batch_size=2))


show("parts:", lambda: ray.get([take.options(num_cpus=0.1).remote(part) for part in (left, right)]))
