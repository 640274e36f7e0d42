"""What happens in a session that runs is told as events: to programs, at the terminal, and in its report; and actors
that have ended stay known."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import warnings
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

import pytest

import hpc
from hpc.cluster_utils import Cluster
from hpc.state import events
from hpc.util import placement_group, remove_placement_group, state
from runtime.hosting import hpc_command, python_script, started
from runtime.running import Heads, eventually, local_nodes, on, one_node

STORE = 64 << 20
RAY_FIELDS = {"severity", "time", "source_type", "message", "event_id", "custom_fields"}


@pytest.fixture
def session(no_leaks: None) -> Iterator[None]:
    with one_node():
        yield


@hpc.remote
class Keeper:
    def __init__(self, fail: bool = False) -> None:
        if fail:
            raise ValueError("on purpose")

    def pid(self) -> int:
        return os.getpid()

    def leave(self) -> None:
        hpc.actor.exit_actor()


@hpc.remote(max_retries=0)
def crash() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


@hpc.remote(max_retries=1)
def crash_once(path: str) -> int:
    if not os.path.exists(path):
        Path(path).touch()
        os._exit(3)
    return 7


def told(kind: str) -> list[state.Row]:
    return state.list_events(filters=[("kind", "=", kind)], limit=1000)


def one(kind: str) -> state.Row:
    """The one event of a kind, once it has come."""
    eventually(lambda: told(kind))
    (found,) = told(kind)
    return found


def test_workers_that_die_and_tasks_that_run_again(session, tmp_path):
    ref = crash.remote()
    with pytest.raises(hpc.exceptions.WorkerCrashedError):
        hpc.get(ref)
    died, failed = one("WORKER_DIED"), one("TASK_FAILED")
    assert "SIGKILL" in died.text and died.severity == "ERROR" and "hpc logs" in died.advice and died.node_id == "1"
    assert failed.entity_id == ref.hex() and "crash" in failed.text and abs(failed.time_s - time.time()) < 60
    assert state.get_worker(died.entity_id).exit_detail in died.text
    again = crash_once.remote(str(tmp_path / "once"))
    assert hpc.get(again) == 7
    retried = one("TASK_RETRIED")
    assert retried.entity_id == again.hex() and "exited with code 3" in retried.text
    assert [row.kind for row in state.list_events(limit=1000)][:2] == ["NODE_JOINED", "DRIVER_JOINED"]
    numbers = [row.number for row in state.list_events(limit=1000)]
    assert numbers == list(range(1, len(numbers) + 1))
    assert [row.number for row in state.list_events(limit=2)] == numbers[-2:]


def test_actors_that_end_say_why_and_stay_known(session):
    killed = Keeper.options(name="keeper", max_restarts=1).remote()
    pid = hpc.get(killed.pid.remote())
    os.kill(pid, signal.SIGKILL)
    restarted = one("ACTOR_RESTARTED")
    ident = killed._actor_id.hex()
    assert "keeper" in restarted.text and "SIGKILL" in restarted.text and restarted.entity_id == ident
    eventually(lambda: state.get_actor(ident).state == "ALIVE")
    os.kill(hpc.get(killed.pid.remote()), signal.SIGKILL)
    assert "SIGKILL" in one("ACTOR_DIED").text
    broken, wanted, quiet = Keeper.remote(fail=True), Keeper.remote(), Keeper.remote()
    with pytest.raises(hpc.exceptions.ActorDiedError):
        hpc.get(broken.pid.remote())
    pids = hpc.get([wanted.pid.remote(), quiet.pid.remote()])
    hpc.kill(wanted)
    assert "hpc.kill()" in one("ACTOR_ENDED").text
    idents = [actor._actor_id.hex() for actor in (killed, broken, wanted, quiet)]
    del killed, broken, wanted, quiet
    eventually(lambda: all((row := state.get_actor(ident)) is not None and row.state == "DEAD" for ident in idents))
    rows = [state.get_actor(ident) for ident in idents]
    assert ["SIGKILL" in rows[0].death_cause, "constructor" in rows[1].death_cause] == [True, True]
    assert "hpc.kill()" in rows[2].death_cause and rows[0].num_restarts == 1 and rows[0].name == "keeper"
    assert [row.pid for row in rows[2:]] == pids and {row.class_name for row in rows} == {"Keeper"}
    assert len(told("ACTOR_DIED")) == 2, "an actor that nobody needs any more is no event"
    assert {row.actor_id for row in state.list_actors(filters=[("state", "=", "DEAD")])} == set(idents)


def test_many_that_die_at_once_are_few_events(session):
    refs = [crash.remote() for _ in range(40)]
    for ref in refs:
        with pytest.raises(hpc.exceptions.WorkerCrashedError):
            hpc.get(ref)
    eventually(lambda: sum(row.count for row in told("TASK_FAILED")) == 40)
    assert len(told("TASK_FAILED")) <= 11 + 1 and len(told("WORKER_DIED")) <= 11 + 1


def test_events_under_rays_name(session):
    impossible = placement_group([{"unicorn": 1}], name="mine")
    eventually(lambda: told("GROUP_UNPLACED"))
    rows = state.list_cluster_events()
    assert all(set(row) == RAY_FIELDS for row in rows) and rows[0].event_id == "1"
    (found,) = [row for row in rows if row.custom_fields["kind"] == "GROUP_UNPLACED"]
    assert found.severity == "WARNING" and "'mine'" in found.message and found.source_type == "GCS"
    assert abs(datetime.fromisoformat(found.time).timestamp() - time.time()) < 60
    assert state.list_cluster_events(filters=[("severity", "=", "WARNING")]) == [found]
    assert len(state.list_cluster_events(limit=1)) == 1 and state.list_cluster_events(limit=1)[0].event_id == "1"
    remove_placement_group(impossible)


def test_the_commands_show_them_and_follow(session):
    command = [sys.executable, "-m", "hpc", "events", "--follow", "--json", "--severity=error"]
    follows = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert follows.stdout is not None
    ref = crash.remote()
    with pytest.raises(hpc.exceptions.WorkerCrashedError):
        hpc.get(ref)
    found = [json.loads(follows.stdout.readline()) for _ in range(2)]
    assert {row["kind"] for row in found} == {"WORKER_DIED", "TASK_FAILED"}
    follows.send_signal(signal.SIGINT)
    assert follows.wait(30) in (0, 128 + signal.SIGINT)
    follows.stdout.close()
    shown = hpc_command("events", "--kind=worker_died")
    assert (
        "WORKER_DIED" in shown.stdout and "[hpc logs --worker ID" in shown.stdout and "NODE_JOINED" not in shown.stdout
    )
    assert "NODE_JOINED" in hpc_command("list", "events").stdout
    for wrong in ("--kind=nonsense", "--severity=bad"):
        assert hpc_command("events", wrong).returncode == 2


def test_a_lost_node_and_a_lost_owner(no_leaks):
    @hpc.remote
    def owns() -> list:
        return [hpc.put(b"x" * 200_000)]

    cluster = Cluster(initialize_head=True, connect=True, head_node_args={"num_cpus": 1, "object_store_memory": STORE})
    try:
        node = cluster.add_node(num_cpus=1, object_store_memory=STORE)
        (inner,) = hpc.get(owns.options(scheduling_strategy=on(2)).remote())
        cluster.remove_node(node, allow_graceful=False)
        lost = one("NODE_LOST")
        assert lost.node_id == "2" and "max_retries" in lost.advice
        with pytest.raises(hpc.exceptions.OwnerDiedError):
            hpc.get(inner)
        again = cluster.add_node(num_cpus=1, object_store_memory=STORE)
        cluster.remove_node(again)
        assert one("NODE_LEFT").node_id == "3" and one("NODE_DRAINS").node_id == "3"
    finally:
        cluster.shutdown()


def test_the_head_that_comes_after_goes_on_with_the_list(no_leaks):
    with local_nodes(1) as session:
        before = state.list_events(limit=1000)
        Heads(session).kill()
        restarted = one("HEAD_RESTARTED")
        assert restarted.number > before[-1].number and "may be missing" in restarted.advice
        assert state.list_events(limit=1000)[: len(before)] == before


def test_actors_of_a_driver_that_has_left_stay_known(no_leaks):
    script = """
