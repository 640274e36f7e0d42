"""What leaves a replica that says nothing: what may run elsewhere, and no answer of which somebody has a part."""

from __future__ import annotations

import random
from types import SimpleNamespace
from typing import Any

from hpc.serve.calls.call import Call
from hpc.serve.calls.router import RETRY_RESERVE, RouterMachine, Seat
from hpc.serve.calls.silence import GIVEN_UP_S, Silence, _Probe
from hpc.serve.messages import DeploymentTable, ReplicaRow, RequestMeta

TABLE = DeploymentTable(1, "app", "d", replicas=[ReplicaRow("a", b"")], max_ongoing_requests=RETRY_RESERVE)


def silence_of() -> tuple[Silence, Seat]:
    machine = RouterMachine(random.Random(7))
    machine.update(TABLE, 0.0)
    router: Any = SimpleNamespace(machine=machine, table=TABLE, send_all=lambda assigned: None)
    seat = machine.seats["a"]
    seat.heard_at = 10.0
    return Silence(router), seat


def sent(kind: Any, at: float, is_safe: bool, is_accepted: bool = False) -> Call:
    router: Any = None
    call = Call(router, kind, RequestMeta("id"), (), {}, is_safe=is_safe)
    call.sent_at, call.is_accepted = at, is_accepted
    return call


def leaving(calls: list[Call], now: float = 12.0) -> list[Call]:
    silence, seat = silence_of()
    return silence._is_silent(seat, dict.fromkeys(calls), _Probe(11.0, None), now)


def test_what_the_replica_has_not_begun_leaves_and_what_may_run_twice() -> None:
    late, safe, begun = sent("call", 10.5, False), sent("http", 9.0, True), sent("call", 9.0, False)
    assert leaving([late, safe, begun]) == [late, safe]


def test_an_answer_that_has_begun_is_not_made_anew() -> None:
    page, stream = sent("http", 9.0, True, is_accepted=True), sent("stream", 10.5, True, is_accepted=True)
    assert leaving([page, stream]) == []
    assert leaving([page, stream], 11.0 + GIVEN_UP_S) == [page, stream]  # whose readers are told that it is broken


def test_what_has_no_retry_left_waits_on() -> None:
    calls = [sent("http", 9.0, True) for _ in range(RETRY_RESERVE + 5)]
    assert leaving(calls) == calls[:RETRY_RESERVE]
