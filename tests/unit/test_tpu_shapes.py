"""Topologies of TPUs: hosts, chips and the parts of a slice."""

from __future__ import annotations

import math

import pytest

from hpc.util.tpu import shapes


def test_each_topology_that_can_be_divided_is_divided_without_a_rest() -> None:
    for parent, grid in shapes.HOST_GRIDS.items():
        count = math.prod(grid)
        for part in shapes.HOST_GRIDS:
            own = shapes.grid_of(part)
            even = len(own) == len(grid) and not any(a % b for a, b in zip(grid, own))
            if part != parent and even:
                assert parent in shapes.parents_of(part, {parent})
                numbers = [shapes.part_at(place, part, parent) for place in range(count)]
                each = math.prod(own)
                assert sorted(numbers) == sorted(list(range(count // each)) * each), (part, parent)


def test_the_place_of_a_host_follows_from_its_chips() -> None:
    chips = [[2, 0], [3, 0], [2, 1], [3, 1]]  # x goes along the second axis of a topology
    assert [shapes.host_at(c, "4x4") for c in (chips, [[0, 2]], [[3, 3]])] == [1, 2, 3]
    assert shapes.host_at([[3, 0, 0]], "2x2x4") == 3 and shapes.host_at([[2, 0, 2]], "4x4x4") == 10
    with pytest.raises(ValueError, match="outside of 4x4"):
        shapes.host_at([[9, 0]], "4x4")


def test_parents_are_larger_in_each_axis_and_the_smallest_is_first() -> None:
    assert shapes.parents_of("2x4", {"16x16", "2x4", "2x2", "4x4", "2x2x4", "odd"}) == ["4x4", "16x16"]
    with pytest.raises(ValueError, match="cannot be divided"):
        shapes.parents_of("16x32", {"32x32"})


@pytest.mark.parametrize(
    ("version", "topology", "pod_type", "on_host"),
    [
        ("v4", "2x2x2", "v4-16", 4), ("v6e", "2x4", "v6e-8", 8), ("v6e", "4x4", "v6e-16", 4),
        ("v5litepod", "1x1", "v5litepod-1", 1),
    ],
)  # fmt: skip
def test_types_and_hosts(version: str, topology: str, pod_type: str, on_host: int) -> None:
    assert shapes.pod_type_of(topology, version) == pod_type and shapes.chips_per_host(topology, version) == on_host


def test_a_chip_can_count_as_several(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_TPU_RESOURCE_PER_CHIP", "2")
    assert shapes.get_tpu_worker_resources("2x2x2", "v7x") == (2, {"CPU": 1, "TPU": 8})
    monkeypatch.setenv("RAY_TPU_RESOURCE_PER_CHIP", "no")
    with pytest.raises(ValueError, match="not no"):
        shapes.get_tpu_worker_resources("2x2x2", "v7x")
