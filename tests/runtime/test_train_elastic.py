"""Runs that lose ranks and nodes, and gain some: they go on from the latest checkpoint, with the same result."""

from __future__ import annotations

import json
import os
import signal
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

import hpc
from hpc.launchers.local.group import LocalGroup
from hpc.train import (
    Checkpoint,
    ControllerError,
    Drained,
    ElasticSampler,
    FailureConfig,
    PreemptionError,
    RunConfig,
    ScalingConfig,
    TrainingFailedError,
    UserCallback,
    get_checkpoint,
    get_context,
    get_preemption_info,
    report,
)
from runtime.running import eventually, kill9, local_nodes, one_node, pid_of
from runtime.test_train import PlainTrainer, fit

SAMPLES, EPOCHS = 12, 3


class At(UserCallback):
    """Does something at reports of these numbers, and keeps what was reported."""

    def __init__(self, **actions):
        self.actions = {int(name.lstrip("n")): action for name, action in actions.items()}
        self.metrics, self.times, self.failures = [], [], []

    def after_report(self, run_context, metrics, checkpoint):
        self.metrics.append(metrics)
        self.times.append(time.monotonic())
        action = self.actions.pop(len(self.metrics), None)
        if action is not None:
            action(metrics)

    def after_exception(self, run_context, worker_exceptions):
        self.failures.append(worker_exceptions)


@contextmanager
def watched_nodes(count: int) -> Iterator[Nodes]:
    """Local nodes whose session is looked after while the driver trains, as hpc-launch does."""
    with local_nodes(count) as session:
        nodes = Nodes(session)
        try:
            yield nodes
        finally:
            nodes.stop()


class Nodes:
    def __init__(self, session):
        self.session, self.lock, self.is_over = session, threading.Lock(), False
        self.thread = threading.Thread(target=self.turn)
        self.thread.start()

    def turn(self):
        while not self.is_over:
            with self.lock:
                self.session.pump(0.01)
            time.sleep(0.01)  # a lock is not fair

    def stop(self):
        self.is_over = True
        self.thread.join()

    def kill_raylet(self, node):
        kill9(pid_of(self.session.nodes[int(node)].hello["dir"], "raylet"))

    def join(self):
        before = {node["NodeID"] for node in hpc.nodes()}
        with self.lock:
            self.session.add_group(LocalGroup(1), overrides={"num_cpus": 1, "object_store_bytes": 64 << 20})
        eventually(lambda: any(node["Alive"] and node["NodeID"] not in before for node in hpc.nodes()))

    def drain(self, node):
        with self.lock:
            self.session.drain_node(int(node), 60.0, "it is taken away")


def folder_with(**files):
    folder = tempfile.mkdtemp()
    for name, value in files.items():
        Path(folder, name).write_text(json.dumps(value))
    return Checkpoint(folder)


def all_samples(config):
    """Goes through all samples; each report has a checkpoint."""
    context, start = get_context(), get_checkpoint()
    sampler = ElasticSampler(SAMPLES)
    if start is not None:
        sampler.load_state_dict(json.loads(Path(start.path, "samples").read_text()))
    for _ in sampler.epochs(EPOCHS):
        for batch in sampler:
            sampler.step()
            checkpoint = folder_with(samples=sampler.state_dict()) if context.get_world_rank() == 0 else None
            place = {"node": hpc.get_runtime_context().get_node_id(), "pid": os.getpid()}
            report({"batch": batch, "world": context.get_world_size(), **place}, checkpoint)
    return sampler.state_dict()["carried"]


def test_an_elastic_run_shrinks_with_a_node_that_dies_and_grows_with_one_that_comes(tmp_path, capfd):
    with watched_nodes(2) as nodes:
        seen = At(n3=lambda metrics: nodes.kill_raylet(2), n6=lambda metrics: nodes.join())
        result = PlainTrainer(
            all_samples,
            train_loop_config={},
            scaling_config=ScalingConfig(num_workers=(1, 2), elastic_resize_monitor_interval_s=0.0),
            run_config=RunConfig(
                storage_path=str(tmp_path), callbacks=[seen], failure_config=FailureConfig(max_failures=1)
            ),
        ).fit()
    sizes = [metrics[0]["world"] for metrics in seen.metrics]
    assert [size for at, size in enumerate(sizes) if not at or size != sizes[at - 1]] == [2, 1, 2]
    done = [index for metrics in seen.metrics for one in metrics for index in one["batch"]]
    assert sorted(done + result.return_value) == sorted(list(range(SAMPLES)) * EPOCHS)
    said = capfd.readouterr().err
    assert "(failure 1 of at most 1)" in said
    assert "there is room for more than 1 workers\ntrain: starting again from checkpoint_0000" in said


