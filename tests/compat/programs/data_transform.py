"""Rows, batches and columns: functions on them, and functions that return something else."""
# needs: pyarrow, pandas

import numpy as np
import pandas as pd
import pyarrow as pa

import hpc as ray
from hpc.data.datatype import DataType
from hpc.data.expressions import col, lit, udf

ray.init(num_cpus=4)
ray.data.DataContext.get_current().execution_options.preserve_order = True


def show(what, call):
    try:
        print(what, call())
    except Exception as error:
        print(what, type(error).__name__)


ds = ray.data.from_items([{"a": i, "b": str(i), "c": [i, i + 1], "d": None if i % 3 == 0 else i / 2} for i in range(7)])
print("count", ds.count(), "columns", ds.columns())
print("schema", ds.schema().names, [str(t) for t in ds.schema().types])
for row in ds.take(3):
    print("row", sorted(row.items()), {k: type(v).__name__ for k, v in row.items()})
show("map:", lambda: ds.map(lambda r: {"x": r["a"] * 2, "y": r["b"] + "!"}).take_all())
show("flat_map:", lambda: ds.flat_map(lambda r: [{"x": r["a"]}] * (r["a"] % 3)).take_all())
show("filter:", lambda: [r["a"] for r in ds.filter(lambda r: r["a"] % 2 == 1).take_all()])
show("filter, nothing left:", lambda: ds.filter(lambda r: False).take_all())
show("count of nothing:", lambda: ds.filter(lambda r: False).count())
show("limit:", lambda: [r["a"] for r in ds.limit(3).take_all()])
show("limit 0:", lambda: ds.limit(0).take_all())
show("limit of map:", lambda: ds.map(lambda r: {"a": -r["a"]}).limit(2).take_all())
show("take more than there is:", lambda: len(ds.take(100)))
show("take_all with a limit:", lambda: ds.take_all(limit=3))
show("items that are no dicts:", lambda: ray.data.from_items([1, 2, 3]).take_all())
show("strings:", lambda: ray.data.from_items(["a", "b"]).map(lambda r: {"n": len(r["item"])}).take_all())
show("map returns no dict:", lambda: ds.map(lambda r: r["a"]).take_all())
show("map returns None:", lambda: ds.map(lambda r: None).take_all())
show("flat_map returns a dict:", lambda: ds.flat_map(lambda r: {"x": 1}).take_all())
show("filter returns an int:", lambda: [r["a"] for r in ds.filter(lambda r: r["a"] % 2).take_all()])
show(
    "fn_args:",
    lambda: ds.map(lambda r, by, plus=0: {"x": r["a"] * by + plus}, fn_args=(3,), fn_kwargs={"plus": 1}).take(2),
)
show("map keeps:", lambda: ds.map(lambda r: {**r, "e": r["a"] > 2}).take(1)[0]["e"])
show("mixed types:", lambda: ray.data.from_items([{"a": 1}, {"a": 2.5}]).take_all())
show("missing keys:", lambda: ray.data.from_items([{"a": 1, "b": 2}, {"a": 3}]).take_all())
show(
    "nested:",
    lambda: ray.data.from_items([{"s": {"x": 1, "y": [1.5]}}]).map(lambda r: {"t": r["s"]["y"][0]}).take_all(),
)
show("dict values of objects:", lambda: ray.data.from_items([{"o": {1, 2}}]).take_all())
show("show:", lambda: ds.select_columns(["a"]).show(2))
show("bytes and bools:", lambda: ray.data.from_items([{"b": b"x", "t": True}]).take_all())


class Adds:
    def __init__(self, by):
        self.by = by

    def __call__(self, row):
        return {"a": row["a"] + self.by}


show("a class:", lambda: ds.map(Adds, fn_constructor_args=(10,), concurrency=1).take(3))
show("a class without concurrency:", lambda: ds.map(Adds, fn_constructor_kwargs={"by": 5}).take(1))
show("arguments of a constructor for a function:", lambda: ds.map(lambda r: r, fn_constructor_args=(1,)).take(1))

ds = ray.data.range(10, override_num_blocks=2)


def sizes(batch):
    return {"n": [len(batch["id"])]}


def kind(batch):
    return {"kind": [f"{type(batch).__name__} {type(batch['id']).__name__}"]}


