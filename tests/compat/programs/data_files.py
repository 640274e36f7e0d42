"""Files: tables, texts, bytes, arrays, pictures, tar; writes, sinks and sources of the user."""
# needs: pyarrow, pandas, PIL

import io
import os
import tarfile

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

import hpc as ray
from hpc.data import SaveMode

ray.init(num_cpus=4)
ray.data.DataContext.get_current().execution_options.preserve_order = True


def show(what, call):
    try:
        print(what, call())
    except Exception as error:
        print(what, type(error).__name__)


here = os.getcwd()
ds = ray.data.from_items([{"a": i, "b": f"t{i}", "p": i % 2} for i in range(6)])


def at(name):
    return os.path.join(here, name)


def rows(found):
    return sorted(
        (
            tuple(sorted((k, os.path.relpath(v, here) if k == "path" else v) for k, v in r.items()))
            for r in found.take_all()
        ),
        key=str,
    )


ds.write_parquet(at("pq"))
show("parquet:", lambda: rows(ray.data.read_parquet(at("pq"))))
show("its columns:", lambda: rows(ray.data.read_parquet(at("pq"), columns=["a"])))
show("a missing column:", lambda: rows(ray.data.read_parquet(at("pq"), columns=["zz"])))
show("its schema:", lambda: ray.data.read_parquet(at("pq")).schema())
show("its count:", lambda: ray.data.read_parquet(at("pq")).count())
ds.write_parquet(at("parts"), partition_cols=["p"])
show("directories:", lambda: sorted(os.listdir("parts")))
show("partitions come back:", lambda: rows(ray.data.read_parquet(at("parts")).select_columns(["a", "p"])))
pq.write_table(pa.table({"a": [1, 2], "b": ["x", "y"]}), at("one.parquet"))
pq.write_table(pa.table({"a": [3], "c": [1.5]}), at("two.parquet"))
show("a file:", lambda: rows(ray.data.read_parquet(at("one.parquet"))))
show("include_paths:", lambda: rows(ray.data.read_parquet(at("one.parquet"), include_paths=True)))
show("several:", lambda: rows(ray.data.read_parquet([at("one.parquet"), at("one.parquet")])))
show("a filter:", lambda: rows(ray.data.read_parquet(at("one.parquet")).filter(expr=ray.data.expressions.col("a") > 1)))
show("a missing file:", lambda: ray.data.read_parquet(at("nowhere.parquet")).take_all())
show("an empty list:", lambda: ray.data.read_parquet([]).take_all())
open("bad.parquet", "w").write("no parquet")
show("a damaged one:", lambda: type(ray.data.read_parquet(at("bad.parquet")).take_all()))
ds.write_csv(at("csv"))
show("csv:", lambda: rows(ray.data.read_csv(at("csv"))))
pd.DataFrame({"x": [1, 2], "y": [None, "q"]}).to_csv("one.csv", index=False)
show("csv with nulls:", lambda: ray.data.read_csv(at("one.csv")).take_all())
show("csv, include_paths:", lambda: rows(ray.data.read_csv(at("one.csv"), include_paths=True)))
open("some.csv", "w").write("a;b\n1;2\n")
show(
    "csv with options:",
    lambda: ray.data.read_csv(at("some.csv"), parse_options=pa.csv.ParseOptions(delimiter=";")).take_all(),
)
open("ragged.csv", "w").write("a,b\n1,2\n3\n")
show("csv, ragged:", lambda: type(ray.data.read_csv(at("ragged.csv")).take_all()))
ds.write_json(at("json"))
show("json:", lambda: rows(ray.data.read_json(at("json"))))
open("lines.jsonl", "w").write('{"a": 1, "b": {"c": [1, 2]}}\n{"a": 2, "b": {"c": []}}\n')
show("json lines:", lambda: ray.data.read_json(at("lines.jsonl"), lines=True).take_all())
open("list.json", "w").write('[{"a": 1}, {"a": 2}]')
show("json list:", lambda: ray.data.read_json(at("list.json")).take_all())
show("file_extensions:", lambda: ray.data.read_csv(here, file_extensions=["tsv"]).take_all())
show(
    "ignore_missing_paths:",
    lambda: ray.data.read_csv([at("one.csv"), at("nowhere.csv")], ignore_missing_paths=True).count(),
)
os.makedirs("hive/y=1/z=a")
pd.DataFrame({"v": [1]}).to_csv("hive/y=1/z=a/f.csv", index=False)
show("hive csv:", lambda: ray.data.read_csv(at("hive")).take_all())
show("input_files:", lambda: [os.path.basename(f) for f in ray.data.read_csv(at("one.csv")).input_files()])