import hpc
hpc.init()

@hpc.remote
class Mine:
    def there(self):
        return 1

mine = Mine.options(name="mine").remote()
hpc.get(mine.there.remote())
"""
    with started() as facts:
        assert python_script(script, HPC_ADDRESS=facts["session"]).returncode == 0
        rows = json.loads(hpc_command("list", "actors", "--json").stdout)
        assert [(row["name"], row["state"]) for row in rows] == [("mine", "DEAD")]
        assert "has left" in rows[0]["death_cause"]
        kinds = [row["kind"] for row in json.loads(hpc_command("list", "events", "--json").stdout)]
        assert kinds == ["NODE_JOINED", "DRIVER_JOINED", "DRIVER_LEFT"]


def test_a_list_that_has_lost_its_beginning_says_so(monkeypatch):
    rows = [events.EventRow(7, 1.0, "INFO", "NODE_JOINED", "GCS", "x")]
    monkeypatch.setattr(events, "read", lambda **_: events.EventPage(rows, 7, 6))
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        assert [row.number for row in state.list_events()] == [7]
    assert "6 older events" in str(caught[0].message)


def test_a_follower_counts_what_it_missed_and_goes_on_with_another_head(monkeypatch):
    pages = [
        events.EventPage([events.EventRow(n, 0.0, "INFO", "NODE_JOINED", "GCS", "x") for n in (4, 5)], 5),
        events.EventPage([], 3),
        events.EventPage([events.EventRow(4, 0.0, "INFO", "HEAD_RESTARTED", "GCS", "x")], 4),
    ]
    asked: list[int] = []
    monkeypatch.setattr(events, "read", lambda since, limit, timeout_s: asked.append(since) or pages.pop(0))
    follower = events.EventFollower()
    assert [row.number for row in follower.more()] == [4, 5] and follower.missed == 3
    assert follower.more() == [] and [row.number for row in follower.more()] == [4]
    assert asked == [0, 5, 3] and not hpc.is_initialized()
