"""The machine that chooses replicas, alone: its choices, its queue, and what holds for any course of events."""

from __future__ import annotations

import random
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from hpc.serve.calls.router import (
    AT_HOME,
    FEW_DEADLINES,
    LOOK_AHEAD,
    MOST_MODELS,
    Home,
    QueueFull,
    Request,
    RouterMachine,
)
from hpc.serve.messages import DeploymentTable, ReplicaRow


def table(version: int, *rows: ReplicaRow | str, ongoing: int = 2, queued: int = -1) -> DeploymentTable:
    found = [row if isinstance(row, ReplicaRow) else ReplicaRow(row, b"") for row in rows]
    return DeploymentTable(
        version, "app", "d", replicas=found, max_ongoing_requests=ongoing, max_queued_requests=queued
    )


def machine(*rows: ReplicaRow | str, home: Home = AT_HOME, policy: str = "two_choices", **limits: int) -> RouterMachine:
    made = RouterMachine(random.Random(7), home, policy)  # type: ignore[arg-type]
    made.update(table(1, *rows, **limits), 0.0)
    return made


def test_without_a_replica_requests_wait_and_go_out_in_order() -> None:
    router = machine()
    requests = [Request() for _ in range(5)]
    assert [router.offer(one, 0.0) for one in requests] == [None] * 5
    sent = router.update(table(2, "a", ongoing=3), 1.0)
    assert [request for request, _ in sent] == requests[:3]
    assert list(router.waiting()) == requests[3:]


def test_of_two_choices_the_one_with_fewer_requests_is_taken() -> None:
    router = machine("a", "b", ongoing=100)
    for _ in range(40):
        router.offer(Request(), 0.0)
    assert sorted(seat.running for seat in router.seats.values()) == [20, 20]


def test_among_many_replicas_the_longest_queue_stays_short() -> None:
    router = machine(*[f"r{number}" for number in range(100)], ongoing=1000)
    for _ in range(1000):
        router.offer(Request(), 0.0)
    assert max(seat.running for seat in router.seats.values()) <= 14  # one choice alone: 20 and more


def test_deadlines_of_requests_that_wait_no_more_are_forgotten() -> None:
    router = machine("a", ongoing=1)
    running = Request()
    assert router.offer(running, 0.0)
    for number in range(2000):
        assert router.offer(Request(deadline=1e6 + number), 1.0) is None
        ((running, _),) = router.done(running, 1.0)
    assert len(router._deadlines) <= 2 * FEW_DEADLINES
    for number in range(500):  # and of many that wait at a time, once they have gone
        router.offer(Request(deadline=5.0 + number), 2.0)
    while sent := router.done(running, 3.0):
        ((running, _),) = sent
    router.tick(4.0)
    assert len(router._deadlines) <= FEW_DEADLINES
    late = Request(deadline=9.0)
    router.offer(Request(), 5.0)
    router.offer(late, 5.0)
    assert router.tick(9.0) == ([], [late])


def test_a_request_that_has_waited_for_its_model_is_looked_at_when_there_is_room() -> None:
    router = machine("a", ongoing=1)
    running, waits = Request(), Request(model="m")
    router.offer(running, 0.0)
    router.offer(waits, 0.0)
    assert router.next_at(0.5) == 1.0
    assert router.tick(1.0) == ([], [])
    assert router.next_at(1.0) is None  # else the clock would ask again at once, and again
    assert [request for request, _ in router.done(running, 7.0)] == [waits]


def test_models_that_clients_make_up_are_not_kept() -> None:
    router = machine(ReplicaRow("a", b"", model_ids=["real"]), ongoing=10)
    for number in range(3 * MOST_MODELS):
        request = Request(model=f"m{number}")
        assert router.offer(request, 0.0)
        router.done(request, 0.0)
    models = router.seats["a"].models
    assert len(models) <= MOST_MODELS and {"real", f"m{number}"} <= models


