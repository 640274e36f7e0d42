"""Which rank each worker becomes, and what its environment says."""

from __future__ import annotations

from hpc.train.ranks import Worker, identify, torchrun_environment


def node(number, cpus=4):
    return {"NodeID": str(number), "NodeManagerAddress": f"10.0.0.{number}", "Resources": {"CPU": float(cpus)}}


THREE = [node(2), node(1), node(10)]


def test_ranks_go_node_after_node_in_the_order_of_the_bundles():
    workers = [Worker(3, "2"), Worker(0, "10"), Worker(2, "10"), Worker(1, "2")]
    ranked = identify(workers, THREE, {"CPU": 2})
    assert [index for index, _ in ranked] == [0, 2, 1, 3]
    assert [(r.world_rank, r.local_rank, r.node_rank, r.node) for _, r in ranked] == [
        (0, 0, 0, "10"),
        (1, 1, 0, "10"),
        (2, 0, 1, "2"),
        (3, 1, 1, "2"),
    ]
    assert {(r.world_size, r.local_world_size, r.num_nodes, r.threads) for _, r in ranked} == {(4, 2, 2, 2)}
    assert ranked[0][1].address == "10.0.0.10"
    assert [r.node for _, r in identify(workers, THREE, {"CPU": 2}, ["1", "2", "10"])] == ["2", "2", "10", "10"]


def test_uneven_nodes_count_their_own():
    ranked = identify([Worker(0, "1"), Worker(1, "1"), Worker(2, "2")], THREE, {"CPU": 1})
    assert [r.local_world_size for _, r in ranked] == [2, 2, 1]


def test_local_ranks_follow_the_gpus_that_all_of_the_node_see():
    workers = [Worker(0, "1", ("10",)), Worker(1, "1", ("2",)), Worker(2, "2", ("0",))]
    ranked = identify(workers, THREE, {"GPU": 1})
    assert [(index, r.visible_gpus, r.devices) for index, r in ranked] == [
        (1, ("2", "10"), (0,)),
        (0, ("2", "10"), (1,)),
        (2, ("0",), (0,)),
    ]


def test_workers_without_cpus_share_their_nodes_threads():
    ranked = identify([Worker(0, "1"), Worker(1, "1"), Worker(2, "2")], THREE, {"GPU": 1})
    assert [r.threads for _, r in ranked] == [2, 2, 4]
    assert identify([Worker(0, "1")], THREE, {"CPU": 0.5})[0][1].threads == 4
    assert identify([Worker(i, "1") for i in range(9)], THREE, {"GPU": 0.1})[0][1].threads == 1


def test_the_environment_is_torchruns():
    ranked = identify([Worker(0, "1"), Worker(1, "2"), Worker(2, "2")], THREE, {"CPU": 1})
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
