"""Where work goes, on several local nodes: labels, spreading, affinity, data, shares, and what nobody can serve."""

from __future__ import annotations

import collections
import os
import subprocess
import sys
import time

import numpy as np
import pytest

import hpc
from hpc.core.idtypes import NodeID
from hpc.exceptions import ActorUnschedulableError, TaskUnschedulableError
from hpc.launchers.local.group import LocalGroup
from hpc.util.scheduling_strategies import (
    DoesNotExist,
    Exists,
    In,
    NodeAffinitySchedulingStrategy,
    NodeLabelSchedulingStrategy,
    NotIn,
    PlacementGroupSchedulingStrategy,
)
from runtime.running import eventually, kill9, local_nodes, on, one_node, pid_of, soft, where_once

MIB = 1 << 20


@hpc.remote
def where(seconds=0.0):
    time.sleep(seconds)
    return hpc.get_runtime_context().get_node_id()


@hpc.remote
def where_with(array):
    return hpc.get_runtime_context().get_node_id()


@hpc.remote
def make(count):
    return np.ones(count, np.uint8)


@hpc.remote
class Sitter:
    def where(self):
        return hpc.get_runtime_context().get_node_id()


def asked(**options):
    return hpc.get(where.options(**options).remote(), timeout=60)


def end_node(number):
    row = next(n for n in hpc.nodes() if n["NodeID"] == number)
    kill9(pid_of(os.path.dirname(row["RayletSocketName"]), "raylet"))


# ---------------------------------------------------------------- labels


def test_labels_choose_the_node():
    with local_nodes(3):
        # Soft conditions are those of nodes with room: this one comes first, while all have.
        strategy = NodeLabelSchedulingStrategy({"ray.io/node-id": In("2", "3")}, soft={"ray.io/node-id": NotIn("2")})
        assert asked(scheduling_strategy=strategy) == "3"
        labels = hpc.nodes()[1]["Labels"]
        assert labels["hpc.io/node-id"] == labels["ray.io/node-id"] == "2"
        assert asked(label_selector={"ray.io/node-id": "2"}) == "2"
        assert asked(label_selector={"hpc.io/node-id": "in(3, 9)"}) == "3"
        assert asked(label_selector={"ray.io/node-id": "!in(1,2)"}) == "3"
        assert asked(label_selector={"ray.io/node-id": "!1", "hpc.io/node-id": "!3"}) == "2"
        strategy = NodeLabelSchedulingStrategy(
            {"ray.io/node-id": Exists(), "zone": DoesNotExist()}, soft={"x": In("y")}
        )
        assert asked(scheduling_strategy=strategy) in ("1", "2", "3")
        actor = Sitter.options(label_selector={"ray.io/node-id": "3"}).remote()
        assert hpc.get(actor.where.remote(), timeout=60) == "3"
        fallback = [{"label_selector": {"ray.io/node-id": "2"}}]
        assert asked(label_selector={"zone": "moon"}, fallback_strategy=fallback) == "2"


def test_what_no_node_has_is_said_once_and_served_when_such_a_node_joins(capfd):
    with local_nodes(1) as session:
        waiting = [
            where.options(label_selector={"zone": "moon"}).remote(),
            where.options(num_cpus=3).remote(),
            where.options(accelerator_type="A100").remote(),
        ]
        words = ["[zone in (moon)]", "could ever provide {CPU: 3}", "accelerator_type:A100"]
        said = []
        eventually(lambda: said.append(capfd.readouterr().err) or all(word in "".join(said) for word in words))
        assert hpc.wait(waiting, timeout=1.0)[0] == []
        text = "".join(said) + capfd.readouterr().err
        assert text.count("no node has the labels that were asked for: [zone in (moon)]") == 1
        assert text.count("could ever provide {CPU: 3}") == 1
        assert text.count("accelerator_type:A100") == 2
        labels = {"zone": "moon", "ray.io/accelerator-type": "A100"}
        session.add_group(LocalGroup(1), overrides={"num_cpus": 3, "object_store_bytes": 64 * MIB, "labels": labels})
        deadline = time.monotonic() + 60
        while hpc.wait(waiting, num_returns=3, timeout=0.05)[1] and time.monotonic() < deadline:
            session.pump(0.05)
        assert hpc.get(waiting, timeout=60) == ["2"] * 3


