"""The engine of an experiment: every trial ends once, whatever fails, waits or goes away."""

from __future__ import annotations

import os

import pytest
from unit import tune_simulator
from unit.tune_simulator import Fifo, Plan, Search, World

from hpc.runs.checkpoint import Checkpoint
from hpc.tune import events, records
from hpc.tune.engine import Engine
from hpc.tune.error import TrialDrained, TuneError
from hpc.tune.resume import resume
from hpc.tune.retention import Rule
from hpc.tune.settings import Settings
from hpc.tune.trial import Trial

SEEDS = int(os.environ.get("HPC_TEST_TUNE_SEEDS", "300"))


class Driven:
    """An engine by hand: trials t0, t1, ... with rooms as they are asked for."""

    def __init__(self, trials: int = 1, scheduler=None, rooms: int = 9, **settings):
        self.rooms = rooms
        self.now = 100.0
        self.scheduler = scheduler or Fifo()
        self.search = Search(Plan(), None)
        self.settings = settings
        self.engine = Engine(Settings("train", **settings), self.scheduler, self.search)
        self.commands: list[events.Command] = []
        self.tell(events.Suggested([events.Suggestion(f"t{n}", {"n": n}) for n in range(trials)]), events.Exhausted())

    def tell(self, *found, after=0.0):
        self.now += after
        new = self.engine.step(found, self.now)
        self.commands += new
        rooms = [events.Reserved(c.reservation) for c in new if isinstance(c, events.Reserve)][: self.rooms]
        self.rooms -= len(rooms)
        starts = [events.Started(c.trial_id, 1, "host", "ip") for c in new if isinstance(c, events.Start)]
        if rooms or starts:
            self.tell(*rooms, *starts)
        return self

    def report(self, name="t0", checkpoint=None, **metrics):
        return self.tell(events.Reported(name, metrics, Checkpoint(checkpoint) if checkpoint else None))

    def of(self, kind):
        return [command for command in self.commands if isinstance(command, kind)]

    def trial(self, name="t0"):
        return self.engine.get_trial(name)


@pytest.mark.parametrize("first", range(0, SEEDS, 50))
def test_each_trial_ends_once_whatever_happens(first):
    for seed in range(first, min(first + 50, SEEDS)):
        try:
            tune_simulator.check(seed)
        except AssertionError as error:
            raise AssertionError(f"seed {seed}: {error}") from error


def test_a_trial_that_reaches_the_bound_of_a_nested_metric_stops():
    one = Driven(stop={"eval/acc": 0.9})
    one.report(eval={"acc": 0.5})
    assert [type(c) for c in one.commands[-1:]] == [events.Continue]
    one.report(eval={"acc": 0.9})
    assert one.trial().status == Trial.TERMINATED and one.trial().last_result["done"]
    one.tell(events.Stopped("t0"))
    assert one.of(events.End)[0].ending == "finished" and one.engine.rooms.empty


def test_a_failed_trial_runs_again_from_its_checkpoint_behind_the_others():
    one = Driven(trials=2, max_failures=1)
    one.report(checkpoint="/x/1", a=1).tell(events.Failed("t0", RuntimeError("boom")))
    assert one.trial().status == Trial.PENDING and [t.trial_id for t in one.engine.get_trials()] == ["t1", "t0"]
    one.tell(events.Stopped("t0"))
    assert one.of(events.Start)[-1].trial_id == "t0" and one.of(events.Start)[-1].checkpoint == Checkpoint("/x/1")
    one.tell(events.Failed("t0", RuntimeError("boom")))
    assert one.trial().status == Trial.ERROR and one.trial().num_failures == 2


def test_a_node_that_is_taken_away_is_not_counted():
    one = Driven()
    for _ in range(3):
        (room,) = one.engine.rooms.used
        one.tell(events.ReservationLost(room, "its node is gone", preempted=True))
        assert one.trial().num_failures == 0 and one.trial().status == Trial.RUNNING


def test_a_room_is_given_to_the_next_trial_of_its_shape():
    one = Driven(trials=3, rooms=1)
    one.report(done=True).tell(events.Stopped("t0"))
    assert [(c.trial_id, c.reservation) for c in one.of(events.Start)] == [("t0", 1), ("t1", 1)]
    assert [c.reservation for c in one.of(events.Release)] == [3]  # two trials are left, and one has a room


def test_the_first_failure_ends_all_where_that_is_asked_for():
    one = Driven(trials=2, fail_fast=True)
    boom = RuntimeError("boom")
    one.tell(events.Failed("t0", boom))
    assert one.trial("t1").status == Trial.TERMINATED
    one.tell(events.Stopped("t0"), events.Stopped("t1"))
    assert one.of(events.End) == [events.End("failed", boom)]


def test_a_result_without_the_metric_ends_the_experiment_and_says_so():
    one = Driven(metric="loss")
    one.report(done=False)  # nothing of the user's: it has not reported yet
    with pytest.raises(TuneError, match=r"no 'loss', .*It reported acc"):
        one.report(acc=1, time_total_s=1.0)
    assert not list(one.engine.last_facts([])), "it does not count"


