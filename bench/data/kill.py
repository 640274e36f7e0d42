"""What a dataset promises when something dies: ``python -m bench.data.kill --what worker|node|driver|cuts``.

worker: a worker gets SIGKILL every half second in read -> map -> map of actors -> write, and each row is there once.
node: a node dies in a sort, in a join, and where actors of a pool have made blocks that lie there alone, for further
work or for the consumer; the rows are those of the quiet run. driver: a write is killed at its half and started again
with ``resume``: rows are exact, nothing unfinished is left, and no more is read again than what running tasks had read.
cuts: a function that cuts otherwise when it runs again is an error that names it. One that is declared so
(``repeatable=False``) gives each row once, and one that may not run again (``max_retries=0``) says that it was ended.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

import hpc
from bench.chaos import named
from hpc import spi
from hpc.core.process.current import need_client
from hpc.launchers.local.group import LocalGroup
from hpc.launchers.session import Session

#: Between two kills of a worker.
KILL_S = 0.5
#: No run stands longer than this after a death.
HANG_S = 60.0
#: The node that dies, and how many blocks lie there alone then, at least.
DYING, LEAST_LOST = "2", 3
NODE_WORKS, POOLS = ("sort", "join", "pool", "consumed"), ("pool", "consumed")
DRIVER = """
import sys
import hpc
from bench.data.kill import written
hpc.init(num_cpus=2, object_store_memory=256 << 20)
written(*sys.argv[1:3], float(sys.argv[3]))
"""


@contextmanager
def nodes(count: int, cpus: int = 1) -> Iterator[Session]:
    """A session of local nodes. This process is the driver, on the first of them."""
    overrides = {"num_cpus": cpus, "object_store_bytes": 256 << 20}
    session = Session(LocalGroup(count), overrides=overrides, config={"loopback": True})
    session.start()
    try:
        session.wait_ready(30.0)
        hpc.init(address=session.local_dir())
        yield session
    finally:
        hpc.shutdown()
        session.stop(2.0)


def end_node(number: int) -> None:
    """SIGKILL to a node's raylet, which ends the node."""
    row = next(one for one in hpc.nodes() if one["NodeID"] == str(number))
    above = json.loads(Path(row["RayletSocketName"]).with_name("session.json").read_text())["pid"]
    (raylet,) = named(int(above), "hpc-raylet")
    os.kill(raylet, signal.SIGKILL)


class Exact:
    """Which of the rows 0, 1, ... are there, and how often."""

    def __init__(self, ids: Any, rows: int) -> None:
        counts = np.bincount(np.asarray(ids, dtype=np.int64), minlength=rows)
        self.rows, self.there, self.twice = rows, int((counts[:rows] > 0).sum()), int((counts > 1).sum())
        self.is_exact = self.there == rows and not self.twice and len(counts) == rows

    def __str__(self) -> str:
        return f"{self.there:,} of {self.rows:,} rows, twice {self.twice}"


# ---------------------------------------------------------------- workers


class Slow:
    """A function in actors that takes its time."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds

    def __call__(self, batch: dict[str, Any]) -> dict[str, Any]:
        time.sleep(self.seconds)
        return batch


def worker(rows: int = 1_000_000, least: int = 20, seconds: float = 0.08) -> tuple[bool, str]:
    """See the top of this file. ``seconds``: for each of 200 blocks, in tasks and again in actors."""
    killed, over = 0, threading.Event()
    hpc.init(num_cpus=2, object_store_memory=256 << 20)
    root = int(json.loads(Path(need_client().node_dir, "session.json").read_text())["pid"])

    def kill() -> None:
        nonlocal killed
        draw = random.Random(3)
        while not over.wait(KILL_S):
            pids = named(root, "hpc::")
            if pids:
                with suppress(ProcessLookupError):
                    os.kill(draw.choice(sorted(pids)), signal.SIGKILL)
                    killed += 1

    try:
        with tempfile.TemporaryDirectory() as folder:
            context = hpc.data.DataContext.get_current().copy()
            context.actor_init_max_retries = 1000  # each kill may hit an actor that begins
            with hpc.data.DataContext.current(context):
                data = hpc.data.range(rows, override_num_blocks=200)
                data = data.map_batches(Slow(seconds), batch_size=None, max_retries=1000)
                pool = {"concurrency": (1, 2), "max_task_retries": 1000}
                data = data.map_batches(Slow, fn_constructor_args=(seconds,), batch_size=None, **pool)
                threading.Thread(target=kill, daemon=True).start()
                data.write_parquet(folder)
            over.set()
            found = Exact(pq.read_table(folder)["id"], rows)
    finally:
        over.set()
        hpc.shutdown()
    return found.is_exact and killed >= least, f"{found}, kills {killed}"


# ---------------------------------------------------------------- nodes


def numbers(rows: int, blocks: int) -> Any:
    """Numbers in no order, and a value of each."""

    def mixed(batch: dict[str, Any]) -> dict[str, Any]:
        ids = (batch["id"] * 7919) % rows
        return {"id": ids, "x": ids * 3, "pad": np.zeros((len(ids), 8))}

    return hpc.data.range(rows, override_num_blocks=blocks).map_batches(mixed, batch_size=None)


class Same:
    """What the actors of a pool do. It takes so long that no actor does it alone, however slowly its input comes."""

    def __call__(self, batch: dict[str, Any]) -> dict[str, Any]:
        time.sleep(0.1)
        return batch


def waiting_for(gate: Path) -> Callable[[Any], Any]:
    """A function that waits until a file is there."""

    def waits(batch: Any) -> Any:
        until = time.monotonic() + HANG_S
        while not gate.exists() and time.monotonic() < until:
            time.sleep(0.01)
        return batch

    return waits


def works(rows: int, blocks: int, gate: Path) -> dict[str, Callable[[], Any]]:
    """What a node dies in. The pool's blocks are not used before the gate is open."""
    spread = {"batch_size": None, "concurrency": 3, "num_cpus": 0, "scheduling_strategy": "SPREAD"}
    return {
        "sort": lambda: numbers(rows, blocks).sort("id"),
        "join": lambda: numbers(rows, blocks).join(
            hpc.data.range(rows, override_num_blocks=blocks), "inner", 8, on=("id",)
        ),
        "consumed": lambda: numbers(rows, blocks).map_batches(Same, **spread),
        "pool": lambda: (
            numbers(rows, blocks)
            .map_batches(Same, **spread)
            .map_batches(waiting_for(gate), batch_size=None, concurrency=1, num_cpus=0)
        ),
    }


