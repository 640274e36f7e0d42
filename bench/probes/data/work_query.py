"""Group-by of 10 and of 1 M keys, a join of 10 M rows with 1 M, and the queries 1 and 3 of TPC-H on made tables of its
shape."""

from __future__ import annotations

import datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from libraries import CORES, Parts, library

__all__ = ["library"]

SIZES = {"full": 10_000_000, "quick": 500_000}
FILES = 8
DAY = datetime.date(1998, 9, 2)
CUT = datetime.date(1995, 3, 15)
SEGMENTS = ["AUTOMOBILE", "BUILDING", "FURNITURE", "HOUSEHOLD", "MACHINERY"]


def prepare(folder: Path, rows: int) -> None:
    if (folder / "done").exists():
        return
    rng = np.random.default_rng(0)
    keys = max(1, rows // 10)
    write(folder / "facts", pa.table({
        "few": rng.integers(0, 10, rows), "many": rng.integers(0, keys, rows), "v": rng.random(rows),
        "w": rng.random(rows),
    }))  # fmt: skip
    write(folder / "side", pa.table({"many": rng.permutation(keys), "x": rng.random(keys)}))
    orders = int(rows * 0.15)
    lines, customers = orders * 4, orders // 10
    first = np.datetime64("1992-01-01")
    ordered = first + rng.integers(0, 2406, orders)
    of = np.sort(rng.integers(0, orders, lines))
    write(folder / "lineitem", pa.table({
        "l_orderkey": of, "l_quantity": rng.integers(1, 51, lines).astype(float),
        "l_extendedprice": rng.random(lines) * 1e5, "l_discount": rng.integers(0, 11, lines) / 100,
        "l_tax": rng.integers(0, 9, lines) / 100,
        "l_returnflag": pa.array(np.array(["A", "N", "R"])[rng.integers(0, 3, lines)]),
        "l_linestatus": pa.array(np.array(["F", "O"])[rng.integers(0, 2, lines)]),
        "l_shipdate": pa.array(ordered[of] + rng.integers(1, 122, lines), pa.date32()),
    }))  # fmt: skip
    write(folder / "orders", pa.table({
        "o_orderkey": np.arange(orders), "o_custkey": rng.integers(0, customers, orders),
        "o_orderdate": pa.array(ordered, pa.date32()), "o_shippriority": np.zeros(orders, np.int64),
    }))  # fmt: skip
    segments = np.array(SEGMENTS)[rng.integers(0, 5, customers)]
    write(folder / "customer", pa.table({"c_custkey": np.arange(customers), "c_mktsegment": pa.array(segments)}))
    (folder / "done").touch()


def write(folder: Path, table: pa.Table) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    each = -(-len(table) // FILES)
    for number in range(FILES):
        pq.write_table(table.slice(number * each, each), folder / f"part-{number}.parquet")


def parts(peer: str, lib: Any, folder: Path, rows: int) -> Parts:
    if peer in ("hpc", "ray"):
        queries: Any = RayLike(lib, folder, peer)
    elif peer == "polars":
        queries = Polars(lib, folder)
    elif peer == "daft":
        queries = Daft(lib, folder)
    elif peer == "dask":
        queries = Dask(lib, folder)
    else:
        queries = Sql(lib, folder)
    for part in ("few", "many", "join", "q1", "q3"):
        do = getattr(queries, part, None)
        if do is not None:
            yield part, lambda part=part, do=do: checked(part, do())


def checked(part: str, found: Any) -> dict[str, float]:
    """A number that must be the same for all."""
    return {f"{part}_found": float(found)}


class RayLike:
    def __init__(self, data: Any, folder: Path, peer: str) -> None:
        import importlib

        self.data, self.folder = data, folder
        self.agg = importlib.import_module(f"{peer}.data.aggregate")
        self.col = importlib.import_module(f"{peer}.data.expressions").col
        self.lit = importlib.import_module(f"{peer}.data.expressions").lit

    def read(self, name: str, **how: Any) -> Any:
        return self.data.read_parquet(sorted(map(str, (self.folder / name).glob("*.parquet"))), **how)

    def grouped(self, key: str) -> float:
        found = self.read("facts").groupby(key).aggregate(self.agg.Sum("v"), self.agg.Mean("w"))
        return sum(float(batch["sum(v)"].sum()) for batch in found.iter_batches(batch_size=None))

    def few(self) -> float:
        return self.grouped("few")

    def many(self) -> float:
        return self.grouped("many")

    def join(self) -> float:
        found = self.read("facts").join(self.read("side"), "inner", 2 * CORES, on=("many",))
        return sum(float(batch["x"].sum()) for batch in found.iter_batches(batch_size=None))

    def q1(self) -> float:
        col, lit, agg = self.col, self.lit, self.agg
        lines = self.read("lineitem").filter(expr=col("l_shipdate") <= lit(DAY))
        lines = lines.with_column("price", col("l_extendedprice") * (lit(1) - col("l_discount")))
        lines = lines.with_column("charge", col("price") * (lit(1) + col("l_tax")))
        found = lines.groupby(["l_returnflag", "l_linestatus"]).aggregate(
            agg.Sum("l_quantity"), agg.Sum("l_extendedprice"), agg.Sum("price"), agg.Sum("charge"),
            agg.Mean("l_quantity"), agg.Mean("l_extendedprice"), agg.Mean("l_discount"), agg.Count(),
        ).sort(["l_returnflag", "l_linestatus"])  # fmt: skip
        return sum(row["sum(charge)"] for row in found.take_all())

    def q3(self) -> float:
        col, lit, agg = self.col, self.lit, self.agg
        customers = (
            self.read("customer").filter(expr=col("c_mktsegment") == lit("BUILDING")).select_columns(["c_custkey"])
        )
        orders = self.read("orders").filter(expr=col("o_orderdate") < lit(CUT))
        lines = self.read("lineitem", columns=["l_orderkey", "l_extendedprice", "l_discount", "l_shipdate"])
        lines = lines.filter(expr=col("l_shipdate") > lit(CUT))
        lines = lines.with_column("revenue", col("l_extendedprice") * (lit(1) - col("l_discount")))
        lines = lines.select_columns(["l_orderkey", "revenue"])
        wanted = orders.join(customers, "inner", 2 * CORES, on=("o_custkey",), right_on=("c_custkey",))
        found = lines.join(wanted, "inner", 2 * CORES, on=("l_orderkey",), right_on=("o_orderkey",))
        found = found.groupby(["l_orderkey", "o_orderdate", "o_shippriority"]).aggregate(agg.Sum("revenue"))
        found = found.sort(["sum(revenue)", "o_orderdate"], descending=[True, False]).limit(10)
        return sum(row["sum(revenue)"] for row in found.take_all())


class Polars:
    def __init__(self, pl: Any, folder: Path) -> None:
        self.pl, self.folder = pl, folder

    def scan(self, name: str) -> Any:
        return self.pl.scan_parquet(self.folder / name / "*.parquet")

    def grouped(self, key: str) -> float:
        col = self.pl.col
        found = self.scan("facts").group_by(key).agg(col("v").sum(), col("w").mean()).collect(engine="streaming")
        return float(found["v"].sum())

    def few(self) -> float:
        return self.grouped("few")

    def many(self) -> float:
        return self.grouped("many")

    def join(self) -> float:
        found = self.scan("facts").join(self.scan("side"), on="many").collect(engine="streaming")
        return float(found["x"].sum())

    def q1(self) -> float:
        col = self.pl.col
        lines = self.scan("lineitem").filter(col("l_shipdate") <= DAY)
        lines = lines.with_columns(price=col("l_extendedprice") * (1 - col("l_discount")))
        lines = lines.with_columns(charge=col("price") * (1 + col("l_tax")))
        found = lines.group_by("l_returnflag", "l_linestatus").agg(
            col("l_quantity").sum(), col("l_extendedprice").sum(), col("price").sum(), col("charge").sum(),
            col("l_quantity").mean().alias("q"), col("l_extendedprice").mean().alias("e"),
            col("l_discount").mean(), self.pl.len(),
        ).sort("l_returnflag", "l_linestatus")  # fmt: skip
        return float(found.collect(engine="streaming")["charge"].sum())

    def q3(self) -> float:
        col = self.pl.col
        customers = self.scan("customer").filter(col("c_mktsegment") == "BUILDING")
        orders = self.scan("orders").filter(col("o_orderdate") < CUT)
        lines = self.scan("lineitem").filter(col("l_shipdate") > CUT)
        found = lines.join(orders.join(customers, left_on="o_custkey", right_on="c_custkey"), left_on="l_orderkey",
                           right_on="o_orderkey")  # fmt: skip
        found = found.with_columns(revenue=col("l_extendedprice") * (1 - col("l_discount")))
        found = found.group_by("l_orderkey", "o_orderdate", "o_shippriority").agg(col("revenue").sum())
        top = found.sort(["revenue", "o_orderdate"], descending=[True, False]).head(10)
        return float(top.collect(engine="streaming")["revenue"].sum())


class Sql:
    """DuckDB."""

    def __init__(self, connection: Any, folder: Path) -> None:
        self.connection = connection
        for name in ("facts", "side", "lineitem", "orders", "customer"):
            connection.execute(f"create view {name} as select * from '{folder}/{name}/*.parquet'")

    def one(self, query: str, column: str) -> float:
        """The query's rows are made in full; the number is the sum of a column of them."""
        found = self.connection.execute(f"with t as materialized ({query}) select sum({column}) from t")
        return float(found.fetchone()[0])

    def grouped(self, key: str) -> float:
        return self.one(f"select {key}, sum(v) v, avg(w) w from facts group by {key}", "v")

    def few(self) -> float:
        return self.grouped("few")

    def many(self) -> float:
        return self.grouped("many")

    def join(self) -> float:
        return self.one("select f.*, x from facts f join side using (many)", "x")

    def q1(self) -> float:
        return self.one(
            "select l_returnflag, l_linestatus, sum(l_quantity), sum(l_extendedprice), "
            "sum(l_extendedprice*(1-l_discount)), sum(l_extendedprice*(1-l_discount)*(1+l_tax)) charge, "
            "avg(l_quantity), avg(l_extendedprice), avg(l_discount), count(*) from lineitem "
            "where l_shipdate <= date '1998-09-02' group by all order by 1, 2",
            "charge",
        )

    def q3(self) -> float:
        return self.one(
            "select l_orderkey, sum(l_extendedprice*(1-l_discount)) revenue, o_orderdate, o_shippriority "
            "from customer, orders, lineitem where c_mktsegment = 'BUILDING' and c_custkey = o_custkey and "
            "l_orderkey = o_orderkey and o_orderdate < date '1995-03-15' and l_shipdate > date '1995-03-15' "
            "group by l_orderkey, o_orderdate, o_shippriority order by revenue desc, o_orderdate limit 10",
            "revenue",
        )


class Daft:
    def __init__(self, daft: Any, folder: Path) -> None:
        self.daft, self.folder = daft, folder

    def read(self, name: str) -> Any:
        return self.daft.read_parquet(str(self.folder / name / "*.parquet"))

    def grouped(self, key: str) -> float:
        col = self.daft.col
        found = self.read("facts").groupby(key).agg(col("v").sum(), col("w").mean()).collect()
        return sum(found.to_pydict()["v"])

    def few(self) -> float:
        return self.grouped("few")

    def many(self) -> float:
        return self.grouped("many")

    def join(self) -> float:
        found = self.read("facts").join(self.read("side"), on="many").collect()
        return float(found.sum("x").to_pydict()["x"][0])


class Dask:
    def __init__(self, frames: Any, folder: Path) -> None:
        self.frames, self.folder = frames, folder

    def grouped(self, key: str) -> float:
        found = self.frames.read_parquet(str(self.folder / "facts")).groupby(key).agg({"v": "sum", "w": "mean"})
        return float(found.compute()["v"].sum())

    def few(self) -> float:
        return self.grouped("few")

    def many(self) -> float:
        return self.grouped("many")

    def join(self) -> float:
        facts, side = (self.frames.read_parquet(str(self.folder / name)) for name in ("facts", "side"))
        return float(facts.merge(side, on="many").x.sum().compute())
