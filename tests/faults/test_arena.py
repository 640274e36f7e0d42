"""The short run of bench.arena: a full store in little memory, among workers that are stopped and killed."""

from __future__ import annotations

import pytest

from bench.arena import arena


def test_objects_stay_whole_in_a_full_store_among_kills():
    tally = arena(5.0, seed=5, every_s=0.4)
    assert not tally.wrong, tally.report(5.0)
    assert tally.done["kills"] >= 2, tally.report(5.0)
    assert tally.done["stops"] >= 2
    assert tally.done["reads"] >= 40
    assert tally.done["spilled objects"] >= 20
    assert tally.full_share > 0.8
    if tally.no_cgroup:
        pytest.skip(f"all is well, but without a limit of memory: {tally.no_cgroup}")