def made(machine: Any) -> int:
    """How many blocks the operator before the last has made."""
    return int(machine.ops[-2].ups[0].tally.blocks)


def lies_alone(machine: Any) -> int:
    """How many blocks of the pool wait on the node that is to die, and nowhere else."""
    waiting = [block.ref for part in tuple(machine.ops[-2].parts) for block in part.blocks]
    waiting += [block.ref for block in tuple(machine.output.queued) if machine.ops[-2].pool is not None]
    return sum([node.hex() for node in place.nodes] == [DYING] for place in spi.places(waiting))


def digest(tables: Any) -> str:
    """Of the rows of all tables, sorted."""
    table = pa.concat_tables(tables).select(["id", "x"]).sort_by("id").combine_chunks()
    return hashlib.sha256(b"".join(np.ascontiguousarray(table[name]).tobytes() for name in ("id", "x"))).hexdigest()


def taken(dataset: Any, gate: Path, is_time: Callable[[Any], bool], then: Callable[[], None]) -> str:
    """The digest of a dataset. ``then`` is called once, when the machine of the run is so far. The consumer waits for
    the gate."""
    run = dataset.begin()
    over = threading.Event()

    def watch() -> None:
        while not over.wait(0.02):
            with suppress(RuntimeError):  # what it looks at has changed meanwhile
                if is_time(run._machine):
                    then()
                    return

    threading.Thread(target=watch, daemon=True).start()
    try:
        wait = waiting_for(gate)
        return digest([wait(table) for table in run.tables()])
    finally:
        over.set()
        run.close()


def node(rows: int = 400_000, blocks: int = 40, names: Sequence[str] = NODE_WORKS) -> tuple[bool, str]:
    """See the top of this file. Each work runs once in peace, and once while a node dies."""
    told, is_kept = [], True
    for name in names:
        with nodes(3) as session, tempfile.TemporaryDirectory() as place:
            gate = Path(place, "open")
            make = works(rows, blocks, gate)[name]
            gate.touch()
            began = time.monotonic()
            quiet = taken(make(), gate, lambda machine: False, lambda: None)
            quiet_s = time.monotonic() - began
            if name in POOLS:
                gate.unlink()
            died: list[float] = []
            lost = 0

            def is_time(machine: Any, name: str = name) -> bool:
                nonlocal lost
                if name not in POOLS:
                    return made(machine) >= blocks // 2
                lost = lies_alone(machine)
                return lost >= LEAST_LOST

            def kill(session: Session = session, died: list[float] = died, gate: Path = gate) -> None:
                end_node(int(DYING))
                died.append(time.monotonic())
                while int(DYING) not in need_client().machine.state.gone_nodes:
                    session.pump(0.02)  # the launcher tells the session
                gate.touch()

            found = taken(make(), gate, is_time, kill)
            after = time.monotonic() - died[0] if died else float("inf")
        is_same = found == quiet
        is_kept = is_kept and is_same and after < HANG_S + quiet_s
        what = f", {lost} blocks lost" if name in POOLS else ""
        told.append(f"{name}: {'same sha256' if is_same else 'OTHER ROWS'}{what}, {after:.1f} s after the death")
    return is_kept, "; ".join(told)


# ---------------------------------------------------------------- the driver


