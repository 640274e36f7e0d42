"""An object store that is full goes on: objects move to disk and come back, and nothing of them is left."""

from __future__ import annotations

import gc
import hashlib
import os
import stat
import time
from pathlib import Path

import numpy as np
import pytest

import hpc
from hpc.exceptions import ObjectLostError, ObjectStoreFullError, TaskError
from hpc.util import state
from runtime.running import eventually, kill9, one_node, store_stats

MIB = 1 << 20
SMALL_STORE = 64 * MIB


def spill_files(folder=None):
    """The files on disk of this session's only node."""
    node_dir = Path(os.path.dirname(hpc.nodes()[0]["RayletSocketName"]))
    folder = folder or node_dir / "spill"
    return sorted(p for p in folder.glob("*") if p.name.isdigit())


def fill(refs, size):
    """Put more and more, until that raises; the value of each is its number."""
    while True:
        refs.append(hpc.put(np.full(size, len(refs), np.uint8)))


def read_all(refs):
    for ref in refs:
        hpc.get(ref)


def random_bytes(seed, size):
    return np.random.default_rng(seed).integers(0, 256, size, np.uint8)


def digest(array):
    return hashlib.sha256(array).hexdigest()


def test_three_times_the_store_comes_back_unharmed_and_leaves_no_file():
    with one_node(object_store_memory=SMALL_STORE):
        sizes = [5 * MIB, 150_000, 12 * MIB, MIB + 17]
        refs, digests, total = [], [], 0
        while total < 3 * SMALL_STORE:
            array = random_bytes(len(refs), sizes[len(refs) % len(sizes)])
            refs.append(hpc.put(array))
            digests.append(digest(array))
            total += array.nbytes
        stats = store_stats()
        assert stats["spilled_bytes"] > SMALL_STORE
        (told,) = state.list_events(filters=[("kind", "=", "SPILL_BEGAN")])
        assert told.node_id == "1" and "hpc memory" in told.advice
        files = spill_files()
        assert files
        assert {stat.S_IMODE(p.stat().st_mode) for p in files} == {0o600}
        for ref, expected in zip(refs, digests):
            assert digest(hpc.get(ref)) == expected
        for ref, expected in reversed(list(zip(refs, digests))):
            assert digest(hpc.get(ref)) == expected
        assert store_stats()["restored_bytes"] > SMALL_STORE
        del ref
        refs.clear()
        gc.collect()
        eventually(lambda: store_stats()["objects"] == 0)
        eventually(lambda: not spill_files())
        assert store_stats()["disk_bytes"] == 0
        assert store_stats()["used_bytes"] == 0


def test_small_objects_share_files():
    with one_node(object_store_memory=SMALL_STORE):
        refs = [hpc.put(np.full(200_000, i % 251, np.uint8)) for i in range(700)]
        assert store_stats()["spilled_objects"] > 100
        assert len(spill_files()) < 20
        assert all(hpc.get(ref)[0] == i % 251 for i, ref in enumerate(refs))


def test_what_is_being_read_stays_where_it_is():
    with one_node(object_store_memory=SMALL_STORE):
        ref = hpc.put(np.full(10 * MIB, 7, np.uint8))
        view = hpc.get(ref)
        address = view.__array_interface__["data"][0]
        others = [hpc.put(np.full(10 * MIB, i, np.uint8)) for i in range(12)]
        assert (view == 7).all()
        assert hpc.get(ref).__array_interface__["data"][0] == address
        assert all(hpc.get(o)[-1] == i for i, o in enumerate(others))


def test_workers_read_and_write_more_than_the_store_holds():
    @hpc.remote
    def make(seed):
        return random_bytes(seed, 8 * MIB)

    @hpc.remote
    def check(array, seed):
        return digest(array) == digest(random_bytes(seed, 8 * MIB))

    with one_node(object_store_memory=SMALL_STORE):
        refs = [make.remote(seed) for seed in range(20)]
        assert all(hpc.get([check.remote(ref, seed) for seed, ref in enumerate(refs)]))
        assert store_stats()["spilled_bytes"] > 0


def test_two_tasks_whose_arguments_do_not_fit_together_both_finish():
    @hpc.remote
    def both(a, b):
        time.sleep(0.05)
        return int(a[0]) + int(b[-1])

    with one_node(object_store_memory=SMALL_STORE):
        # Each pair is 60 % of the store; the second task wants them in the other order.
        refs = [hpc.put(np.full(19 * MIB, i, np.uint8)) for i in range(4)]
        for _ in range(4):
            results = hpc.get([both.remote(refs[0], refs[1]), both.remote(refs[3], refs[2])], timeout=30)
            assert results == [1, 5]
            results = hpc.get([both.remote(refs[0], refs[2]), both.remote(refs[2], refs[1])], timeout=30)
            assert results == [2, 3]


def test_arguments_larger_than_the_store_say_so():
    @hpc.remote
    def three(a, b, c):
        return 1

    with one_node(object_store_memory=SMALL_STORE):
        refs = [hpc.put(np.full(30 * MIB, i, np.uint8)) for i in range(3)]
        with pytest.raises(ObjectStoreFullError, match="too large together"):
            hpc.get(three.remote(*refs), timeout=60)
        with pytest.raises(ObjectStoreFullError, match="in all"):
            hpc.put(np.zeros(70 * MIB, np.uint8))


