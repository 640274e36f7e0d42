"""Looking at datasets: what they print, their schemas, counts, blocks and files."""
# needs: pyarrow, pandas

import os

import numpy as np
import pandas as pd

import hpc as ray

ray.init(num_cpus=4)
ray.data.DataContext.get_current().execution_options.preserve_order = True


def show(what, call):
    try:
        print(what, call())
    except Exception as error:
        print(what, type(error).__name__)


ds = ray.data.from_items([{"name": f"n{i}", "age": i, "weight": i / 2} for i in range(4)])
show("repr of items:", lambda: ds)
show("str:", lambda: str(ds) == repr(ds))
show("of a map:", lambda: ds.map(lambda r: r))


def double(batch):
    return {"age": batch["age"] * 2}


class Doubles:
    def __call__(self, batch):
        return {"age": batch["age"] * 2}


show("of a function:", lambda: ds.map_batches(double))
show("of a class:", lambda: ds.map_batches(Doubles, concurrency=2))
show("of two:", lambda: ds.map_batches(double).map(lambda r: r).filter(lambda r: True))
show("of a filter by text:", lambda: ds.filter(expr="age > 1"))
show("of a flat_map:", lambda: ds.flat_map(lambda r: [r]))
show("of a range:", lambda: ray.data.range(10))
show("of a range of tensors:", lambda: ray.data.range_tensor(10, shape=(2, 3)))
show("of a frame:", lambda: ray.data.from_pandas(pd.DataFrame({"a": [1], "b": [0.5]})))
show("of an array:", lambda: ray.data.from_numpy(np.zeros((3, 2, 2))))
show("of a union:", lambda: ds.union(ds))
show("of a zip:", lambda: ray.data.range(3).zip(ray.data.range(3)))
show("of a sort:", lambda: ds.sort("age"))
show("of a shuffle:", lambda: ds.random_shuffle())
show("of a repartition:", lambda: ds.repartition(2))
show("of a limit:", lambda: ds.limit(2))
show("of columns:", lambda: ds.select_columns(["age"]))
show("of dropped columns:", lambda: ds.drop_columns(["age"]))
show("of renamed columns:", lambda: ds.rename_columns({"age": "years"}))
show("of a new column:", lambda: ds.with_column("more", ray.data.expressions.col("age") + 1))
show("of an added column:", lambda: ds.add_column("more", lambda df: df["age"] + 1))
show("of groups:", lambda: ds.groupby("name"))
show("of an aggregate:", lambda: ds.groupby("name").count())
show("of a function of groups:", lambda: ds.groupby("name").map_groups(double))
show("of a join:", lambda: ray.data.range(3).join(ray.data.range(3), "inner", 2))
show("of none:", lambda: ray.data.from_items([]))
show("materialized:", lambda: ds.materialize())
show("a long one:", lambda: ray.data.range(100).materialize())
show("of many columns:", lambda: ray.data.from_items([{f"c{i}": i for i in range(12)}]).materialize())
show("of long text:", lambda: ray.data.from_items([{"t": "x" * 100}]).materialize())
show("of nulls:", lambda: ray.data.from_items([{"t": "x", "u": float("nan")}, {"t": None, "u": 2.0}]).materialize())
show("of arrays:", lambda: ray.data.from_numpy(np.arange(6).reshape(3, 2)).materialize())
show("of lists:", lambda: ray.data.from_items([{"l": [1, 2], "d": {"a": 1}}]).materialize())
show("of nothing, materialized:", lambda: ds.filter(lambda r: False).materialize())
named = ray.data.range(3)
named.set_name("numbers")
show("with a name:", lambda: named)
show("with a name, mapped:", lambda: named.map(lambda r: r))
show("schema:", lambda: ds.schema())
show("schema of a map:", lambda: ds.map_batches(double).schema())
show("schema that is not fetched:", lambda: ds.map_batches(double).schema(fetch_if_missing=False))
show("schema's fields:", lambda: (ds.schema().names, ds.schema().types, type(ds.schema()).__name__))
show("schema of a shape:", lambda: ray.data.range_tensor(3, shape=(2, 2)).schema())
show("equal schemas:", lambda: ds.schema() == ds.materialize().schema())
show("columns:", lambda: ds.columns())
show("columns of a map:", lambda: ds.map_batches(double).columns())
show("columns that are not fetched:", lambda: ds.map_batches(double).columns(fetch_if_missing=False))
show("count:", lambda: ds.count())
show("count of a map:", lambda: ds.flat_map(lambda r: [r, r]).count())
show("show:", lambda: ds.show(2))
show("show of all:", lambda: ds.show())
show("take 0:", lambda: ds.take(0))
show("take below 0:", lambda: ds.take(-1))
show("take_batch of 0:", lambda: ds.take_batch(0))
show("take_batch:", lambda: ds.take_batch(2))
show("take_batch, pandas:", lambda: ds.take_batch(2, batch_format="pandas"))
show("take_batch, pyarrow:", lambda: ds.take_batch(2, batch_format="pyarrow").to_pydict())
show("take_batch, default:", lambda: ds.take_batch(2, batch_format="default"))
show("size_bytes:", lambda: ray.data.range(1000).materialize().size_bytes())
show("size_bytes of a range:", lambda: ray.data.range(1000).size_bytes())
show("input_files of none:", lambda: ds.input_files())
for name, make in {
    "range": lambda: ray.data.range(12, override_num_blocks=3),
    "items": lambda: ray.data.from_items(list(range(12)), override_num_blocks=3),
    "items, one": lambda: ray.data.from_items(list(range(12)), override_num_blocks=1),
    "frames": lambda: ray.data.from_pandas([pd.DataFrame({"a": [1, 2]}), pd.DataFrame({"a": [3]})]),
    "a frame in blocks": lambda: ray.data.from_pandas(pd.DataFrame({"a": range(12)}), override_num_blocks=4),
    "arrays": lambda: ray.data.from_numpy([np.zeros(3), np.zeros(2)]),
    "map": lambda: ray.data.range(12, override_num_blocks=3).map(lambda r: r),
    "filter": lambda: ray.data.range(12, override_num_blocks=3).filter(lambda r: r["id"] < 4),
    "sort": lambda: ray.data.range(12, override_num_blocks=3).sort("id"),
    "shuffle": lambda: ray.data.range(12, override_num_blocks=3).random_shuffle(seed=1),
    "repartition": lambda: ray.data.range(12, override_num_blocks=3).repartition(4),
    "repartition, shuffle": lambda: ray.data.range(12, override_num_blocks=3).repartition(4, shuffle=True),
    "rows of blocks": lambda: ray.data.range(12, override_num_blocks=3).repartition(target_num_rows_per_block=3),
    "rows of blocks, more": lambda: ray.data.range(12, override_num_blocks=3).repartition(target_num_rows_per_block=5),
    "rows of blocks, all": lambda: ray.data.range(12, override_num_blocks=3).repartition(target_num_rows_per_block=100),
    "rows of blocks, strict": lambda: ray.data.range(12, override_num_blocks=3).repartition(
        target_num_rows_per_block=5, strict=True
    ),
    "union": lambda: ray.data.range(12, override_num_blocks=3).union(ray.data.range(4, override_num_blocks=1)),
    "zip": lambda: ray.data.range(12, override_num_blocks=3).zip(ray.data.range(12, override_num_blocks=2)),
    "limit": lambda: ray.data.range(12, override_num_blocks=3).limit(6),
    "batches": lambda: ray.data.range(12, override_num_blocks=3).map_batches(lambda b: b, batch_size=2),
    "split": lambda: ray.data.range(12, override_num_blocks=3).split(3)[0],
}.items():
    show(f"blocks of {name}:", lambda: [t.num_rows for t in ray.get(make().to_arrow_refs())])
    show(f"their number, {name}:", lambda: make().materialize().num_blocks())
os.makedirs("files")
for i in range(3):
    pd.DataFrame({"a": [i, i + 1]}).to_csv(f"files/{i}.csv", index=False)
files = ray.data.read_csv("files")
show("of files:", lambda: files)
show("input_files:", lambda: sorted(os.path.basename(f) for f in files.input_files()))
show("schema of files:", lambda: files.schema())
show("count of files:", lambda: files.count())
files.write_parquet("tables")
tables = ray.data.read_parquet("tables")
show("of tables:", lambda: tables)
show("rows of tables:", lambda: sorted(r["a"] for r in tables.take_all()))