def test_an_elastic_run_begins_with_as_many_as_fit_and_waits_for_the_least(tmp_path):
    with one_node(num_cpus=3):
        sizes = []
        for least, most in ((1, 8), (2, 2), (3, 4)):
            seen = At()
            PlainTrainer(
                all_samples,
                train_loop_config={},
                scaling_config=ScalingConfig(num_workers=(least, most)),
                run_config=RunConfig(storage_path=str(tmp_path), callbacks=[seen]),
            ).fit()
            sizes.append(seen.metrics[0][0]["world"])
        assert sizes == [3, 2, 3]
        with pytest.raises(ControllerError, match="never be room for 4 workers"):
            PlainTrainer(all_samples, train_loop_config={}, scaling_config=ScalingConfig(num_workers=(4, 8))).fit()


def weights(config):
    """Each rank's weight depends on its rank and on all steps. Rank 0 keeps those of the others in its checkpoint."""
    context, start = get_context(), get_checkpoint()
    rank, first, weight = context.get_world_rank(), 0, 1.0
    if start is not None:
        state = json.loads(Path(start.path, f"rank{rank}").read_text())
        first, weight = state["step"] + 1, state["weight"]
    for step in range(first, 9):
        weight = weight * 0.9 + (rank + 1) / (step + 1)
        place = {"node": hpc.get_runtime_context().get_node_id(), "pid": os.getpid()}
        checkpoint = folder_with(**{f"rank{rank}": {"step": step, "weight": weight}})
        report({"step": step, "weight": weight, **place}, checkpoint)


def run_weights(tmp_path, seen, name, **failure):
    PlainTrainer(
        weights,
        train_loop_config={},
        scaling_config=ScalingConfig(num_workers=2, placement_strategy="STRICT_SPREAD"),
        run_config=RunConfig(
            name=name, storage_path=str(tmp_path), callbacks=[seen], failure_config=FailureConfig(**failure)
        ),
    ).fit()
    return [[one[key] for one in metrics] for key in ("step", "weight") for metrics in seen.metrics]


def test_the_weights_are_those_of_an_undisturbed_run_whatever_dies(tmp_path):
    """Of three nodes two have ranks; a rank is killed, then the raylet of a node."""
    with watched_nodes(3) as nodes:
        undisturbed = run_weights(tmp_path, At(), "undisturbed")
        seen = At(
            n3=lambda metrics: os.kill(metrics[1]["pid"], signal.SIGKILL),
            n6=lambda metrics: nodes.kill_raylet(max(m["node"] for m in metrics)),
        )
        assert run_weights(tmp_path, seen, "disturbed", max_failures=2) == undisturbed
    assert sorted(seen.failures[0]) == [1]
    pauses = [after - before for before, after in zip(seen.times, seen.times[1:])]
    print(f"a killed rank cost {pauses[2]:.1f} s, a killed raylet {pauses[5]:.1f} s")
    assert max(pauses) < 40, "by its silence a node would be dead after 60 s"


def test_a_run_of_fixed_size_that_loses_a_node_for_good_leaves_the_rest_to_the_next_session(tmp_path, capfd):
    with watched_nodes(2) as nodes:
        seen = At(n3=lambda metrics: nodes.kill_raylet(max(m["node"] for m in metrics)))
        with pytest.raises(Drained) as ended:
            run_weights(tmp_path, seen, "fixed", max_failures=1)
        assert ended.value.code == 75
        assert "nodes were lost. In the next session the run goes on from checkpoint_000002" in capfd.readouterr().err
        with pytest.raises(ControllerError, match="never be room"):
            run_weights(tmp_path, At(), "too large from the start")