show("numpy:", lambda: ds.map_batches(kind, batch_size=5).take_all())
show("default:", lambda: ds.map_batches(kind, batch_format="default", batch_size=5).take(1))
show("pandas:", lambda: ds.map_batches(kind, batch_format="pandas", batch_size=5).take(1))
show("pyarrow:", lambda: ds.map_batches(kind, batch_format="pyarrow", batch_size=5).take(1))
show("another format:", lambda: ds.map_batches(kind, batch_format="polar").take(1))
show("sizes of 3:", lambda: ds.map_batches(sizes, batch_size=3).take_all())
show("sizes of None:", lambda: ds.map_batches(sizes, batch_size=None).take_all())
show("sizes of 100:", lambda: [r["n"] for r in ds.map_batches(sizes, batch_size=100).take_all()])
show("size 0:", lambda: ds.map_batches(sizes, batch_size=0).take_all())
show("size -1:", lambda: ds.map_batches(sizes, batch_size=-1).take_all())
show("size of text:", lambda: ds.map_batches(sizes, batch_size="some").take_all())
show("dict of arrays:", lambda: ds.map_batches(lambda b: {"x": b["id"] * 2}).take(3))
show("dict of lists:", lambda: ds.map_batches(lambda b: {"x": list(map(str, b["id"]))}).take(3))
show("DataFrame:", lambda: ds.map_batches(lambda b: pd.DataFrame({"x": b["id"] + 1})).take(3))
show("Table:", lambda: ds.map_batches(lambda b: pa.table({"x": b["id"] - 1})).take(3))
show("fewer rows:", lambda: ds.map_batches(lambda b: {"x": b["id"][:1]}, batch_size=5).take_all())
show("more rows:", lambda: ds.map_batches(lambda b: {"x": np.repeat(b["id"], 2)}, batch_size=5).count())
show("no rows:", lambda: ds.map_batches(lambda b: {"x": b["id"][:0]}).take_all())
show("no columns:", lambda: ds.map_batches(lambda b: {}).take_all())
show("lengths that differ:", lambda: ds.map_batches(lambda b: {"x": [1, 2], "y": [1]}).take_all())
show("a list:", lambda: ds.map_batches(lambda b: [1, 2]).take_all())
show("None:", lambda: ds.map_batches(lambda b: None).take_all())
show("an array:", lambda: ds.map_batches(lambda b: b["id"]).take_all())
show("a scalar column:", lambda: ds.map_batches(lambda b: {"x": 1}).take_all())
show("two dimensions:", lambda: ds.map_batches(lambda b: {"x": np.zeros((len(b["id"]), 2))}).take(1))
show("its schema:", lambda: ds.map_batches(lambda b: {"x": np.zeros((len(b["id"]), 2))}).schema().types)


def halves(batch):
    yield {"x": batch["id"][:2]}
    yield {"x": batch["id"][2:]}


show("a generator:", lambda: [r["x"] for r in ds.map_batches(halves, batch_size=5).take_all()])


class Model:
    def __init__(self, scale, shift=0):
        self.scale, self.shift = scale, shift

    def __call__(self, batch, more=0):
        return {"y": batch["id"] * self.scale + self.shift + more}


show(
    "a class:",
    lambda: [
        r["y"]
        for r in ds.map_batches(
            Model, fn_constructor_args=(2,), fn_constructor_kwargs={"shift": 1}, fn_kwargs={"more": 100}, concurrency=1
        ).take_all()
    ],
)
show(
    "on a pool:",
    lambda: [
        r["y"]
        for r in ds.map_batches(
            Model, fn_constructor_args=(3,), compute=ray.data.ActorPoolStrategy(size=2), batch_size=5
        )
        .sort("y")
        .take_all()
    ],
)
show("an instance:", lambda: ds.map_batches(Model(5)).take(2))
show(
    "a class with tasks:",
    lambda: ds.map_batches(Model, fn_constructor_args=(2,), compute=ray.data.TaskPoolStrategy()).take(1),
)
show("a function with a pool:", lambda: ds.map_batches(sizes, compute=ray.data.ActorPoolStrategy(size=1)).take(1))
show("concurrency as a pair for a function:", lambda: ds.map_batches(sizes, concurrency=(1, 2)).take(1))
show("concurrency 0:", lambda: ds.map_batches(sizes, concurrency=0).take(1))


