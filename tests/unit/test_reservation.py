"""How many workers fit where, by the policy that will place them."""

from __future__ import annotations

import pytest

from hpc.runs.reservation import Request
from hpc.spi import NodeRoom, idle


def room(node, cpus, free=None, gpus=0, is_open=True, **labels):
    total = {"CPU": float(cpus), "GPU": float(gpus)}
    return NodeRoom(node, {**total, "CPU": float(cpus if free is None else free)}, total, labels, is_open)


THREE = [room(1, 4, rack="a"), room(2, 4, free=1, rack="b"), room(3, 2, rack="b")]


@pytest.mark.parametrize(
    ("strategy", "each", "count"),
    [
        ("PACK", {"CPU": 1}, 7),
        ("SPREAD", {"CPU": 2}, 3),
        ("STRICT_PACK", {"CPU": 1}, 4),
        ("STRICT_SPREAD", {"CPU": 1}, 3),
        ("STRICT_SPREAD", {"CPU": 2}, 2),
        ("PACK", {"CPU": 0.5}, 14),
        ("PACK", {"GPU": 1}, 0),
    ],
)
def test_as_many_workers_as_the_policy_finds_room_for(strategy, each, count):
    request = Request(100, each, strategy)
    assert request.how_many(THREE) == count
    assert bool(request.of(count + 1).why_not(THREE)) and (not count or not request.of(count).why_not(THREE))


def test_never_more_than_were_asked_for():
    assert Request(3, {"CPU": 1}).how_many(THREE) == 3


def test_a_huge_number_that_stands_for_as_many_as_there_are_is_not_tried():
    assert Request(10**12, {"CPU": 1}).how_many(THREE) == 7


def test_labels_are_conditions_of_each_worker():
    assert Request(9, {"CPU": 1}, selectors=[{"rack": "b"}] * 9).how_many(THREE) == 3
    assert Request(2, {"CPU": 1}, selectors=[{"rack": "a"}, {"rack": "c"}]).how_many(THREE) == 1


def test_nodes_that_take_nothing_new_do_not_count_until_they_are_idle():
    closed = [room(1, 4, is_open=False), room(2, 4, free=0)]
    request = Request(8, {"CPU": 1})
    assert request.how_many(closed) == 0
    assert request.how_many(idle(closed)) == 8


def test_why_is_said():
    why = Request(8, {"CPU": 1}).why_not(THREE)
    assert "need {CPU: 8} together" in why
    assert str(Request(2, {"CPU": 1, "GPU": 0.5})) == "2 workers with {CPU: 1, GPU: 0.5} each (PACK)"
