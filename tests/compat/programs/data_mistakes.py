"""Sources and sinks of a user's own; mistakes of users: columns, types, files and schemas that are not there."""
# needs: pyarrow, pandas, fsspec

import os

import numpy as np
import pandas as pd
import pyarrow as pa

import hpc as ray
from hpc.data.block import BlockMetadata
from hpc.data.datasource import BlockBasedFileDatasink, FileBasedDatasource, RowBasedFileDatasink

ray.init(num_cpus=4)
ray.data.DataContext.get_current().execution_options.preserve_order = True


def show(what, call):
    try:
        print(what, call())
    except Exception as error:
        print(what, type(error).__name__)


class Squares(ray.data.Datasource):
    """Numbers of one range for each task."""

    def __init__(self, count, broken=None):
        super().__init__()
        self.count, self.broken = count, broken

    def get_name(self):
        return "Squares"

    def estimate_inmemory_data_size(self):
        return 16 * self.count

    def get_read_tasks(self, parallelism, per_task_row_limit=None, data_context=None):
        tasks = []
        for part in np.array_split(np.arange(self.count), min(parallelism, 3)):
            meta = BlockMetadata(num_rows=len(part), size_bytes=16 * len(part), input_files=None, exec_stats=None)
            schema = pa.schema([("n", pa.int64()), ("square", pa.int64())])
            tasks.append(ray.data.ReadTask(lambda part=part: self.read(part), meta, schema))
        return tasks

    def read(self, part):
        if self.broken is not None and self.broken in part:
            raise OSError(f"the disk of {self.broken} is gone")
        yield pa.table({"n": part, "square": part**2})


made = ray.data.read_datasource(Squares(7))
show("a source:", lambda: made.take_all())
show("its columns:", lambda: made.columns())
show("its count:", lambda: made.count())
show("its blocks:", lambda: ray.data.read_datasource(Squares(7), override_num_blocks=2).materialize().num_blocks())
show("its files:", lambda: made.input_files())
show("a limit of it:", lambda: [row["n"] for row in made.limit(3).take_all()])
show("filtered:", lambda: [row["n"] for row in made.filter(lambda row: row["square"] > 10).take_all()])
show("of none:", lambda: ray.data.read_datasource(Squares(0)).take_all())
show("that breaks:", lambda: ray.data.read_datasource(Squares(7, broken=5)).take_all())
show("no source:", lambda: ray.data.read_datasource(3))
os.makedirs("words")
for name, text in {"a": "one two", "b": "three"}.items():
    with open(f"words/{name}.words", "w") as file:
        file.write(text)


class Words(FileBasedDatasource):
    _FILE_EXTENSIONS = ["words"]

    def _read_stream(self, f, path):
        yield pa.table({"word": f.readall().decode().split()})


def words(*given, **how):
    return ray.data.read_datasource(Words(*given, **how))


show("files:", lambda: sorted(row["word"] for row in words(os.path.abspath("words")).take_all()))
show(
    "with their paths:",
    lambda: sorted(
        (row["word"], os.path.basename(row["path"]))
        for row in words(os.path.abspath("words"), include_paths=True).take_all()
    ),
)
show("a file that is not there:", lambda: words(os.path.abspath("nowhere")).take_all())
show(
    "one that may be missing:",
    lambda: words(
        [os.path.abspath("words/a.words"), os.path.abspath("words/z.words")], ignore_missing_paths=True
    ).count(),
)
show("of another end:", lambda: words(os.path.abspath("words"), file_extensions=["txt"]).take_all())


class Lines(BlockBasedFileDatasink):
    def write_block_to_file(self, block, file):
        for number in block.to_arrow().column("id").to_pylist():
            file.write(f"{number}\n".encode())


class Each(RowBasedFileDatasink):
    def write_row_to_file(self, row, file):
        file.write(str(row["id"]).encode())


def written(folder):
    parts = []
    for name in sorted(os.listdir(folder)):
        with open(os.path.join(folder, name)) as file:
            parts.append(file.read().split())
    return sorted(parts)


numbers = ray.data.range(4, override_num_blocks=2)
show(
    "blocks in files:",
    lambda: (numbers.write_datasink(Lines(os.path.abspath("lines"), file_format="txt")), written("lines")),
)
show(
    "rows in files:",
    lambda: (numbers.write_datasink(Each(os.path.abspath("each"), file_format="txt")), written("each")),
)
show("their ends:", lambda: {name.rsplit(".")[-1] for name in os.listdir("each")})


class Remembers(ray.data.Datasink):
    def __init__(self, fails=False):
        self.said, self.fails = [], fails

    def on_write_start(self, schema=None):
        self.said.append(("start", None if schema is None else schema.names))

    def write(self, blocks, ctx):
        if self.fails:
            raise RuntimeError("no room")
        return sorted(number for block in blocks for number in block["id"].to_pylist())

    def on_write_complete(self, result):
        self.said.append(("complete", int(result.num_rows), sorted(result.write_returns)))

    def on_write_failed(self, error):
        self.said.append(("failed", "no room" in str(error)))

    def get_name(self):
        return "Remembers"