def test_shapes_that_no_node_has_fail_their_trials_only():
    one = Driven()
    one.engine.step([], 0)
    big = events.Suggested([events.Suggestion("big", {}, resources=("gpu", 8))])
    one.engine._exhausted = False
    one.engine.step([big], 1)
    one.tell(events.Unschedulable(("gpu", 8), "no node has 8 GPUs"))
    assert one.trial("big").status == Trial.ERROR and "8 GPUs" in str(one.trial("big").error)
    assert one.trial("t0").status == Trial.RUNNING


def test_a_pause_saves_and_the_room_goes_to_the_next():
    class Pausing(Fifo):
        def on_trial_result(self, controller, trial, result):
            return "PAUSE"

    one = Driven(saves=True, scheduler=Pausing())
    one.report(a=1)
    assert isinstance(one.commands[-1], events.Save) and one.trial().is_saving
    one.tell(events.Saved("t0", Checkpoint("/x/1")))
    assert one.trial().status == Trial.PAUSED and not one.trial().is_saving
    one.tell(events.Stopped("t0"))
    assert one.of(events.Start)[-1].checkpoint == Checkpoint("/x/1")


def test_checkpoints_are_made_as_often_as_asked_and_at_the_end():
    one = Driven(saves=True, checkpoint_frequency=2, checkpoint_at_end=True, retention=Rule(1))
    one.report(training_iteration=1)
    assert not one.of(events.Save)
    one.report(training_iteration=2)
    one.tell(events.Saved("t0", Checkpoint("/x/1"))).report(training_iteration=3, done=True)
    assert len(one.of(events.Save)) == 2 and one.trial().status == Trial.RUNNING
    one.tell(events.Saved("t0", Checkpoint("/x/2")))
    assert one.trial().status == Trial.TERMINATED and one.of(events.Delete) == [events.Delete(Checkpoint("/x/1"))]


class Cloning(Fifo):
    """The trial t0 saves; t1 becomes its clone."""

    def on_trial_result(self, controller, trial, result):
        donor = controller.get_trial("t0")
        if trial is donor:
            controller.save_trial(donor)
        elif controller.exploit(trial, donor, {"n": "new"}, "clone"):
            assert trial.status == Trial.PAUSED
            return "NOOP"
        return "CONTINUE"


def test_a_clone_waits_for_the_checkpoint_of_its_donor_and_keeps_it_from_being_deleted():
    one = Driven(trials=2, saves=True, scheduler=Cloning(), retention=Rule(1))
    one.report("t0", a=1).report("t1", a=0)
    assert not one.of(events.Stop)  # it is not known yet from what t1 would go on
    one.tell(events.Saved("t0", Checkpoint("/x/1")))
    assert one.of(events.Stop) == [events.Stop("t1")]
    one.report("t0", a=2).tell(events.Saved("t0", Checkpoint("/x/2")), events.Stopped("t1"))
    assert one.of(events.Start)[-1].config == {"n": "new"} and one.of(events.Start)[-1].checkpoint.path == "/x/1"
    assert not one.of(events.Delete)


def test_a_clone_goes_on_as_it_was_where_its_donor_could_not_save():
    one = Driven(trials=2, saves=True, scheduler=Cloning(), max_failures=-1)
    one.report("t0", a=1).report("t1", a=0).tell(events.SaveFailed("t0", OSError("disk full")))
    assert one.of(events.Continue)[-1] == events.Continue("t1")
    assert one.trial("t1").status == Trial.RUNNING and one.trial("t1").config == {"n": 1}


def test_near_the_end_of_the_session_classes_save_and_functions_are_told():
    one = Driven(trials=2, saves=True)
    one.tell(events.WindDown("walltime", until=200.0)).report("t0", a=1)
    one.tell(events.Saved("t0", Checkpoint("/x/1")), events.Stopped("t0"))
    assert one.trial("t0").status == Trial.PENDING and not one.of(events.End)
    one.tell(after=100)
    assert one.of(events.Stop)[-1] == events.Stop("t1")
    one.tell(events.Stopped("t1"))
    assert one.of(events.End)[0].ending == "suspended"
    one = Driven()
    one.tell(events.WindDown("walltime", until=200.0))
    assert one.of(events.Warn) == [events.Warn("t0")]
    one.report(a=1)
    assert isinstance(one.commands[-1], events.Continue)
    one.report(checkpoint="/x/1", a=2)
    assert isinstance(one.commands[-1], events.Stop)


def test_a_trial_whose_trainer_drains_is_for_the_next_session():
    one = Driven(trials=3, rooms=2)
    drained = events.Failed("t0", TrialDrained("the session drains"), preempted=False)
    one.tell(events.WindDown("walltime", until=200.0)).tell(drained, events.Stopped("t0"))
    assert one.trial("t0").status == Trial.PENDING and one.trial("t0").num_failures == 0
    assert not {"error", "recover"} & {note.kind for note in one.of(events.Note)}
    assert [start.trial_id for start in one.of(events.Start)] == ["t0", "t1"], "nothing new begins"
    one.tell(events.Returned("t1")).tell(events.Stopped("t1"))
    assert one.trial("t1").status == Trial.TERMINATED
    assert one.of(events.End)[0].ending == "suspended"


