"""A trial's function in its thread: it waits in a report for the answer, runs ahead where it may, and can be ended."""

from __future__ import annotations

import threading

import pytest

from hpc.tune.rendezvous import MOST_AHEAD, Ended, Rendezvous, Report


def reporting(count: int, log: list[int]):
    """A function that reports so often, and its rendezvous in a list."""
    made: list[Rendezvous] = []

    def function() -> None:
        for index in range(count):
            made[0].put(Report({"i": index}))
            log.append(index)

    return function, made


def test_a_function_waits_in_each_report_for_its_answer():
    log: list[int] = []
    function, made = reporting(2, log)
    run = Rendezvous(function)
    made.append(run)
    run.start()
    assert run.take(10) == [Report({"i": 0})]
    assert run.take(0.01) == [] and log == []
    run.go_on()
    assert run.take(10) == [Report({"i": 1})]
    assert log == [0]
    run.go_on()
    assert run.take(10) == [Ended()]


def test_a_function_that_may_run_ahead_is_taken_in_one_batch_and_never_too_far():
    log: list[int] = []
    function, made = reporting(MOST_AHEAD + 5, log)
    run = Rendezvous(function, ahead=True)
    made.append(run)
    run.start()
    found: list[object] = []
    batches = 0
    while Ended() not in found:
        found += run.take(10)
        batches += 1
        assert len(log) <= len(found) + MOST_AHEAD
    assert len(found) == MOST_AHEAD + 6 and batches < len(found)


def test_a_function_that_runs_ahead_waits_at_a_result_that_may_end_it():
    log: list[int] = []
    function, made = reporting(5, log)
    run = Rendezvous(function, ahead=True, waits=lambda metrics: metrics["i"] == 2)
    made.append(run)
    run.start()
    found: list[object] = []
    while Report({"i": 2}) not in found:
        found += run.take(10)
    assert run.take(0.01) == [] and log == [0, 1]
    run.go_on()
    while Ended() not in found:
        found += run.take(10)
    assert log == [0, 1, 2, 3, 4]


def test_results_before_an_error_come_before_it():
    def function() -> None:
        run.put(Report({"i": 0}))
        raise ValueError("broken")

    run = Rendezvous(function, ahead=True)
    run.start()
    assert run.take(10) == [Report({"i": 0})]
    with pytest.raises(ValueError, match="broken"):
        run.take(10)


def test_a_stopped_function_ends_in_its_report_with_its_finally_clauses():
    cleaned = threading.Event()

    def function() -> None:
        try:
            run.put(Report({}))
        finally:
            cleaned.set()

    run = Rendezvous(function)
    run.start()
    run.take(10)
    assert run.stop(10) and cleaned.is_set()


def test_a_function_that_reports_no_more_is_not_waited_for():
    go = threading.Event()
    run = Rendezvous(go.wait)
    run.start()
    assert not run.stop(0.01)
    go.set()


def test_an_exit_with_an_error_code_is_an_error_and_without_one_an_end():
    for code, fails in ((0, False), (3, True)):

        def function(code: int = code) -> None:
            raise SystemExit(code)

        run = Rendezvous(function)
        run.start()
        if fails:
            with pytest.raises(RuntimeError, match=r"sys\.exit\(3\)"):
                run.take(10)
        else:
            assert run.take(10) == [Ended()]


def test_an_answer_to_what_was_taken_is_none_to_a_report_that_came_since():
    log: list[int] = []
    function, made = reporting(3, log)
    run = Rendezvous(function, ahead=True, waits=lambda metrics: metrics["i"] == 1)
    made.append(run)
    run.start()
    while log != [0]:
        threading.Event().wait(0.001)
    while not run._at_report:
        threading.Event().wait(0.001)
    run.go_on()
    assert run.take(10) == [Report({"i": 0}), Report({"i": 1})]
    assert run.take(0.01) == [] and log == [0]
