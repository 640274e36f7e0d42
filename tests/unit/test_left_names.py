"""Names in /dev/shm that nobody maps go, and no others."""

from __future__ import annotations

import mmap
import os
from pathlib import Path

import pytest

from hpc.core.node import left_names


@pytest.fixture
def named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    monkeypatch.setattr(left_names, "YOUNG_S", -60.0)
    found = [tmp_path / f"{left_names.PREFIX}1f_{number}" for number in range(2)] + [tmp_path / "sem.other"]
    for path in found:
        path.write_bytes(b"x" * mmap.PAGESIZE)
    return found


def test_names_that_no_process_maps_go(tmp_path: Path, named: list[Path]) -> None:
    left, in_use, other = named
    with in_use.open("r+b") as file, mmap.mmap(file.fileno(), mmap.PAGESIZE):
        assert left_names.sweep(str(tmp_path)) == [str(left)]
        assert in_use.exists() and other.exists()
    assert left_names.sweep(str(tmp_path)) == [str(in_use)]
    assert os.listdir(tmp_path) == [other.name] and left_names.sweep("/nowhere") == []


def test_a_name_that_was_just_made_stays(tmp_path: Path, named: list[Path], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(left_names, "YOUNG_S", 60.0)
    assert left_names.sweep(str(tmp_path)) == [] and all(path.exists() for path in named)


def test_a_young_name_goes_when_its_node_has_ended(
    tmp_path: Path, named: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(left_names, "YOUNG_S", 0.5)
    os.utime(named[0])  # its status has changed just now
    left_names.sweep_at_end(str(tmp_path))
    assert os.listdir(tmp_path) == [named[2].name]
