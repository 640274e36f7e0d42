"""Where the workers go, which rank each becomes, and what its environment says."""

from __future__ import annotations

import pytest

from hpc.train.ranks import NoRoom, Worker, identify, plan, torchrun_environment


def node(number, cpus=4, gpus=0, alive=True, gateway=False):
    return {
        "NodeID": str(number),
        "Alive": alive,
        "IsGateway": gateway,
        "NodeManagerAddress": f"10.0.0.{number}",
        "Resources": {"CPU": float(cpus), "GPU": float(gpus)},
    }


THREE = [node(2), node(1), node(10), node(3, alive=False), node(4, cpus=0, gateway=True)]


def nodes_of(slots):
    return [slot.node for slot in slots]


def test_pack_fills_node_after_node_and_spread_deals_out():
    assert nodes_of(plan(THREE, 6, {"CPU": 1}, "PACK")) == ["1"] * 4 + ["2"] * 2
    assert nodes_of(plan(THREE, 6, {"CPU": 1}, "SPREAD")) == ["1", "2", "10", "1", "2", "10"]
    assert not any(slot.hard for slot in plan(THREE, 6, {"CPU": 1}, "SPREAD"))


def test_pack_prefers_the_node_with_the_most_room():
    assert nodes_of(plan([node(1, 1), node(2, 8)], 3, {"CPU": 1}, "PACK")) == ["2"] * 3


def test_strict_strategies_are_conditions():
    slots = plan(THREE, 3, {"CPU": 4}, "STRICT_SPREAD")
    assert nodes_of(slots) == ["1", "2", "10"]
    assert all(slot.hard for slot in slots)
    slots = plan(THREE, 4, {"CPU": 1}, "STRICT_PACK")
    assert len(set(nodes_of(slots))) == 1
    assert all(slot.hard for slot in slots)


@pytest.mark.parametrize(
    ("count", "each", "strategy", "text"),
    [
        (4, {"CPU": 1}, "STRICT_SPREAD", "needs 4 nodes .* there are 3"),
        (5, {"CPU": 1}, "STRICT_PACK", "room for more than 4"),
        (13, {"CPU": 1}, "PACK", "3 nodes of the session have room for 12"),
        (1, {"GPU": 1}, "SPREAD", "room for 0"),
        (1, {"CPU": 1, "special": 1}, "PACK", "room for 0"),
        (1, {"CPU": 5}, "STRICT_PACK", "room for more than 0"),
    ],
)
def test_too_many_workers_are_an_error_at_once(count, each, strategy, text):
    with pytest.raises(NoRoom, match=text):
        plan(THREE, count, each, strategy)


def test_fractions_and_workers_without_cpus():
    assert len(plan([node(1, 1)], 3, {"CPU": 1 / 3}, "PACK")) == 3
    assert nodes_of(plan([node(1), node(2)], 3, {}, "SPREAD")) == ["1", "2", "1"]


def test_ranks_go_node_after_node():
    workers = [Worker(0, "10", 5), Worker(1, "2", 9), Worker(2, "10", 3), Worker(3, "2", 7)]
    ranked = identify(workers, THREE, {"CPU": 2})
    assert [index for index, _ in ranked] == [3, 1, 2, 0]
    assert [(r.world_rank, r.local_rank, r.node_rank, r.node) for _, r in ranked] == [
        (0, 0, 0, "2"),
        (1, 1, 0, "2"),
        (2, 0, 1, "10"),
        (3, 1, 1, "10"),
    ]
    assert {(r.world_size, r.local_world_size, r.num_nodes, r.threads) for _, r in ranked} == {(4, 2, 2, 2)}
    assert ranked[2][1].address == "10.0.0.10"


def test_uneven_nodes_count_their_own():
    ranked = identify([Worker(0, "1", 1), Worker(1, "1", 2), Worker(2, "2", 3)], THREE, {"CPU": 1})
    assert [r.local_world_size for _, r in ranked] == [2, 2, 1]


def test_local_ranks_follow_the_gpus_that_all_of_the_node_see():
    workers = [Worker(0, "1", 1, ("10",)), Worker(1, "1", 2, ("2",)), Worker(2, "2", 3, ("0",))]
    ranked = identify(workers, THREE, {"GPU": 1})
    assert [(index, r.visible_gpus, r.devices) for index, r in ranked] == [
        (1, ("2", "10"), (0,)),
        (0, ("2", "10"), (1,)),
        (2, ("0",), (0,)),
    ]


def test_workers_without_cpus_share_their_nodes_threads():
    ranked = identify([Worker(0, "1", 1), Worker(1, "1", 2), Worker(2, "2", 3)], THREE, {"GPU": 1})
    assert [r.threads for _, r in ranked] == [2, 2, 4]
    assert identify([Worker(0, "1", 1)], THREE, {"CPU": 0.5})[0][1].threads == 4
    assert identify([Worker(i, "1", i) for i in range(9)], THREE, {"GPU": 0.1})[0][1].threads == 1


def test_the_environment_is_torchruns():
    ranked = identify([Worker(0, "1", 1), Worker(1, "2", 2), Worker(2, "2", 3)], THREE, {"CPU": 1})
    assert torchrun_environment(ranked[2][1], "run", 1, 3, "/x/error.json") == {
        "RANK": "2",
        "LOCAL_RANK": "1",
        "WORLD_SIZE": "3",
        "LOCAL_WORLD_SIZE": "2",
        "NODE_RANK": "1",
        "GROUP_RANK": "1",
        "GROUP_WORLD_SIZE": "2",
        "ROLE_NAME": "default",
        "ROLE_RANK": "2",
        "ROLE_WORLD_SIZE": "3",
        "TORCHELASTIC_RUN_ID": "run",
        "TORCHELASTIC_RESTART_COUNT": "1",
        "TORCHELASTIC_MAX_RESTARTS": "3",
        "TORCHELASTIC_ERROR_FILE": "/x/error.json",
    }