sink = Remembers()
show("a sink:", lambda: (numbers.write_datasink(sink), [said[0] for said in sink.said]))
show("what it got:", lambda: sink.said[-1])
show("its name:", lambda: (sink.get_name(), sink.supports_distributed_writes, sink.min_rows_per_write))
full = Remembers(fails=True)
show("a full one:", lambda: numbers.write_datasink(full))
show("it was told:", lambda: full.said[-1])
show("no sink:", lambda: numbers.write_datasink("folder"))

people = ray.data.from_items([{"name": "a", "age": 1}, {"name": "b", "age": 2}])


def message(call, *words):
    """The class of an error, and which words its text has."""
    try:
        return call()
    except Exception as error:
        return type(error).__name__, [word for word in words if word in str(error)]


for what, call in {
    "select": lambda: people.select_columns(["nam"]).take_all(),
    "sort": lambda: people.sort("nam").take_all(),
    "groupby": lambda: people.groupby("nam").count().take_all(),
    "sum": lambda: people.sum("nam"),
    "unique": lambda: people.unique("nam"),
    "row": lambda: people.map(lambda row: {"x": row["nam"]}).take_all(),
    "batch": lambda: people.map_batches(lambda batch: {"x": batch["nam"]}).take_all(),
    "frame": lambda: people.map_batches(lambda batch: batch[["nam"]], batch_format="pandas").take_all(),
    "expression": lambda: people.filter(expr="nam > 1").take_all(),
    "join": lambda: people.join(people, "inner", 2, on=("nam",)).take_all(),
    "rename": lambda: people.rename_columns({"nam": "x"}).take_all(),
    "drop": lambda: people.drop_columns(["nam"]).take_all(),
    "repartition": lambda: people.repartition(2, keys=["nam"]).take_all(),
    "write": lambda: people.write_parquet("out", partition_cols=["nam"]),
}.items():
    show(f"a wrong column, {what}:", lambda: message(call, "nam"))
for what, value in {
    "a number": 3,
    "a text": "x",
    "a list of numbers": [1, 2],
    "a dict of numbers": {"x": 1},
    "a dict of texts": {"x": "abc"},
    "a dict of other lengths": {"x": np.zeros(2), "y": np.zeros(3)},
    "a dict of lists": {"x": [1, 2], "y": ["a", "b"]},
    "a dict with numbers as names": {1: np.zeros(2)},
    "a series": pd.Series([1, 2], name="x"),
    "a frame": pd.DataFrame({"x": [1, 2]}),
    "a table": pa.table({"x": [1, 2]}),
    "an array": np.zeros(2),
    "nothing": None,
    "a dict of None": {"x": None},
    "an empty dict": {},
}.items():
    show(f"a function that returns {what}:", lambda: people.map_batches(lambda batch: value).take_all())
show(
    "a schema that does not fit:",
    lambda: people.map_batches(lambda b: pa.table(b, schema=pa.schema([("x", pa.int8())]))).take_all(),
)
show("columns that differ:", lambda: sorted(map(str, people.union(ray.data.from_items([{"city": "c"}])).take_all())))
show("types that differ:", lambda: people.union(ray.data.from_items([{"name": 3, "age": "x"}])).take_all())
show("a sum of texts:", lambda: people.sum("name"))
show("a mean of texts:", lambda: people.mean("name"))
show("a sort of lists:", lambda: ray.data.from_items([{"l": [2]}, {"l": [1]}]).sort("l").take_all())
for what, call in {
    "parquet": lambda: ray.data.read_parquet("nowhere.parquet"),
    "csv": lambda: ray.data.read_csv("nowhere.csv").take_all(),
    "json": lambda: ray.data.read_json(["nowhere.json"]).take_all(),
    "text": lambda: ray.data.read_text("nowhere.txt").take_all(),
    "images": lambda: ray.data.read_images("nowhere").take_all(),
    "numpy": lambda: ray.data.read_numpy("nowhere.npy").take_all(),
    "bytes": lambda: ray.data.read_binary_files("nowhere").take_all(),
}.items():
    show(f"a missing file, {what}:", lambda: message(call, "nowhere"))
os.makedirs("bad")
for name in ("bad.parquet", "bad.json", "bad.npy"):
    with open(f"bad/{name}", "w") as file:
        file.write("{no such format")
show("a broken parquet file:", lambda: ray.data.read_parquet("bad/bad.parquet").take_all())
show("a broken json file:", lambda: ray.data.read_json("bad/bad.json").take_all())
show("a broken array:", lambda: ray.data.read_numpy("bad/bad.npy").take_all())
show("an unknown scheme:", lambda: ray.data.read_parquet("moon://a/b.parquet").take_all())
show("a folder without such files:", lambda: ray.data.read_csv("bad", file_extensions=["csv"]).take_all())
show("take of a text:", lambda: people.take("2"))
show("limit below 0:", lambda: people.limit(-1).take_all())
show("a split of none:", lambda: people.split(0))
show("blocks below 1:", lambda: people.repartition(0).take_all())
show("a batch size below 1:", lambda: people.map_batches(lambda b: b, batch_size=0).take_all())
show("a batch format:", lambda: people.map_batches(lambda b: b, batch_format="xml").take_all())
show("cpus below 0:", lambda: people.map(lambda r: r, num_cpus=-1).take_all())
show("an option:", lambda: people.map(lambda r: r, no_such_option=1).take_all())
show("no function:", lambda: people.map(3).take_all())
show("iterated itself:", lambda: list(people))
show("its length:", lambda: len(people))
show("by its place:", lambda: people[0])
