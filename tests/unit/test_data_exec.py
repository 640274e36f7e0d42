"""Parts of the executor of hpc.data: what is told of blocks, cuts of another attempt, why a run stands still."""

from __future__ import annotations

import pickle
from itertools import pairwise

import pyarrow as pa
import pytest

from hpc.core import serialization
from hpc.data.block.meta import BlockMeta
from hpc.data.exec.actions import Emit, Finish, Pull, Report, StartActor, Submit, Take
from hpc.data.exec.bodies import TOLD_BLOCKS, TOLD_BYTES, ChainBody, decode_told, run_parts
from hpc.data.exec.budget import NodeRoom
from hpc.data.exec.errors import CutsChangedError, StalledError
from hpc.data.exec.machine import Machine
from hpc.data.exec.operators.combine import MixOperator, RandomizeOperator, UnionOperator
from hpc.data.exec.operators.maps import BlocksOperator, LimitOperator, MapOperator, OutputOperator, ReadOperator
from hpc.data.exec.order import Order
from hpc.data.exec.settings import RunSettings, block_target
from hpc.data.exec.small import sent
from hpc.data.exec.work import BLOCK_OVERHEAD, Block, Cause
from hpc.data.io.memory import RangeTask
from hpc.data.io.narrow import Narrow
from hpc.data.plan.nodes import Options, Pool
from hpc.exceptions import WorkerCrashedError

MIB = 1 << 20


def machine(*ops, cpus=2.0, store=64 * MIB, **fields) -> Machine:
    chain = [*ops, OutputOperator()]
    for up, down in pairwise(chain):
        up.down = down
        down.ups.append(up)
    made = Machine(chain, RunSettings(**fields))
    made.start({"1": NodeRoom(cpus, 0, store, 1 << 40)}, 0.0)
    return made


def read(options=None) -> ReadOperator:
    return ReadOperator("Read", None, None, -1, options)


def begin(made: Machine, op: ReadOperator, parts: int) -> list[Submit]:
    (pull,) = made.decide(0.0)
    assert isinstance(pull, Pull)
    made.units(op, list(range(parts)), True)
    return [action for action in made.decide(0.0) if isinstance(action, Submit)]


def meta(rows: int, first: int = 0, digest: int = 0, nbytes: int = 8) -> BlockMeta:
    return BlockMeta(rows, nbytes, b"", (), first, digest)


def test_blocks_pass_in_the_order_of_their_parts():
    given: list[str] = []
    order = Order(given.append)
    order.add(1, "b1")
    order.add(0, "a1")
    order.end(1)
    order.add(0, "a2")
    order.add(2, "c1")
    assert given == ["a1", "a2"]
    order.end(0)
    assert given == ["a1", "a2", "b1", "c1"] and order.is_empty


def test_a_retry_that_has_other_rows_before_a_block_is_an_error_that_names_the_task():
    op = read()
    made = machine(op)
    work = begin(made, op, 1)[0].work
    made.begun(work, "1")
    made.block(work, "first", meta(5))
    made.block(work, "second", meta(5, first=4))
    (end,) = [action for action in made.decide(1.0) if isinstance(action, Finish)]
    assert isinstance(end.error, CutsChangedError)
    assert "Read, part 0" in str(end.error) and "4 rows" in str(end.error)


def test_what_crashed_is_done_again_and_its_first_blocks_are_not_given_twice():
    op = read()
    made = machine(op, attempts=1)
    work = begin(made, op, 1)[0].work
    made.begun(work, "1")
    made.block(work, "first", meta(5, digest=1))
    made.failed(work, RuntimeError("killed"), Cause.CRASH)
    (again,) = [action.work for action in made.decide(1.0) if isinstance(action, Submit)]
    made.begun(again, "1")
    made.block(again, "first again", meta(5, digest=1))
    made.block(again, "second", meta(2, first=5, digest=2))
    made.part_over(again)
    made.over(again, 0.1, 0, {})
    made.decide(2.0)
    assert made.output.tally.rows == 7 and made.finished


def test_a_part_that_always_crashes_is_left_out_where_that_is_allowed():
    op = read()
    made = machine(op, attempts=1, max_errored=1)
    work = begin(made, op, 1)[0].work
    for _ in range(2):
        made.begun(work, "1")
        made.failed(work, RuntimeError("killed"), Cause.CRASH)
        works = [action.work for action in made.decide(1.0) if isinstance(action, Submit)]
        work = works[0] if works else work
    assert made.finished and made.errored == 1


def test_a_part_that_always_ends_its_process_is_named_with_its_operator_and_its_rows():
    op = read()
    op.name = "Read->MapBatches(poison)"
    made = machine(op, attempts=0)
    work = begin(made, op, 1)[0].work
    work.part.unit = RangeTask(20, 30, None, Narrow())
    made.begun(work, "1")
    made.failed(work, WorkerCrashedError("killed by SIGKILL"), Cause.CRASH)
    (end,) = [action for action in made.decide(1.0) if isinstance(action, Finish)]
    assert isinstance(end.error, WorkerCrashedError) and str(end.error) == (
        "Read->MapBatches(poison), part 0 (range rows 20 to 30): its process ended each time it was tried: "
        "killed by SIGKILL"
    )


