"""Checkpoints of objects with parts, callbacks by hooks, and schedules: what all parts of hpc.rllib build on."""

from __future__ import annotations

import json
import os

import pytest

from hpc.rllib.algorithms.algorithm_config import AlgorithmConfig
from hpc.rllib.callbacks.callbacks import HOOKS, RLlibCallback
from hpc.rllib.callbacks.utils import call_hook, callbacks_of, is_wanted, make_callback
from hpc.rllib.utils.annotations import override
from hpc.rllib.utils.checkpoints import Checkpointable, pack, unpack
from hpc.rllib.utils.schedules.scheduler import PiecewiseSchedule, Scheduler
from hpc.rllib.utils.serialization import NOT_SERIALIZABLE, deserialize_type, jsonable, serialize_type
from hpc.rllib.utils.test_utils import check


class Part(Checkpointable):
    def __init__(self, value=0, *, parts=None, named=5):
        self.value, self.named = value, named
        self.parts = parts or {}

    def get_state(self, components=None, *, not_components=None, **kwargs):
        state = {"value": self.value}
        for name, part in self.parts.items():
            if self._check_component(name, components, not_components):
                state[name] = part.get_state(self._get_subcomponents(name, components))
        return state

    def set_state(self, state):
        self.value = state["value"]
        for name, part in self.parts.items():
            if name in state:
                part.set_state(state[name])

    def get_ctor_args_and_kwargs(self):
        return (0,), {"parts": {name: Part() for name in self.parts}}

    def get_checkpointable_components(self):
        return list(self.parts.items())


def whole():
    return Part(1, parts={"a": Part(2), "b": Part(3, parts={"c": Part(4)})})


def values(part):
    return {"": part.value, **{name: values(inner) for name, inner in part.parts.items()}}


def test_each_part_has_a_directory(tmp_path):
    path = whole().save_to_path(tmp_path / "new" / "one")
    assert sorted(os.listdir(path)) == ["a", "b", "class_and_ctor_args.pkl", "metadata.json", "state.pkl"]
    assert json.loads((tmp_path / "new/one/b/metadata.json").read_text())["checkpoint_version"] == "2.1"
    again = Part(parts={"a": Part(), "b": Part(parts={"c": Part()})})
    again.restore_from_path(path)
    assert values(again) == values(whole())


def test_a_checkpoint_that_is_there_stays_until_the_new_one_is_whole(tmp_path):
    first = whole()
    first.save_to_path(tmp_path)
    (tmp_path / "of_the_user").touch()
    there = sorted(os.listdir(tmp_path))

    class Ends(Part):
        def save_to_path(self, *args, **kwargs):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        Part(10, parts={"a": Part(20), "b": Ends(30)}).save_to_path(tmp_path)
    again = whole()
    again.value = again.parts["a"].value = 0
    again.restore_from_path(tmp_path)
    assert values(again) == values(first) and sorted(os.listdir(tmp_path)) == there
    Part(10, parts={"a": Part(20), "b": Part(30)}).save_to_path(tmp_path)
    assert sorted(os.listdir(tmp_path)) == there and not (tmp_path / "b" / "c").exists(), "parts of before are gone"
    again.restore_from_path(tmp_path)
    assert (again.value, again.parts["b"].value) == (10, 30)


def test_what_is_not_whole_is_refused_before_anything_is_taken_up(tmp_path):
    whole().save_to_path(tmp_path)
    (tmp_path / "state.pkl").unlink()
    again = Part(parts={"a": Part(), "b": Part(parts={"c": Part()})})
    with pytest.raises(FileNotFoundError, match="no whole checkpoint"):
        again.restore_from_path(tmp_path)
    assert again.parts["a"].value == 0


def test_an_object_is_made_again_with_changed_arguments(tmp_path):
    path = whole().save_to_path(tmp_path)
    made = Part.from_checkpoint(path, named=7)
    assert (made.named, made.value, made.parts["a"].value) == (7, 1, 2)

    class Other(Part):
        pass

    with pytest.raises(ValueError, match="is no Other"):
        Other.from_checkpoint(path)


def test_one_part_is_restored_alone(tmp_path):
    source = whole().save_to_path(tmp_path)
    target = Part(9, parts={"a": Part(9), "b": Part(9, parts={"c": Part(9)})})
    target.restore_from_path(f"{source}/b/c", component="b/c")
    assert values(target) == {"": 9, "a": {"": 9}, "b": {"": 9, "c": {"": 4}}}
    with pytest.raises(ValueError, match="it has: a, b"):
        target.restore_from_path(source, component="z")


