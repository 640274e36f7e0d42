"""A driver that is killed goes on where its journal ends; a value comes back as it was."""

from __future__ import annotations

import errno
import os
import struct
import zlib
from functools import partial
from pathlib import Path

import numpy
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from unit.test_tune_engine import Driven
from unit.tune_simulator import Fifo, Plan, Search, World, plan_of

from hpc.runs.checkpoint import Checkpoint
from hpc.tune import events, records
from hpc.tune.engine import Engine
from hpc.tune.error import TuneError
from hpc.tune.history import History
from hpc.tune.journal import FILE, MAGIC, STATE_FILE, Journal, Unreadable, decode, encode, load_states, parse, read
from hpc.tune.resume import resume
from hpc.tune.retention import Rule
from hpc.tune.settings import Settings
from hpc.tune.stopper import MaximumIterationStopper
from hpc.tune.trial import Trial


def stored(record):
    return decode(encode(record))


def added(name="t0", **config):
    return records.Added(1.0, name, config, {}, "tag", None, None, None)


def test_a_config_comes_back_as_it_was():
    config = {
        "a": (1, 2),
        "b": {3: {4}},
        "f": numpy.float64(0.5),
        "n": 1 << 70,
        "deep": [{"x": (1,)}],
        "g": partial(max, 1),
    }
    found = stored(added(**config)).config
    assert found["g"](0) == 1
    found.pop("g"), config.pop("g")
    assert found == config and type(found["a"]) is tuple and type(found["f"]) is numpy.float64
    plain = {"lr": 0.1, "layers": [1, 2], "act": None, "on": True}
    assert stored(added(**plain)).config == plain and b"cloudpickle" not in encode(added(**plain))


def test_a_result_comes_back_as_numbers_and_without_what_the_engine_sets():
    metrics = {
        "loss": numpy.float32(0.5), "n": numpy.int64(3), "nan": float("nan"), "eval": {"acc": 0.1}, "config": {"lr": 1},
        "array": numpy.arange(3), "trial_id": "t0",
    }  # fmt: skip
    found = stored(records.Result(1.0, "t0", metrics, "CONTINUE")).metrics
    assert found["loss"] == 0.5 and type(found["loss"]) is float and type(found["n"]) is int
    assert found["nan"] != found["nan"] and found["array"].tolist() == [0, 1, 2]
    assert "config" not in found and "trial_id" not in found and "config" in metrics
    assert stored(records.Result(1.0, "t0", {1: 1 << 70}, "STOP")).metrics == {1: 1 << 70}


def test_an_error_comes_back_as_itself_or_as_its_text():
    class Local(Exception):
        def __init__(self, one, two):
            super().__init__(f"{one} and {two}")

    assert isinstance(stored(records.Failure(1.0, "t0", KeyError("x"), 1)).error, KeyError)
    found = stored(records.Failure(1.0, "t0", Local(1, 2), 1)).error
    assert isinstance(found, TuneError) and str(found) == "Local: 1 and 2"


def test_a_value_that_cannot_be_pickled_does_not_end_the_journal():
    found = stored(added(lock=os.scandir(".")))
    assert isinstance(found.config, Unreadable) and "could not be pickled" in repr(found.config)


def lines(*found):
    data = bytearray(MAGIC)
    for record in found:
        payload = encode(record)
        data += struct.pack("<II", len(payload), zlib.crc32(payload)) + payload
    return bytes(data)


def test_a_torn_end_is_ignored_and_overwritten(tmp_path):
    path = tmp_path / FILE
    whole = lines(added("t0"), added("t1"))
    for cut in range(len(lines(added("t0"))), len(whole)):
        path.write_bytes(whole[:cut])
        assert [record.trial_id for _, record in read(str(path))] == ["t0"]
    with_one = Journal(str(path))
    with_one.write(added("t2"))
    with_one.close()
    assert [record.trial_id for _, record in read(str(path))] == ["t0", "t2"]


def test_damage_amid_the_journal_is_said_and_loses_nothing(tmp_path):
    path = tmp_path / FILE
    data = bytearray(lines(added("t0"), added("t1"), added("t2")))
    data[len(lines(added("t0"))) + 20] ^= 1
    path.write_bytes(data)
    with pytest.raises(TuneError, match=f"damaged at byte {len(lines(added('t0')))}"):
        Journal(str(path))
    assert path.read_bytes() == data
    path.write_bytes(b"something else")
    with pytest.raises(TuneError, match="no journal"):
        list(read(str(path)))


def test_a_journal_has_one_driver_at_a_time(tmp_path):
    one = Journal(str(tmp_path / FILE))
    with pytest.raises(TuneError, match="another driver"):
        Journal(str(tmp_path / FILE))
    one.close()
    Journal(str(tmp_path / FILE)).close()


def test_a_full_disk_is_said(tmp_path, monkeypatch):
    one = Journal(str(tmp_path / FILE))

    def full(*args):
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "write", full)
        one.write(added())
        with pytest.raises(TuneError, match="No space left"):
            one.commit(False)
    one.close()


def test_states_are_kept_once_the_journal_is_on_disk_that_far(tmp_path):
    one = Journal(str(tmp_path / FILE))
    end = one.write(added())
    one.keep({"scheduler": {"rung": (1, 2)}, "odd": os.scandir(".")})
    one.commit(True)
    assert one.synced == end
    one.close()
    assert load_states(str(tmp_path / STATE_FILE)) == (end, {"scheduler": {"rung": (1, 2)}})
    (tmp_path / STATE_FILE).write_bytes((tmp_path / STATE_FILE).read_bytes()[:-1])
    assert load_states(str(tmp_path / STATE_FILE)) == (0, {})


