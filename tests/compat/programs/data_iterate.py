"""Iteration: batches, rows, torch tensors, local shuffle, batches that are dropped."""
# needs: pyarrow, pandas, torch

import numpy as np
import torch

import hpc as ray

ray.init(num_cpus=4)
ray.data.DataContext.get_current().execution_options.preserve_order = True


def show(what, call):
    try:
        print(what, call())
    except Exception as error:
        print(what, type(error).__name__)


ds = ray.data.range(10, override_num_blocks=2)
show("rows:", lambda: [r["id"] for r in ds.iter_rows()])
show("batches of 4:", lambda: [b["id"].tolist() for b in ds.iter_batches(batch_size=4)])
show("the last dropped:", lambda: [b["id"].tolist() for b in ds.iter_batches(batch_size=4, drop_last=True)])
show("of None:", lambda: [len(b["id"]) for b in ds.iter_batches(batch_size=None)])
show("default size:", lambda: [len(b["id"]) for b in ds.iter_batches()])
show("pandas:", lambda: [type(b).__name__ for b in ds.iter_batches(batch_size=5, batch_format="pandas")])
show("pyarrow:", lambda: [type(b).__name__ for b in ds.iter_batches(batch_size=5, batch_format="pyarrow")])
show("another:", lambda: list(ds.iter_batches(batch_format="xml")))
show("size 0:", lambda: list(ds.iter_batches(batch_size=0)))
show("prefetch below 0:", lambda: list(ds.iter_batches(prefetch_batches=-1)))
show(
    "local shuffle:",
    lambda: sorted(
        sum(
            (
                b["id"].tolist()
                for b in ds.iter_batches(batch_size=4, local_shuffle_buffer_size=6, local_shuffle_seed=1)
            ),
            [],
        )
    ),
)
show(
    "its sizes:",
    lambda: [len(b["id"]) for b in ds.iter_batches(batch_size=4, local_shuffle_buffer_size=6, drop_last=True)],
)
show("a buffer with batches of None:", lambda: list(ds.iter_batches(batch_size=None, local_shuffle_buffer_size=6)))
show("iterator:", lambda: [b["id"].tolist() for b in ds.iterator().iter_batches(batch_size=5)])
show("its rows:", lambda: [r["id"] for r in ds.iterator().iter_rows()][:3])
show("its schema:", lambda: ds.iterator().schema().names)
show("twice:", lambda: [sum(len(b["id"]) for b in it.iter_batches()) for it in [ds.iterator()] for _ in range(2)])
show(
    "torch:",
    lambda: [
        (type(b["id"]).__name__, b["id"].dtype, b["id"].device.type, b["id"].tolist())
        for b in ds.iter_torch_batches(batch_size=5)
    ],
)
show("torch, dtypes:", lambda: next(iter(ds.iter_torch_batches(batch_size=3, dtypes=torch.float32)))["id"])
show(
    "torch, dtypes by name:",
    lambda: next(iter(ds.iter_torch_batches(batch_size=3, dtypes={"id": torch.int32})))["id"].dtype,
)
show(
    "torch, collate:",
    lambda: next(iter(ds.iter_torch_batches(batch_size=3, collate_fn=lambda b: torch.as_tensor(b["id"]) + 1))),
)
show(
    "torch, both:",
    lambda: next(iter(ds.iter_torch_batches(batch_size=3, dtypes=torch.float32, collate_fn=lambda b: b))),
)
show("torch, drop_last:", lambda: len(list(ds.iter_torch_batches(batch_size=4, drop_last=True))))
show("torch of text:", lambda: next(iter(ray.data.from_items(["a"]).iter_torch_batches())))
pictures = ray.data.from_numpy(np.arange(24, dtype=np.float32).reshape(4, 2, 3))
show("torch of tensors:", lambda: [tuple(b["data"].shape) for b in pictures.iter_torch_batches(batch_size=3)])
show("numpy of tensors:", lambda: [b["data"].shape for b in pictures.iter_batches(batch_size=3)])
show("rows of tensors:", lambda: [(r["data"].shape, r["data"].dtype) for r in pictures.take(1)])
show("to_pandas:", lambda: ds.to_pandas().to_dict("list"))
show("to_pandas, too many:", lambda: ds.to_pandas(limit=3))
show(
    "to_numpy_refs:",
    lambda: [a["id"].tolist() if isinstance(a, dict) else a.tolist() for a in ray.get(ds.to_numpy_refs())],
)
show("of a column:", lambda: np.concatenate(ray.get(ds.to_numpy_refs(column="id"))).tolist())
show("to_arrow_refs:", lambda: sum(t.num_rows for t in ray.get(ds.to_arrow_refs())))
show("to_pandas_refs:", lambda: sum(len(t) for t in ray.get(ds.to_pandas_refs())))
batches = iter(ds.iter_batches(batch_size=2))
show("next:", lambda: (next(batches)["id"].tolist(), next(batches)["id"].tolist()))
batches = None


def to_torch():
    found = ray.data.from_items([{"x": float(i), "y": i % 2} for i in range(4)]).iterator()
    return [(tuple(x.shape), tuple(y.shape)) for x, y in found.to_torch(label_column="y", batch_size=2)]


show("to_torch:", to_torch)
