"""What datasets are made of, and types of columns on their way through them and back."""
# needs: pyarrow, pandas

import datetime
import decimal

import numpy as np
import pandas as pd
import pyarrow as pa

import hpc as ray

ray.init(num_cpus=4)
ray.data.DataContext.get_current().execution_options.preserve_order = True


def show(what, call):
    try:
        print(what, call())
    except Exception as error:
        print(what, type(error).__name__)


show("range:", lambda: (ray.data.range(5).take(2), ray.data.range(5).count(), ray.data.range(0).count()))
show("range below 0:", lambda: ray.data.range(-1).count())
show("range_tensor:", lambda: [r["data"].tolist() for r in ray.data.range_tensor(3, shape=(2, 2)).take(2)])
show("its schema:", lambda: ray.data.range_tensor(3, shape=(2, 2)).schema())
show("items:", lambda: ray.data.from_items([{"a": 1}, {"a": 2}]).schema())
show("no items:", lambda: ray.data.from_items([]).take_all())
show("schema of none:", lambda: ray.data.from_items([]).schema())
show("frame:", lambda: ray.data.from_pandas(pd.DataFrame({"a": [1, 2], "b": ["x", None]})).take_all())
show("frames:", lambda: ray.data.from_pandas([pd.DataFrame({"a": [1]}), pd.DataFrame({"a": [2]})]).take_all())
show("frame with an index:", lambda: ray.data.from_pandas(pd.DataFrame({"a": [1, 2]}, index=[5, 6])).take_all())
show("array:", lambda: ray.data.from_numpy(np.arange(4)).take(2))
show("arrays:", lambda: ray.data.from_numpy([np.zeros((2, 3)), np.ones((2, 3))]).count())
show("array of text:", lambda: ray.data.from_numpy(np.array(["a", "b"])).take_all())
show("table:", lambda: ray.data.from_arrow(pa.table({"a": [1, 2]})).take_all())
show("tables:", lambda: ray.data.from_arrow([pa.table({"a": [1]}), pa.table({"a": [2]})]).count())
show("refs of tables:", lambda: ray.data.from_arrow_refs([ray.put(pa.table({"a": [1]}))]).take_all())
show("refs of frames:", lambda: ray.data.from_pandas_refs([ray.put(pd.DataFrame({"a": [1]}))]).take_all())
show("refs of arrays:", lambda: ray.data.from_numpy_refs([ray.put(np.arange(2))]).take_all())
show("a number:", lambda: ray.data.from_items(5).count())
show("a frame as a table:", lambda: ray.data.from_arrow(pd.DataFrame({"a": [1]})).take_all())
show("repr of a range:", lambda: ray.data.range(5))
show("repr of a map:", lambda: ray.data.range(5).map_batches(lambda b: b))
show("repr when kept:", lambda: ray.data.from_items([{"a": 1}]).materialize())
show(
    "schema of times:", lambda: ray.data.from_pandas(pd.DataFrame({"t": pd.to_datetime(["2024-01-01"])})).schema().types
)
show("objects:", lambda: ray.data.from_items([{"o": complex(1, 2)}]).take_all())
show(
    "ragged arrays:",
    lambda: [r["x"].tolist() for r in ray.data.from_items([{"x": np.arange(2)}, {"x": np.arange(3)}]).take_all()],
)
show(
    "ragged in a batch:",
    lambda: ray.data.from_items([{"x": np.arange(2)}, {"x": np.arange(3)}]).take_batch(2)["x"].dtype,
)
show("tensors of rows:", lambda: ray.data.from_items([{"x": np.zeros((2, 2))}]).schema().types)
show("list columns:", lambda: ray.data.from_items([{"x": [1, 2]}]).take_batch(1)["x"])
show("schema equality:", lambda: ray.data.range(3).schema() == ray.data.range(5).schema())
show("base schema:", lambda: ray.data.range(3).schema().base_schema)

