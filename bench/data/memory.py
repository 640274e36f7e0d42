"""Data larger than the memory: ``python -m bench.data.memory``.

A session in a memory cgroup of 1 GB with an object store of 256 MB goes through 4 GB: JSONL, and parquet files with one
row group of 2 GB each, read, mapped and iterated; the JSONL written as parquet; and a sort. The first three end without
a spilled object; the sort ends, and spills. No process is ended for want of memory, by the kernel or by the session.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

import hpc
from bench.cgroup import Watch, memory_cgroup, run_inside
from hpc.core.ids import raylet_of
from hpc.state.gather import ask

MIB = 1 << 20
#: Bytes of a row of the parquet files: two numbers, and text.
TEXT = 48
ROW = 16 + TEXT


@dataclass(frozen=True)
class Size:
    """data_bytes: of each work. files: of the parquet; each has one row group. Limits of the cgroup and the store."""

    data_bytes: int
    files: int
    cgroup_bytes: int
    store_bytes: int


FULL = Size(4 << 30, 2, 1 << 30, 256 * MIB)
SHORT = Size(512 * MIB, 1, 768 * MIB, 96 * MIB)


@dataclass
class Result:
    """What a work has given, and what it has used."""

    work: str
    rows: int = 0
    seconds: float = 0.0
    spilled: int = 0
    retries: int = 0
    error: str = ""


# ---------------------------------------------------------------- the data


def make_jsonl(folder: Path, size: Size) -> int:
    """Lines of about 64 bytes, in 8 files. Returns the rows."""
    rng = np.random.default_rng(5)
    lines = [
        f'{{"id": {number}, "value": {value:.9f}, "text": "{number:032x}"}}\n'
        for number, value in enumerate(rng.random(250_000))
    ]
    block = "".join(lines).encode()
    each = max(1, size.data_bytes // 8 // len(block))
    for index in range(8):
        with open(folder / f"{index}.jsonl", "wb") as file:
            for _ in range(each):
                file.write(block)
    return 8 * each * len(lines)


def make_parquet(folder: Path, size: Size) -> int:
    """Files of one row group each, of numbers in random order and text. Returns the rows."""
    rows = size.data_bytes // size.files // ROW
    step = 1 << 20
    for index in range(size.files):
        rng = np.random.default_rng(index)
        schema = pa.schema([("key", pa.int64()), ("value", pa.float64()), ("text", pa.string())])
        with pq.ParquetWriter(folder / f"{index}.parquet", schema, compression="none", use_dictionary=False) as file:
            for first in range(0, rows, step):
                count = min(step, rows - first)
                text = np.frombuffer(rng.bytes(count * TEXT), np.uint8) % 26 + 97
                ends = pa.py_buffer(np.arange(count + 1, dtype=np.int32) * TEXT)
                columns = [
                    pa.array(rng.integers(0, 1 << 62, count)),
                    pa.array(rng.random(count)),
                    pa.StringArray.from_buffers(count, ends, pa.py_buffer(text.tobytes())),
                ]
                file.write_batch(pa.record_batch(columns, schema=schema), row_group_size=rows)
    return rows * size.files


# ---------------------------------------------------------------- the works


def doubled(batch: dict[str, Any]) -> dict[str, Any]:
    """A function of a user's."""
    return {**batch, "value": batch["value"] * 2}


def iterated(dataset: Any) -> int:
    return sum(len(batch["value"]) for batch in dataset.iter_batches(batch_size=4096))


def jsonl(folder: Path, out: Path) -> tuple[int, Any]:
    dataset = hpc.data.read_json(str(folder), lines=True).map_batches(doubled)
    return iterated(dataset), dataset


def parquet(folder: Path, out: Path) -> tuple[int, Any]:
    dataset = hpc.data.read_parquet(str(folder)).map_batches(doubled)
    return iterated(dataset), dataset


def write(folder: Path, out: Path) -> tuple[int, Any]:
    dataset = hpc.data.read_json(str(folder), lines=True).map_batches(doubled)
    dataset.write_parquet(str(out))
    return sum(pq.read_metadata(path).num_rows for path in out.glob("*.parquet")), dataset


def sort(folder: Path, out: Path) -> tuple[int, Any]:
    """Rows that are not in order count as none."""
    dataset = hpc.data.read_parquet(str(folder)).sort("key")
    rows, last = 0, -1
    for batch in dataset.iter_batches(batch_size=65536):
        keys = batch["key"]
        if keys[0] < last or (np.diff(keys) < 0).any():
            return -1, dataset
        rows, last = rows + len(keys), int(keys[-1])
    return rows, dataset


