"""The short form of `python -m bench.data.kill`: what a dataset promises when something dies."""

from __future__ import annotations

from bench.data import kill


def test_what_actors_of_a_pool_have_made_is_made_again_when_its_node_dies():
    is_kept, told = kill.node(60_000, 20, kill.POOLS)
    assert is_kept, told


def test_a_function_that_cuts_otherwise_when_it_runs_again_is_named():
    is_kept, told = kill.cuts()
    assert is_kept, told


def test_a_write_that_was_killed_goes_on_and_reads_little_again():
    is_kept, told = kill.driver(20_000, 20, 0.02)
    assert is_kept, told