def test_no_more_tasks_begin_than_there_are_cpus_or_room_for():
    op = read()
    assert len(begin(machine_of := machine(op, cpus=3.0, store=1 << 40), op, 16)) == 3
    assert machine_of.why(op).value == "a CPU"
    op = read()
    made = machine(op, cpus=3.0, target_bytes=8 * MIB, store=20 * MIB)
    assert len(begin(made, op, 16)) == 1  # two blocks of it have room
    assert made.why(op).value == "room in the object store"
    assert made.budget.held + made.budget.reserved <= made.budget.limit


def test_a_block_is_taken_only_where_there_is_room():
    op = read()
    made = machine(op, cpus=2.0, target_bytes=MIB, store=5 * MIB)
    works = [submit.work for submit in begin(made, op, 2)]
    for work in works:
        made.begun(work, "1")
        made.offered(work, 4 * MIB)
    takes = [action.work for action in made.decide(1.0) if isinstance(action, Take)]
    assert takes == works[:1]  # the first in order: nothing else can go on


def test_a_run_that_stands_still_says_which_operator_waits_and_for_what():
    op = MapOperator("Map(infer)", None, Options(num_gpus=1), Pool(2, 2))
    made = machine(read(), op, stall_s=10.0, give_up_s=100.0)
    actions = made.decide(0.0)
    assert sum(isinstance(action, StartActor) for action in actions) == 2
    made.units(made.ops[0], [], True)
    made.decide(0.0)
    pending = read()
    made = machine(pending, MapOperator("Map(infer)", None, Options(num_gpus=1)), stall_s=10.0, give_up_s=100.0)
    begin(made, pending, 1)
    (report,) = [action for action in made.decide(31.0) if isinstance(action, Report)]
    assert report.text == "Read: 1 tasks have not begun; they want 1 CPU each"
    (end,) = [action for action in made.decide(101.0) if isinstance(action, Finish)]
    assert isinstance(end.error, StalledError) and "Read: 1 tasks have not begun" in str(end.error)


def test_actors_that_do_not_begin_have_no_place_or_a_constructor_that_runs():
    op = MapOperator("Map(infer)", None, Options(num_gpus=1), Pool(3, 3))
    source = read()
    made = machine(source, op, stall_s=10.0)
    made.units(source, [], False)
    actors = [action.actor for action in made.decide(0.0) if isinstance(action, StartActor)]
    actors[0].placed_at = 0.0
    made.free = [({"CPU": 2.0, "GPU": 0.0}, {"CPU": 4.0, "GPU": 1.0}), ({"CPU": 1.0}, {"CPU": 1.0})]
    assert made._why_stands().startswith(
        "Map(infer): 2 actors have no place: they want 1 GPU each (no node has more than 0 GPU free, of 1), "
        "and the constructors of 1 actors have not ended, after 0 s"
    )
    made.free = [({"CPU": 2.0}, {"CPU": 4.0})]
    (report,) = [action for action in made.decide(47.0) if isinstance(action, Report)]
    assert "2 actors have no place: they want 1 GPU each (no node has more than 0 GPU), and" in report.text
    assert "the constructors of 1 actors have not ended, after 47 s" in report.text


def test_what_is_spilled_is_of_the_operators_whose_blocks_exist():
    first, second = read(), MapOperator("Map", None)
    made = machine(first, second)
    work = begin(made, first, 1)[0].work
    made.begun(work, "1")
    made.block(work, "a", meta(1, nbytes=3000))
    made.spilled(100)
    made.spilled(150)
    assert first.tally.spilled == 150 and first.tally.live == 3000 + BLOCK_OVERHEAD
    made.close()
    made.decide(1.0)
    assert first.tally.live == 0


def test_inputs_from_other_nodes_are_counted():
    blocks = [Block(None, meta(1, nbytes=500), "1"), Block(None, meta(1, nbytes=70), "2")]
    op = MapOperator("Map", None, bundle_rows=2)
    made = machine(BlocksOperator("Blocks", blocks), op)
    made.nodes({name: NodeRoom(2, 0, 64 * MIB, 1 << 40) for name in "12"})
    (submit,) = [action for action in made.decide(0.0) if isinstance(action, Submit)]
    made.begun(submit.work, "2")
    assert op.tally.received == 500


def test_a_function_may_take_longer_than_a_run_may_stand_still():
    op = read()
    made = machine(op, stall_s=10.0, give_up_s=100.0)
    work = begin(made, op, 1)[0].work
    made.begun(work, "1")
    assert not [action for action in made.decide(1000.0) if isinstance(action, (Report, Finish))]