def test_least_takes_the_emptiest() -> None:
    router = machine(*"abcde", policy="least", ongoing=10)
    for _ in range(25):
        router.offer(Request(), 0.0)
    assert {seat.running for seat in router.seats.values()} == {5}


def test_near_replicas_come_first_and_others_when_they_are_full() -> None:
    near = ReplicaRow("near", b"", node="n1")
    far = ReplicaRow("far", b"", node="n2")
    router = machine(near, far, home=Home("n1", prefers_node=True), ongoing=2)
    went = [router.offer(Request(), 0.0) for _ in range(4)]
    assert [seat.id for seat in went if seat] == ["near", "near", "far", "far"]


def test_a_rejected_request_is_the_first_of_those_that_wait() -> None:
    router = machine("a", ongoing=2)
    first, second, third = Request(), Request(), Request()
    for one in (first, second, third):
        router.offer(one, 0.0)
    assert router.rejected(first, 0.0) == []
    assert list(router.waiting()) == [first, third]
    assert router.next_at(0.0) == pytest.approx(0.025)
    assert [request for request, _ in router.tick(0.025)[0]] == [first]


def test_a_full_replica_is_left_alone_longer_each_time_and_forgiven_when_it_answers() -> None:
    router = machine("a", ongoing=10)
    seat = router.seats["a"]
    pauses = []
    now = 0.0
    for _ in range(7):
        one = Request()
        router.offer(one, now)
        router.rejected(one, now)
        pauses.append(seat.full_until - now)
        now = seat.full_until
        for request, _ in router.tick(now)[0]:
            router.done(request, now)
            seat.refusals = len(pauses)
    assert pauses == pytest.approx([0.025, 0.05, 0.1, 0.2, 0.4, 0.5, 0.5])


def test_a_rejected_request_goes_to_another_replica_at_once() -> None:
    router = machine("a", "b", ongoing=5)
    one = Request()
    seat = router.offer(one, 0.0)
    assert seat is not None
    ((again, other),) = router.rejected(one, 0.0)
    assert again is one and other.id != seat.id


def test_the_queue_has_its_limit() -> None:
    router = machine("a", ongoing=1, queued=2)
    for _ in range(3):
        router.offer(Request(), 0.0)
    with pytest.raises(QueueFull) as caught:
        router.offer(Request(), 0.0)
    assert (caught.value.queued, caught.value.limit) == (2, 2)


def test_higher_priorities_go_first_and_negative_ones_last() -> None:
    router = machine("a", ongoing=1)
    running = Request()
    router.offer(running, 0.0)
    low, normal, high = Request(priority=-1), Request(), Request(priority=5)
    for one in (low, normal, high):
        router.offer(one, 0.0)
    order = []
    while router.queued:
        ((running, _),) = router.done(running, 0.0)
        order.append(running)
    assert order == [high, normal, low]


def test_one_whose_time_is_over_leaves_the_queue() -> None:
    router = machine("a", ongoing=1)
    router.offer(Request(), 0.0)
    late, patient = Request(deadline=2.0), Request()
    router.offer(late, 0.0)
    router.offer(patient, 0.0)
    assert router.next_at(0.0) == 2.0
    assert router.tick(2.0) == ([], [late])
    assert list(router.waiting()) == [patient]


def test_a_model_is_served_where_it_is_loaded() -> None:
    router = machine(ReplicaRow("a", b"", model_ids=["m"]), "b", "c", ongoing=3)
    went = [router.offer(Request("m"), 0.0) for _ in range(3)]
    assert {seat.id for seat in went if seat} == {"a"}


def test_a_model_that_nobody_has_goes_where_few_are_and_stays_there() -> None:
    router = machine(ReplicaRow("a", b"", model_ids=["x", "y"]), ReplicaRow("b", b"", model_ids=["x"]), ongoing=9)
    went = [router.offer(Request("new"), 0.0) for _ in range(4)]
    assert {seat.id for seat in went if seat} == {"b"}


