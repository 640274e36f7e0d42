"""When ranks are to save and what comes after, how failures are counted, and which nodes are taken away."""

from __future__ import annotations

import pickle
from types import SimpleNamespace

import pytest

from hpc.runs.config import FailureConfig
from hpc.train import ControllerError, PreemptionError, PreemptionInfo, ScalingConfig, WorkerGroupError
from hpc.train.course import END_S, Course
from hpc.train.errors import WorkerStartError
from hpc.train.events import Leaving
from hpc.train.pilot import Pilot
from hpc.train.retries import Retries


def course(size=2, most=2, interval_s=60.0, named=True):
    return Course(0.0, size, most, interval_s, named)


def test_nothing_is_asked_of_a_run_that_nothing_happens_to():
    one = course()
    one.met(5.0)
    one.completed(6.0, 5.0, True)
    assert not one.must_save
    assert one.ending == ""


def test_a_session_that_ends_is_saved_and_a_run_without_a_name_goes_on_to_its_end():
    for named, ending in ((True, "drained"), (False, "")):
        one = course(named=named)
        one.drains = one.preempted = True
        assert one.must_save
        assert one.ending == ending


def test_nodes_that_are_taken_away_are_left_with_what_was_saved():
    one = course()
    one.preempted = True
    assert one.must_save
    assert one.ending == "preempted"


def test_without_a_warning_ranks_save_while_there_is_time_for_one_more_step():
    one = course()
    one.met(20.0)
    one.completed(23.0, 20.0, True)  # a step of 20 s, and 3 s to save
    for left_s, must_save in ((None, False), (43.1 + END_S, False), (42.9 + END_S, True)):
        one.left_s = left_s
        assert one.must_save is must_save
    assert one.ending == "", "there is nothing that would go on from it yet"


def test_what_is_saved_beside_the_steps_does_not_make_them_longer():
    one = course()
    one.met(1.0)
    one.met(2.0)
    one.completed(9.0, 1.0, False)  # 8 s to save, beside steps of 1 s
    one.left_s = END_S + 10.1
    assert not one.must_save
    one.left_s = END_S + 9.9
    assert one.must_save


def test_room_is_looked_for_once_in_an_interval_and_not_by_a_run_of_full_size():
    one = course(size=2, most=4, interval_s=10.0)
    assert [one.wants_to_look(now) for now in (9.9, 10.0, 15.0, 20.0)] == [False, True, False, True]
    assert not course(interval_s=0.0).wants_to_look(1.0)


def test_a_run_grows_after_it_has_saved_and_not_if_the_room_is_gone_by_then():
    one = course(size=2, most=4)
    one.found(2)
    assert not one.must_save
    one.found(9)
    assert one.must_save
    assert one.ending == "resized"
    one.found(2)
    assert one.ending == ""


def failed(count=1):
    return WorkerGroupError("it failed", {rank: ValueError("it failed") for rank in range(count)})


INFO = PreemptionInfo(5000, {"2": [1]})


def test_failures_nodes_taken_away_and_failed_starts_are_counted_apart():
    retries = Retries(FailureConfig(max_failures=1, controller_failure_limit=1, max_preemption_failures=2))
    assert retries.again(failed()) == "failure 1 of at most 1"
    assert retries.again(PreemptionError(INFO)) == "pre-emption 1 of at most 2"
    assert retries.again(failed(), preempted=True) == "pre-emption 2 of at most 2"
    assert retries.again(ControllerError(WorkerStartError("died"))) == "failed start 1 of at most 1"
    assert retries.failed_starts == 1
    for error in (failed(), PreemptionError(INFO), ControllerError(WorkerStartError("died"))):
        assert retries.again(error) == ""


def test_by_default_no_failure_is_retried_and_every_pre_emption_is():
    retries = Retries(FailureConfig())
    assert retries.again(failed()) == ""
    assert [retries.again(PreemptionError(INFO)) for _ in range(9)][-1] == "pre-emption 9"


def test_the_drivers_own_failures_are_never_retried():
    assert Retries(FailureConfig(max_failures=-1)).again(ControllerError(KeyError("in a callback"))) == ""


def test_ranks_that_are_left_have_until_the_deadline_and_the_time_of_grace(monkeypatch, capsys):
    clock = SimpleNamespace(monotonic=lambda: clock.now, time=lambda: clock.now + 1e9, now=100.0)
    monkeypatch.setattr("hpc.train.pilot.time", clock)
    ranks = [SimpleNamespace(world_rank=rank, node=str(rank)) for rank in range(3)]

    def pilot(**options):
        found = Pilot(ranks, None, ScalingConfig(num_workers=3), FailureConfig(**options), True)
        found.heard(2, Leaving(30.0))
        return found

    assert not pilot().spared(), "a death ends the attempt at once"
    for options, until_s in (({"relax_collectives_on_preemption": True}, 30), ({"preemption_grace_s": 5}, 35)):
        clock.now = 100.0
        one = pilot(**options)
        assert list(one.spared()) == [2]
        one.lost(2)
        assert one.were_preempted([0]), "what the others raise then follows from it"
        clock.now += until_s - 0.1
        one.look()
        clock.now += 0.2
        with pytest.raises(PreemptionError, match="before all ranks had saved"):
            one.look()
        with pytest.raises(PreemptionError):
            one.finished()
    pilot(preemption_grace_s=5).finished()


def test_nodes_that_are_taken_away_add_up():
    both = PreemptionInfo(None, {"10": [3, 2]}).and_also(INFO).and_also(PreemptionInfo(4000, {"2": [0]}))
    assert both == PreemptionInfo(4000, {"10": [2, 3], "2": [0, 1]})
    assert both.preempted_node_ids == ["10", "2"]
    assert both.preempted_ranks == [0, 1, 2, 3]
    assert INFO.and_also(None) == INFO


@pytest.mark.parametrize("error", [failed(2), PreemptionError(INFO, True), ControllerError(ValueError("no"))])
def test_errors_travel(error):
    again = pickle.loads(pickle.dumps(error))
    assert type(again) is type(error)
    assert str(again) == str(error)
    assert vars(again).keys() == vars(error).keys()
