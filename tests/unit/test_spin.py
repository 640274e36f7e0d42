"""For how long a thread looks again before it sleeps, and when it does not."""

from __future__ import annotations

import pytest

from hpc.core.owner.shell import spin


@pytest.mark.parametrize(("text", "spin_s"), [("", 50e-6), ("0", 0.0), ("120.5", 120.5e-6)])
def test_the_environment_says_for_how_long(monkeypatch, text, spin_s):
    monkeypatch.setenv("HPC_SPIN_US", text)
    assert spin.Spinner().spin_s == pytest.approx(spin_s)


@pytest.mark.parametrize("text", ["abc", "-1", "nan", "inf", "1e9"])
def test_what_is_no_time_is_refused(monkeypatch, text):
    monkeypatch.setenv("HPC_SPIN_US", text)
    with pytest.raises(ValueError, match=r"HPC_SPIN_US is .* takes microseconds"):
        spin.Spinner()


def test_it_stops_with_what_has_come(monkeypatch):
    monkeypatch.setattr(spin.os, "sched_yield", lambda: None)  # on a busy machine a yield ends the spinning
    monkeypatch.setattr(spin.time, "perf_counter", lambda: 100.0)
    found = [[], [], [(3, 1)]]
    assert spin.Spinner(10.0).spin(lambda timeout: found.pop(0)) == [(3, 1)]


def test_it_gives_up_after_its_time():
    assert spin.Spinner(1e-4).spin(lambda timeout: []) == []
    assert spin.Spinner(0.0).spin(lambda timeout: [(1, 1)]) == []


def test_where_others_want_the_core_nobody_spins_for_a_while(monkeypatch):
    now = [100.0]
    monkeypatch.setattr(spin.time, "perf_counter", lambda: now[0])
    monkeypatch.setattr(spin.os, "sched_yield", lambda: now.__setitem__(0, now[0] + 2 * spin.SLOW_YIELD_S))
    spinner, looks = spin.Spinner(50e-6), []

    def poll(timeout):
        looks.append(now[0])
        return []

    assert spinner.spin(poll) == [] and len(looks) == 1
    assert spinner.spin(poll) == [] and len(looks) == 1
    now[0] += spin.BUSY_S
    assert spinner.spin(poll) == [] and len(looks) == 2
    now[0] += spin.BUSY_S
    assert spinner.spin(poll) == [] and len(looks) == 2, "twice as long the second time"
    for _ in range(20):
        now[0] += spin.MAX_BUSY_S
        spinner.spin(poll)
    assert len(looks) == 22, "and not for ever"
    monkeypatch.setattr(spin.os, "sched_yield", lambda: now.__setitem__(0, now[0] + 1e-6))
    now[0] += spin.MAX_BUSY_S
    assert spinner.spin(poll) == [] and len(looks) > 40
    monkeypatch.setattr(spin.os, "sched_yield", lambda: now.__setitem__(0, now[0] + 2 * spin.SLOW_YIELD_S))
    seen = len(looks)
    spinner.spin(poll)
    now[0] += spin.BUSY_S
    spinner.spin(poll)
    assert len(looks) == seen + 2, "a quick yield has ended it"