def test_a_writer_that_is_killed_leaves_no_space_taken():
    @hpc.remote(max_retries=0)
    def die_writing():
        hpc.put(np.zeros(20 * MIB, np.uint8))
        from hpc.core.process.current import current

        client = current.client
        client.arena_use._alloc(b"x" * 16, 20 * MIB)
        kill9(os.getpid())

    with one_node(object_store_memory=SMALL_STORE):
        for _ in range(4):
            with pytest.raises(hpc.exceptions.WorkerCrashedError):
                hpc.get(die_writing.remote())
        eventually(lambda: store_stats()["used_bytes"] == 0)
        assert hpc.get(hpc.put(np.ones(60 * MIB, np.uint8)))[0] == 1


def test_without_a_disk_the_store_says_that_it_is_full():
    env = {"HPC_SPILL_LIMIT_BYTES": "0", "HPC_STORE_FULL_TIMEOUT_S": "0.2"}
    with one_node(object_store_memory=SMALL_STORE, env=env):
        refs = [hpc.put(np.full(20 * MIB, i, np.uint8)) for i in range(3)]
        with pytest.raises(ObjectStoreFullError, match="turned off"):
            hpc.put(np.zeros(20 * MIB, np.uint8))
        assert [int(hpc.get(ref)[0]) for ref in refs] == [0, 1, 2]


def test_a_limit_of_bytes_on_disk_is_kept():
    env = {"HPC_SPILL_LIMIT_BYTES": str(40 * MIB), "HPC_STORE_FULL_TIMEOUT_S": "0.2"}
    with one_node(object_store_memory=SMALL_STORE, env=env):
        refs = []
        with pytest.raises(ObjectStoreFullError, match="of 40 MiB on disk"):
            fill(refs, 16 * MIB)
        assert len(refs) >= 4
        assert store_stats()["disk_bytes"] <= 40 * MIB
        assert [int(hpc.get(ref)[0]) for ref in refs] == list(range(len(refs)))


def test_a_disk_that_fails_harms_nobody(tmp_path):
    env = {"HPC_STORE_FULL_TIMEOUT_S": "4"}  # on a busy machine the first file is tried late
    with one_node(object_store_memory=SMALL_STORE, env=env, object_spilling_directory=str(tmp_path)):
        first = [hpc.put(np.full(20 * MIB, i, np.uint8)) for i in range(4)]
        (folder,) = tmp_path.iterdir()
        files = spill_files(folder)
        assert files
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700
        folder.rename(tmp_path / "elsewhere")  # from now on every file fails
        with pytest.raises(ObjectStoreFullError, match="the disk failed: No such file"):
            fill(first, 20 * MIB)
        (tmp_path / "elsewhere").rename(folder)
        assert [int(hpc.get(ref)[0]) for ref in first] == list(range(len(first)))
        for path in spill_files(folder):
            path.unlink()
        with pytest.raises(ObjectLostError, match="all copies are lost"):
            read_all(first)
    assert not list(tmp_path.glob("hpc-*"))


def test_a_result_whose_file_is_gone_is_computed_again(tmp_path):
    @hpc.remote
    def make(i):
        return np.full(20 * MIB, i, np.uint8)

    with one_node(object_store_memory=SMALL_STORE, object_spilling_directory=str(tmp_path)):
        refs = [make.remote(i) for i in range(6)]
        hpc.wait(refs, num_returns=6)
        (folder,) = tmp_path.iterdir()
        files = spill_files(folder)
        assert files
        for path in files:
            path.unlink()
        assert [int(hpc.get(ref, timeout=60)[0]) for ref in refs] == list(range(6))


def test_memory_is_no_place_to_spill_to_unless_the_user_says_so():
    from hpc.core.store.disk import choose_folder, is_in_memory

    if not is_in_memory("/dev/shm"):
        pytest.skip("/dev/shm is not a tmpfs here")
    assert "tmpfs" in choose_folder("/dev/shm", "", None).why
    assert choose_folder("/dev/shm/hpc-1-x-1", "/dev/shm", None).limit_bytes > 0
    assert not is_in_memory("/proc/self")


def test_what_a_killed_raylet_left_in_a_named_directory_is_swept(tmp_path):
    from hpc.core.store.disk import choose_folder

    stale = tmp_path / f"hpc-{os.getuid()}-dead-1-spill"
    stale.mkdir()
    (stale / "lock").touch()
    (stale / "1").write_bytes(b"x")
    strange = tmp_path / "hpc-other"
    strange.mkdir()
    choose_folder(str(tmp_path / f"hpc-{os.getuid()}-new-1"), str(tmp_path), None)
    assert not stale.exists()
    assert strange.exists()


def test_errors_of_a_get_in_a_task_reach_the_driver():
    @hpc.remote
    def hold(refs):
        return [hpc.get(ref) for ref in refs], [hpc.get(hpc.put(np.ones(20 * MIB, np.uint8))) for _ in range(4)]

    # What is read fills the memory, then the disk up to its limit.
    env = {"HPC_STORE_FULL_TIMEOUT_S": "0.3", "HPC_SPILL_LIMIT_BYTES": str(61 * MIB)}
    with one_node(object_store_memory=SMALL_STORE, env=env):
        refs = [hpc.put(np.full(20 * MIB, i, np.uint8)) for i in range(5)]
        with pytest.raises((ObjectStoreFullError, TaskError), match="has no room"):
            hpc.get(hold.remote(refs), timeout=60)
