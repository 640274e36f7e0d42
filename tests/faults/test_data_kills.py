"""Workers are killed while a dataset runs: each row comes once, in order."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import time
from collections.abc import Iterator

import numpy as np
import pyarrow as pa

import hpc
from hpc.core.process.current import need_client
from hpc.data.context import DataContext
from hpc.data.exec.execution import execute
from hpc.data.io.source import Source, SourceTask
from hpc.data.plan.nodes import Apply, Pool, Read
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
