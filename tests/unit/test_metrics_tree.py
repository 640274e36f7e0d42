"""Metrics of many nodes come to the head by the tree: all of them, once, also when nodes die; and silence is seen."""

from __future__ import annotations

import math
from array import array
from types import SimpleNamespace
from typing import Any

import msgspec

from hpc.core.ids import HEAD, HEAD_NODE, Address
from hpc.core.metrics import table, tree
from hpc.core.metrics.cluster import MAX_COUNT, ClusterMetrics
from hpc.core.metrics.merge import MAX_SETS
from hpc.core.metrics.node import IDLE_S, MAX_PACKET_BYTES, NodeMetrics, size_of
from hpc.core.metrics.sample import Sample, counted, gauge
from hpc.core.wire import Message, MetricsQuery, NodeInfo, ProcessMetrics, TreeMetrics, encode_body

ASKER = Address(1, 7)


def info(number: int) -> NodeInfo:
    return NodeInfo(number, f"host{number}", "", "", {}, {}, False, 1, "")


class Nodes:
    """Raylets' parts and the head's, with nothing between them."""

    def __init__(self, count: int) -> None:
        self.now = 100.0
        self.infos = {number: info(number) for number in range(1, count + 1)}
        self.dead: dict[int, NodeInfo] = {}
        self.known: dict[int, Any] = {number: SimpleNamespace(info=one) for number, one in self.infos.items()}
        self.outbox: list[tuple[Address, Message]] = []
        self.head = ClusterMetrics(self.outbox, self.known, self.dead)
        self.raylets: dict[int, NodeMetrics] = {}
        self.largest = self.packets = self.to_head = 0
        for number, one in self.infos.items():
            own = [gauge(table.CPU_RATIO, number / 1000)]
            self.raylets[number] = NodeMetrics(one, self.outbox, lambda now, own=own: own)  # type: ignore[misc]

    def others(self, number: int) -> dict[int, NodeInfo]:
        return {other: one for other, one in self.infos.items() if other != number}

    def run(self, seconds: float) -> None:
        until = self.now + seconds
        while self.now < until:
            self.now += 0.5
            for number, raylet in self.raylets.items():
                raylet.tick(self.now, self.others(number))
                self.deliver(number)

    def deliver(self, src: int) -> None:
        sent, self.outbox[:] = list(self.outbox), []
        for dst, msg in sent:
            if isinstance(msg, TreeMetrics):
                size = len(encode_body([msg]))
                self.largest, self.packets = max(self.largest, size), self.packets + 1
            if dst == HEAD:
                assert isinstance(msg, TreeMetrics)
                self.to_head += size
                self.head.on_tree(Address(src, 0), msg, self.now)
            elif dst.node in self.raylets:
                raylet = self.raylets[dst.node]
                handler: Any = raylet.on_tree if isinstance(msg, TreeMetrics) else raylet.on_watched
                handler(Address(src, 0), msg)
                self.deliver(dst.node) if src == HEAD_NODE else None

    def kill(self, number: int) -> None:
        del self.raylets[number], self.known[number]
        self.dead[number] = self.infos.pop(number)
        for raylet in self.raylets.values():
            raylet.nodes_changed()

    def ask(self, what: Any, **more: Any) -> Any:
        data = self.head.on_query(ASKER, MetricsQuery(1, what, **more), self.now)
        self.deliver(HEAD_NODE)
        return msgspec.msgpack.decode(data, strict=False)

    def samples(self) -> dict[tuple[str, tuple[str, ...]], Sample]:
        found = [msgspec.convert(one, Sample) for one in self.ask("latest")["samples"]]
        return {(one.name, one.labels): one for one in found}


def test_each_node_but_the_first_has_one_above_it():
    for count in (1, 2, 16, 17, 18, 300):
        assert sorted(at for one in range(count) for at in tree.below(one, count)) == list(range(1, count))
        assert all(tree.above(child) == at for at in range(count) for child in tree.below(at, count))
    assert tree.above(0) is None


def test_gateways_are_the_last_in_the_tree():
    gateway = info(1)
    gateway.gateway = True
    assert tree.in_order([info(3), gateway, info(2)]) == [2, 3, 1]


def test_all_nodes_come_to_the_head():
    nodes = Nodes(300)
    nodes.run(40)
    cpu = nodes.samples()[(table.CPU_RATIO, ())]
    assert (cpu.count, cpu.low, cpu.high) == (300, 0.001, 0.3)
    latest = nodes.ask("latest")
    assert latest["nodes"] == 300 and latest["silent"] == [] and latest["age_s"] <= IDLE_S
    heat = nodes.ask("heat", names=[table.CPU_RATIO])
    assert heat == {number: round(number / 1000 * 254) for number in range(1, 301)}


