"""Eight seconds of the long run: parts of a session are killed, and nothing that was promised is lost.

The long run is ``python -m bench.chaos --minutes 60``.
"""

from __future__ import annotations

from bench.chaos import chaos


def test_eight_seconds_of_kills_lose_nothing():
    tally = chaos(8.0, nodes=3, every_s=0.8, seed=7)
    assert not tally.lost, tally.report(8.0)
    assert sum(tally.kills.values()) >= 5
    assert tally.checks["batches"] >= 5