day = datetime.date(2024, 2, 29)
moment = datetime.datetime(2024, 2, 29, 12, 30, 15, 123456)
KINDS = {
    "int64": pa.array([1, 2, 3]),
    "int64 with null": pa.array([1, None, 3]),
    "int8": pa.array([1, 2, 3], pa.int8()),
    "uint16": pa.array([1, 2, 3], pa.uint16()),
    "float32": pa.array([1.5, 2.5, 3.5], pa.float32()),
    "float16": pa.array(np.array([1.5, 2.5, 3.5], np.float16)),
    "float64 with null": pa.array([1.5, None, float("nan")]),
    "bool": pa.array([True, False, True]),
    "bool with null": pa.array([True, None, False]),
    "string": pa.array(["a", "b", ""]),
    "string with null": pa.array(["a", None, "c"]),
    "large_string": pa.array(["a", "b", "c"], pa.large_string()),
    "binary": pa.array([b"a", b"\x00", b""]),
    "date": pa.array([day, None, day]),
    "timestamp us": pa.array([moment, None, moment]),
    "timestamp ns": pa.array([moment, moment, None], pa.timestamp("ns")),
    "timestamp with zone": pa.array([moment, moment, None], pa.timestamp("us", "UTC")),
    "duration": pa.array([datetime.timedelta(seconds=1)] * 3),
    "time": pa.array([datetime.time(1, 2, 3)] * 3),
    "decimal": pa.array([decimal.Decimal("1.25"), None, decimal.Decimal("-3.50")]),
    "list": pa.array([[1, 2], [], None]),
    "list of one length": pa.array([[1, 2], [3, 4], [5, 6]]),
    "list of strings": pa.array([["a"], ["b", "c"], []]),
    "fixed size list": pa.array([[1, 2], [3, 4], [5, 6]], pa.list_(pa.int64(), 2)),
    "struct": pa.array([{"x": 1, "y": "a"}, {"x": None, "y": "b"}, {"x": 3, "y": None}]),
    "map": pa.array([[("a", 1)], [], [("b", 2)]], pa.map_(pa.string(), pa.int64())),
    "dictionary": pa.array(["a", "b", "a"]).dictionary_encode(),
    "null": pa.nulls(3),
}


def schema_of(ds):
    return [line.split(maxsplit=1)[1] for line in str(ds.schema()).splitlines()[2:]]


def plain(value):
    return value.tolist() if isinstance(value, np.ndarray) else value


def numpy_of(ds):
    found = ds.take_batch(3, batch_format="numpy")["x"]
    return found.dtype, found.shape, [type(v).__name__ for v in found], [plain(v) for v in found]


def pandas_of(ds):
    found = ds.take_batch(3, batch_format="pandas")["x"]
    return found.dtype, [type(v).__name__ for v in found]


for name, values in KINDS.items():
    ds = ray.data.from_arrow(pa.table({"x": values}))
    show(f"{name}, schema:", lambda: schema_of(ds))
    show(f"{name}, rows:", lambda: [(type(r["x"]).__name__, plain(r["x"])) for r in ds.take_all()])
    show(f"{name}, numpy:", lambda: numpy_of(ds))
    show(f"{name}, pandas:", lambda: pandas_of(ds))
    show(f"{name}, through map:", lambda: schema_of(ds.map(lambda r: r)))
    show(f"{name}, through numpy:", lambda: schema_of(ds.map_batches(lambda b: b)))
    show(f"{name}, through pandas:", lambda: schema_of(ds.map_batches(lambda b: b, batch_format="pandas")))
    show(f"{name}, through pyarrow:", lambda: schema_of(ds.map_batches(lambda b: b, batch_format="pyarrow")))
    show(
        f"{name}, through to_pandas:", lambda: (lambda s: (s.dtype, [type(v).__name__ for v in s]))(ds.to_pandas()["x"])
    )