def test_what_is_counted_comes_once_also_when_nodes_die():
    nodes = Nodes(40)
    nodes.run(25)
    for round_ in range(30):
        for number, raylet in nodes.raylets.items():
            raylet.on_process(Address(number, 3), ProcessMetrics([counted("c", 1)]))
        nodes.run(3)
        if round_ == 10:
            nodes.run(25)  # nothing is on its way when nodes die
            nodes.kill(1)
            nodes.kill(20)
    nodes.run(40)
    assert nodes.samples()[("c", ())].total == 11 * 40 + 19 * 38
    assert nodes.samples()[(table.NODES, ("state", "dead"))].total == 2


def test_a_node_that_leaves_tells_all_that_it_has_counted():
    nodes = Nodes(20)
    nodes.run(30)
    names = [f"metric_with_a_rather_long_name_{number}" for number in range(30)]
    samples = [counted(name, 1, ("user", f"u{user}")) for name in names for user in range(50)]
    nodes.raylets[19].on_process(Address(19, 3), ProcessMetrics(samples))
    nodes.raylets[19].leave(nodes.now, nodes.others(19))
    nodes.deliver(19)
    nodes.kill(19)
    nodes.run(200)
    found = nodes.samples()
    assert sum(one.total for (name, _), one in found.items() if name in names) == 30 * 50


def test_a_node_that_says_nothing_is_named():
    nodes = Nodes(20)
    nodes.run(30)
    raylet = nodes.raylets.pop(17)
    nodes.run(60)
    latest = nodes.ask("latest")
    assert latest["silent"] == [17] and latest["nodes"] == 19
    assert nodes.samples()[(table.CPU_RATIO, ())].count == 19
    nodes.raylets[17] = raylet
    nodes.run(30)
    assert nodes.ask("latest")["silent"] == []


def test_they_tell_more_often_while_somebody_looks():
    nodes = Nodes(300)
    nodes.run(30)
    nodes.packets = 0
    nodes.run(20)
    idle = nodes.packets
    nodes.ask("look", step_s=2.0)
    nodes.packets = 0
    nodes.run(20)
    assert idle == 600 and 2700 <= nodes.packets <= 3000
    nodes.run(20)
    nodes.packets = 0
    nodes.run(20)
    assert nodes.packets == idle, "nobody looks any more"


def test_a_gauge_of_a_process_goes_with_it_and_its_counts_stay():
    nodes = Nodes(1)
    raylet = nodes.raylets[1]
    raylet.on_process(Address(1, 3), ProcessMetrics([gauge("g", 5.0), counted("c", 2)]))
    raylet.on_process(Address(1, 4), ProcessMetrics([gauge("g", 7.0)]))
    nodes.run(1)
    found = nodes.samples()
    assert (found[("g", ())].low, found[("g", ())].high) == (5.0, 7.0)
    raylet.process_gone(3)
    nodes.run(20)
    found = nodes.samples()
    assert (found[("g", ())].low, found[("g", ())].count) == (7.0, 1) and found[("c", ())].total == 2


def test_a_packet_has_a_bound_and_what_was_counted_follows():
    nodes = Nodes(20)
    names = [f"metric_with_a_rather_long_name_{number}" for number in range(30)]
    for number, raylet in nodes.raylets.items():
        samples = [counted(name, 1, ("user", f"u{user}")) for name in names for user in range(50)]
        raylet.on_process(Address(number, 3), ProcessMetrics(samples))
    nodes.run(400)
    found = nodes.samples()
    assert nodes.largest <= MAX_PACKET_BYTES + 100
    assert sum(one.total for (name, _), one in found.items() if name in names) == 20 * 30 * 50
    assert found[(table.DROPPED, ())].total == 0


def test_a_program_with_too_many_labels_costs_little():
    nodes = Nodes(3)
    for _ in range(100):
        samples = [counted("c", 1, ("user", str(number))) for number in range(1000)]
        nodes.raylets[3].on_process(Address(3, 3), ProcessMetrics(samples))
        nodes.run(1)
    nodes.run(60)
    found = nodes.samples()
    assert sum(one.total for (name, _), one in found.items() if name == "c") == 100_000
    assert len([name for name, _ in found if name == "c"]) <= MAX_SETS + 1
    assert found[(table.DROPPED, ())].total > 0 and nodes.ask("latest")["dropped"] > 0


