"""The directory of a node: alive while its lock is held, and swept once it is not, however far its end has come."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

import pytest

from hpc.core.node import rundir


@pytest.fixture
def made(tmp_path: Path) -> rundir.RunDir:
    return rundir.make(str(tmp_path), "abc", 1)


def test_one_whose_lock_is_held_stays_and_is_swept_when_it_is_free(tmp_path: Path, made: rundir.RunDir) -> None:
    assert rundir.is_alive(made.path) and rundir.sweep(str(tmp_path)) == []
    os.close(made.lock_fd)
    assert not rundir.is_alive(made.path)
    assert rundir.sweep(str(tmp_path)) == [made.path] and not os.path.exists(made.path)


def test_two_who_look_at_the_same_time_do_not_take_each_other_for_the_owner(
    tmp_path: Path, made: rundir.RunDir
) -> None:
    os.close(made.lock_fd)
    with open(os.path.join(made.path, "lock")) as other:
        fcntl.flock(other, fcntl.LOCK_SH | fcntl.LOCK_NB)  # as another one does that looks
        assert not rundir.is_alive(made.path)
        assert rundir.sweep(str(tmp_path)) == [made.path]


def test_one_that_was_removed_in_part_when_all_was_killed_is_swept(tmp_path: Path, made: rundir.RunDir) -> None:
    os.unlink(os.path.join(made.path, "lock"))
    assert not rundir.is_alive(made.path)
    assert rundir.sweep(str(tmp_path)) == [made.path] and not os.path.exists(made.path)
    os.close(made.lock_fd)
