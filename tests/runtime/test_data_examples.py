"""The programs of examples/ that work on datasets, shortened: each is run as its user runs it."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("pyarrow")
EXAMPLES = Path(__file__).resolve().parents[2] / "examples"


def run(name: str, *options: object) -> str:
    """What the example printed."""
    command = [sys.executable, str(EXAMPLES / name), *map(str, options)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=100)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_a_pool_of_models_says_where_the_squares_are(tmp_path):
    pytest.importorskip("torch")
    out = run("data_inference.py", "--pictures", 200, "--batch", 32, "--results", tmp_path / "said")
    assert re.search(r"^200 pictures in ", out, re.MULTILINE), out
    assert "brightest places: {0: 50, 9: 50, 18: 50, 27: 50}" in out, out


def test_a_query_gives_what_pandas_gives(tmp_path):
    pandas = pytest.importorskip("pandas")
    out = run("data_query.py", "--orders", 20_000, "--folder", tmp_path)
    lines, orders, customers = (pandas.read_parquet(tmp_path / name) for name in ("lineitem", "orders", "customer"))
    cut = pandas.Timestamp("1995-03-15").date()
    lines = lines[lines.l_shipdate > cut]
    lines = lines.assign(revenue=lines.l_extendedprice * (1 - lines.l_discount))
    wanted = orders[orders.o_orderdate < cut].merge(
        customers[customers.c_mktsegment == "BUILDING"], left_on="o_custkey", right_on="c_custkey"
    )
    found = lines.merge(wanted, left_on="l_orderkey", right_on="o_orderkey").groupby("l_orderkey").revenue.sum()
    best = found.sort_values(ascending=False).head(10)
    rows = [line.split() for line in out.splitlines() if re.match(r"\s+\d+ ", line)]
    assert [(int(row[0]), row[1]) for row in rows] == [(key, f"{value:,.2f}") for key, value in best.items()]


def test_training_from_tar_shards_goes_on_in_the_middle_of_an_epoch_with_other_ranks(tmp_path):
    pytest.importorskip("torch")
    sizes = ("--folder", tmp_path / "shards", "--shards", 3, "--samples", 64, "--batch", 16, "--every", 5)
    whole = run("data_tar.py", "--storage", tmp_path / "a", "--ranks", 1, "--epochs", 1, *sizes)
    run("data_tar.py", "--storage", tmp_path / "b", "--ranks", 2, "--epochs", 1, "--stop", 7, *sizes)
    rest = run("data_tar.py", "--storage", tmp_path / "b", "--ranks", 1, "--epochs", 1, *sizes)
    assert "goes on with 1 ranks at step 7: {" in rest, rest
    assert rest.splitlines()[-1].split(" order ")[1] == whole.splitlines()[-1].split(" order ")[1]
