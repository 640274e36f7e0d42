"""Twenty seconds of the long run: parts of a session are killed, and nothing that was promised is lost."""

from __future__ import annotations

from bench.chaos import chaos


def test_twenty_seconds_of_kills_lose_nothing():
    tally = chaos(20.0, nodes=3, every_s=1.5, seed=7)
    assert not tally.lost, tally.report(20.0)
    assert sum(tally.kills.values()) >= 5
    assert tally.checks["batches"] >= 5
