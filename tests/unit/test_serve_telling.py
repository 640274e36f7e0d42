"""What is told of replicas: how long requests took, as counts, and what each has done since it told last."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hpc.serve.calls.reporting import LoadTeller
from hpc.serve.control.telling import FRESH_S, Loads
from hpc.serve.latency import bucket_of, middle_of, quantile, together
from hpc.serve.messages import DeploymentID, ProxyLoad, ReplicaID, ReplicaLoad


@given(st.floats(1e-6, 1e5))
def test_a_count_stands_for_its_times_to_a_tenth(seconds: float) -> None:
    assert middle_of(bucket_of(seconds)) == pytest.approx(seconds, rel=0.126)


@given(st.lists(st.floats(1e-5, 100), min_size=1), st.sampled_from([0.5, 0.9, 0.99, 1.0]))
def test_a_quantile_is_one_of_the_times(times: list[float], share: float) -> None:
    counts = together({bucket_of(one): 1} for one in times)
    wanted = sorted(times)[max(0, -int(-share * len(times) // 1) - 1)]
    assert quantile(counts, share) == pytest.approx(wanted, rel=0.126)


def test_without_requests_there_is_no_quantile() -> None:
    assert quantile({}, 0.5) is None and quantile({3: 0}, 0.5) is None


def test_a_replica_tells_what_is_new(monkeypatch: pytest.MonkeyPatch) -> None:
    from hpc.serve import metrics

    monkeypatch.setattr(metrics.spi, "tell_metrics", lambda changes: None)
    numbers, ongoing = metrics.ReplicaNumbers(ReplicaID("r", DeploymentID("d", "a"))), [0]
    teller = LoadTeller(ReplicaID("r", DeploymentID("d", "a")), numbers, lambda: ongoing[0])
    began = teller._told_at
    assert teller.row(began + 2) is None
    numbers.took(0.1)
    numbers.took(0.1)
    ongoing[0] = 3
    row = teller.row(began + 4)
    assert row == ReplicaLoad("SERVE_REPLICA::a#d#r", 3, 2, 0, 0, 0, 2.0, {bucket_of(0.1): 2})
    assert teller.row(began + 6) is None
    ongoing[0] = 0
    row = teller.row(began + 8)
    assert row is not None and (row.ongoing, row.done, row.took) == (0, 2, {})


def load(done: int, span_s: float = 2.0, **more: Any) -> ReplicaLoad:
    return ReplicaLoad("r", 1, done, 0, 0, 0, span_s, more.get("took", {}))


def test_what_is_old_says_nothing_of_now() -> None:
    loads = Loads()
    loads.note(load(10), 100.0)
    loads.note(load(30, took={5: 20}), 102.0)
    assert loads.rate("r", 102.0) == 10.0 and loads.took("r", 102.0) == {5: 20}
    assert loads.rate("r", 102.0 + FRESH_S) == 0.0 and loads.took("r", 102.0 + FRESH_S) == {}
    loads.note(ProxyLoad("p", {"a#d": 3}), 100.0)
    loads.note(ProxyLoad("q", {"a#d": 4}), 103.0)
    assert [loads.queued("a#d", at) for at in (103.0, 106.0, 109.0)] == [7, 4, 0]
    loads.forget([])
    assert not loads.rows
    loads.note(load(1_000_000, took={5: 20}), 200.0)
    assert loads.rate("r", 200.0) == 10.0, "another controller has heard of the others"