def test_nonsense_is_dropped_and_counted():
    nodes = Nodes(1)
    bad = [
        Sample("x" * 300, 0), Sample("h", 2, (), 1.0, 1, bins=[1, 2, 3], bounds=(1.0,)), Sample("k", 9),
        Sample("g", 1, (), bins=[1] * 100),
    ]  # fmt: skip
    nodes.raylets[1].on_process(Address(1, 3), ProcessMetrics(bad))
    nodes.raylets[1].on_process(Address(2, 3), ProcessMetrics([counted("c", 1)]))
    nodes.run(2)
    assert nodes.ask("latest")["dropped"] == 4 and ("c", ()) not in nodes.samples()
    nodes.head.on_tree(Address(1, 0), TreeMetrics(2.0, b"12345", {}, [counted("c", 1)]), nodes.now)
    assert ("c", ()) not in nodes.samples()


def test_what_is_no_number_spoils_no_band_and_no_sum():
    nodes = Nodes(2)
    for number, value in ((3, 1.0), (4, math.nan), (5, math.inf), (6, 3.0)):
        samples = [gauge("g", value), counted("c", value), gauge("still", 7.0)]
        nodes.raylets[2].on_process(Address(2, number), ProcessMetrics(samples))
    nodes.run(25)
    found = nodes.samples()
    band = found["g", ()]
    assert (band.low, band.high, band.total, band.count, band.under + sum(band.bins)) == (1.0, 3.0, 4.0, 2, 2)
    assert found["c", ()].total == 4.0 and nodes.ask("latest")["dropped"] == 4
    nodes.raylets[2].on_process(Address(2, 3), ProcessMetrics([gauge("g", math.nan)]))
    nodes.run(25)
    found = nodes.samples()
    assert (found["g", ()].low, found["g", ()].count, found["still", ()].count) == (3.0, 1, 4)


def test_a_sum_that_would_have_no_end_keeps_what_it_was():
    nodes = Nodes(1)
    for _ in range(3):
        nodes.raylets[1].on_process(Address(1, 3), ProcessMetrics([counted(table.DROPPED, 1e308)]))
        nodes.run(12)
    assert nodes.head.totals.samples[table.DROPPED, ()].total == 1e308
    assert nodes.samples()[table.DROPPED, ()].total == nodes.ask("latest")["dropped"] >= MAX_COUNT


def test_a_count_that_is_larger_than_its_room_holds_up_no_others():
    nodes = Nodes(1)
    words = tuple("\U0001f600" * 190 + str(number) for number in range(32))
    bounds = tuple(float(number) for number in range(1, 1001))
    large = Sample("large", 2, words, 1.0, 1, bins=[1] + [0] * 1000, bounds=bounds)
    assert size_of(large) > MAX_PACKET_BYTES and size_of(large) >= len(msgspec.msgpack.encode(large))
    nodes.raylets[1].on_process(Address(1, 3), ProcessMetrics([large, counted("c", 1)]))
    nodes.run(25)
    found = nodes.samples()
    assert found["large", words].count == 1 and found["c", ()].total == 1


def test_no_node_counts_twice_when_the_first_dies_or_another_takes_itself_for_it():
    nodes = Nodes(40)
    nodes.run(25)
    alone = TreeMetrics(10.0, array("I", [7]).tobytes(), {}, [gauge(table.CPU_RATIO, 0.5)])
    nodes.head.on_tree(Address(7, 0), alone, nodes.now)
    assert nodes.samples()[(table.CPU_RATIO, ())].count == 40
    nodes.kill(1)
    for _ in range(80):
        nodes.run(0.5)
        assert nodes.samples()[(table.CPU_RATIO, ())].count <= 40, "39 and what the dead one had told"
    assert nodes.samples()[(table.CPU_RATIO, ())].count == 39 and nodes.ask("latest")["silent"] == []


def test_a_head_that_was_started_again_hears_once_more_of_all_that_was_counted():
    nodes = Nodes(20)
    nodes.run(30)
    names = [f"metric_with_a_rather_long_name_{number}" for number in range(30)]
    for round_ in range(2):
        many = [counted(name, 1, ("user", f"u{user}")) for name in names for user in range(50)]
        nodes.raylets[19].on_process(Address(19, 3), ProcessMetrics(many))
        nodes.raylets[1].on_process(Address(1, 3), ProcessMetrics([counted("c", 5 + round_)]))
        nodes.run(200)
        before = {key: one.total for key, one in nodes.samples().items() if key[0] in (*names, "c")}
        assert sum(before.values()) == (round_ + 1) * 30 * 50 + (5, 11)[round_]
        nodes.head = ClusterMetrics(nodes.outbox, nodes.known, nodes.dead)
        for raylet in nodes.raylets.values():
            raylet.head_restarted()
        nodes.run(2)
        after = {key: one.total for key, one in nodes.samples().items()}
        assert {key: after.get(key) for key in before} == before, "no counter goes back"
