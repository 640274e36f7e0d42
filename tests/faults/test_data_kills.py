"""Workers are killed while a dataset runs: each row comes once, in order."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import time
from collections.abc import Iterator
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import hpc
from hpc.core.process.current import need_client
from hpc.data.context import DataContext
from hpc.data.exec.execution import execute
from hpc.data.io.source import Source, SourceTask
from hpc.data.plan.nodes import Apply, Pool, Read
from hpc.exceptions import ActorDiedError
from runtime.running import children, one_node, pid_of

PARTS, ROWS, KILLS = 60, 1000, 6


class NumbersTask(SourceTask):
    def __init__(self, part: int) -> None:
        self.part = part

    def read(self, task):
        for half in range(2):
            first = self.part * ROWS + half * ROWS // 2
            yield pa.table({"id": np.arange(first, first + ROWS // 2)})


class Numbers(Source):
    name = "Numbers"

    def tasks(self, parallelism: int) -> Iterator[SourceTask]:
        for part in range(PARTS):
            yield NumbersTask(part)


class Same:
    name, keeps_rows = "same", True

    def __call__(self, tables, task):
        for table in tables:
            time.sleep(0.005)  # the consumer is quicker: what it counts has just been made
            yield table


class Poison:
    def __call__(self, batch: dict[str, Any]) -> dict[str, Any]:
        if 130 in batch["id"]:
            os.kill(os.getpid(), signal.SIGKILL)
        return batch


def test_input_that_ends_its_worker_each_time_counts_as_one_error_which_names_it(tmp_path):
    for part in range(4):
        pq.write_table(pa.table({"id": np.arange(part * 100, part * 100 + 100)}), tmp_path / f"{part}.parquet")
    with one_node():
        context = DataContext.get_current().copy()
        context.target_max_block_size = 400  # half a file: one block of it is good

        def rows(most_errors: int) -> list[int]:
            context.max_errored_blocks = most_errors
            with DataContext.current(context):
                data = hpc.data.read_parquet(str(tmp_path), override_num_blocks=4)
                return [row["id"] for row in data.map_batches(Poison, batch_size=None, concurrency=1).take_all()]

        with pytest.raises(ActorDiedError, match=r"MapBatches\(Poison\), part 2 \(.*1.parquet, 50 rows\): its pro"):
            rows(0)
        assert rows(1) == [*range(100), *range(150, 400)]


def test_killed_workers_lose_no_row_and_give_none_twice():
    """Tasks and actors alike: one process of the node is killed after every tenth block."""
    draw, killed, rows = random.Random(3), 0, []
    with one_node():
        zygote = pid_of(need_client().node_dir, "zygote")
        plan = Apply(Apply(Read(Numbers()), Same()), Same(), pool=Pool(1, 2))
        context = DataContext.get_current().copy()
        context.target_max_block_size = ROWS * 4  # two blocks of each part
        context.actor_init_max_retries = KILLS  # each may hit an actor that begins
        for count, block in enumerate(execute(plan, context)):
            rows += hpc.get(block.ref)["id"].to_pylist()
            if count % 10 == 5 and killed < KILLS and (workers := sorted(children(zygote))):
                with contextlib.suppress(ProcessLookupError):  # it has ended by itself
                    os.kill(draw.choice(workers), signal.SIGKILL)
                    killed += 1
    assert rows == list(range(PARTS * ROWS))
    assert killed == KILLS
