"""Room for the workers of a run: all of it or nothing, from a placement group of its own or the one around it."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

import hpc
from hpc.exceptions import SessionLostError
from hpc.launchers.local.group import LocalGroup
from hpc.train import Drained, RunConfig, ScalingConfig, UserCallback, report
from hpc.train.room import Room
from hpc.util.placement_group import placement_group, placement_group_table
from hpc.util.scheduling_strategies import PlacementGroupSchedulingStrategy
from runtime.running import eventually, local_nodes, one_node
from runtime.test_train import PlainTrainer


@hpc.remote(num_cpus=0)
class Gate:
    """Opened by the test; ranks say that they have come."""

    def __init__(self):
        self.come, self.open = [], threading.Event()

    def arrive(self, who):
        self.come.append(who)
        self.open.wait()

    def there(self):
        return list(self.come)

    def let_go(self):
        self.open.set()


def wait_there(config):
    hpc.get(config["gate"].arrive.remote(config["name"]))


def states():
    return sorted(row["state"] for row in placement_group_table().values())


def free_cpus():
    return hpc.available_resources().get("CPU", 0.0)


def test_of_two_runs_with_room_for_one_the_second_waits_and_holds_nothing(tmp_path):
    with one_node(num_cpus=3), ThreadPoolExecutor(2) as threads:
        gate = Gate.options(max_concurrency=8).remote()

        def fit(name):
            return PlainTrainer(
                wait_there,
                train_loop_config={"gate": gate, "name": name},
                scaling_config=ScalingConfig(num_workers=2),
                run_config=RunConfig(name=name, storage_path=tmp_path),
            ).fit()

        runs = [threads.submit(fit, name) for name in ("a", "b")]
        eventually(lambda: len(hpc.get(gate.there.remote())) == 2)
        eventually(lambda: states() == ["CREATED", "PENDING"])
        # Of three CPUs the run that is there has two. The other one could take the third, and does not.
        assert len(set(hpc.get(gate.there.remote()))) == 1
        assert hpc.get(hpc.remote(num_cpus=1)(lambda: "free").remote(), timeout=60) == "free"
        gate.let_go.remote()
        assert all(run.result(timeout=30).path for run in runs)
        assert sorted(hpc.get(gate.there.remote())) == ["a", "a", "b", "b"]
        assert states() == ["REMOVED", "REMOVED"]
        eventually(lambda: free_cpus() == 3)


def where():
    context = hpc.get_runtime_context()
    report({"group": context.get_placement_group_id(), "node": context.get_node_id()})


class Seen(UserCallback):
    def __init__(self):
        self.metrics = []

    def after_report(self, run_context, metrics, checkpoint):
        self.metrics = metrics


def groups_and_nodes(tmp_path, **scaling):
    """The groups and the nodes of a run's ranks."""
    seen = Seen()
    PlainTrainer(
        where,
        scaling_config=ScalingConfig(**scaling),
        run_config=RunConfig(storage_path=str(tmp_path), callbacks=[seen]),
    ).fit()
    return [m["group"] for m in seen.metrics], [m["node"] for m in seen.metrics]


@hpc.remote(num_cpus=1)
def trial(path, workers):
    return hpc.get_runtime_context().get_placement_group_id(), groups_and_nodes(path, num_workers=workers)[0]


def test_a_run_inside_of_a_group_that_captures_uses_it_if_its_workers_fit(tmp_path):
    with one_node(num_cpus=4):
        group = placement_group([{"CPU": 1}, {"CPU": 1}, {"CPU": 1}])

        def inside(workers, capture):
            strategy = PlacementGroupSchedulingStrategy(group, 0, placement_group_capture_child_tasks=capture)
            around, used = hpc.get(trial.options(scheduling_strategy=strategy).remote(tmp_path, workers), timeout=30)
            assert around == group.id.hex()
            return [one == around for one in used]

        assert inside(2, capture=True) == [True, True]
        assert inside(1, capture=False) == [False]
        # Its own CPU, and two bundles: three workers do not fit beside it, and have no room elsewhere either.
        with pytest.raises(Exception, match="never be room for 5 workers"):
            inside(5, capture=True)
        eventually(lambda: states() == ["CREATED", "REMOVED"])