def writes(batch):
    batch["id"][0] = 5
    return batch


show("a batch that is written to:", lambda: ds.map_batches(writes, batch_size=None, zero_copy_batch=True).take(1))
show("a copy that is written to:", lambda: ds.map_batches(writes, batch_size=None, zero_copy_batch=False).take(1))
show("take_batch:", lambda: ds.take_batch(3))
show("take_batch, pandas:", lambda: ds.take_batch(3, batch_format="pandas").to_dict())
show("take_batch of nothing:", lambda: ds.filter(lambda r: False).take_batch(3))
show(
    "three in a row:",
    lambda: (
        ds.map_batches(lambda b: {"x": b["id"] + 1})
        .map_batches(lambda b: {"x": b["x"] * 2})
        .map(lambda r: {"z": -r["x"]})
        .take(2)
    ),
)

ds = ray.data.from_items([{"a": i, "b": float(i * i), "c": f"n{i}"} for i in range(5)])
show("select:", lambda: ds.select_columns(["c", "a"]).take(2))
show("select one:", lambda: ds.select_columns("a").take(2))
show("select none:", lambda: ds.select_columns([]).take(2))
show("select twice the same:", lambda: ds.select_columns(["a", "a"]).take(1))
show("select a missing one:", lambda: ds.select_columns(["a", "zz"]).take(2))
show("drop:", lambda: ds.drop_columns(["b", "c"]).take(2))
show("drop a missing one:", lambda: ds.drop_columns(["zz"]).take(2))
show("rename by a dict:", lambda: ds.rename_columns({"a": "x"}).take(1))
show("rename by a list:", lambda: ds.rename_columns(["x", "y", "z"]).take(1))
show("rename by a short list:", lambda: ds.rename_columns(["x"]).take(1))
show("rename to the same:", lambda: ds.rename_columns({"a": "b"}).take(1))
show("rename a missing one:", lambda: ds.rename_columns({"zz": "b"}).take(1))
show("rename by nothing:", lambda: ds.rename_columns({}).take(1))
show("add_column:", lambda: ds.add_column("d", lambda df: df["a"] * 2).take(2))
show("add_column, numpy:", lambda: ds.add_column("d", lambda b: b["a"] + 1, batch_format="numpy").take(2))
show(
    "add_column, pyarrow:",
    lambda: ds.add_column("d", lambda t: pa.array([1] * t.num_rows), batch_format="pyarrow").take(1),
)
show("with_column:", lambda: ds.with_column("d", col("a") * 2 + 1).take(2))
show("with_column that is there:", lambda: ds.with_column("a", col("a") + 10).take(1))
show("with a constant:", lambda: ds.with_column("d", lit(7)).take(1))
show("with text:", lambda: ds.with_column("d", lit("x")).take(1))
show("with a missing one:", lambda: ds.with_column("d", col("zz")).take(1))
show("with no expression:", lambda: ds.with_column("d", 5).take(1))
show("filter by an expression:", lambda: [r["a"] for r in ds.filter(expr=col("a") >= 3).take_all()])
show("filter by two:", lambda: [r["a"] for r in ds.filter(expr=(col("a") > 0) & ~(col("b") == 4.0)).take_all()])
show("filter by text:", lambda: [r["a"] for r in ds.filter(expr="a > 2").take_all()])
show("filter by both:", lambda: ds.filter(lambda r: True, expr=col("a") > 2).take_all())
show("filter by nothing:", lambda: ds.filter().take_all())
show("filter by a number:", lambda: ds.filter(expr=col("a") + 1).take_all())


@udf(return_dtype=DataType.int64())
def doubled(values):
    import pyarrow.compute as pc

    return pc.multiply(values, 2)


show("udf:", lambda: ds.with_column("d", doubled(col("a"))).take(2))
show("columns:", lambda: ds.with_column("d", col("a")).drop_columns(["a"]).columns())
show("schema after:", lambda: ds.with_column("d", col("a") / 2).schema().types)
show("schema of select:", lambda: ds.select_columns(["b"]).schema().names)
