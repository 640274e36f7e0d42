"""The streaming executor of hpc.data under virtual time."""

from __future__ import annotations

from typing import Any

from hpc.data.exec.operators.maps import MapOperator
from hpc.data.exec.sim import World
from hpc.data.exec.work import Part, Work


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
