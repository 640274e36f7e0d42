"""Which CPUs are next to devices: pure, and from files of a machine that is not there."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from hpc.core.accelerators.base import Device
from hpc.core.node import numa
from hpc.core.policy.near import cpus_near, homes

#: Four nodes of four CPUs, two of them on each socket.
NODES = {n: frozenset(range(4 * n, 4 * n + 4)) for n in range(4)}
FAR = {a: {b: 10 if a == b else 12 if a // 2 == b // 2 else 32 for b in NODES} for a in NODES}
ALL = frozenset(range(16))


def gpu(node=-1, cpus=()):
    return Device("0", "GPU", numa_node=node, cpus=tuple(cpus))


def near(devices, granted=ALL, share=1, nodes=NODES, distances=FAR):
    return set(cpus_near(devices, granted, share, nodes, distances))


def test_a_device_names_its_cpus_or_has_those_of_its_numa_node():
    assert near([gpu(2)]) == {8, 9, 10, 11}
    assert near([gpu(2, cpus=range(8, 16))]) == set(range(8, 16))
    assert near([gpu(0), gpu(3)]) == {0, 1, 2, 3, 12, 13, 14, 15}
    assert homes([gpu(2), gpu(cpus=[5])], NODES) == [2, 1]


def test_what_was_not_granted_is_never_used_and_what_is_not_known_leaves_all_of_it():
    assert near([gpu(2)], granted={1, 9, 11}) == {9, 11}
    assert near([gpu(2)], granted={1, 2}) == {1, 2}
    assert near([gpu()]) == ALL
    assert near([gpu(7)]) == ALL
    assert near([gpu(1)], nodes={}) == ALL


def test_a_share_larger_than_what_is_near_is_filled_from_the_next_node():
    assert near([gpu(2)], share=4) == {8, 9, 10, 11}
    assert near([gpu(2)], share=5) == set(range(8, 16)), "the same socket first"
    assert near([gpu(2)], share=9) == set(range(8, 16)) | {0, 1, 2, 3}
    assert near([gpu(2)], share=99) == ALL
    assert near([gpu(cpus=[6])], share=2) == {4, 5, 6, 7}
    assert near([gpu(2)], granted=ALL - {12, 13, 14, 15}, share=5, distances={}) == {0, 1, 2, 3, 8, 9, 10, 11}


@given(
    st.lists(st.builds(gpu, st.integers(-1, 4), st.lists(st.integers(0, 20), max_size=3)), min_size=1, max_size=3),
    st.sets(st.integers(0, 15), min_size=1),
    st.integers(0, 20),
)
def test_it_is_always_a_part_of_the_grant_and_enough_of_it(devices, granted, share):
    found = near(devices, granted, share)
    assert found <= granted
    assert len(found) >= min(share, len(granted))
    assert found


def machine(root, nodes, far):
    for node, cpus in nodes.items():
        folder = root / "sys/devices/system/node" / f"node{node}"
        folder.mkdir(parents=True)
        (folder / "cpulist").write_text(cpus + "\n")
        (folder / "distance").write_text(" ".join(map(str, far[node])) + "\n")
    return str(root)


def test_the_machine_is_read_from_its_files(tmp_path):
    root = machine(tmp_path, {0: "0-1,4", 2: "2-3", 3: ""}, {0: [10, 21, 30], 2: [21, 10, 31], 3: [30, 31, 10]})
    assert numa.nodes(root) == {0: frozenset({0, 1, 4}), 2: frozenset({2, 3}), 3: frozenset()}
    assert numa.distances(root)[2] == {0: 21, 2: 10, 3: 31}
    assert numa.nodes(str(tmp_path / "none")) == {}
    assert numa.distances(str(tmp_path / "none")) == {}
    (tmp_path / "proc/self").mkdir(parents=True)
    (tmp_path / "proc/self/status").write_text("Name:\tx\nMems_allowed:\t5\nMems_allowed_list:\t0,2\n")
    assert numa.allowed_nodes(root) == {0, 2}