def test_the_time_budget_stops_all():
    one = Driven(trials=2, time_budget_s=10.0)
    one.tell(after=9)
    assert not one.of(events.Stop)
    one.tell(after=2).tell(events.Stopped("t0"), events.Stopped("t1"))
    assert one.of(events.End)[0].ending == "stopped" and one.trial().status == Trial.TERMINATED


def test_a_pause_has_an_end_though_the_scheduler_wants_nothing():
    class Declining(Fifo):
        def on_trial_result(self, controller, trial, result):
            return "PAUSE" if result["a"] == 1 else "CONTINUE"

        def choose_trial_to_run(self, controller):
            return None

    one = Driven(scheduler=Declining())
    one.report(a=1).tell(events.Stopped("t0"))
    assert one.trial().status == Trial.RUNNING


def test_a_world_at_rest_ends_as_soon_as_its_trials():
    world = World(1, Plan(trials=3, rooms=1)).run()
    assert world.ended.ending == "finished" and {kind for kind, _ in world.notes} >= {
        "add",
        "start",
        "result",
        "complete",
    }


class Raising(Fifo):
    """Raises an error on the first result of t0, and on each end of a trial."""

    def __init__(self):
        self.seen = []

    def on_trial_result(self, controller, trial, result):
        if trial.trial_id == "t0":
            raise KeyError("a mistake")
        self.seen.append(trial.trial_id)
        return "CONTINUE"


def resumed(one: Driven, *unheard: events.Event, scheduler) -> Engine:
    """The experiment as another driver finds it, whose scheduler is told of what this one's was not."""
    facts = [command.record for command in one.of(events.Write)] + list(one.engine.last_facts(unheard))
    engine = Engine(Settings("train", **one.settings), scheduler, Search(Plan(), None))
    resume(engine, enumerate(facts, 1), 200.0)
    return engine


def test_an_error_of_a_scheduler_loses_nothing_that_was_told_with_it():
    one = Driven(trials=6, scheduler=Raising(), max_failures=1, stop={"a": 9})
    told = [
        events.Reported("t1", {"a": 1}, Checkpoint("/x/1")), events.Reported("t0", {"a": 2}),
        events.Reported("t1", {"a": 3}, Checkpoint("/x/2")), events.Reported("t2", {"a": 4}), events.Returned("t2"),
        events.Failed("t3", RuntimeError("boom")), events.Reported("t4", {"a": 9}),
    ]  # fmt: skip
    with pytest.raises(KeyError):
        one.tell(*told)
    scheduler = Raising()
    engine = resumed(one, events.Reported("t5", {"a": 5}), scheduler=scheduler)
    trials = [engine.get_trial(f"t{n}") for n in range(6)]
    assert [trial.last_result.get("a") for trial in trials] == [2, 3, 4, None, 9, 5]
    assert trials[1].checkpoint == Checkpoint("/x/2") and trials[3].num_failures == 1
    assert [trial.status for trial in trials] == [
        "PENDING",
        "PENDING",
        "TERMINATED",
        "PENDING",
        "TERMINATED",
        "PENDING",
    ]
    assert scheduler.seen == ["t1", "t1", "t2", "t5"], "that at which the error was raised is not told again"


def test_an_error_at_the_end_of_a_trial_leaves_it_ended():
    class AtTheEnd(Fifo):
        def on_trial_complete(self, controller, trial, result):
            raise KeyError("a mistake")

        def on_trial_error(self, controller, trial):
            raise KeyError("a mistake")

    for told, status in [(events.Returned("t0"), "TERMINATED"), (events.Failed("t0", RuntimeError("boom")), "ERROR")]:
        one = Driven(trials=2, scheduler=AtTheEnd())
        with pytest.raises(KeyError):
            one.tell(told)
        assert [trial.status for trial in resumed(one, scheduler=Fifo()).get_trials()] == [status, "PENDING"]


def test_all_that_is_told_with_the_failure_that_ends_an_experiment_is_recorded():
    one = Driven(trials=3, fail_fast=True)
    one.tell(events.Failed("t0", RuntimeError("boom")), events.Reported("t1", {"a": 1}), events.Returned("t2"))
    written = [command.record for command in one.of(events.Write)]
    assert [record.trial_id for record in written if isinstance(record, records.Result)] == ["t1"]
    ends = {record.trial_id: record for record in written if isinstance(record, records.Changed)}
    assert {name: (end.status, end.interrupted) for name, end in ends.items()} == {
        "t0": ("ERROR", False), "t1": ("TERMINATED", True), "t2": ("TERMINATED", False)
    }  # fmt: skip