here = os.getcwd()


def at(name):
    return os.path.join(here, name)


open("t.txt", "w").write("one\n\ntwo\nthree")
show("text:", lambda: ray.data.read_text(at("t.txt")).take_all())
show("text with empty lines:", lambda: ray.data.read_text(at("t.txt"), drop_empty_lines=False).take_all())
show("bytes:", lambda: ray.data.read_binary_files(at("t.txt")).take_all())
show(
    "bytes with paths:",
    lambda: [
        os.path.basename(r["path"]) for r in ray.data.read_binary_files(at("t.txt"), include_paths=True).take_all()
    ],
)
np.save("a.npy", np.arange(6).reshape(3, 2))
show("numpy:", lambda: [r["data"].tolist() for r in ray.data.read_numpy(at("a.npy")).take_all()])
os.makedirs("pictures")
for i, mode in enumerate(("RGB", "L")):
    Image.fromarray(np.full((4, 6, 3) if mode == "RGB" else (4, 6), 10 * i, np.uint8), mode).save(f"pictures/{i}.png")
show("images:", lambda: [r["image"].shape for r in ray.data.read_images(at("pictures")).take_all()])
show(
    "images of a size:",
    lambda: [r["image"].shape for r in ray.data.read_images(at("pictures"), size=(2, 3), mode="RGB").take_all()],
)
show("their schema:", lambda: ray.data.read_images(at("pictures"), size=(2, 3), mode="RGB").schema().types)
show("a size below 1:", lambda: ray.data.read_images(at("pictures"), size=(0, 3)).take_all())
show("no image:", lambda: type(ray.data.read_images(at("t.txt")).take_all()))
with tarfile.open("s.tar", "w") as tar:
    for name, data in (
        ("a.txt", b"hello"),
        ("a.cls", b"3"),
        ("a.json", b'{"x": 1}'),
        ("b.txt", b"world"),
        ("b.cls", b"4"),
    ):
        info = tarfile.TarInfo(name)
        info.size = len(data)
        tar.addfile(info, io.BytesIO(data))
show(
    "webdataset:",
    lambda: [
        sorted((k, v) for k, v in r.items() if k != "__url__") for r in ray.data.read_webdataset(at("s.tar")).take_all()
    ],
)
show(
    "its suffixes:",
    lambda: [sorted(k for k in r) for r in ray.data.read_webdataset(at("s.tar"), suffixes=["txt"]).take_all()],
)
ds = ray.data.from_items([{"__key__": "k1", "txt": "hello", "cls": 1}, {"__key__": "k2", "txt": "you", "cls": 2}])
ds.write_webdataset(at("wds"))
show("written:", lambda: [(r["__key__"], r["txt"], r["cls"]) for r in ray.data.read_webdataset(at("wds")).take_all()])
ray.data.from_numpy(np.arange(4)).write_numpy(at("np"), column="data")
show("numpy written:", lambda: sorted(r["data"].item() for r in ray.data.read_numpy(at("np")).take_all()))
ray.data.read_images(at("pictures"), mode="RGB", size=(4, 6)).write_images(at("out"), column="image")
show("images written:", lambda: sorted(os.path.splitext(f)[1] for f in os.listdir("out")))
show("images back:", lambda: [r["image"].shape for r in ray.data.read_images(at("out")).take_all()])

