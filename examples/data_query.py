"""Query 3 of TPC-H on made tables: which open orders of a segment would bring most?

    hpc-launch --nodes 4 examples/data_query.py --orders 15000000 --folder /scratch/me/tpch
    python examples/data_query.py                   # on this machine

Filters and columns reach the parquet files, so that what is not wanted is not read. The joins move rows between the
nodes by their keys, and the sums are begun where the rows are.
"""

from __future__ import annotations

import argparse
import datetime
import tempfile
import time
from pathlib import Path

import numpy as np
import pyarrow as pa

import hpc
from hpc.data.aggregate import Sum
from hpc.data.expressions import col, lit

SEGMENTS = np.array(["AUTOMOBILE", "BUILDING", "FURNITURE", "HOUSEHOLD", "MACHINERY"])
FIRST = np.datetime64("1992-01-01")
CUT = datetime.date(1995, 3, 15)


def make_orders(batch: dict, orders: int) -> pa.Table:
    """The orders of these numbers."""
    rng = np.random.default_rng(int(batch["id"][0]))
    count = len(batch["id"])
    ordered = FIRST + rng.integers(0, 2406, count)
    return pa.table({
        "o_orderkey": batch["id"], "o_custkey": rng.integers(0, max(1, orders // 10), count),
        "o_orderdate": pa.array(ordered, pa.date32()), "o_shippriority": np.zeros(count, np.int64),
    })  # fmt: skip


def make_lines(batch: dict) -> pa.Table:
    """Four lines of each order."""
    rng = np.random.default_rng(int(batch["id"][0]))
    of = np.repeat(batch["id"], 4)
    shipped = FIRST + rng.integers(1, 2527, len(of))
    return pa.table({
        "l_orderkey": of, "l_extendedprice": rng.random(len(of)) * 1e5,
        "l_discount": rng.integers(0, 11, len(of)) / 100, "l_shipdate": pa.array(shipped, pa.date32()),
    })  # fmt: skip


def make_customers(batch: dict) -> dict:
    return {"c_custkey": batch["id"], "c_mktsegment": SEGMENTS[batch["id"] * 7 % 5]}


def make(folder: Path, orders: int) -> None:
    """Write the tables, if they are not there."""
    if (folder / "lineitem").exists():
        return
    numbers = hpc.data.range(orders, override_num_blocks=16)
    numbers.map_batches(make_orders, batch_size=None, fn_kwargs={"orders": orders}).write_parquet(
        str(folder / "orders")
    )
    numbers.map_batches(make_lines, batch_size=None).write_parquet(str(folder / "lineitem"))
    hpc.data.range(max(1, orders // 10)).map_batches(make_customers).write_parquet(str(folder / "customer"))


def query(folder: Path) -> hpc.data.Dataset:
    """The plan: nothing runs here."""
    customers = hpc.data.read_parquet(str(folder / "customer")).filter(expr=col("c_mktsegment") == lit("BUILDING"))
    orders = hpc.data.read_parquet(str(folder / "orders")).filter(expr=col("o_orderdate") < lit(CUT))
    lines = hpc.data.read_parquet(str(folder / "lineitem")).filter(expr=col("l_shipdate") > lit(CUT))
    lines = lines.with_column("revenue", col("l_extendedprice") * (lit(1) - col("l_discount")))
    lines = lines.select_columns(["l_orderkey", "revenue"])
    wanted = orders.join(
        customers.select_columns(["c_custkey"]), "inner", 8, on=("o_custkey",), right_on=("c_custkey",)
    )
    found = lines.join(wanted, "inner", 8, on=("l_orderkey",), right_on=("o_orderkey",))
    sums = found.groupby(["l_orderkey", "o_orderdate", "o_shippriority"]).aggregate(Sum("revenue"))
    return sums.sort(["sum(revenue)", "o_orderdate"], descending=[True, False]).limit(10)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--orders", type=int, default=150_000, help="(150000: a tenth of a scale factor)")
    parser.add_argument("--folder", help="the directory of the tables (a temporary one)")
    told = parser.parse_args()
    hpc.init()
    folder = Path(told.folder or tempfile.mkdtemp(prefix="tpch-"))
    make(folder, told.orders)
    began = time.perf_counter()
    rows = query(folder).take_all()
    for row in rows:
        print(f"{row['l_orderkey']:>10} {row['sum(revenue)']:>14,.2f} {row['o_orderdate']}")
    print(f"{len(rows)} orders in {time.perf_counter() - began:.1f} s")


if __name__ == "__main__":
    main()
