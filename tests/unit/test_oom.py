"""Which worker the watchdog ends, what it says, and what counts as memory in use."""

from __future__ import annotations

import pytest

from hpc.core.node.usage import memory_folders, memory_usage, oom_kills
from hpc.core.raylet.oom import Candidate, choose, explain


def candidate(proc, what="task", since=0.0, retriable=True, mib=100):
    return Candidate(proc, 1000 + proc, what, since, retriable, mib << 20)


def test_the_newest_task_that_will_be_tried_again_goes_first():
    old, new = candidate(1, since=1.0, mib=900), candidate(2, since=5.0)
    never, actor = candidate(3, since=9.0, retriable=False), candidate(4, "actor", since=10.0)
    idle = candidate(5, "idle", since=20.0)
    for expected in (new, old, never, idle, actor):
        left = [c for c in (old, new, never, actor, idle) if c is not None]
        assert choose(left) is expected
        old, new, never, actor, idle = (None if c is expected else c for c in (old, new, never, actor, idle))
    assert choose([]) is None


def test_a_worker_that_holds_nothing_is_spared():
    assert choose([candidate(1, since=1.0), candidate(2, since=2.0, mib=1)]).proc == 1
    assert choose([candidate(2, since=2.0, mib=1)]).proc == 2


def test_the_words_name_worker_limit_and_others():
    text = explain(candidate(1, mib=2048), 15 << 30, 16 << 30, "the machine's memory", 0.9, [candidate(7, mib=4096)])
    for part in ("pid 1001", "2.00 GiB", "15.00 of 16.00 GiB", "90%", "pid 1007 (task) 4.00 GiB"):
        assert part in text


def test_usage_of_a_cgroup_leaves_out_what_can_be_given_back(tmp_path):
    def write(name, text):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)

    write("proc/meminfo", "MemTotal: 1000000 kB\nMemAvailable: 900000 kB\n")
    write("proc/self/mountinfo", "1 1 0:1 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n")
    write("proc/self/cgroup", "0::/job/step\n")
    write("sys/fs/cgroup/job/memory.max", "1000000\n")
    write("sys/fs/cgroup/job/memory.current", "990000\n")
    write("sys/fs/cgroup/job/memory.stat", "anon 1\ninactive_file 90000\n")
    write("sys/fs/cgroup/job/memory.events", "oom 1\noom_kill 3\n")
    write("sys/fs/cgroup/job/step/memory.max", "max\n")
    folders = memory_folders(str(tmp_path))
    usage = memory_usage(folders, str(tmp_path))
    assert (usage.used_bytes, usage.limit_bytes) == (900000, 1000000)
    assert "/job" in usage.where
    assert oom_kills(folders) == 3
    assert memory_usage([], str(tmp_path)).share == pytest.approx(0.1)


def test_what_is_shared_of_the_memory_in_use_is_told_apart(tmp_path):
    def write(name, text):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)

    write("proc/meminfo", "MemTotal: 1000000 kB\nMemAvailable: 990000 kB\nShmem: 7 kB\n")
    write("proc/self/mountinfo", "1 1 0:1 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n")
    write("proc/self/cgroup", "4:memory:/job\n")
    write("sys/fs/cgroup/memory/job/memory.limit_in_bytes", "1000000\n")
    write("sys/fs/cgroup/memory/job/memory.usage_in_bytes", "600000\n")
    write("sys/fs/cgroup/memory/job/memory.stat", "shmem 1\ntotal_shmem 200000\ntotal_inactive_file 50000\n")
    usage = memory_usage(memory_folders(str(tmp_path)), str(tmp_path))
    assert (usage.used_bytes, usage.limit_bytes, usage.shared_bytes) == (550000, 1000000, 200000)
    write("proc/self/mountinfo", "1 1 0:1 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n")
    write("proc/self/cgroup", "0::/two\n")
    write("sys/fs/cgroup/two/memory.max", "2000000\n")
    write("sys/fs/cgroup/two/memory.current", "900000\n")
    write("sys/fs/cgroup/two/memory.stat", "shmem 300000\ninactive_file 100000\n")
    usage = memory_usage(memory_folders(str(tmp_path)), str(tmp_path))
    assert (usage.used_bytes, usage.limit_bytes, usage.shared_bytes) == (800000, 2000000, 300000)
    assert memory_usage([], str(tmp_path)).shared_bytes == 7 << 10
