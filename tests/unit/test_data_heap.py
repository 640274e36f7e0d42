"""Memory of tasks: what a node has left for them, what one took at its peak, and how many begin because of that."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest

from hpc import spi
from hpc.data.block.meta import BlockMeta
from hpc.data.context import DataContext
from hpc.data.exec import heap as heap_module
from hpc.data.exec.actions import Submit
from hpc.data.exec.budget import NodeRoom
from hpc.data.exec.heap import Heap
from hpc.data.exec.machine import Machine
from hpc.data.exec.operators.maps import BlocksOperator, MapOperator, OutputOperator
from hpc.data.exec.rooms import ANSWERS, HEAP_SHARE, Memory
from hpc.data.exec.settings import RunSettings, settings_of
from hpc.data.exec.work import Block
from hpc.data.options import ExecutionResources

MIB = 1 << 20


def use(left: int, node: int = 1, nodes: int = 1) -> spi.MemoryUse:
    """A node of 1000 MiB of which so many are left, beside a store of 100 that is full."""
    return spi.MemoryUse(node, (1000 - left) * MIB, 1000 * MIB, 100 * MIB, 100 * MIB, nodes)


def test_what_a_store_may_take_is_not_left_and_nodes_of_a_machine_share_it():
    assert spi.MemoryUse(1, 400, 1000, 50, 200).left_bytes == 450
    assert spi.MemoryUse(1, 400, 1000, 50, 200, nodes=2).left_bytes == 125
    assert spi.MemoryUse(1, 990, 1000, 50, 200).left_bytes < 0


def test_the_least_of_the_last_answers_counts_and_what_own_tasks_have_is_theirs():
    memory, kept = Memory(), int((1 - HEAP_SHARE) / 2 * 1000 * MIB)
    assert memory.heap("1", 5) == 5
    memory.note([use(500)], {})
    assert memory.heap("1", 5) == pytest.approx(500 * MIB - kept, abs=1)
    memory.note([use(300)], {"1": 100 * MIB})
    assert memory.heap("1", 5) == pytest.approx(400 * MIB - kept, abs=1)
    memory.note([use(10)], {})
    assert memory.heap("1", 5) == 0
    for _ in range(ANSWERS):
        memory.note([use(500), use(700, node=2)], {})
    assert memory.heap("1", 5) == pytest.approx(500 * MIB - kept, abs=1) and memory.heap("2", 5) == pytest.approx(
        700 * MIB - kept, abs=1
    )


def test_the_peak_of_a_task_is_its_own_memory():
    heap = Heap()
    kept = np.ones(64 * MIB, np.uint8)
    del kept
    assert 60 * MIB < heap.peak() < 90 * MIB
    assert Heap().peak() < 20 * MIB


def test_what_arrow_keeps_of_the_tasks_before_counts_for_the_next(monkeypatch):
    monkeypatch.setattr(heap_module, "_KEPT", heap_module._Kept())
    heap_module._KEPT.own = Heap()._own
    kept = np.ones(64 * MIB, np.uint8)
    heap = Heap()
    assert heap.peak() > 60 * MIB
    heap.give_back(64 * MIB)
    assert Heap().peak() < 20 * MIB and kept.any(), "what is not given back is something else"


def test_memory_is_given_back_once_in_a_second(monkeypatch):
    given, now = [], [100.0]

    class Pool:
        backend_name = "jemalloc"

        def release_unused(self):
            given.append(now[0])

    monkeypatch.setattr(heap_module, "_KEPT", heap_module._Kept())
    monkeypatch.setattr(heap_module.pa, "default_memory_pool", Pool)
    monkeypatch.setattr(heap_module.time, "monotonic", lambda: now[0])
    for now[0], peak in ((100.0, 64), (100.5, 64), (101.0, 1), (101.5, 64)):
        Heap().give_back(peak * MIB)
    assert given == [100.0, 101.5]
    Pool.backend_name = "mimalloc"
    for now[0] in (101.6, 101.7):
        Heap().give_back(64 * MIB)
    assert given == [100.0, 101.5, 101.6, 101.7], "which keeps what it has"


def test_where_nothing_can_be_read_nothing_was_taken(tmp_path):
    assert Heap(str(tmp_path)).peak() == 0


def begun(heap: int, sizes: list[int], **fields: float) -> int:
    """How many tasks over blocks of so many MiB begin at once on 8 CPUs, with such a heap."""
    blocks = [Block(None, BlockMeta(1, size * MIB), "1") for size in sizes]
    ops = [BlocksOperator("Blocks", blocks), MapOperator("Map", None), OutputOperator()]
    for up, down in pairwise(ops):
        up.down = down
        down.ups.append(up)
    machine = Machine(ops, RunSettings(**fields))
    for op in ops:
        op.tally.works = 1
    machine.start({"1": NodeRoom(8, 0, 1 << 40, heap * MIB)}, 0.0)
    return sum(isinstance(action, Submit) for action in machine.decide(0.0))


@pytest.mark.parametrize(("heap", "tasks"), [(0, 1), (199, 1), (400, 4), (10_000, 8)])
def test_tasks_begin_as_far_as_their_inputs_fit_the_memory(heap, tasks):
    assert begun(heap, [100] * 16) == tasks


def test_the_first_task_of_an_operator_runs_alone_where_memory_is_scarce_and_tells_what_the_next_take():
    blocks = [Block(None, BlockMeta(1, 2 * MIB), "1") for _ in range(16)]
    ops = [BlocksOperator("Blocks", blocks), MapOperator("Map", None), OutputOperator()]
    for up, down in pairwise(ops):
        up.down = down
        down.ups.append(up)
    machine = Machine(ops, RunSettings(target_bytes=MIB))
    machine.start({"1": NodeRoom(8, 0, 1 << 40, 200 * MIB)}, 0.0)
    (first,) = [action.work for action in machine.decide(0.0) if isinstance(action, Submit)]
    machine.begun(first, "1")
    machine.part_over(first)
    machine.over(first, 0.1, 40 * MIB, {})  # twenty times its input
    assert sum(isinstance(action, Submit) for action in machine.decide(1.0)) == 5


def test_limits_of_memory_are_kept_and_others_memory_is_left_to_them():
    context = DataContext()
    context.execution_options.resource_limits = ExecutionResources(memory=300 * MIB)
    assert settings_of(context).heap_limit == 300 * MIB
    assert begun(10_000, [100] * 16, heap_limit=300 * MIB) == 3
    context = DataContext()
    context.execution_options.exclude_resources = ExecutionResources(memory=100 * MIB, object_store_memory=7)
    settings = settings_of(context)
    assert (settings.exclude_heap, settings.exclude_store, settings.heap_limit) == (100 * MIB, 7, float("inf"))
    assert begun(400, [100] * 16, exclude_heap=100 * MIB) == 3
