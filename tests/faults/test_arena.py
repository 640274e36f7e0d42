"""The short run of bench.arena: a full store in little memory, among workers that are stopped and killed."""

from __future__ import annotations

import pytest

from bench.arena import arena


def test_objects_stay_whole_in_a_full_store_among_kills():
    least = {"kills": 2, "stops": 2, "reads": 40}
    tally = arena(5.0, seed=5, every_s=0.4, least=least)
    assert not tally.wrong, tally.report(5.0)
    assert all(tally.done[what] >= count for what, count in least.items()), tally.report(5.0)
    assert tally.done["spilled objects"] >= 20
    assert tally.full_share > 0.8
    if tally.no_cgroup:
        pytest.skip(f"all is well, but without a limit of memory: {tally.no_cgroup}")