def test_one_waits_for_its_model_for_a_while_and_holds_up_no_other() -> None:
    router = machine(ReplicaRow("a", b"", model_ids=["m"]), "b", ongoing=1)
    router.offer(Request("m"), 0.0)
    waits = Request("m")
    assert router.offer(waits, 0.0) is None
    other = router.offer(Request(), 0.0)
    assert other is not None and other.id == "b"
    assert router.tick(0.5)[0] == []
    router.update(table(2, ReplicaRow("a", b"", model_ids=["m"]), "b", "c", ongoing=1), 0.6)
    assert list(router.waiting()) == [waits]
    ((request, seat),) = router.tick(1.0)[0]
    assert request is waits and seat.id == "c"


def test_a_session_stays_with_its_replica_and_few_move_when_one_goes() -> None:
    names = [f"r{number}" for number in range(10)]
    router = machine(*names, ongoing=10_000)

    def homes() -> dict[str, str]:
        found = {}
        for number in range(300):
            seat = router.offer(Request(session=f"s{number}"), 0.0)
            assert seat is not None
            found[f"s{number}"] = seat.id
        return found

    before = homes()
    assert homes() == before
    assert min(Counter(before.values()).values()) > 10
    router.update(table(2, *names[1:], ongoing=10_000), 0.0)
    moved = [session for session, home in homes().items() if home != before[session]]
    assert {before[session] for session in moved} == {"r0"}


def test_a_dead_replica_gets_nothing_even_if_the_table_has_it_still() -> None:
    router = machine("a", "b", ongoing=1)
    router.lost("a")
    router.update(table(2, "a", "b", ongoing=1), 0.0)
    went = [router.offer(Request(), 0.0) for _ in range(3)]
    assert [seat.id for seat in went if seat] == ["b"]


def test_an_older_table_changes_nothing() -> None:
    router = machine("a")
    router.update(table(5, "b"), 0.0)
    router.update(table(4, "c"), 0.0)
    assert list(router.seats) == ["b"]


def test_retries_have_a_budget() -> None:
    router = machine("a", ongoing=10)
    assert sum(router.may_retry(Request()) for _ in range(100)) == 10
    for _ in range(50):
        router.offer(Request(), 0.0)
    assert sum(router.may_retry(Request()) for _ in range(100)) == 10
    one = Request()
    for _ in range(50):
        router.offer(Request(), 0.0)
    assert [router.may_retry(one) for _ in range(3)] == [True, True, False]


def test_the_budget_is_enough_for_what_a_node_had_that_is_lost() -> None:
    rows = [ReplicaRow(f"r{number}", b"", node=f"n{number % 3}") for number in range(6)]
    router = machine(*rows, ongoing=20)
    lost = {row.id for row in rows if row.node == "n0"}
    asked = [Request() for _ in range(120)]
    went = [(one, seat) for one in asked if (seat := router.offer(one, 0.0)) is not None]
    hit = [one for one, seat in went if seat.id in lost]
    assert len(hit) == 40
    for ident in lost:
        router.lost(ident)
    assert all(router.may_retry(one) for one in hit)
    assert not router.may_retry(Request()), "no more than that at once"
    router.update(table(2, *[row for row in rows if row.id not in lost], ongoing=20), 1.0)
    assert not router.may_retry(Request())
    router.update(table(3, "a", ongoing=2), 2.0)  # few again
    router.served_beside(1000)
    assert sum(router.may_retry(Request()) for _ in range(100)) == 10


@given(st.lists(st.sampled_from(["", "m1", "m2"]), max_size=3 * LOOK_AHEAD), st.integers(0, 1000))
def test_what_waits_for_models_is_never_forgotten(models: list[str], seed: int) -> None:
    router = RouterMachine(random.Random(seed))
    router.update(table(1, "a", ongoing=1), 0.0)
    requests = [Request(model) for model in models]
    running = [one for one in requests if router.offer(one, 0.0)]
    served = 0
    while running:
        served += 1
        running += [request for request, _ in router.done(running.pop(), 10.0)]
    assert served == len(requests)