here = os.getcwd()
ds = ray.data.range(10, override_num_blocks=2)


def at(name):
    return os.path.join(here, name)


def files(folder):
    return sorted(os.path.splitext(name)[1] for name in os.listdir(folder))


show("returns:", lambda: ds.write_parquet(at("a")))
show("files:", lambda: (files("a"), ray.data.read_parquet(at("a")).count()))
show("again, append:", lambda: (ds.write_parquet(at("a")), ray.data.read_parquet(at("a")).count()))
show("overwrite:", lambda: (ds.write_parquet(at("a"), mode=SaveMode.OVERWRITE), ray.data.read_parquet(at("a")).count()))
show("ignore:", lambda: (ds.write_parquet(at("a"), mode=SaveMode.IGNORE), ray.data.read_parquet(at("a")).count()))
show("error:", lambda: ds.write_parquet(at("a"), mode=SaveMode.ERROR))
show("error, new:", lambda: (ds.write_parquet(at("b"), mode=SaveMode.ERROR), files("b")))
show(
    "rows at least:",
    lambda: (
        ds.write_parquet(at("c"), min_rows_per_file=10),
        [pq.read_table(f"c/{f}").num_rows for f in os.listdir("c")],
    ),
)
show(
    "rows at most:",
    lambda: (
        ds.write_parquet(at("d"), max_rows_per_file=2),
        sorted(pq.read_table(f"d/{f}").num_rows for f in os.listdir("d")),
    ),
)
show("both:", lambda: ds.write_parquet(at("e"), min_rows_per_file=5, max_rows_per_file=2))
show("csv of one file:", lambda: (ds.repartition(1).write_csv(at("f")), files("f")))
show("csv has:", lambda: open(os.path.join("f", os.listdir("f")[0])).read().splitlines()[:2])
show(
    "json has:",
    lambda: (
        ds.repartition(1).write_json(at("g")),
        open(os.path.join("g", os.listdir("g")[0])).read().splitlines()[:2],
    ),
)
show("no such column:", lambda: ds.write_numpy(at("h"), column="zz"))
show(
    "an empty dataset:", lambda: (ds.filter(lambda r: False).write_parquet(at("i")), os.path.exists("i") and files("i"))
)
show("a partition column that is not there:", lambda: ds.write_parquet(at("j"), partition_cols=["zz"]))


class Total(ray.data.Datasink):
    def __init__(self):
        self.seen = []

    def on_write_start(self, schema=None):
        self.seen.append("start")

    def write(self, blocks, ctx):
        return sum(len(block["id"]) if isinstance(block, dict) else block.num_rows for block in blocks)

    def on_write_complete(self, result):
        self.seen.append(("complete", int(sum(result.write_returns))))

    def on_write_failed(self, error):
        self.seen.append(("failed", type(error).__name__))


sink = Total()
show("a sink:", lambda: (ds.write_datasink(sink), sink.seen))


class Failing(Total):
    def write(self, blocks, ctx):
        raise ValueError("full")


failing = Failing()
show("a sink that fails:", lambda: ds.write_datasink(failing))
show("it was told:", lambda: failing.seen[0])


class Numbers(ray.data.Datasource):
    def estimate_inmemory_data_size(self):
        return None

    def get_read_tasks(self, parallelism, per_task_row_limit=None, data_context=None):
        import pyarrow as pa

        from hpc.data.block import BlockMetadata

        meta = BlockMetadata(num_rows=2, size_bytes=16, input_files=None, exec_stats=None)
        return [ray.data.ReadTask(lambda i=i: [pa.table({"x": [i, i + 10]})], meta) for i in range(3)]


show("a source:", lambda: [r["x"] for r in ray.data.read_datasource(Numbers()).take_all()])
