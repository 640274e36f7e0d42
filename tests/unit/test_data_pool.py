"""When a pool of actors grows and shrinks: by what waits for it, and as fast as calls are served."""

from dataclasses import replace

import pytest
from unit.test_data_exec import machine, meta, read

from hpc.data.exec.actions import StartActor, Submit
from hpc.data.exec.operators.maps import MapOperator
from hpc.data.exec.pool import IDLE_S, ActorSet
from hpc.data.exec.settings import RunSettings
from hpc.data.exec.work import Part, Work
from hpc.data.plan.nodes import Options, Pool


class Bench:
    """A pool, with its actors up and calls in them."""

    def __init__(self, up, calls=0, pool=None, **settings):
        self.op = MapOperator("Model", None, None, pool)
        self.pool = ActorSet(self.op, pool or Pool(), None, replace(RunSettings(), **settings))
        self.works = []
        for _ in range(up):
            self.pool.up(self.pool.new(0.0), "1", 2.0)
        self.pool._reached_initial = up > 0
        for _ in range(calls):
            self.call()

    def call(self):
        work = Work(self.op, [Part(len(self.works))])
        work.number = len(self.works)
        self.works.append(work)
        actor = self.pool.choose("")
        self.pool.give(actor, work)
        return actor.number


def test_a_pool_begins_with_its_initial_size():
    assert Bench(0, pool=Pool(2, 8, 4)).pool.wanted(0, 100) == 4


def test_a_pool_grows_by_what_waits_and_no_further_than_it_may():
    assert Bench(1, 1).pool.wanted(100, 10) == 1, "it doubles"
    assert Bench(4, 4).pool.wanted(100, 10) == 4
    assert Bench(4, 4).pool.wanted(100, 3) == 3, "there is room for three"
    assert Bench(4, 4, Pool(1, 5)).pool.wanted(100, 10) == 1
    assert Bench(4, 3).pool.wanted(100, 10) == 0, "one has nothing to do"
    assert Bench(4, 4).pool.wanted(0, 10) == 0


def test_a_pool_of_one_grows_though_its_calls_are_held_by_a_budget():
    """What counts is what waits: one call runs, and no second one is let in."""
    assert Bench(1, 1, grow_at=5.0).pool.wanted(10, 7) == 1


def test_thresholds_of_the_context_are_kept():
    assert Bench(4, 4, grow_at=3.0).pool.wanted(7, 10) == 0
    assert Bench(4, 4, grow_at=3.0).pool.wanted(8, 10) > 0
    assert Bench(4, 4, grow_by=1).pool.wanted(100, 10) == 1


@pytest.mark.parametrize(("part_s", "more"), [(0.0, 2), (0.1, 0), (5.0, 2)])
def test_no_actor_begins_for_what_is_done_before_it_is_there(part_s, more):
    """An actor takes 2 s to begin."""
    assert Bench(2, 2).pool.wanted(8, 10, part_s, ended=True) == more
    assert Bench(2, 2).pool.wanted(8, 10, part_s, ended=False) == 2, "more parts may come"


def test_actors_without_work_end_while_few_of_the_others_work():
    late = 2.0 + IDLE_S
    assert Bench(4).pool.spare(late - 1, False) == []
    assert len(Bench(4).pool.spare(late, False)) == 3, "the least stay"
    assert len(Bench(4, 2).pool.spare(late, False)) == 1, "two of three work then"
    assert len(Bench(4, 3).pool.spare(late, False)) == 0, "more than half of them work"
    assert len(Bench(4, 3, shrink_at=0.9).pool.spare(late, False)) == 1
    assert len(Bench(4).pool.spare(2.0, True)) == 4, "no more work comes"


def test_the_same_actor_gets_the_calls_that_one_can_do():
    bench = Bench(3)
    first = bench.call()
    bench.pool.done(bench.works[-1], 3.0)
    assert [bench.call() for _ in range(3)] == [first, *sorted({0, 1, 2} - {first}, reverse=True)]


@pytest.mark.parametrize(("own", "of_all", "most"), [(None, None, 2), (None, 5, 5), (3, None, 3), (3, 5, 3), (1, 5, 1)])
def test_an_actor_has_as_many_calls_at_a_time_as_its_pool_says_and_else_as_the_settings_say(own, of_all, most):
    pool = ActorSet(MapOperator("Model", None), Pool(queued=own), of_all, RunSettings())
    pool.up(pool.new(0.0), "1", 1.0)
    given = []
    while (actor := pool.choose("")) is not None:
        given.append(Work(pool.op, [Part(len(given))]))
        given[-1].number = len(given)
        pool.give(actor, given[-1])
    assert len(given) == most
    pool.done(given[0], 2.0)
    assert pool.choose("") is not None


@pytest.mark.parametrize(("own", "most"), [(None, 3), (5, 5), (0, 0), (-1, 40)])
def test_a_call_is_tried_again_as_often_as_its_user_says(own, most):
    options = Options(num_cpus=0, remote={} if own is None else {"max_task_retries": own})
    source, op = read(), MapOperator("Infer", None, options, Pool(1, 1))
    made = machine(source, op)
    made.units(source, ["unit"], True)
    deaths = 0
    for _ in range(400):
        if made.finished or deaths == 40:
            break
        for one in made.decide(1.0):
            if isinstance(one, StartActor):
                made.actor_up(one.actor, "1")
            elif isinstance(one, Submit):
                made.begun(one.work, "1")
                if one.work.op is op:
                    deaths += 1
                    made.actor_lost(made.pools[op.index].actors[one.work.actor], RuntimeError("killed"))
                else:
                    made.block(one.work, "input", meta(3))
                    made.part_over(one.work)
                    made.over(one.work, 0.1, 0, {})
    assert deaths == (most + 1 if most < 40 else 40)
