"""Six seconds of the long run: parts of a session are killed, and nothing that was promised is lost.

The long run is ``python -m bench.chaos --minutes 60``.
"""

from __future__ import annotations

from bench.chaos import chaos


def test_six_seconds_of_kills_lose_nothing():
    tally = chaos(6.0, nodes=3, every_s=0.6, seed=7, least=5)
    assert not tally.lost, tally.report(6.0)
    assert sum(tally.kills.values()) >= 5
    assert tally.checks["batches"] >= 5
