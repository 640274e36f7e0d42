"""Trials, their tags and their directories have the names that Ray gives them."""

from __future__ import annotations

from datetime import datetime

import pytest

from hpc.tune import naming
from hpc.tune.flat import flatten_dict, lookup
from hpc.tune.trial import Trial

MOMENT = datetime(2026, 11, 29, 22, 49, 57)

#: What Ray 2.60 makes of these.
TAGS = (
    ({("config", "lr"): 0.01, ("config", "opt", "momentum"): 0.9}, "lr=0.0100,momentum=0.9000"),
    (
        {
            ("config", "a"): "x/y z(1)", ("config", "b"): None, ("config", "c"): True, ("config", "d"): [1, 2],
            ("config", "e"): -3, ("config", "f"): 1e-9,
        },
        "a=x_y_z_1,b=None,c=True,d=1_2,e=-3,f=0.0000",
    ),
    ({("run",): "x", ("config", "x.y"): "__a__"}, "x_y=a,run=x"),
    ({("config", "z", 0): 1.5, ("config", "a"): 2}, "a=2,0=1.5000"),
    ({("config", "n"): float("nan")}, "n=nan"),
    ({("config", "weird"): "äöü"}, "weird="),
    ({}, ""),
)  # fmt: skip


@pytest.mark.parametrize(("sampled", "text"), TAGS)
def test_a_tag_names_what_was_sampled(sampled, text):
    assert naming.values_text(sampled) == text
    assert naming.experiment_tag(7, sampled) == (f"7_{text}" if sampled else "7")


def test_a_path_may_be_a_text():
    assert naming.values_text({"opt/momentum": 0.9, "lr": 0.01}) == "lr=0.0100,momentum=0.9000"


def test_a_directory_is_named_by_name_tag_and_date_within_a_length():
    name = naming.trial_dirname("train_32bea_00000", "0_lr=0.0100,momentum=0.9000", MOMENT)
    assert name == "train_32bea_00000_0_lr=0.0100,momentum=0.9000_2026-11-29_22-49-57"
    long = naming.trial_dirname("t", "x" * 200, MOMENT)
    assert long == f"t_{'x' * 128}_2026-11-29_22-49-57"
    assert naming.trial_dirname("t", "a(b):c", MOMENT, 5) == "t_a_b_2026-11-29_22-49-57"
    assert naming.experiment_dirname("train", MOMENT) == "train_2026-11-29_22-49-57"
    assert naming.experiment_dirname("train", None) == "train"


def test_ids_and_names_of_trials():
    assert naming.numbered_id("32bea", 12) == "32bea_00012"
    for config in ({}, {"env": "a/b"}, {"env": dict}):
        trial = Trial("train", trial_id="32bea_00012", config=config)
        assert str(trial) == naming.trial_name("train", config, "32bea_00012")
    assert naming.trial_name("train", {"env": "a/b"}, "1") == "train_a_b_1"
    assert naming.checkpoint_dirname(3) == "checkpoint_000003"


@pytest.mark.parametrize("wrong", ["a/b", "", "..", None])
def test_a_directory_of_the_users_is_one_name(wrong):
    with pytest.raises(ValueError, match="trial_dirname_creator"):
        naming.custom_dirname(wrong)


def test_a_directory_of_the_users_has_no_character_that_means_something():
    assert naming.custom_dirname("a:b") == "a_b"


def test_nested_values_are_flat_in_the_order_of_their_levels_as_under_ray():
    nested = {"a": 1, "b": {"x": 1, "y": {"z": 2, "w": 3}, "v": 4}, "c": {"q": {"r": {"s": 1}}}, "d": 2, "e": {}}
    flat = {"a": 1, "d": 2, "b/x": 1, "b/v": 4, "b/y/z": 2, "b/y/w": 3, "c/q/r/s": 1}
    assert list(flatten_dict(nested).items()) == list(flat.items())
    assert lookup("b/y/z", nested) == 2 and lookup("b/nothing", nested) is None
    assert lookup("l/1/x", {"l": [0, {"x": 5}]}) == 5 and lookup("l/9", {"l": []}, "none") == "none"
    assert lookup("a/b", {"a/b": 1}) == 1 and lookup("a/b", {"a": "text"}) is None