def test_a_consumer_that_has_room_again_is_waited_for_where_blocks_are_there_already():
    blocks = [Block(number, meta(1, nbytes=4 * MIB)) for number in range(1000)]
    made = machine(BlocksOperator("Blocks", blocks), store=10 * MIB)
    assert 0 < sum(isinstance(action, Emit) for action in made.decide(0.0)) < 1000
    assert made.held_back


def test_blocks_are_smaller_where_the_store_is():
    assert block_target(32 * MIB, 1 << 40, 3) == 32 * MIB
    assert block_target(32 * MIB, 240 * MIB, 3) == 10 * MIB
    assert block_target(32 * MIB, MIB, 3) == MIB and block_target(None, MIB, 3) is None


def test_metas_come_ahead_of_blocks_and_are_the_same_in_each_attempt(monkeypatch):
    from hpc import spi

    class Here:
        class process:
            node = 1

    monkeypatch.setattr(spi, "whoami", lambda: Here)
    tables = [pa.table({"a": range(3)}), pa.table({"a": range(4)})]
    header = (0, [(0, 1, None, None), (1, 1, None, None)])
    runs = [list(run_parts(ChainBody([], None), "op", None, header, tables)) for _ in range(2)]
    begun, *items, last = runs[0]
    assert begun[1] == "1" and len(last) == 3
    # Tasks of several parts are short: the small block of the first waits for that of the second.
    assert [(one.part, one.meta.rows, one.meta.first) for one in decode_told(items[0])] == [(0, 3, 0), (1, 4, 0)]
    assert [pickle.loads(pickle.dumps(block)) for block in items[1:]] == tables
    assert items[0] == runs[1][1]
    assert len(items[0]) <= 1024  # such are compared by the runtime


def test_small_blocks_of_several_parts_are_told_together_and_large_ones_at_once(monkeypatch):
    from hpc import spi

    class Here:
        class process:
            node = 1

    monkeypatch.setattr(spi, "whoami", lambda: Here)
    small, large = pa.table({"a": range(3)}), pa.table({"a": range(TOLD_BYTES)})

    def groups(*tables: pa.Table) -> list[int]:
        header = (0, [(seq, 1, None, None) for seq in range(len(tables))])
        items = run_parts(ChainBody([], None), "op", None, header, tables)
        return [len(decode_told(item)) for item in items if isinstance(item, bytes)]

    assert groups(small) == [1] and groups(small, small, small) == [3]
    assert groups(small, large, small) == [2, 1]
    assert groups(*[small] * (TOLD_BLOCKS + 2)) == [TOLD_BLOCKS, 2]


def test_blocks_that_were_made_before_an_error_are_told_before_it(monkeypatch):
    from hpc import spi

    class Here:
        class process:
            node = 1

    def body(inputs, unit, note, task):
        if inputs == ["bad"]:
            raise ValueError("bad")
        yield from inputs

    monkeypatch.setattr(spi, "whoami", lambda: Here)
    header, table = (0, [(seq, 1, None, None) for seq in range(3)]), pa.table({"a": [1]})
    items = run_parts(body, "op", None, header, [table, "bad", table])
    _, told, block, number = (next(items) for _ in range(4))
    assert [one.part for one in decode_told(told)] == [0] and pickle.loads(pickle.dumps(block)) == table
    assert number == 1
    with pytest.raises(ValueError, match="bad"):
        next(items)


@pytest.mark.parametrize("kind", ["plain", "dictionary", "nested"])
def test_small_tables_arrive_as_they_were(kind):
    column = {
        "plain": pa.array([1, None, 3]),
        "dictionary": pa.array(["x", "y", "x"]).dictionary_encode(),
        "nested": pa.array([{"a": [1, 2]}, None, {"a": []}]),
    }[kind]
    table = pa.table({"a": column, "b": ["p", "q", None]}).replace_schema_metadata({"k": "v"})
    value = sent(table, table.nbytes, table.schema.serialize().to_pybytes())
    sent_as = serialization.dumps(value).to_bytes()
    assert serialization.loads(sent_as).equals(table, check_metadata=True)
    assert kind == "dictionary" or sent_as == pickle.dumps(value, 5)  # by pickle alone: that costs half


@pytest.mark.parametrize(
    ("op", "given"),
    [
        (lambda: LimitOperator("Limit", 7), 2),
        (lambda: UnionOperator("Union", 1), 3),
        (lambda: MixOperator("Mix", (1.0,), False), 3),
        (lambda: RandomizeOperator("Randomize", 0), 3),
    ],
    ids=["limit", "union", "mix", "randomize"],
)
def test_blocks_that_an_operator_passes_on_whole_are_counted(op, given):
    machine(BlocksOperator("Input", []), over := op())
    for block in [Block(number, meta(3), "1") for number in range(3)]:
        over.accept(0, block)
    over.close_port(0)
    assert (over.tally.blocks, over.tally.rows) == (given, 3 * given)
