"""The streaming executor of hpc.data under virtual time."""

from __future__ import annotations

from typing import Any

from unit.test_data_exec import machine, meta, read

from hpc.data.exec.actions import Emit, Finish, Found, StartActor, Submit
from hpc.data.exec.budget import NodeRoom
from hpc.data.exec.machine import Machine
from hpc.data.exec.operators.maps import MapOperator
from hpc.data.exec.sim import World
from hpc.data.exec.work import Part, Work
from hpc.data.plan.nodes import Options, Pool


def story(seed: int) -> tuple[object, ...]:
    world = World(seed)
    world.run()
    return world.now, world.deaths, world.excess, tuple(map(repr, world.got))


def test_every_row_comes_once_and_the_budget_is_kept():
    deaths = 0
    for seed in (*range(30, 70), 362):
        world = World(seed)
        world.run()
        deaths += world.deaths
    assert deaths > 50


def test_a_seed_repeats_exactly():
    assert [story(seed) for seed in (3, 31)] == [story(seed) for seed in (3, 31)]


def test_what_is_lost_with_a_node_is_made_again_as_far_as_it_is_needed():
    again = deaths = 0
    for seed in (119, 144, 179, 194, 254):
        world = World(seed)
        world.run()
        again += world.made_again
        deaths += world.node_deaths
    assert again > 100 and deaths > 20


def test_what_the_consumer_has_not_read_is_made_again_too():
    awaited = 0
    for seed in (109, 144, 844):
        world = World(seed)
        world.run()
        awaited += world.awaited
    assert awaited > 50


def test_a_consumer_that_finds_a_block_lost_hears_when_it_is_there():
    source, op = read(), MapOperator("Infer", None, Options(num_cpus=0), Pool(1, 1))  # type: ignore[arg-type]
    made = machine(source, op)
    made.nodes({node: NodeRoom(2.0, 0, 64 << 20, 1 << 40) for node in ("1", "2")})
    served(made, [], "2")
    made.units(source, ["unit"], True)
    (block,) = [one.block for one in served(made, [], "2") if isinstance(one, Emit)]
    assert block.ref == "Infer on 2" and not made.finished, "the consumer may find it lost"
    made.awaited(block, block.ref, RuntimeError("lost"))
    (found,) = [one for one in served(made, [], "1") if isinstance(one, Found)]
    assert found.block is block and block.ref == "Infer on 1"
    made.awaited(block, "Infer on 2", RuntimeError("lost"))
    assert [type(one) for one in made.decide(2.0)] == [Found], "it was made again meanwhile"
    made.taken(1)
    assert [one.error for one in made.decide(3.0) if isinstance(one, Finish)] == [None]


def test_a_call_that_may_run_once_waits_for_inputs_that_are_lost():
    source, first = read(), MapOperator("Make", None, Options(num_cpus=0), Pool(1, 1))  # type: ignore[arg-type]
    options = Options(num_cpus=0, remote={"max_task_retries": 0})
    made = machine(source, first, MapOperator("Use", None, options, Pool(1, 1)))  # type: ignore[arg-type]
    made.nodes({node: NodeRoom(2.0, 0, 64 << 20, 1 << 40) for node in ("1", "2")})
    served(made, [], "2")
    made.units(source, ["unit"], True)
    told = served(made, [], "2", lost="Use")
    assert [one.work.op.name for one in told if isinstance(one, Submit)] == ["Read", "Make", "Use", "Make", "Use"]
    assert [one.block.ref for one in told if isinstance(one, Emit)] == ["Use on 2"]


def served(made: Machine, actions: list[Any], node: str, lost: str = "") -> list[Any]:
    """What is decided until nothing is to be done, where all work and actors are on one node. lost: of which operator
    the first work finds its inputs lost."""
    told = []
    actions = [*actions, *made.decide(1.0)]
    while actions:
        told += actions
        for one in actions:
            if isinstance(one, StartActor):
                made.actor_up(one.actor, node)
            elif isinstance(one, Submit) and one.work.op.name == lost:
                made.lost(one.work, one.work.blocks, RuntimeError("lost"))
                lost = ""
            elif isinstance(one, Submit):
                made.begun(one.work, node)
                made.block(one.work, f"{one.work.op.name} on {node}", meta(3))
                made.part_over(one.work)
                made.over(one.work, 0.1, 0, {})
        actions = made.decide(1.0)
    return told


def test_a_run_goes_on_where_others_hold_all_cpus():
    shared = 0
    for seed in range(6, 300, 7):
        world = World(seed)
        world.run()
        shared += world.others.shared
    assert shared > 200


def test_work_of_which_all_parts_have_come_keeps_nothing_waiting_for_it():
    def unused(inputs: list[Any], unit: Any, note: Any, task: Any) -> Any:
        raise AssertionError

    op = MapOperator("Map", unused)
    work = Work(op, [Part(0)])
    assert op.is_head(work)
    work.next_part()  # that it has ended is told later
    assert not op.is_head(work)