@pytest.mark.parametrize(
    "options",
    [
        {"label_selector": {"a": 1}},
        {"label_selector": {"a": "in(b"}},
        {"label_selector": {"a b": "c"}},
        {"label_selector": "a"},
        {"fallback_strategy": {"label_selector": {}}},
        {"fallback_strategy": [{"num_cpus": 1}]},
        {"accelerator_type": 5},
        {"accelerator_type": ""},
        {"scheduling_strategy": "TIGHT"},
        {"scheduling_strategy": 5},
        {"scheduling_strategy": PlacementGroupSchedulingStrategy("a group")},
        {"scheduling_strategy": PlacementGroupSchedulingStrategy(5)},
    ],
)
def test_nonsense_is_refused(options):
    with pytest.raises((ValueError, TypeError)):
        where.options(**options)


@pytest.mark.parametrize("node", ["", "x", "-1", "0", "1.5", 0, -1, 1.5, True, None, b"1", "²", ["1"]])
def test_what_is_no_node_is_refused(node):
    with pytest.raises(ValueError, match="node_id must be the id of a node"):
        NodeAffinitySchedulingStrategy(node)


def test_a_node_is_meant_by_each_form_of_its_id():
    forms = ["3", 3, NodeID.from_hex("3")]
    assert [int(NodeAffinitySchedulingStrategy(form).node_id) for form in forms] == [3, 3, 3]


# ---------------------------------------------------------------- spreading and affinity


def test_short_tasks_spread_over_all_nodes():
    with local_nodes(3) as session:
        assert len(session.nodes) == 3
        spread = where.options(scheduling_strategy="SPREAD")
        hpc.get([spread.remote(0.05) for _ in range(6)], timeout=60)

        def least():
            counts = collections.Counter(hpc.get([spread.remote(0.001) for _ in range(300)], timeout=60))
            return min(counts[node] for node in "123")

        eventually(lambda: least() >= 30)  # a node that a busy machine does not run for a moment gets less
        one_by_one = collections.Counter(hpc.get(spread.remote(), timeout=60) for _ in range(12))
        assert len(one_by_one) == 3, one_by_one


def test_affinity_waits_for_a_busy_node_and_fails_on_a_dead_one(tmp_path):
    with local_nodes(3) as session:
        busy = where_once.options(scheduling_strategy=on(2)).remote(tmp_path / "gate")
        behind = where.options(scheduling_strategy=soft(2)).remote()
        assert hpc.wait([behind], timeout=0.3)[0] == []
        (tmp_path / "gate").touch()
        assert hpc.get([busy, behind], timeout=60) == ["2", "2"]
        assert asked(scheduling_strategy=soft(2), num_cpus=1) == "2"
        with pytest.raises(TaskUnschedulableError, match="on node 3, which has"):
            asked(scheduling_strategy=on(3), num_cpus=2)
        actor = Sitter.options(scheduling_strategy=on(3), max_restarts=1).remote()
        assert hpc.get(actor.where.remote(), timeout=60) == "3"
        end_node("3")
        eventually(lambda: session.pump(0.05) or not hpc.nodes()[2]["Alive"])
        with pytest.raises(TaskUnschedulableError, match="node 3, on which it had to run, has died"):
            asked(scheduling_strategy=on(3))
        assert asked(scheduling_strategy=soft(3)) in ("1", "2")
        late = Sitter.options(scheduling_strategy=on(3)).remote()
        for lost in (late, actor):
            with pytest.raises(ActorUnschedulableError, match="has died"):
                hpc.get(lost.where.remote(), timeout=60)


# ---------------------------------------------------------------- data