def written(source: str, folder: str, seconds: float) -> None:
    """The write that is killed: each task takes a while, and says which file it reads."""

    def slowly(batch: dict[str, Any]) -> dict[str, Any]:
        with open(f"{folder}.read", "a") as file:
            file.write(f"{int(batch['id'][0])}\n")
        time.sleep(seconds)
        return batch

    data = hpc.data.read_parquet(source, override_num_blocks=10_000).map_batches(slowly, batch_size=None)
    data.write_parquet(folder, resume=True)


def driver(rows: int = 1_000_000, files: int = 100, seconds: float = 0.1) -> tuple[bool, str]:
    """See the top of this file. Each file of the source is a task."""
    with tempfile.TemporaryDirectory() as place:
        source, folder = Path(place, "in"), Path(place, "out")
        source.mkdir()
        each = rows // files
        for number in range(files):
            ids = np.arange(number * each, (number + 1) * each)
            pq.write_table(pa.table({"id": ids}), source / f"{number:04d}.parquet")
        command = [sys.executable, "-c", DRIVER, str(source), str(folder), str(seconds)]
        first = subprocess.Popen(command)
        until = time.monotonic() + HANG_S
        while len([*folder.glob("_ledger/*.json")]) <= files // 2 and time.monotonic() < until:
            time.sleep(0.005)
        first.kill()
        first.wait()
        time.sleep(1.0)  # its workers end by themselves
        before = len([*folder.glob("_ledger/*.json")]) - 1
        subprocess.run(command, check=True, timeout=HANG_S)
        found = Exact(pq.read_table([str(one) for one in folder.glob("*.parquet")])["id"], rows)
        unfinished = [str(one) for one in folder.rglob(".part-*")]
        reads = Path(f"{folder}.read").read_text().split()
        twice = len(reads) - len({*reads})
    is_kept = found.is_exact and not unfinished and twice <= 4 and before >= files // 2
    told = f"{found}; killed with {before} of {files} files written, {twice} read again, {len(unfinished)} unfinished"
    return is_kept, told


# ---------------------------------------------------------------- cuts


def cuts(rows: int = 10_000) -> tuple[bool, str]:
    """See the top of this file."""
    from hpc.data.exec.errors import CutsChangedError
    from hpc.exceptions import GeneratorChangedError, WorkerCrashedError

    with tempfile.TemporaryDirectory() as place:

        def otherwise(batch: dict[str, Any]) -> Iterator[dict[str, Any]]:
            mark = Path(place, str(batch["id"][0]))
            again = mark.exists()
            mark.touch()
            for first in range(0, len(batch["id"]), 100):
                ids = batch["id"][first : first + 100]
                yield {"id": ids, "pad": np.zeros((len(ids), 3))} if again else {"id": ids}
                if not again and first == 500 and not batch["id"][0]:
                    time.sleep(0.5)  # what was made so far has been taken
                    os.kill(os.getpid(), signal.SIGKILL)

        hpc.init(num_cpus=2, object_store_memory=128 << 20)
        try:
            context = hpc.data.DataContext.get_current().copy()
            context.target_max_block_size = 800
            with hpc.data.DataContext.current(context):
                data = hpc.data.range(rows, override_num_blocks=4)
                try:
                    data.map_batches(otherwise, batch_size=rows // 4).take_all()
                    named_it = "no error"
                except (CutsChangedError, GeneratorChangedError) as error:
                    named_it = "ok" if "otherwise" in str(error) else f"an error without a name: {error}"
                for one in Path(place).iterdir():
                    one.unlink()
                rows_of = data.map_batches(otherwise, batch_size=rows // 4, repeatable=False).take_all()
                found = Exact([row["id"] for row in rows_of], rows)
                again = sum("pad" in row for row in rows_of)
                for one in Path(place).iterdir():
                    one.unlink()
                try:
                    data.map_batches(otherwise, batch_size=rows // 4, max_retries=0).take_all()
                    once = "no error"
                except WorkerCrashedError:
                    once = "ok"
        finally:
            hpc.shutdown()
    is_kept = named_it == once == "ok" and found.is_exact and again == rows // 4
    told = f"cut otherwise: {named_it}; declared so: {found}, {again:,} of a second attempt"
    return is_kept, f"{told}; ended where it may not run again: {once}"


CHECKS: dict[str, Callable[[], tuple[bool, str]]] = {"worker": worker, "node": node, "driver": driver, "cuts": cuts}


def main(words: list[str] | None = None) -> int:
    """Make a check. Returns 1 if the promise was not kept."""
    parser = argparse.ArgumentParser(prog="python -m bench.data.kill", description=__doc__)
    parser.add_argument("--what", choices=CHECKS, required=True)
    args = parser.parse_args(words)
    began = time.monotonic()
    is_kept, told = CHECKS[args.what]()
    print(f"{told} ({time.monotonic() - began:.0f} s)")
    print("ok" if is_kept else "NO: the promise was not kept")
    return 0 if is_kept else 1


if __name__ == "__main__":
    sys.exit(main())