def test_a_given_state_is_written_and_what_is_not_in_it_is_not(tmp_path):
    path = whole().save_to_path(tmp_path, state={"value": 7, "a": {"value": 8}})
    assert not os.path.exists(f"{path}/b")
    again = whole()
    again.restore_from_path(path)
    assert values(again) == {"": 7, "a": {"": 8}, "b": {"": 3, "c": {"": 4}}}


def test_a_checkpoint_travels_as_files_and_to_other_file_systems(tmp_path):
    files = pack(whole())
    assert "b/c/state.pkl" in files
    unpack(files, tmp_path / "x")
    assert values(Part.from_checkpoint(tmp_path / "x"))["a"] == {"": 2}
    uri = f"file://{tmp_path}/y"
    whole().save_to_path(uri)
    assert Part.from_checkpoint(uri).value == 1


def test_what_is_no_checkpoint_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="no checkpoint"):
        Part().restore_from_path(tmp_path / "nothing")
    with pytest.raises(FileNotFoundError, match="class_and_ctor_args"):
        Part.from_checkpoint(tmp_path)
    with pytest.raises(ValueError, match="msgpack"):
        Part().save_to_path(tmp_path, use_msgpack=True)


def test_hooks_are_called_for_objects_and_then_for_functions():
    seen = []

    class First(RLlibCallback):
        def on_train_result(self, *, result, **kwargs):
            seen.append(("first", result))

    class Second(RLlibCallback):
        def on_train_result(self, **kwargs):
            seen.append(("second", sorted(kwargs)))

    config = AlgorithmConfig().callbacks([First, Second], on_train_result=[lambda result, **rest: seen.append(result)])
    call_hook("on_train_result", callbacks_of(config), config, result=1, algorithm=None)
    assert seen == [("first", 1), ("second", ["algorithm", "result"]), 1]
    make_callback("on_train_result", First(), None, kwargs={"result": 2})
    assert seen[-1] == ("first", 2)
    assert is_wanted("on_train_result", config) and not is_wanted("on_episode_step", config)
    assert is_wanted("on_episode_step", AlgorithmConfig().callbacks(on_episode_step=len))
    assert not any(is_wanted(hook, AlgorithmConfig()) for hook in HOOKS)
    for hook in HOOKS:
        getattr(RLlibCallback, hook)  # each hook is a method


def test_schedules_have_lines_between_points():
    schedule = PiecewiseSchedule([(0, 1.0), (10, 0.0), (20, 5.0)])
    assert [schedule.value(t) for t in (0, 5, 10, 15, 20, 99)] == [1.0, 0.5, 0.0, 2.5, 5.0, 5.0]
    scheduler = Scheduler([[0, 1.0], [10, 0.0]])
    assert scheduler.get_current_value() == 1.0
    assert scheduler.update(5) == 0.5 and scheduler.get_current_value() == 0.5
    assert Scheduler(0.3).update(5) == 0.3
    with pytest.raises(ValueError, match="must not fall"):
        PiecewiseSchedule([(5, 1.0), (0, 2.0)])
    with pytest.raises(ValueError, match="exactly 2 items"):
        Scheduler.validate(fixed_value_or_schedule=[[0, 1.0], [5]], setting_name="lr", description="rate")


def test_types_have_paths():
    assert deserialize_type(serialize_type(Part)) is Part
    assert deserialize_type("no.such.Class") == "no.such.Class"
    with pytest.raises(ValueError, match=r"no class 'no\.such\.Class'"):
        deserialize_type("no.such.Class", error=True)
    assert jsonable({"a": (1, {2}), "f": len, "k": Part}) == {
        "a": [1, [2]],
        "f": NOT_SERIALIZABLE,
        "k": serialize_type(Part),
    }


def test_values_are_compared_within_their_structure():
    check({"a": [1.0, (2.0,)]}, {"a": [1.000001, (2.0,)]})
    check(1.0, 2.0, false=True)
    check(1.0, 1.4, rtol=0.5)
    for x, y in (({"a": 1}, {"b": 1}), ([1], [1, 2]), (1.0, 1.1), ("x", "y"), (True, False)):
        with pytest.raises(AssertionError):
            check(x, y)
    with pytest.raises(AssertionError, match="is equal"):
        check(1.0, 1.0, false=True)


def test_override_looks_for_the_method():
    assert override(Part)(Part.set_state) is Part.set_state
    with pytest.raises(NameError):
        override(Part)(lambda: None)