def test_ranks_of_a_node_follow_one_another_however_they_are_spread(tmp_path):
    with local_nodes(2, num_cpus=2):
        groups, nodes = groups_and_nodes(tmp_path, num_workers=4, placement_strategy="SPREAD")
        assert len(set(groups)) == 1
        assert nodes in (["1", "1", "2", "2"], ["2", "2", "1", "1"])


def test_workers_wait_for_a_node_with_their_labels_and_say_so(tmp_path, capfd, monkeypatch):
    monkeypatch.setattr("hpc.train.room.PATIENCE_S", 0.0)
    labels = {"zone": "moon", "ray.io/accelerator-type": "A100"}
    with local_nodes(1, num_cpus=1) as session, ThreadPoolExecutor(2) as threads:
        with pytest.raises(Exception, match="no node has that"):
            groups_and_nodes(tmp_path, num_workers=1, accelerator_type="A100")
        session.add_group(LocalGroup(1), overrides={"num_cpus": 3, "object_store_bytes": 64 << 20, "labels": labels})
        eventually(lambda: (session.pump(0.05), len(hpc.nodes()) == 2)[1])
        assert groups_and_nodes(tmp_path, num_workers=2, accelerator_type="A100")[1] == ["2", "2"]
        assert groups_and_nodes(tmp_path, num_workers=2, label_selector={"zone": "moon"})[1] == ["2", "2"]
        each = [{"zone": "moon"}, {"zone": "!moon"}]
        assert sorted(groups_and_nodes(tmp_path, num_workers=2, label_selector=each)[1]) == ["1", "2"]
        taken = placement_group([{"CPU": 3}])
        assert taken.wait(60)
        run = threads.submit(groups_and_nodes, tmp_path, num_workers=2)
        said = "there is no room yet for 2 workers with {CPU: 1} each (PACK): its 2 bundles need {CPU: 2}"
        eventually(lambda: said in capfd.readouterr().err)
        hpc.util.remove_placement_group(taken)
        assert len(run.result(timeout=60)[1]) == 2


def test_a_run_that_waits_for_room_when_the_session_drains_goes_on_in_the_next(tmp_path):
    with local_nodes(1, num_cpus=1) as session, ThreadPoolExecutor(1) as threads:
        taken = placement_group([{"CPU": 1}])
        assert taken.wait(60)
        trainer = PlainTrainer(where, run_config=RunConfig(name="run", storage_path=str(tmp_path)))
        run = threads.submit(trainer.fit)
        eventually(lambda: states() == ["CREATED", "PENDING"])
        session.tell_head({"op": "time", "left_s": 60.0, "drain": "the test ends"})
        with pytest.raises(Drained, match="the workers are not there"):
            run.result(timeout=60)


def test_what_was_reported_is_kept_where_the_room_cannot_be_given_back(tmp_path, monkeypatch):
    """As when the session is lost, whose end every later call only repeats."""
    give_back = Room.give_back

    def lost(room):
        held = room._held is not None
        give_back(room)
        if held:
            raise SessionLostError("the session is gone")

    monkeypatch.setattr(Room, "give_back", lost)
    with one_node(), pytest.raises(SessionLostError):
        PlainTrainer(lambda: report({"a": 1}), run_config=RunConfig(name="lost", storage_path=tmp_path)).fit()
    assert (tmp_path / "lost" / "metrics.jsonl").read_text() == '{"a": 1}\n'
    assert not (tmp_path / "lost" / ".run").exists()


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"accelerator_type": 5}, "must be a string"),
        ({"label_selector": "zone"}, "must be a dict or a list"),
        ({"label_selector": {"zone": "in(moon"}}, "no condition on a label"),
        ({"num_workers": 2, "label_selector": [{"zone": "moon"}]}, "1 selectors for 2 workers"),
    ],
)
def test_conditions_that_make_no_sense_are_refused_at_once(options, text):
    with pytest.raises((TypeError, ValueError), match=text):
        ScalingConfig(**options)