WORKS: dict[str, Callable[[Path, Path], tuple[int, Any]]] = {
    "jsonl": jsonl,
    "write": write,
    "parquet": parquet,
    "sort": sort,
}
MAKERS = {"jsonl": make_jsonl, "write": make_jsonl, "parquet": make_parquet, "sort": make_parquet}


def inside(work: str, folder: Path, out: Path, store_bytes: int) -> Result:
    """A session and a work, in whatever cgroup this process is."""
    result = Result(work)
    hpc.init(address="local", num_cpus=2, object_store_memory=store_bytes)
    began = time.monotonic()
    try:
        result.rows, dataset = WORKS[work](folder, out)
        result.seconds = time.monotonic() - began
        summary = dataset.get_stats_summary()
        result.retries = sum(one.retries for one in summary.operators) if summary else 0
        hpc.api.connection.ensure_client().flush()
        (store,) = ask([raylet_of(1)], "store_totals", timeout_s=30.0).rows
        result.spilled = store["spilled_objects"]
    except Exception as error:
        result.error = f"{type(error).__name__}: {error}"[:500]
    finally:
        hpc.shutdown()
    return result


# ---------------------------------------------------------------- the check


def check(work: str, folder: Path, rows: int, size: Size) -> tuple[list[str], str]:
    """What is wrong, and a line for people."""
    with (
        tempfile.TemporaryDirectory(prefix="hpc-memory-out-", dir=folder.parent) as out,
        memory_cgroup(size.cgroup_bytes) as (version, cgroup, why),
    ):
        command = [sys.executable, "-m", "bench.data.memory", "--inside", work]
        command += ["--folder", str(folder), "--out", out, "--store", str(size.store_bytes)]
        began = time.monotonic()
        with Watch(version, cgroup) as seen:
            ended = run_inside(cgroup, command, timeout_s=600.0)
        seconds = time.monotonic() - began
    lines = ended.stdout.splitlines()
    if ended.returncode or not lines:
        return [f"{work}: the driver ended with {ended.returncode}: {lines[-3:]}"], f"{work}: failed"
    result = Result(**json.loads(lines[-1]))
    wrong = [result.error] if result.error else []
    if result.rows != rows:
        wrong.append(f"{result.rows:,} rows in their order, and not {rows:,}")
    if seen.kills:
        wrong.append(f"the kernel ended {seen.kills} processes for want of memory")
    if result.retries:
        wrong.append(f"{result.retries} tasks began again")
    if seen.used_bytes > size.cgroup_bytes:
        wrong.append(f"{seen.used_bytes // MIB} MiB were in use")
    if (work == "sort") != (result.spilled > 0):
        wrong.append(f"{result.spilled} objects were spilled")
    limit = why or f"at most {seen.used_bytes // MIB} of {size.cgroup_bytes // MIB} MiB in use"
    line = (
        f"{work}: {result.rows:,} of {rows:,} rows in {result.seconds:.1f} s ({seconds:.1f} with the session), "
        f"{limit}, {result.spilled} objects spilled, kernel kills {seen.kills}, tasks again {result.retries}"
    )
    return [f"{work}: {one}" for one in wrong], line


def memory(size: Size, works: list[str], say: Callable[[str], None] = print) -> list[str]:
    """All checks; what is wrong. The data is made once for works that read the same."""
    wrong: list[str] = []
    with tempfile.TemporaryDirectory(prefix="hpc-memory-") as base:
        for maker in dict.fromkeys(MAKERS[work] for work in works):
            folder = Path(base, maker.__name__)
            folder.mkdir()
            rows = maker(folder, size)
            for work in works:
                if MAKERS[work] is maker:
                    found, line = check(work, folder, rows, size)
                    say(line)
                    wrong += found
            shutil.rmtree(folder)
    return wrong


def main(argv: list[str] | None = None) -> int:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m bench.data.memory", description="Data larger than the memory.")
    parser.add_argument("works", nargs="*", default=list(WORKS), help=f"of {', '.join(WORKS)}")
    parser.add_argument("--short", action="store_true", help="less data in less memory")
    parser.add_argument("--limit", type=int, metavar="MIB", help="of the cgroup, in MiB")
    parser.add_argument("--inside", choices=list(WORKS), help="one work in the cgroup of this process; prints JSON")
    parser.add_argument("--folder", type=Path, default=Path())
    parser.add_argument("--out", type=Path, default=Path())
    parser.add_argument("--store", type=int, default=FULL.store_bytes)
    given = parser.parse_args(argv)
    if given.inside:
        print(json.dumps(asdict(inside(given.inside, given.folder, given.out, given.store))), flush=True)
        return 0
    size = SHORT if given.short else FULL
    size = replace(size, cgroup_bytes=given.limit * MIB) if given.limit else size
    wrong = memory(size, given.works)
    print(*(wrong or ["ok"]), sep="\n")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