# ---------------------------------------------------------------- going on


def facts_of(*driven):
    """The records that these have written, as a journal."""
    found = [command.record for one in driven for command in one.commands if isinstance(command, events.Write)]
    return list(parse(lines(*found), "the journal"))


def again(*driven, scheduler=None, stopper=None, policy=None, **options):
    """An engine that goes on."""
    one = Driven.__new__(Driven)
    one.now, one.rooms, one.commands = 200.0, 9, []
    one.scheduler, one.search = scheduler or Fifo(), Search(Plan(trials=2), None)
    one.engine = Engine(Settings("train", **options), one.scheduler, one.search, stopper)
    one.history = resume(one.engine, facts_of(*driven), one.now, new_id=lambda: "new", **(policy or {}))
    return one.tell(events.Exhausted())


def half_done():
    """t0 has failed, t1 runs with a checkpoint, t2 has ended."""
    one = Driven(trials=3, root="/x")
    one.tell(events.Failed("t0", RuntimeError("boom"))).report("t1", checkpoint="/x/t1/c0", a=1)
    return one.report("t2", a=2, done=True)


def test_what_has_ended_has_ended_and_the_rest_goes_on_from_its_checkpoint():
    one = again(half_done(), root="/y")
    assert [(c.trial_id, c.checkpoint.path) for c in one.of(events.Start)] == [("t1", "/y/t1/c0")]
    assert one.trial("t0").status == Trial.ERROR and isinstance(one.trial("t0").error, RuntimeError)
    assert one.trial("t2").last_result["a"] == 2 and one.trial("t2").metric_analysis["a"]["max"] == 2
    assert set(one.search.told) == {"t0", "t2"}


def test_each_status_has_its_way_to_go_on():
    one = again(half_done(), policy={"errored": "resume", "finished": "restart", "unfinished": "skip"})
    assert {c.trial_id for c in one.of(events.Start)} == {"t0", "new"}
    assert one.trial("t1").status == Trial.TERMINATED and one.trial("t2") is None
    twice = again(half_done(), one, policy={"errored": "skip"})
    assert {c.trial_id for c in twice.of(events.Start)} == {"t0", "new"}
    assert twice.trial("t0").error is not None and twice.trial("t2") is None


def test_longer_training_goes_on_where_the_shorter_one_stopped():
    one = Driven(stop={"a": 2}, root="/x")
    one.report(checkpoint="/x/c", a=2).tell(events.Stopped("t0"))
    assert not again(one, stop={"a": 2}).of(events.Start)
    assert again(one, stop={"a": 3}, root="/x").of(events.Start)[0].checkpoint.path == "/x/c"


def test_what_a_failure_has_cut_off_goes_on():
    one = Driven(trials=2, fail_fast=True)
    one.tell(events.Failed("t0", RuntimeError("boom")))
    assert one.trial("t1").status == Trial.TERMINATED
    assert [c.trial_id for c in again(one).of(events.Start)] == ["t1"]


def test_a_stopper_goes_on_where_it_was():
    one = Driven()
    one.report(a=1).report(a=2)
    two = again(one, stopper=MaximumIterationStopper(3))
    two.report(a=3)
    assert two.trial().status == Trial.TERMINATED


def test_the_rest_of_the_time_budget_is_left():
    one = Driven(time_budget_s=10.0)
    one.tell(after=7).report(a=1)
    two = again(one, time_budget_s=10.0)
    assert not two.tell(after=2).of(events.Stop) and two.tell(after=2).of(events.Stop)


def test_the_time_between_two_drivers_is_not_counted_and_names_stay():
    one = Driven(root="/x", name=lambda trial: setattr(trial, "path", f"/x/{trial.trial_id}_dir"))
    two = again(one, root="/moved")
    assert two.trial().path == "/moved/t0_dir" and two.engine.used_s == 0


def test_a_clone_keeps_its_config_and_the_checkpoint_that_it_borrows():
    from unit.test_tune_engine import Cloning

    one = Driven(trials=2, saves=True, scheduler=Cloning(), retention=Rule(1))
    one.report("t0", a=1).report("t1", a=0).tell(events.Saved("t0", Checkpoint("/x/1")))
    one.report("t0", a=2).tell(events.Saved("t0", Checkpoint("/x/2")))
    two = again(one, saves=True, scheduler=Cloning(), retention=Rule(1))
    assert two.trial("t1").config == {"n": "new"} and two.trial("t1").checkpoint.path == "/x/1"
    two.report("t1", a=3)  # it is cloned again, and does not need the old one any more
    assert [c.checkpoint.path for c in two.of(events.Delete)] == ["/x/1"]


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10**6), st.floats(0, 0.3))
def test_any_kill_leaves_the_same_trials(seed, kill):
    """The same experiment with and without kills: each trial ends, and its last step is the same."""
    plan = plan_of(seed)
    plan.wild, plan.scheduler, plan.fail = False, Fifo, 0.0
    ends = []
    for plan.kill in (0.0, kill):
        world = World(seed, plan).run()
        ends.append({trial.trial_id: (trial.status, trial.config) for trial in world.engine.get_trials()})
        assert all(trial.last_result["training_iteration"] >= plan.length for trial in world.engine.get_trials())
    assert ends[0] == ends[1]


def test_results_can_be_read_by_trial():
    history = History("/x", keep_results=True)
    history.apply_all(facts_of(half_done()))
    assert [result["a"] for result in history.results["t1"]] == [1] and history.results["t1"][0]["config"] == {"n": 1}
    assert [trial.trial_id for trial in history.made] == ["t0", "t1", "t2"] and Path(
        history.made[1].checkpoint.path
    ).is_absolute()