def saves_when_asked(config):
    """Only makes a checkpoint when one is asked for."""
    context, start = get_context(), get_checkpoint()
    first = int(json.loads(Path(start.path, "step").read_text())) + 1 if start is not None else 0
    for step in range(first, 40):
        if step == 10 and start is None:
            eventually(lambda: get_preemption_info() is not None)
        node, asked = hpc.get_runtime_context().get_node_id(), context.should_checkpoint()
        checkpoint = folder_with(step=step) if asked and context.get_world_rank() == 0 else None
        report({"step": step, "node": node, "asked": asked, "info": get_preemption_info()}, checkpoint)
        time.sleep(config["pause_s"])


def leave_one(tmp_path, **failure):
    """The node of a rank is taken away while it trains: the node, and what was seen."""
    gone = []
    with watched_nodes(3) as nodes:

        def take(metrics):
            gone.append(max(m["node"] for m in metrics))
            nodes.drain(gone[0])

        seen = At(n3=take)
        try:
            PlainTrainer(
                saves_when_asked,
                train_loop_config={"pause_s": 0.02},
                scaling_config=ScalingConfig(num_workers=2, placement_strategy="STRICT_SPREAD"),
                run_config=RunConfig(
                    storage_path=str(tmp_path), callbacks=[seen], failure_config=FailureConfig(**failure)
                ),
            ).fit()
        except PreemptionError as error:
            return gone[0], seen, error
    return gone[0], seen, None


def test_all_ranks_save_at_one_step_before_a_node_leaves_and_go_on_elsewhere(tmp_path, capfd):
    node, seen, error = leave_one(tmp_path)
    assert error is None
    steps = [metrics[0]["step"] for metrics in seen.metrics]
    assert steps == list(range(40)), "no step is lost"
    asked = [{m["asked"] for m in metrics} for metrics in seen.metrics]
    assert asked.count({True}) == 1, "all ranks at one step"
    assert asked.count({False}) == 39
    told = [{m["info"] and tuple(m["info"].preempted_node_ids) for m in metrics} for metrics in seen.metrics]
    assert told[asked.index({True})] == {(node,)}
    assert node not in {m["node"] for m in seen.metrics[-1]}
    assert "(pre-emption 1)" in capfd.readouterr().err


def test_nodes_that_are_taken_away_too_often_end_a_run(tmp_path):
    node, _, error = leave_one(tmp_path, max_preemption_failures=0)
    assert error is not None
    assert error.preemption_info.preempted_node_ids == [node]
    assert error.preemption_info.deadline_ms > time.time() * 1000


def saves_without_the_others(config):
    """Rank 0 saves once the other one has gone, which never comes to that report."""
    context, start = get_context(), get_checkpoint()
    if start is not None:
        return report({"from": json.loads(Path(start.path, "step").read_text())})
    report({"pids": os.getpid(), "node": hpc.get_runtime_context().get_node_id()})
    while get_preemption_info() is None:
        time.sleep(0.01)
    report({"pid": os.getpid()})
    if context.get_world_rank() == 1:
        time.sleep(1000)
    return report({"saved": True}, folder_with(step=7))


@pytest.mark.parametrize("relaxed", [True, False])
def test_the_ranks_that_are_left_save_without_those_that_went_with_their_nodes(tmp_path, relaxed):
    with watched_nodes(3) as nodes:
        seen = At(
            n1=lambda metrics: nodes.drain(metrics[1]["node"]),
            n2=lambda metrics: os.kill(metrics[1]["pid"], signal.SIGKILL),
        )
        failure = FailureConfig(max_preemption_failures=int(relaxed), relax_collectives_on_preemption=relaxed)
        run = PlainTrainer(
            saves_without_the_others,
            train_loop_config={},
            scaling_config=ScalingConfig(num_workers=2, placement_strategy="STRICT_SPREAD"),
            run_config=RunConfig(storage_path=str(tmp_path), callbacks=[seen], failure_config=failure),
        )
        if relaxed:
            assert run.fit().metrics == {"from": 7}
            assert [len(metrics) for metrics in seen.metrics] == [2, 2, 1, 2]
            return
        with pytest.raises(TrainingFailedError):
            run.fit()
        assert len(seen.metrics) == 2


def test_a_callback_that_raises_ends_the_run_as_an_error_of_the_driver(tmp_path):
    def lost(metrics):
        raise KeyError("in the callback")

    with one_node(num_cpus=1), pytest.raises(ControllerError, match="in the callback") as caught:
        fit(lambda: report({}), tmp_path, workers=1, callbacks=[At(n1=lost)])
    assert isinstance(caught.value.controller_failure, KeyError)
