"""Which nodes have a slow network, from what pairs of them have measured."""

from __future__ import annotations

import random

import pytest

from hpc.doctor.links import Fault, Link, faults, rounds, suspects


@pytest.mark.parametrize("count", [*range(12), 33, 200])
@pytest.mark.parametrize("most", [1, 4, 300])
def test_in_a_round_a_node_has_one_partner_and_no_pair_comes_twice(count: int, most: int):
    found = rounds(count, most)
    assert len(found) <= most
    for pairs in found:
        ends = [node for pair in pairs for node in pair]
        assert len(ends) == len(set(ends)) and set(ends) <= set(range(count))
        assert len(pairs) == count // 2, "all nodes are at work, but for one of an odd number"
    pairs = [pair for turn in found for pair in turn]
    assert len(pairs) == len(set(pairs))
    if most >= count:
        assert len(pairs) == count * (count - 1) // 2, "all pairs, where there is time for them"


def measured(count: int, slow: dict[int, float], seed: int, most: int = 6) -> list[Link]:
    """Links of which one is as fast as the slower of its ends, with 30 % of noise."""
    draw = random.Random(seed)
    speed = {node: slow.get(node, 1.0) for node in range(count)}
    return [
        Link(a, b, 1e9 * min(speed[a], speed[b]) * draw.uniform(0.7, 1.0), draw.uniform(1e-5, 3e-5))
        for pairs in rounds(count, most)
        for a, b in pairs
    ]


@pytest.mark.parametrize("seed", range(40))
def test_slow_and_broken_nodes_are_named_and_no_others(seed: int):
    draw = random.Random(seed)
    count = draw.randint(3, 60)
    bad = draw.sample(range(count), draw.randint(0, max(1, count // 10)))
    slow = {node: draw.choice([0.0, 0.01, 0.25]) for node in bad}
    links = measured(count, slow, seed)
    found = faults(count, links)
    named = {fault.node: fault.kind for fault in found}
    assert named == {node: "slow" if speed else "broken" for node, speed in slow.items()}
    scaled = [Link(link.a, link.b, 1e-3 * link.rate, link.latency_s) for link in links]
    assert {fault.node: fault.kind for fault in faults(count, scaled)} == named, "whatever the network's speed"


def test_a_slow_link_between_sound_nodes_is_named_with_both_ends():
    links = [link if (link.a, link.b) != (1, 3) else Link(1, 3, 1e7) for link in measured(5, {}, 1)]
    (found,) = faults(5, links)
    assert (found.kind, found.node, found.other, found.value) == ("link", 1, 3, 1e7)


def test_a_node_that_answers_late_is_named():
    links = [Link(link.a, link.b, link.rate, 2e-3 if 2 in (link.a, link.b) else 2e-5) for link in measured(4, {}, 1)]
    assert faults(4, links) == [Fault("late", 2, -1, 2e-3, 2e-5)]


def test_of_two_nodes_none_is_blamed_and_a_broken_link_is_said_of_both():
    assert faults(2, [Link(0, 1, 1e3)]) == []
    assert [fault.kind for fault in faults(2, [Link(0, 1, 0.0)])] == ["broken", "broken"]
    assert faults(1, []) == []


def test_what_was_slow_once_is_measured_again_and_the_better_figure_counts():
    links = [link if (link.a, link.b) != (1, 3) else Link(1, 3, 1e7, 1.0) for link in measured(5, {4: 0.1}, 1)]
    pairs = suspects(5, links)
    assert (1, 3) in pairs and len(pairs) == 2 and any(4 in pair for pair in pairs)
    again = [Link(1, 3, 9e8, 1e-5)]
    assert [fault.node for fault in faults(5, links + again)] == [4]