FRAMES = {
    "nan beside ints": pd.DataFrame({"x": [1, None, 3]}),
    "Int64": pd.DataFrame({"x": pd.array([1, None, 3], "Int64")}),
    "string dtype": pd.DataFrame({"x": pd.array(["a", None, "c"], "string")}),
    "category": pd.DataFrame({"x": pd.Categorical(["a", "b", "a"])}),
    "boolean": pd.DataFrame({"x": pd.array([True, None, False], "boolean")}),
    "datetime": pd.DataFrame({"x": pd.to_datetime(["2024-01-01", None, "2024-01-03"])}),
    "timedelta": pd.DataFrame({"x": pd.to_timedelta(["1s", None, "3s"])}),
    "objects": pd.DataFrame({"x": ["a", 1, None]}),
    "arrays": pd.DataFrame({"x": [np.zeros(2), np.ones(2), np.ones(2)]}),
    "lists": pd.DataFrame({"x": [[1], [2, 3], []]}),
    "None of all": pd.DataFrame({"x": [None, None, None]}),
    "an index of text": pd.DataFrame({"x": [1, 2, 3]}, index=["a", "b", "c"]),
    "a named index": pd.DataFrame({"x": [1, 2, 3]}, index=pd.Index([4, 5, 6], name="i")),
}
for name, frame in FRAMES.items():
    ds = ray.data.from_pandas(frame)
    show(f"frame, {name}:", lambda: (ds.schema().names, schema_of(ds)))
    show(f"frame, {name}, rows:", lambda: [[plain(v) for v in r.values()] for r in ds.take_all()])
    show(f"frame, {name}, back:", lambda: [str(t) for t in ds.to_pandas().dtypes])

for name, values in {
    "int32": np.arange(3, dtype=np.int32),
    "float16": np.arange(3, dtype=np.float16),
    "bool": np.array([True, False, True]),
    "uint8 pictures": np.zeros((3, 2, 2, 3), np.uint8),
    "text": np.array(["a", "bc", ""]),
    "bytes": np.array([b"a", b"bc", b""]),
    "datetime64": np.array(["2024-01-01", "2024-01-02", "NaT"], "datetime64[D]"),
    "datetime64 ns": np.array(["2024-01-01", "2024-01-02", "NaT"], "datetime64[ns]"),
    "complex": np.array([1j, 2, 3]),
    "objects": np.array([1, "a", None], dtype=object),
    "a number": np.array(5),
}.items():
    show(f"array, {name}:", lambda: schema_of(ray.data.from_numpy(values)))
    show(
        f"array, {name}, back:",
        lambda: (lambda a: (a.dtype, a.shape))(ray.data.from_numpy(values).take_batch(3)["data"]),
    )
    show(
        f"array, {name}, of a function:",
        lambda: schema_of(ray.data.range(3, override_num_blocks=1).map_batches(lambda b: {"x": values})),
    )

ITEMS = {
    "int and float": [1, 2.5],
    "int and text": [1, "a"],
    "None first": [None, 1, 2],
    "float nan": [1.0, float("nan")],
    "large ints": [2**63 - 1, 1],
    "larger ints": [2**70, 1],
    "tuples": [(1, 2), (3, 4)],
    "sets": [{1}, {2}],
    "numpy numbers": [np.float32(1.5), np.float32(2.5)],
    "numpy ints": [np.int16(1), np.int16(2)],
    "arrays": [np.zeros((2, 2)), np.ones((2, 2))],
    "ragged arrays": [np.zeros(2), np.ones(3)],
    "arrays of other dimensions": [np.zeros(2), np.ones((2, 2))],
    "dates": [day, day],
    "times": [moment, moment],
    "bytes": [b"a", b"b"],
    "bools": [True, False],
    "nested": [{"a": {"b": [1, {"c": 2}]}}],
    "empty lists": [{"x": []}, {"x": []}],
    "empty dicts": [{"x": {}}, {"x": {}}],
    "lists of None": [{"x": [None]}, {"x": [1]}],
    "keys that differ": [{"a": 1}, {"b": 2}],
    "decimals": [decimal.Decimal("1.1"), decimal.Decimal("22.22")],
    "functions": [len, max],
}
for name, items in ITEMS.items():
    show(f"items, {name}:", lambda: schema_of(ray.data.from_items(items)))
    show(
        f"items, {name}, rows:",
        lambda: [{k: plain(v) for k, v in r.items()} for r in ray.data.from_items(items).take_all()],
    )
    show(
        f"items, {name}, of a map:",
        lambda: schema_of(ray.data.range(len(items), override_num_blocks=1).map(lambda r: {"y": items[r["id"]]})),
    )
