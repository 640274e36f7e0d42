"""Which job's door gets a request: the hand-over, doors that refuse, and when the next job is submitted."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

pytest.importorskip("httptools", reason="needs pip install 'hpc[serve]'")

from hpc.serve.gateway.backends import Backends, JobRow, JobState, Succession, reachable

HOST = "login"
LEAD_S = 60.0


def row(name: str, at: float = 0.0, **more: object) -> JobRow:
    fields: dict[str, object] = {"doors": [f"http://{name}:1"], "is_ready": True, "at": at, **more}
    return JobRow(name, "node", **fields)  # type: ignore[arg-type]


def backends(*rows: JobRow) -> Backends:
    made = Backends(HOST, LEAD_S)
    made.update(rows)
    for door in made.doors():
        made.probed(door, True)
    return made


def chosen(machine: Backends, now: float = 0.0) -> str:
    door = machine.choose(now)
    return "" if door is None else door.job


def test_a_job_is_left_before_its_end_once_the_next_one_serves() -> None:
    a, b = row("a", ends_at=100.0), row("b", ends_at=500.0, is_ready=False)
    machine = backends(a, b)
    assert {chosen(machine) for _ in range(4)} == {"a"}
    # The end of a is near, and b warms: a job whose door answers is better than one that ends.
    assert machine.state(machine.jobs["a"], 50.0) is JobState.LEAVING
    machine.update([row("a", 50.0, ends_at=100.0), row("b", 50.0, ends_at=500.0)])
    assert {chosen(machine, 50.0) for _ in range(4)} == {"b"}


def test_a_job_that_leaves_is_used_while_nobody_else_is_open() -> None:
    machine = backends(row("a", is_leaving=True))
    assert chosen(machine) == "a"
    machine.update([row("a", is_leaving=True), row("b")])
    assert chosen(machine) == "a", "no probe of b has succeeded"
    machine.probed(machine.jobs["b"].doors["http://b:1"], True)
    assert chosen(machine) == "b"


def test_requests_go_where_the_fewest_run_and_doors_that_refuse_have_a_rest() -> None:
    machine = backends(row("a"), row("b"))
    one, other = machine.doors()
    one.running = 2
    assert machine.choose(0.0) is other
    machine.refused(other, 0.0)
    assert machine.choose(0.0) is one and machine.next_at(0.0) == pytest.approx(0.2)
    machine.refused(other, 0.2)
    assert machine.choose(0.3) is one and machine.choose(0.7) is other
    machine.answered(other)
    machine.refused(other, 1.0)
    assert machine.next_at(1.0) == pytest.approx(1.2)


def test_a_door_needs_a_probe_and_one_failed_probe_changes_nothing() -> None:
    machine = Backends(HOST, LEAD_S)
    machine.update([row("a")])
    assert chosen(machine) == ""
    (door,) = machine.doors()
    machine.probed(door, True)
    machine.probed(door, False)
    machine.probed(door, False)
    assert chosen(machine) == "a"
    machine.probed(door, False)
    assert chosen(machine) == ""


def test_a_socket_is_for_its_own_host_only() -> None:
    both = JobRow("a", "node", ["unix:/s", "http://node:1"])
    assert reachable(both, "node") == ["unix:/s"]
    assert reachable(both, "login") == ["http://node:1"]


def test_a_silent_job_serves_only_where_nobody_else_does() -> None:
    machine = backends(row("a", 0.0), row("b", 100.0))
    assert {chosen(machine, 100.0) for _ in range(4)} == {"b"}
    machine.update([row("a", 0.0)])
    assert chosen(machine, 100.0) == "a"


def test_the_next_job_is_submitted_once_and_in_time() -> None:
    machine, succession = backends(row("a", ends_at=1000.0)), Succession(300.0, patience_s=10_000.0)
    machine.update([row("a", 600.0, ends_at=1000.0)])
    assert not succession.is_due(machine, 600.0)
    machine.update([row("a", 700.0, ends_at=1000.0)])
    assert succession.is_due(machine, 700.0)
    succession.submitted(machine, 700.0)
    assert not succession.is_due(machine, 2000.0), "it waits in the queue"
    machine.update([row("b", 2000.0, ends_at=3000.0)])
    assert not succession.is_due(machine, 2000.0) and not succession.waits
    machine.update([row("b", 2800.0, ends_at=3000.0)])
    assert succession.is_due(machine, 2800.0)
    succession.failed(2800.0)
    assert not succession.is_due(machine, 2805.0) and succession.is_due(machine, 2811.0)


def test_the_next_job_is_submitted_again_when_the_one_in_the_queue_is_gone() -> None:
    machine, succession = Backends(HOST, LEAD_S), Succession(300.0, patience_s=10_000.0)
    assert succession.is_due(machine, 0.0), "there is none at all"
    succession.submitted(machine, 0.0)
    assert not succession.is_due(machine, 5.0)
    succession.failed(5.0)
    assert not succession.is_due(machine, 14.0) and succession.is_due(machine, 15.0)


def test_a_job_that_never_comes_is_submitted_less_and_less_often() -> None:
    machine, succession, now, times = Backends(HOST, LEAD_S), Succession(300.0, patience_s=10_000.0), 0.0, []
    while now < 3600.0:
        if succession.is_due(machine, now):
            times.append(now)
            succession.submitted(machine, now)
            succession.failed(now)
        now += 1.0
    assert times[:4] == [0.0, 10.0, 30.0, 70.0] and len(times) < 15
    succession.submitted(machine, now)
    machine.update([row("a", now, ends_at=now + 100.0)])
    assert succession.is_due(machine, now + 600.0)
    succession.failed(now + 600.0)
    assert succession.is_due(machine, now + 610.0), "one has come: the waits are short again"


ROWS = st.lists(
    st.builds(
        lambda number, end, ready, leaving, at: row(
            f"job{number}", float(at), ends_at=end, is_ready=ready, is_leaving=leaving
        ),
        st.integers(0, 4), st.none() | st.floats(0, 200), st.booleans(), st.booleans(), st.integers(0, 100),
    ),
    max_size=6,
    unique_by=lambda one: one.name,
)  # fmt: skip


@given(st.lists(st.tuples(ROWS, st.lists(st.tuples(st.integers(0, 9), st.sampled_from("prfa")), max_size=8))))
def test_an_open_door_is_always_found_and_a_serving_job_comes_first(steps: list[tuple[list[JobRow], list]]) -> None:
    machine = Backends(HOST, LEAD_S)
    for number, (rows, events) in enumerate(steps):
        now = 10.0 * number
        machine.update(rows)
        doors = machine.doors()
        for at, event in events:
            if doors:
                door = doors[at % len(doors)]
                if event == "r":
                    machine.refused(door, now)
                elif event == "a":
                    machine.answered(door)
                else:
                    machine.probed(door, event == "p")
        found = machine.choose(now)
        assert (found is None) == (not any(door.is_open(now) for door in doors))
        if found is None:
            continue
        states = {name: machine.state(job, now) for name, job in machine.jobs.items()}
        if JobState.SERVING in states.values():
            assert states[found.job] is JobState.SERVING
            rivals = [door for door in doors if states[door.job] is JobState.SERVING and door.is_open(now)]
            assert found.running == min(door.running for door in rivals)


def test_a_job_that_is_not_ready_in_time_is_not_waited_for() -> None:
    machine, succession = Backends(HOST, LEAD_S), Succession(300.0, patience_s=10_000.0)
    succession.submitted(machine, 0.0)
    machine.update([row("a", 10.0, began_at=10.0, is_ready=False, ends_at=None)])
    assert not succession.is_due(machine, 10.0)
    machine.update([row("a", 310.0, began_at=10.0, is_ready=False, ends_at=None)])
    assert not succession.is_due(machine, 310.0)
    machine.update([row("a", 311.0, began_at=10.0, is_ready=False, ends_at=None)])
    assert succession.is_due(machine, 311.0)
    # One that was ready is, though it is not just now.
    machine.update([row("a", 400.0, began_at=10.0, ends_at=None)])
    machine.update([row("a", 600.0, began_at=10.0, is_ready=False, ends_at=None)])
    assert not succession.is_due(machine, 600.0)
