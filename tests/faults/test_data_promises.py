"""The short forms of the programs that show what datasets promise."""

from __future__ import annotations

import os
import shutil

import pytest

from bench.cgroup import memory_cgroup
from bench.data.consumer import consumer
from bench.data.memory import SHORT, WORKS, memory
from bench.data.resume import resume
from bench.data.small_files import formats, many

slow = pytest.mark.skipif(not os.environ.get("HPC_TEST_SLOW"), reason="takes 10 s: HPC_TEST_SLOW=1 runs it")


def test_each_of_many_small_files_is_opened_once_and_each_folder_listed_once():
    if shutil.which("strace") is None:
        pytest.skip("strace is not installed")
    wrong, line = many(400)
    assert not wrong, line


@slow
def test_rows_of_scientific_formats_are_those_of_their_libraries():
    wrong, line = formats()
    assert not wrong, line


@slow
@pytest.mark.parametrize("work", WORKS)
def test_data_larger_than_the_memory_goes_through_it(work):
    with memory_cgroup(SHORT.cgroup_bytes) as (_, folder, why):
        if not folder:
            pytest.skip(why)
    assert not memory(SHORT, [work])


@slow
def test_stopped_training_goes_on_in_the_same_order_with_other_ranks():
    assert not [one for one in resume(300) if "after" not in one]  # a machine that others use is slow


@slow
def test_a_consumer_that_stops_or_leaves_holds_nobody_and_runs_share_the_store():
    assert not consumer(10.0, 0.3)
