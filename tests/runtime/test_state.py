"""The state API, the timeline and the commands that look into a session."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

import hpc
from hpc.util import placement_group, remove_placement_group, state
from hpc.util.state import selecting
from runtime.running import eventually, local_nodes, one_node


@pytest.fixture
def session(no_leaks: None) -> Iterator[None]:
    with one_node():
        yield


def wait_for_file(path: Path) -> None:
    while not path.exists():
        time.sleep(0.002)


@hpc.remote
def hold(path):
    wait_for_file(path)
    return 1


@hpc.remote
def add(a, b):
    return a + b


@hpc.remote
def fails():
    raise ValueError("on purpose")


@hpc.remote
class Counter:
    def __init__(self, start):
        self.value = start

    def add(self, by):
        self.value += by
        return self.value

    def crash(self):
        os._exit(1)


def task(ref) -> state.Row:
    return state.get_task(ref.hex())


def test_tasks_and_why_they_wait(session, tmp_path):
    running = [hold.remote(tmp_path / "go") for _ in range(2)]
    eventually(lambda: all(task(ref).state == "RUNNING" for ref in running))
    queued = hold.remote(tmp_path / "go")
    waiting = add.remote(queued, 1)
    impossible = add.options(resources={"unicorn": 1}).remote(1, 2)
    assert task(queued).state == "PENDING_NODE_ASSIGNMENT"
    eventually(lambda: "CPU: 1 free" in task(queued).why)
    assert task(waiting).state == "PENDING_ARGS_AVAIL"
    assert f"{queued.hex()} (made by hold)" in task(waiting).why
    eventually(lambda: "no node of the session can run it" in task(impossible).why)
    assert "unicorn" in task(impossible).why
    (tmp_path / "go").touch()
    assert hpc.get(waiting) == 2
    done = task(waiting)
    assert done.state == "FINISHED" and done.name == "add" and done.end_time_ms >= done.start_time_ms
    with pytest.raises(ValueError, match="on purpose"):
        hpc.get(fails.remote())
    assert [row.name for row in state.list_tasks(filters=[("state", "=", "FAILED")])] == ["fails"]
    hpc.get(running)
    summary = state.summarize_tasks()["cluster"]
    counted = {"func_or_class_name": "hold", "type": "NORMAL_TASK", "state_counts": {"FINISHED": 3}}
    assert summary["summary"]["hold"] == counted and summary["total_actor_tasks"] == 0
    assert summary["total_tasks"] == sum(sum(g["state_counts"].values()) for g in summary["summary"].values())
    with pytest.raises(TypeError, match="no option limt"):
        state.list_tasks(limt=5)
    with pytest.raises(ValueError, match="a filter is"):
        state.list_tasks(filters=[("state", ">", "A")])


KINDS = {
    "actors": selecting.ACTORS, "events": selecting.EVENTS, "jobs": selecting.JOBS,
    "nodes": selecting.NODES, "objects": selecting.OBJECTS, "placement_groups": selecting.GROUPS,
    "tasks": selecting.TASKS, "workers": selecting.WORKERS,
}  # fmt: skip


def test_each_plain_field_of_a_row_can_be_filtered_by(session, tmp_path):
    counter = Counter.options(name="it").remote(1)
    hpc.get([counter.add.remote(1), add.options(name="named").remote(1, 2)])
    group = placement_group([{"CPU": 1}])
    waiting = hold.remote(tmp_path / "go")
    for kind, fields in KINDS.items():
        rows = getattr(state, f"list_{kind}")()
        plain = {name for row in rows for name, value in row.items() if isinstance(value, (str, bool, int, float))}
        assert rows and plain <= set(fields.names()), kind
        for name in plain:
            value = next(row[name] for row in rows if name in row)
            found = getattr(state, f"list_{kind}")(filters=[(name, "=", value)])
            assert found or name in ("end_time_ms", "start_time_ms", "why"), (kind, name)
    (tmp_path / "go").touch()
    hpc.get(waiting)
    remove_placement_group(group)


@pytest.mark.parametrize("kind", KINDS)
def test_a_filter_on_an_unknown_field_names_the_known_ones(kind):
    known = ", ".join(KINDS[kind].names())
    with pytest.raises(state.exception.RayStateApiException, match=f"no field 'colour'.*{known}"):
        getattr(state, f"list_{kind}")(filters=[("colour", "=", "red")])


def test_filters_and_limits_that_mean_nothing_are_refused():
    """No session is asked: what is wrong is known before."""
    wrong = state.exception.RayStateApiException
    for filters, kind, text in (
        ([("state", "=", "NONSENSE")], wrong, "no state 'NONSENSE'; there are: .*ALIVE"),
        ([("pid", "=", "abc")], wrong, "pid is a number"),
        ([("is_detached", "=", "maybe")], wrong, "is_detached is true or false"),
        ([("name", ">", "a")], ValueError, "a filter is"),
        ([("name", "a")], ValueError, "a filter is"),
        (("name", "=", "a"), ValueError, "a filter is"),
        ("name=a", ValueError, "filters are a list"),
        ([("name", "=", None)], ValueError, "a text or number"),
    ):
        with pytest.raises(kind, match=text):
            state.list_actors(filters=filters)
    for limit in (-1, 10_001):
        with pytest.raises(wrong, match="from 0 to 10,000"):
            state.list_actors(limit=limit)
    for limit in (None, 2.5, "many"):
        with pytest.raises(ValueError, match="a whole number"):
            state.list_actors(limit=limit)
    assert not hpc.is_initialized()


def test_filters_take_names_in_any_case_and_numbers_as_text():
    rows = [{"name": "Box", "pid": 7, "is_detached": True}, {"name": "", "pid": 8, "is_detached": False}]

    def chosen(*filters, limit=10):
        return [row.pid for row in selecting.Selection(selecting.ACTORS, filters, limit).of(rows)]

    assert chosen(("NAME", "=", "box")) == [7] == chosen(("pid", "=", "7")) == chosen(("is_detached", "=", "1"))
    assert chosen(("name", "!=", "box")) == [8] == chosen(("is_detached", "=", False)) == chosen(("pid", "!=", 7))
    assert chosen(limit=0) == [] and chosen(limit=1) == [7] and chosen(limit="2") == [7, 8]


def test_actors_are_counted_by_class(session):
    hpc.get([Counter.remote(1).add.remote(1) for _ in range(2)])
    counters = [Counter.remote(1) for _ in range(2)]
    hpc.get([counter.add.remote(1) for counter in counters])
    summary = state.summarize_actors(timeout=60)["cluster"]
    assert summary["summary"]["Counter"]["state_counts"]["ALIVE"] == 2 and summary["summary_by"] == "class"
    assert summary["total_actors"] == sum(summary["summary"]["Counter"]["state_counts"].values())


def test_actors(session, tmp_path):
    counter = Counter.options(name="it", max_restarts=1).remote(1)
    assert hpc.get(counter.add.remote(1)) == 2
    row = state.get_actor(counter._actor_id.hex())
    assert (row.state, row.class_name, row.name, row.num_restarts) == ("ALIVE", "Counter", "it", 0)
    assert row.pid == next(w.pid for w in state.list_workers() if w.worker_id == row.worker_id)
    counter.crash.remote()
    eventually(lambda: state.get_actor(counter._actor_id.hex()).num_restarts == 1)
    late = Counter.remote(hold.remote(tmp_path / "go"))
    call = late.add.remote(1)
    assert state.get_actor(late._actor_id.hex()).state == "DEPENDENCIES_UNREADY"
    assert "its actor is not there yet: it waits for its arguments" in task(call).why
    (tmp_path / "go").touch()
    assert hpc.get(call) == 2
    hpc.kill(counter)
    eventually(lambda: state.get_actor(counter._actor_id.hex()).state == "DEAD")
    assert "hpc.kill" in state.get_actor(counter._actor_id.hex()).death_cause


def test_objects_workers_nodes_and_jobs():
    with local_nodes(2):
        large = hpc.put(np.zeros(1 << 20, np.uint8))
        (row,) = [r for r in state.get_objects(large.hex()) if r.reference_type == "OWNED"]
        assert row.state == "STORED" and row.object_size > 1 << 20 and row.node_ids == ["1"]
        summary = state.summarize_objects()["cluster"]
        assert summary["total_size_mb"] >= 1 and summary["summary"]["disabled"]["ref_type_counts"]["OWNED"] >= 1
        assert {n.node_id for n in state.list_nodes(filters=[("state", "=", "ALIVE")])} == {"1", "2"}
        (job,) = state.list_jobs()
        assert job.driver_pid == os.getpid()
        assert state.get_worker(job.job_id).worker_type == "DRIVER"
        assert state.get_job(job.job_id) == job
        assert state.get_job("9.9") is None
        assert state.get_node("2").resources_total["CPU"] == 1
        group = placement_group([{"CPU": 1}], name="mine")
        hpc.get(group.ready())
        (row,) = state.list_placement_groups(filters=[("name", "=", "mine")])
        assert row.state == "CREATED" and state.get_placement_group(row.placement_group_id) == row


def test_what_a_killed_worker_ran_before_stays_known(session):
    crasher = Counter.options(name="crasher").remote(1)
    calls = [crasher.add.remote(1) for _ in range(50)]
    assert hpc.get(calls)[-1] == 51
    ids = {call.hex() for call in calls}
    worker = eventually(lambda: state.get_task(calls[0].hex())).worker_id
    known = history_of(worker)
    os.kill(state.get_worker(worker).pid, signal.SIGKILL)
    eventually(lambda: (r := state.get_worker(worker)) and r.state == "ENDED")
    rows = [row for row in state.list_tasks(limit=10_000) if row.worker_id == worker]
    assert ids <= {row.task_id for row in rows} and known <= {row.task_id for row in rows}
    assert {row.state for row in rows if row.task_id in ids} == {"FINISHED"}
    summary = state.summarize_tasks()["cluster"]["summary"]
    assert summary["Counter.add"]["state_counts"] == {"FINISHED": 50}
    assert {e["args"]["task_id"] for e in hpc.timeline() if e["ph"] == "X"} >= ids


def history_of(worker: str) -> set[str]:
    """What the raylets keep of what a worker ran, once it has told all of it."""
    from hpc.state import gather, history

    address = gather.address(worker)
    eventually(lambda: not gather.ask([address], "events").rows)
    return {row.task_id for row in history.read().rows() if row.worker_id == worker}


def test_more_than_a_worker_hands_over_is_counted(session):
    from hpc.core.worker.record import MAX_EVENTS
    from hpc.state import history

    many = 4 * MAX_EVENTS
    one = Counter.remote(0)
    refs = [one.add.remote(1) for _ in range(many)]
    assert hpc.get(refs[-1]) == many
    worker = state.list_actors()[0].worker_id
    told = history_of(worker)
    found = history.read()
    assert len(told) + found.dropped == many + 1
    if found.dropped:  # as on any machine that is not very slow
        with pytest.warns(UserWarning, match=f"list_tasks: {found.dropped} tasks and calls that have ended are not"):
            assert len(state.list_tasks(limit=100)) == 100


def test_timeline(session, tmp_path):
    hpc.get([add.remote(i, i) for i in range(20)])
    counter = Counter.remote(0)
    hpc.get([counter.add.remote(1) for _ in range(5)])
    file = tmp_path / "trace.json"
    hpc.timeline(str(file))
    events = json.loads(file.read_text())
    spans = [e for e in events if e["ph"] == "X"]
    names = [e["name"] for e in spans]
    assert names.count("add") == 20 and names.count("Counter.add") == 5
    assert all(e["dur"] >= 0 and abs(e["ts"] / 1e6 - time.time()) < 60 for e in spans)
    assert {e["args"]["name"] for e in events if e["ph"] == "M"} >= {"worker 1." + str(spans[0]["tid"])}


def cli(*words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "hpc.cli.main", *words]
    return subprocess.run(command, capture_output=True, text=True, timeout=60)


def test_the_commands(session, tmp_path):
    counter = Counter.options(name="shown").remote(1)
    hpc.get(counter.add.remote(1))
    running = hold.remote(tmp_path / "go")
    eventually(lambda: task(running).state == "RUNNING")
    large = hpc.put(np.zeros(1 << 20, np.uint8))
    listed = cli("list", "actors", "--filter", "name=shown")
    assert "Counter" in listed.stdout and "ALIVE" in listed.stdout, listed.stderr
    assert json.loads(cli("get", "tasks", running.hex(), "--json").stdout)[0]["state"] == "RUNNING"
    assert f"task {running.hex()} hold is RUNNING" in cli("why", running.hex()[-6:]).stdout
    assert large.hex() in cli("memory").stdout
    stacks = cli("stack").stdout
    assert "wait_for_file" in stacks and "test_state.py" in stacks and "worker_main" not in stacks
    assert "==== idle, no code of the user's: " in stacks and "worker_main" in cli("stack", "--all").stdout
    assert "hold" in cli("summary", "tasks").stdout
    assert cli("timeline", str(tmp_path / "trace")).returncode == 0 and (tmp_path / "trace").exists()
    unknown = cli("list", "actors", "--filter", "colour=red")
    assert unknown.returncode == 2 and "no field 'colour' to filter by; there are: actor_id" in unknown.stderr
    assert "Counter" in cli("summary", "actors").stdout and "1.3" in cli("summary", "objects").stdout
    wrong = cli("list", "dragons")
    assert wrong.returncode == 2 and "There are: tasks, actors" in wrong.stderr
    assert "nothing that is known" in cli("why", "abcdefabcdef").stderr
    also = [hold.remote(tmp_path / "go") for _ in range(3)]
    eventually(lambda: "free now: node 1: CPU: 0" in cli("why", also[-1].hex()).stdout)
    assert str(os.getpid()) in cli("list", "jobs").stdout and cli("list", "jobs").stdout.count("RUNNING") == 1
    (tmp_path / "go").touch()
    assert hpc.get(running) == 1


def test_without_a_session_the_commands_say_so():
    done = cli("list", "tasks")
    assert done.returncode != 0 and "no session" in done.stderr


def test_the_simulator_by_its_command():
    done = cli("debug", "sim", "--seed", "7")
    assert done.returncode == 0 and "1 seeds" in done.stdout