def test_tasks_go_where_their_large_arguments_are():
    with local_nodes(3, num_cpus=2):
        large = {n: make.options(scheduling_strategy=on(n)).remote(4 * MIB) for n in (2, 3)}
        small = make.options(scheduling_strategy=on(2)).remote(200_000)
        hpc.wait([*large.values(), small], num_returns=3, fetch_local=False)
        eventually(lambda: hpc.available_resources().get("CPU") == 6)
        for node, ref in large.items():
            assert [hpc.get(where_with.remote(ref), timeout=60) for _ in range(5)] == [str(node)] * 5
        assert hpc.get(where_with.remote(small), timeout=60) == "1"
        # All at once is more than the node has room for: the others help.
        both = [slow_with.remote(large[2]) for _ in range(6)]
        assert len(set(hpc.get(both, timeout=60))) > 1


@hpc.remote
def slow_with(array):
    time.sleep(0.3)
    return hpc.get_runtime_context().get_node_id()


# ---------------------------------------------------------------- shares

ENDLESS = """
import sys, time, hpc
hpc.init(address=sys.argv[1], log_to_driver=False)

@hpc.remote
def work():
    time.sleep(0.01)
    return time.time()

refs = [work.remote() for _ in range(200)]
print("ready", flush=True)
for line in sys.stdin:
    start, done = float(line), []
    while time.time() < start + 1.6:
        ready, refs = hpc.wait(refs, num_returns=1)
        done += hpc.get(ready)
        refs.append(work.remote())
    print(sum(start + 0.4 < t < start + 1.6 for t in done), flush=True)
"""


@pytest.mark.parametrize("cpus", [1, 2])
def test_two_busy_drivers_share_the_workers(cpus):
    with local_nodes(1, num_cpus=cpus) as session:
        command = [sys.executable, "-c", ENDLESS, session.local_dir()]
        pipe = subprocess.PIPE
        drivers = [subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True) for _ in range(2)]
        try:
            for driver in drivers:
                assert driver.stdout.readline() == "ready\n"
            # The machine has other work: what counts is a time in which both drivers and the workers were run.
            counts = eventually(lambda: (found := counts_of(drivers)) and is_fair(found, cpus) and found)
        finally:
            for driver in drivers:
                driver.kill()
                driver.wait()
                driver.stdin.close()
                driver.stdout.close()
        assert is_fair(counts, cpus)


def counts_of(drivers):
    """How many tasks of each were done in the same 1.2 s."""
    for driver in drivers:
        driver.stdin.write(f"{time.time()}\n")
        driver.stdin.flush()
    return [int(driver.stdout.readline()) for driver in drivers]


def is_fair(counts, cpus):
    """Whether each driver had its share, and the workers were busy."""
    return min(counts) >= 0.35 * sum(counts) and sum(counts) > 0.5 * cpus * 1.2 / 0.011


def test_a_busy_driver_leaves_a_share_on_every_node_to_what_must_go_there():
    @hpc.remote
    def short():
        time.sleep(0.01)
        return hpc.get_runtime_context().get_node_id()

    with local_nodes(2) as session:
        assert len(session.nodes) == 2
        refs = [short.remote() for _ in range(3000)]
        assert set(hpc.get(refs[:100], timeout=60)) == {"1", "2"}
        for options in ({"scheduling_strategy": on(2)}, {"label_selector": {"hpc.io/node-id": "2"}}):
            assert asked(**options) == "2"
        assert asked(scheduling_strategy="SPREAD") in ("1", "2")
        assert hpc.wait(refs, num_returns=len(refs), timeout=0)[1], "the endless work had ended before"
        for ref in refs:
            hpc.cancel(ref)


def test_an_actor_and_a_nested_submitter_get_their_share_of_a_busy_driver():
    @hpc.remote
    def parent():
        return sum(hpc.get([child.remote() for _ in range(5)]))

    @hpc.remote
    def child():
        return 1

    @hpc.remote
    def short():
        time.sleep(0.01)

    with one_node(num_cpus=2):
        refs = [short.remote() for _ in range(4000)]
        nested = parent.options(num_cpus=0).remote()
        actor = Sitter.options(num_cpus=1).remote()
        assert hpc.get(nested, timeout=60) == 5
        assert hpc.get(actor.where.remote(), timeout=60) == "1"
        assert hpc.wait(refs, num_returns=len(refs), timeout=0)[1], "the endless work had ended before"
        del actor
        hpc.get(refs[:200], timeout=60)
        for ref in refs[200:]:
            hpc.cancel(ref)