class AnyCourse(RuleBasedStateMachine):
    """Events in any order: no replica has more than it may, and each request is in one place."""

    def __init__(self) -> None:
        super().__init__()
        self.router = RouterMachine(random.Random(3))
        self.now = 0.0
        self.version = 0
        self.sent: list[Request] = []
        self.over: list[Request] = []
        self.offered: list[Request] = []
        self.limit = 2

    def goes(self, assigned: list) -> None:
        self.sent += [request for request, _ in assigned]

    @rule(count=st.integers(0, 4), first=st.integers(0, 3), limit=st.integers(1, 3))
    def tables(self, count: int, first: int, limit: int) -> None:
        self.version += 1
        self.limit = max(limit, self.limit)
        names = [f"r{first + number}" for number in range(count)]
        self.goes(self.router.update(table(self.version, *names, ongoing=limit, queued=8), self.now))

    @rule(
        model=st.sampled_from(["", "", "m"]), session=st.sampled_from(["", "s"]), priority=st.integers(-1, 1),
        patience=st.one_of(st.none(), st.floats(0.1, 2.0)),
    )  # fmt: skip
    def offers(self, model: str, session: str, priority: int, patience: float | None) -> None:
        one = Request(model, session, priority, None if patience is None else self.now + patience)
        try:
            seat = self.router.offer(one, self.now)
        except QueueFull:
            assert self.router.queued >= 8
            return
        self.offered.append(one)
        if seat is not None:
            self.sent.append(one)

    @precondition(lambda self: self.sent)
    @rule(data=st.data())
    def ends(self, data: st.DataObject) -> None:
        one = data.draw(st.sampled_from(self.sent))
        self.sent.remove(one)
        self.over.append(one)
        self.goes(self.router.done(one, self.now))

    @precondition(lambda self: self.sent)
    @rule(data=st.data(), drains=st.booleans())
    def is_rejected(self, data: st.DataObject, drains: bool) -> None:
        one = data.draw(st.sampled_from(self.sent))
        self.sent.remove(one)
        self.goes(self.router.rejected(one, self.now, drains))

    @precondition(lambda self: self.sent)
    @rule(data=st.data())
    def dies(self, data: st.DataObject) -> None:
        seat = data.draw(st.sampled_from(self.sent)).seat
        assert seat is not None
        self.router.lost(seat.id)
        for one in [one for one in self.sent if one.seat is seat]:
            self.sent.remove(one)
            self.goes(self.router.again(one, self.now))

    @precondition(lambda self: self.router.queued)
    @rule(data=st.data())
    def is_withdrawn(self, data: st.DataObject) -> None:
        one = data.draw(st.sampled_from(list(self.router.waiting())))
        self.router.withdraw(one)
        self.over.append(one)

    @rule(passed=st.floats(0.0, 1.0))
    def time_passes(self, passed: float) -> None:
        self.now += passed
        sent, late = self.router.tick(self.now)
        self.goes(sent)
        assert all(one.deadline is not None and one.deadline <= self.now for one in late)
        self.over += late

    @invariant()
    def each_is_in_one_place(self) -> None:
        waiting = list(self.router.waiting())
        assert len(waiting) == self.router.queued
        assert sorted(map(id, waiting + self.sent + self.over)) == sorted(map(id, self.offered))
        assert all(one.state == "sent" and one.seat is not None for one in self.sent)

    @invariant()
    def none_has_more_than_it_may(self) -> None:
        running = Counter(one.seat.id for one in self.sent if one.seat)
        for seat in self.router.seats.values():
            assert seat.running == sum(1 for one in self.sent if one.seat is seat) <= self.limit
            assert seat.running <= running[seat.id]

    @invariant()
    def nothing_waits_beside_room(self) -> None:
        plain = [one for one in self.router.waiting() if not one.model]
        if plain and self.router.next_at(self.now) is None:
            assert not any(seat.has_room(self.now) for seat in self.router.seats.values())


TestAnyCourse = AnyCourse.TestCase
TestAnyCourse.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
