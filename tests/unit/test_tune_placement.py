"""Rooms of trials: bundles as Ray has them, equal ones are equal, and what makes no room is refused."""

from __future__ import annotations

import pickle

import pytest

from hpc.tune.placement import PlacementGroupFactory, resource_dict_to_pg_factory


def test_a_dict_of_resources_is_one_bundle():
    assert resource_dict_to_pg_factory().bundles == [{"CPU": 1.0}]
    assert resource_dict_to_pg_factory({"cpu": 2, "gpu": 0.5}).bundles == [{"CPU": 2.0, "GPU": 0.5}]
    assert resource_dict_to_pg_factory({"CPU": 1, "tape": 3}).bundles == [{"tape": 3.0, "CPU": 1.0}]
    assert resource_dict_to_pg_factory({"gpu": 1}).bundles == [{"GPU": 1.0}]


def test_an_empty_first_bundle_leaves_the_trial_itself_without_resources():
    room = PlacementGroupFactory([{}, {"CPU": 2}, {"CPU": 2}], strategy="SPREAD")
    assert room.head_bundle_is_empty and room.head == {} and room.head_cpus == 0.0
    assert room.bundles == [{"CPU": 2.0}, {"CPU": 2.0}]
    assert room.required_resources == {"CPU": 4.0}
    assert not room.is_plain and PlacementGroupFactory([{"CPU": 1, "GPU": 0}]).is_plain


def test_equal_rooms_are_equal_and_can_be_sent():
    one, other = (PlacementGroupFactory([{"CPU": 1, "GPU": 1}]), PlacementGroupFactory([{"GPU": 1.0, "CPU": 1.0}]))
    assert one == other and hash(one) == hash(other)
    assert pickle.loads(pickle.dumps(one)) == one
    assert one != PlacementGroupFactory([{"CPU": 1, "GPU": 1}], strategy="SPREAD")
    assert PlacementGroupFactory([{}, {"CPU": 1}]) != PlacementGroupFactory([{"CPU": 1}])


@pytest.mark.parametrize(
    ("bundles", "strategy"),
    [([], "PACK"), ([{}], "PACK"), ([{"CPU": 1}, {}], "PACK"), ([{"CPU": -1}], "PACK"), ([{"CPU": "1"}], "PACK"),
     ([{"CPU": float("nan")}], "PACK"), ({"CPU": 1}, "PACK"), ([{"CPU": 1}], "TIGHT")],
)  # fmt: skip
def test_what_is_no_room_is_refused(bundles, strategy):
    with pytest.raises(ValueError):
        PlacementGroupFactory(bundles, strategy)
